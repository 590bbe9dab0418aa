package ring

import "math/bits"

// Partition is the number of one of the Q equal slices of the ring, in the order
// of their hashes.
type Partition uint32

// Ring is the assignment of all partitions at one point of the membership
// history. It is immutable, and safe for concurrent use.
type Ring struct {
	shift  int
	tokens map[string]int // of the live members
	// The preference list of p is names[list[p]:][:len(tokens)]. Equal lists are
	// held once: three nodes have six, whatever Q.
	list  []uint32
	names []string
}

// New computes the ring of q partitions from the membership record, whatever the
// order of the slice. The errors are ErrPartitions, ErrNoMembers,
// ErrTooManyMembers and ErrMember.
//
// Every member gets at least one token and otherwise its share by weight. A join
// takes the fewest tokens that balance needs, from the most overloaded members; a
// leave hands the leaver's tokens to the least loaded; no other token moves.
//
// The time grows with q and with the number of events in the record: up to some
// 15 ms for each event with 30 members and q = 4096. The memory is at most 16 bytes for each pair of
// partition and live member.
func New(q int, members []Member) (*Ring, error) {
	record, err := sorted(q, members)
	if err != nil {
		return nil, err
	}
	a := newAssignment(q, record)
	for _, s := range history(record) {
		if err := a.apply(s); err != nil {
			return nil, err
		}
	}
	r := &Ring{shift: 64 - bits.TrailingZeros(uint(q)), tokens: make(map[string]int)}
	for i, m := range record {
		if a.live[i] {
			r.tokens[m.ID] = a.count[i]
		}
	}
	r.list, r.names = preferenceLists(a.own, record, a.zone, len(r.tokens))
	return r, nil
}

// Q is the number of partitions.
func (r *Ring) Q() int { return len(r.list) }

// Partition is the partition of a hash: its top log2(Q) bits.
func (r *Ring) Partition(hash uint64) Partition { return Partition(hash >> r.shift) }

// Owner is the member that holds the token of p, the first of its preference
// list. p must be less than Q.
func (r *Ring) Owner(p Partition) string { return r.names[r.list[p]] }

// Tokens is the number of tokens that a member holds; 0 for others.
func (r *Ring) Tokens(id string) int { return r.tokens[id] }

// PreferenceList returns all members in the order in which they are asked for
// keys of p, so that for every N the first N are the primaries and the rest the
// fallbacks. p must be less than Q. The slice is shared and must not be modified;
// the call does not allocate.
//
// The order is the walk clockwise from p over the token owners, each node once, in
// rounds: a round takes at most one node of each zone, and the next begins when no
// zone is left for this one. So the first N span as many zones as N nodes can
// (Dynamo paper, sections 4.3 and 4.6).
func (r *Ring) PreferenceList(p Partition) []string {
	from, to := int(r.list[p]), int(r.list[p])+len(r.tokens)
	return r.names[from:to:to]
}

// Replicas is the number of partitions that have id among the first n of their
// preference list. It takes time proportional to Q and n.
func (r *Ring) Replicas(id string, n int) int {
	if r.tokens[id] == 0 {
		return 0
	}
	n = min(n, len(r.tokens))
	found := 0
	for _, at := range r.list {
		for i := range n {
			if r.names[int(at)+i] == id {
				found++
				break
			}
		}
	}
	return found
}
