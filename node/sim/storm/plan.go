package storm

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// FaultKind is what goes wrong.
type FaultKind string

// The kinds. What begins at At ends at At+For.
const (
	// Cut parts Nodes from all others.
	Cut FaultKind = "cut"
	// OneWay swallows all that Nodes send, not what they are sent.
	OneWay FaultKind = "one-way"
	// Kill takes the power from a node: of what was not synced Percent survives, in pieces.
	Kill FaultKind = "kill"
	// Restart stops a node in good order.
	Restart FaultKind = "restart"
	// Wipe kills a node and gives it an empty disk. Everything is whole before.
	Wipe FaultKind = "wipe"
	// Weather makes the whole network slow and bad: messages are late by Percent milliseconds at the most, one of 20 is lost, one
	// of 20 arrives twice.
	Weather FaultKind = "weather"
)

// Fault is one thing that goes wrong.
type Fault struct {
	Kind    FaultKind
	At, For time.Duration
	// Nodes are hit.
	Nodes   []string `json:",omitempty"`
	Percent int      `json:",omitempty"`
}

// String is a line of a schedule.
func (f Fault) String() string {
	s := fmt.Sprintf("%8.3fs for %6.3fs %s", f.At.Seconds(), f.For.Seconds(), f.Kind)
	if len(f.Nodes) > 0 {
		s += " " + strings.Join(f.Nodes, " ")
	}
	if f.Percent > 0 {
		s += fmt.Sprintf(" %d%%", f.Percent)
	}
	return s
}

// Plan is all that is decided before a run begins. A run of the same plan with the same seed is the same run; one
// of a part of the plan is another one.
type Plan struct {
	Seed  uint64
	Nodes int
	// Length is how long clients and faults go on; after that everything is healed and compared.
	Length  time.Duration
	Clients int
	// Keys is how many keys of each kind there are.
	Keys   int
	Faults []Fault
}

// Draw makes the plan of a seed. Nodes 0 draws their number, too.
func Draw(seed uint64, nodes int, length time.Duration) Plan {
	r := rand.New(rand.NewPCG(seed, 0x706c616e))
	if nodes == 0 {
		nodes = 3 + r.IntN(5)
	}
	p := Plan{Seed: seed, Nodes: nodes, Length: length, Clients: 3 + r.IntN(6), Keys: 2 + r.IntN(8)}
	kinds := []FaultKind{Cut, Cut, OneWay, Kill, Kill, Restart, Weather}
	between := func(a, b time.Duration) time.Duration { return a + time.Duration(r.Int64N(int64(b-a))) }
	for t := between(0, 3*time.Second); t < length; t += between(100*time.Millisecond, 4*time.Second) {
		f := Fault{Kind: kinds[r.IntN(len(kinds))], At: t, For: between(100*time.Millisecond, 8*time.Second)}
		if r.IntN(12) == 0 {
			f.Kind = Wipe
		}
		hit := 1
		switch f.Kind {
		case Cut, OneWay:
			hit = 1 + r.IntN(nodes/2)
		case Kill:
			f.Percent = r.IntN(101)
			if r.IntN(4) == 0 {
				hit = 1 + r.IntN(nodes)
			}
		case Weather:
			hit, f.Percent = 0, 1+r.IntN(200)
		}
		for _, i := range r.Perm(nodes)[:hit] {
			f.Nodes = append(f.Nodes, fmt.Sprint("n", i+1))
		}
		slices.Sort(f.Nodes)
		p.Faults = append(p.Faults, f)
	}
	slices.SortStableFunc(p.Faults, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	return p
}
