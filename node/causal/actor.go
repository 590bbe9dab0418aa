package causal

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
)

// NodeID is the durable identity of one disk: a random UUID. A wiped, restored or cloned disk takes
// a new one, so that it can never mint a dot which its former self has minted already.
type NodeID [16]byte

// String returns the first four bytes in hex: short enough for logs, and still telling.
func (n NodeID) String() string { return hex.EncodeToString(n[:4]) }

// Actor mints the dots of one key on one disk. Incarnation grows at every boot that is not provably
// the continuation of a clean stop; Seq comes from a durable counter and is new each time the disk
// starts an object afresh.
type Actor struct {
	Node        NodeID
	Incarnation uint32
	Seq         uint64
}

// Compare orders actors by node, incarnation and sequence.
func (a Actor) Compare(b Actor) int {
	if c := bytes.Compare(a.Node[:], b.Node[:]); c != 0 {
		return c
	}
	if c := cmp.Compare(a.Incarnation, b.Incarnation); c != 0 {
		return c
	}
	return cmp.Compare(a.Seq, b.Seq)
}

// IsZero reports whether a is no actor at all.
func (a Actor) IsZero() bool { return a == Actor{} }

// String is the form used in logs, explain and JSON: node.incarnation.sequence.
func (a Actor) String() string {
	return fmt.Sprintf("%s.%d.%d", a.Node, a.Incarnation, a.Seq)
}

// Dot names one write of one key for ever. Counters start at 1.
type Dot struct {
	Actor   Actor
	Counter uint64
}

// String returns actor:counter.
func (d Dot) String() string { return fmt.Sprintf("%s:%d", d.Actor, d.Counter) }

// Compare orders dots by actor, then counter.
func (d Dot) Compare(e Dot) int {
	if c := d.Actor.Compare(e.Actor); c != 0 {
		return c
	}
	return cmp.Compare(d.Counter, e.Counter)
}

// Seen is one entry of a Context: every dot of Actor up to and including Counter.
type Seen struct {
	Actor   Actor
	Counter uint64
}

// Context is a version vector: which dots have been seen, as a version or superseded. It is sorted
// by actor, holds each actor once and no zero counters. The zero value has seen nothing. A context is
// never cut by size or age: cutting it loses acknowledged writes.
type Context []Seen

// Counter returns the last counter seen of an actor, 0 if none.
func (c Context) Counter(a Actor) uint64 {
	if i, ok := c.find(a); ok {
		return c[i].Counter
	}
	return 0
}

func (c Context) find(a Actor) (int, bool) {
	return slices.BinarySearchFunc(c, a, func(s Seen, a Actor) int { return s.Actor.Compare(a) })
}

// Contains reports whether the dot has been seen.
func (c Context) Contains(d Dot) bool { return d.Counter <= c.Counter(d.Actor) }

// Join returns the least context that has seen what either has.
func (c Context) Join(o Context) Context {
	switch {
	case len(o) == 0:
		return c
	case len(c) == 0:
		return o
	}
	out := make(Context, 0, len(c)+len(o))
	i, j := 0, 0
	for i < len(c) && j < len(o) {
		switch k := c[i].Actor.Compare(o[j].Actor); {
		case k < 0:
			out = append(out, c[i])
			i++
		case k > 0:
			out = append(out, o[j])
			j++
		default:
			out = append(out, Seen{c[i].Actor, max(c[i].Counter, o[j].Counter)})
			i++
			j++
		}
	}
	out = append(out, c[i:]...)
	return append(out, o[j:]...)
}

// With returns c with d and all earlier dots of its actor seen.
func (c Context) With(d Dot) Context { return c.Join(Context{Seen(d)}) }

// Covers reports whether c has seen everything that o has.
func (c Context) Covers(o Context) bool {
	for _, s := range o {
		if c.Counter(s.Actor) < s.Counter {
			return false
		}
	}
	return true
}

// Equal reports whether both have seen the same dots.
func (c Context) Equal(o Context) bool { return slices.Equal(c, o) }

// valid reports whether c is in canonical form.
func (c Context) valid() bool {
	for i, s := range c {
		if s.Counter == 0 || s.Counter > maxCounter || (i > 0 && c[i-1].Actor.Compare(s.Actor) >= 0) {
			return false
		}
	}
	return true
}

// maxCounter bounds counters far below overflow.
const maxCounter = 1 << 62
