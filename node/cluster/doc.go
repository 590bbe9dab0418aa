// Package cluster holds what all nodes of a cluster agree on, and says which of them can be heard.
//
// The two are kept apart on purpose (Dynamo paper, section 4.8): who is a member is an explicit, persisted record that
// only an administrator changes, while reachability is a node's own, volatile opinion. A node that stops answering stays
// a member and keeps its place on the ring.
//
// The metadata - members, keyspaces, resolver bindings, identities seen - is a map of versioned records. Two maps are
// joined record by record, the greater one wins, so that nodes may exchange their maps in any order and as often as they
// like and end up with the same (State). Every change is on disk before anybody hears of it. Readers take an immutable
// snapshot (View) and never wait.
//
// Reachability comes from two sources: a failure detector that gossips over UDP (Memberlist, behind the interface Gossip)
// and the requests themselves (State.Observe), which notice within milliseconds what gossip notices within seconds.
package cluster
