// Package ring decides where keys live: it hashes a key to one of Q equal
// partitions, gives each partition's token to a member, and orders all members
// for each partition into its preference list.
//
// The scheme is strategy 3 of the Dynamo paper (section 6.2): Q partitions of
// equal size, Q/S tokens to each of S nodes, here in proportion to their
// weights. Nothing is negotiated. A [Ring] is a pure function of the membership
// record (who joined and who left, in which order), so that nodes which agree on
// the record agree on every preference list. The record is folded event by event,
// and each event moves as few tokens as it can.
//
// Everything here is integer arithmetic over values, without clock, randomness
// or I/O; the same record gives the same ring on every machine. To change the
// function is to move data, and a golden test says so.
package ring
