// Package peer is what the nodes of a cluster say to each other and how: the messages, their bytes,
// and two transports with the same behaviour, TCP for real clusters and a memory [Network] for tests
// and simulation.
//
// One connection carries many calls at a time: every request has an id, and replies come back in any
// order. The node that dials sends the requests of that connection, the node that accepts answers
// them, so a pair of nodes uses at least one connection for each direction:
//
//	request := u32 length  u8 version  u8 kind  u64 id  u32 timeoutMs  payload
//	reply   := u32 length  u8 version  u8 kind  u64 id  payload
//
// Length counts what comes after it, integers are big-endian, timeoutMs is what is left of the
// caller's deadline (0 = none). The payloads are described at the messages, the handshake in
// handshake.go, the reasons in docs/decisions/0002-peer-protocol.md.
//
// The handshake proves that both nodes know the cluster's secret. What follows is neither encrypted
// nor sealed: the network between the nodes must be trusted.
package peer
