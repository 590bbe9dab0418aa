// Package plan decides before a run what goes wrong in it, and looks for the smallest plan that is still broken.
package plan

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is what goes wrong.
type Kind string

// The kinds. What begins at At ends at At+For.
const (
	// Cut parts Nodes from all others.
	Cut Kind = "cut"
	// ZoneCut is Cut of all nodes of a zone.
	ZoneCut Kind = "zone-cut"
	// OneWay swallows all that Nodes send, not what they are sent.
	OneWay Kind = "one-way"
	// Kill takes the power from a node: of what was not synced Percent survives, in pieces.
	Kill Kind = "kill"
	// ZoneKill is Kill of all nodes of a zone, Blackout of all nodes.
	ZoneKill Kind = "zone-kill"
	Blackout Kind = "blackout"
	// Restart stops a node in good order.
	Restart Kind = "restart"
	// Bounce takes the power from a node and gives it back, several times within a second.
	Bounce Kind = "bounce"
	// BootKill takes the power from a node, and again while it boots, after Percent writes and syncs of its disk.
	BootKill Kind = "boot-kill"
	// Pause makes nodes stand still: what they send, are sent and log is held, and delivered in the end.
	Pause Kind = "pause"
	// Weather makes the whole network slow and bad: messages are late by Percent milliseconds at the most, one of 20 is lost, one
	// of 20 arrives twice.
	Weather Kind = "weather"
	// Slow makes messages to and from Nodes late by Percent milliseconds at the least and twice that at the most.
	Slow Kind = "slow"
	// Reorder makes every third message to and from Nodes late by ten times Percent milliseconds.
	Reorder Kind = "reorder"
	// Clock restarts Nodes with clocks that are off by Offset, and by Percent percent from then on.
	Clock Kind = "clock"
	// SyncError makes syncs of the log of a node fail, until it stops and is booted again; of what was not synced Percent
	// survives.
	SyncError Kind = "sync-error"
	// ReadError makes reads of tables fail.
	ReadError Kind = "read-error"
	// DiskFull leaves nothing of a disk to write to but the reserve that a node keeps.
	DiskFull Kind = "disk-full"
	// NoSpace leaves nothing at all: writes fail, and the node does not boot before the end.
	NoSpace Kind = "no-space"
	// Wipe kills a node and gives it an empty disk. Everything is whole before, as it is for the next ones, which lose a
	// copy, too.
	Wipe Kind = "wipe"
	// FlipTables turns a bit round in each table of a node, FlipLogs in each log.
	FlipTables Kind = "flip-tables"
	FlipLogs   Kind = "flip-logs"
	// OldDisk kills a node and gives it the disk that it had at half of At.
	OldDisk Kind = "old-disk"
	// Upgrade binds another version of a resolver, of the same meaning, by one of the ways that there are for that.
	Upgrade Kind = "upgrade"
	// Failing binds a version that fails for some values: it traps, or burns all its fuel. A sound one takes its place when
	// that ends.
	Failing Kind = "failing-resolver"
	// Unlawful tries to bind a version whose results depend on the order of siblings, and then binds it against the advice
	// of the law check. A sound one takes its place when that ends.
	Unlawful Kind = "unlawful-resolver"
	// Late keeps a minority of the nodes from being there at all before At: they boot then, for the first time. Only the
	// first one of a plan counts.
	Late Kind = "late"
	// Leave stops a node in good order for so long that others may forget what was deleted, if they are not to wait for it.
	Leave Kind = "leave"
)

// Fault is one thing that goes wrong.
type Fault struct {
	Kind    Kind
	At, For time.Duration
	// Nodes are hit.
	Nodes   []string `json:",omitempty"`
	Percent int      `json:",omitempty"`
	// Offset is what a clock jumps by.
	Offset time.Duration `json:",omitempty"`
}

// String is a line of a schedule.
func (f Fault) String() string {
	s := fmt.Sprintf("%8.3fs for %6.3fs %s", f.At.Seconds(), f.For.Seconds(), f.Kind)
	if len(f.Nodes) > 0 {
		s += " " + strings.Join(f.Nodes, " ")
	}
	if f.Percent != 0 {
		s += fmt.Sprintf(" %d%%", f.Percent)
	}
	if f.Offset != 0 {
		s += fmt.Sprintf(" by %v", f.Offset)
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
	// Pause is the longest that a client waits between two calls.
	Pause time.Duration
	// Keys is how many keys of each kind there are.
	Keys   int
	Faults []Fault
}

// Has reports whether a fault of one of the kinds is planned.
func (p Plan) Has(kinds ...Kind) bool {
	return slices.ContainsFunc(p.Faults, func(f Fault) bool { return slices.Contains(kinds, f.Kind) })
}

// StaysOpen reports whether a store may be left that cannot be closed, because its log failed: pebble's goroutines stay,
// as they do until the process ends.
func (p Plan) StaysOpen() bool {
	return p.Has(SyncError, ReadError, NoSpace, ReadError, FlipTables, FlipLogs, BootKill)
}

// Skewed reports whether clocks go wrong, so that the newest value may be another than the last that was written.
func (p Plan) Skewed() bool { return p.Has(Clock) }

// Skew bounds how far clocks go apart, and jump: so much earlier or later a node may take a time to be past.
func (p Plan) Skew() time.Duration {
	var most, least time.Duration
	drift := 0
	for _, f := range p.Faults {
		if f.Kind == Clock {
			most, least = max(most, f.Offset), min(least, f.Offset)
			drift = max(drift, f.Percent, -f.Percent)
		}
	}
	return most - least + 2*(most-least+time.Minute)*time.Duration(drift)/100
}

// Draw makes the plan of a seed. Nodes 0 draws their number, too.
func Draw(seed uint64, nodes int, length time.Duration) Plan {
	return DrawOf(seed, nodes, length, nil)
}

// DrawOf is Draw with faults of some kinds only, if any are given; one that is given twice is twice as frequent.
func DrawOf(seed uint64, nodes int, length time.Duration, only []Kind) Plan {
	r := rand.New(rand.NewPCG(seed, 0x706c616e))
	if nodes == 0 {
		nodes = 3 + r.IntN(5)
		if r.IntN(8) == 0 { // large ones are dear
			nodes = 8 + r.IntN(2)
		}
	}
	p := Plan{Seed: seed, Nodes: nodes, Length: length, Clients: 3 + r.IntN(6), Keys: 2 + r.IntN(4), Pause: 900 * time.Millisecond}
	if r.IntN(5) == 0 { // a crowd is dear to simulate
		p.Pause, p.Keys = 150*time.Millisecond, 2+r.IntN(8)
	}
	kinds := Kinds()
	if r.IntN(4) > 0 { // in most runs clocks are right, so that more can be asked of them
		kinds = slices.DeleteFunc(kinds, func(k Kind) bool { return k == Clock })
	}
	if len(only) > 0 {
		kinds = only
	}
	for t := between(r, 0, 3*time.Second); t < length; t += between(r, 100*time.Millisecond, 4*time.Second) {
		f := Fault{Kind: kinds[r.IntN(len(kinds))], At: t, For: between(r, 100*time.Millisecond, 8*time.Second)}
		f.Draw(r, nodes)
		p.Faults = append(p.Faults, f)
	}
	slices.SortStableFunc(p.Faults, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	return p
}

func between(r *rand.Rand, a, b time.Duration) time.Duration {
	return a + time.Duration(r.Int64N(int64(b-a)))
}

// Kinds lists the kinds, some of them twice.
func Kinds() []Kind {
	return []Kind{
		Cut, Cut, OneWay, Kill, Kill, Kill, Restart, Weather, Wipe, Pause, Pause, Slow, Reorder, Clock, SyncError, DiskFull,
		NoSpace, FlipTables, FlipLogs, OldDisk, ZoneCut, ZoneKill, Blackout, Bounce, BootKill,
		Upgrade, Failing, Unlawful, Late, Leave,
	}
}

// Draw decides whom a fault hits and how hard.
func (f *Fault) Draw(r *rand.Rand, nodes int) {
	hit := 1
	switch f.Kind {
	case Cut, OneWay, Slow, Reorder, Pause:
		hit = 1 + r.IntN(nodes/2)
	case Kill:
		if r.IntN(4) == 0 {
			hit = 1 + r.IntN(nodes)
		}
	case Blackout:
		hit = nodes
	case Late:
		hit = 1 + r.IntN(max(1, (nodes-1)/2))
	case Weather, Upgrade, Failing, Unlawful:
		hit = 0
	case Clock, DiskFull:
		hit = 1 + r.IntN(nodes)
	}
	f.Percent = r.IntN(101)
	switch f.Kind {
	case Weather, Slow, Reorder:
		f.Percent = 1 + r.IntN(200)
	case Clock:
		f.Percent, f.Offset = r.IntN(21)-10, between(r, -5*time.Minute, 5*time.Minute)
	case BootKill:
		f.Percent = 1 + r.IntN(60)
	case Cut, OneWay, ZoneCut, Restart, Pause, ReadError, DiskFull, NoSpace, Wipe, OldDisk, Late:
		f.Percent = 0
	case Leave:
		f.Percent, f.For = 0, between(r, 19*time.Second, 26*time.Second)
	}
	if f.Kind == ZoneCut || f.Kind == ZoneKill {
		for i := r.IntN(3); i < nodes; i += 3 { // as sim.Config deals out zones
			f.Nodes = append(f.Nodes, fmt.Sprint("n", i+1))
		}
		return
	}
	for _, i := range r.Perm(nodes)[:hit] {
		f.Nodes = append(f.Nodes, fmt.Sprint("n", i+1))
	}
	slices.Sort(f.Nodes)
}
