package ring

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

const (
	// MinPartitions and MaxPartitions bound Q, which is a power of two.
	MinPartitions = 16
	MaxPartitions = 65536
	// MaxWeight bounds a member's weight, so that loads compare in 64 bits.
	MaxWeight = 65536
)

// Errors of [New]. Callers branch on them with errors.Is; the message names the
// member and the reason.
var (
	// ErrPartitions says that Q is no power of two from MinPartitions to MaxPartitions.
	ErrPartitions = errors.New("ring: bad number of partitions")
	// ErrNoMembers says that nobody in the record is a member any more.
	ErrNoMembers = errors.New("ring: no live members")
	// ErrTooManyMembers says that at some point there were more members than tokens.
	ErrTooManyMembers = errors.New("ring: more members than partitions")
	// ErrMember says that one entry of the record cannot be.
	ErrMember = errors.New("ring: bad member")
)

// Member is one entry of the membership record. Orders (Joined, Left) are
// positions in the history of the cluster, shared by joins and leaves; they need
// not be consecutive.
//
// Events of equal order happen in order of ID, with one exception: a leave and a
// join of equal order are a replacement, in which the newcomer takes over the
// tokens of the one who left (the first leaver in order of ID is replaced by the
// first newcomer, and so on).
type Member struct {
	// ID is the member's name, never empty. A name may come back after it left,
	// as a further entry.
	ID string
	// Zone is the failure domain. Members without a zone share the zone "".
	Zone string
	// Weight is the share of tokens relative to other members, 1 to MaxWeight.
	Weight int
	// Joined is the order of the join, at least 1. All entries of the lowest order
	// in the record are the birth of the cluster.
	Joined uint64
	// Left is 0 for a member, otherwise the order of its departure, greater than
	// Joined. Who departed stays in the record.
	Left uint64
}

// step is one event of the history: birth (several join), a join, a leave, or a
// replacement (one leaves, one joins). Members are indices into the sorted record.
type step struct {
	left   int // -1: nobody leaves
	joined []int
}

// sorted returns the record in its canonical order, checked.
func sorted(q int, members []Member) ([]Member, error) {
	if q < MinPartitions || q > MaxPartitions || q&(q-1) != 0 {
		return nil, fmt.Errorf("%w: %d is not a power of two from %d to %d", ErrPartitions, q, MinPartitions, MaxPartitions)
	}
	record := slices.Clone(members)
	slices.SortFunc(record, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Joined, b.Joined), cmp.Compare(a.ID, b.ID))
	})
	last := make(map[string]Member, len(record))
	live := 0
	for _, m := range record {
		if err := check(m); err != nil {
			return nil, err
		}
		if old, ok := last[m.ID]; ok && (old.Left == 0 || old.Left > m.Joined) {
			return nil, fmt.Errorf("%w: %q joins while it is a member", ErrMember, m.ID)
		}
		last[m.ID] = m
		if m.Left == 0 {
			live++
		}
	}
	if live == 0 {
		return nil, ErrNoMembers
	}
	return record, nil
}

func check(m Member) error {
	switch {
	case m.ID == "":
		return fmt.Errorf("%w: an ID is empty", ErrMember)
	case m.Weight < 1 || m.Weight > MaxWeight:
		return fmt.Errorf("%w: %q has weight %d, must be 1 to %d", ErrMember, m.ID, m.Weight, MaxWeight)
	case m.Joined == 0:
		return fmt.Errorf("%w: %q has no order of joining", ErrMember, m.ID)
	case m.Left != 0 && m.Left <= m.Joined:
		return fmt.Errorf("%w: %q left (%d) before it joined (%d)", ErrMember, m.ID, m.Left, m.Joined)
	}
	return nil
}

// history cuts a sorted record into its steps.
func history(record []Member) []step {
	type event struct {
		order  uint64
		left   bool
		member int
	}
	events := make([]event, 0, 2*len(record))
	for i, m := range record {
		events = append(events, event{order: m.Joined, member: i})
		if m.Left != 0 {
			events = append(events, event{order: m.Left, left: true, member: i})
		}
	}
	slices.SortFunc(events, func(a, b event) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(record[a.member].ID, record[b.member].ID))
	})
	steps := make([]step, 0, len(events))
	for len(events) > 0 {
		order := events[0].order
		var joins, leaves []int
		for len(events) > 0 && events[0].order == order {
			if events[0].left {
				leaves = append(leaves, events[0].member)
			} else {
				joins = append(joins, events[0].member)
			}
			events = events[1:]
		}
		if len(steps) == 0 {
			steps = append(steps, step{left: -1, joined: joins})
			continue
		}
		for i := range max(len(joins), len(leaves)) {
			s := step{left: -1}
			if i < len(leaves) {
				s.left = leaves[i]
			}
			if i < len(joins) {
				s.joined = joins[i : i+1]
			}
			steps = append(steps, s)
		}
	}
	return steps
}
