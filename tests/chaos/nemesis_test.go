package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The faults.
const (
	faultKill    = "kill"    // kill -9, and a restart later
	faultPause   = "pause"   // SIGSTOP, SIGCONT
	faultRestart = "restart" // SIGTERM, and a restart later
	faultWipe    = "wipe"    // kill -9, data removed, and a restart later
	faultCut     = "cut"     // two groups
	faultOneWay  = "one-way" // one node is not heard by some, but hears them
)

// fault is one entry of a plan.
type fault struct {
	kind     string
	from, to time.Duration // of the storm
	// nodes are hit, or are the smaller side of a cut; others is its other side.
	nodes, others []string
}

func (f fault) String() string {
	s := f.kind + " " + strings.Join(f.nodes, " ")
	if len(f.others) > 0 {
		s += " | " + strings.Join(f.others, " ")
	}
	return s
}

// wipeEvery is how far wipes are apart at least: everything must be whole again in between.
const wipeEvery = 15 * time.Second

// plan draws the faults of a storm: up to two nodes are away at a time and one cut is up, except that nothing else
// is wrong when a node is wiped.
func plan(r *rand.Rand, length time.Duration, ids []string, oneWay bool) []fault {
	kinds := []string{faultKill, faultKill, faultPause, faultPause, faultRestart, faultCut, faultCut, faultCut}
	if oneWay {
		kinds = append(kinds, faultOneWay, faultOneWay)
	}
	between := func(a, b time.Duration) time.Duration { return a + time.Duration(r.Int64N(int64(b-a))) }
	var out []fault
	calm := time.Duration(0) // when the last fault ends
	lastWipe := -wipeEvery + 4*time.Second
	busy := func(t time.Duration, match func(fault) bool) int {
		n := 0
		for _, f := range out {
			if f.to+500*time.Millisecond > t && match(f) {
				n++
			}
		}
		return n
	}
	for t := between(500*time.Millisecond, 2*time.Second); ; t += between(300*time.Millisecond, 2*time.Second) {
		if t >= length {
			return out
		}
		if t-lastWipe >= wipeEvery {
			t = max(t, calm+500*time.Millisecond)
			f := fault{kind: faultWipe, from: t, to: t + between(300*time.Millisecond, 3*time.Second), nodes: []string{ids[r.IntN(len(ids))]}}
			if f.to >= length {
				continue
			}
			out, lastWipe, calm, t = append(out, f), f.from, f.to, f.to
			continue
		}
		f := fault{kind: kinds[r.IntN(len(kinds))], from: t, to: t + between(500*time.Millisecond, 6*time.Second)}
		if f.to >= length {
			continue
		}
		shuffled := slices.Clone(ids)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		switch f.kind {
		case faultCut, faultOneWay:
			if busy(t, func(f fault) bool { return len(f.others) > 0 }) > 0 {
				continue
			}
			k := 1 + r.IntN(2)
			f.nodes, f.others = shuffled[:k], shuffled[k:]
			if f.kind == faultOneWay {
				f.nodes, f.others = shuffled[:1], shuffled[1:2+r.IntN(len(ids)-1)]
			}
		default:
			f.nodes = shuffled[:1]
			if busy(t, func(f fault) bool { return len(f.others) == 0 }) >= 2 ||
				busy(t, func(o fault) bool { return len(o.others) == 0 && o.nodes[0] == f.nodes[0] }) > 0 {
				continue
			}
		}
		slices.Sort(f.nodes)
		slices.Sort(f.others)
		out, calm = append(out, f), max(calm, f.to)
	}
}

// nemesis breaks things by a plan. It alone touches processes and network while the storm lasts.
type nemesis struct {
	run    *run
	c      *cluster
	counts map[string]int
	steps  []string      // what it did, when
	wiped  bool          // since everything was whole
	held   time.Duration // how long clients waited for everything to become whole
}

func (n *nemesis) note(format string, args ...any) {
	n.steps = append(n.steps, fmt.Sprintf("%8.3fs nemesis %s", n.run.since().Seconds(), fmt.Sprintf(format, args...)))
}

type moment struct {
	at    time.Duration
	begin bool
	fault fault
}

// play carries a plan out. A step that takes long delays those behind it.
func (n *nemesis) play(ctx context.Context, faults []fault, length time.Duration) error {
	var moments []moment
	for _, f := range faults {
		moments = append(moments, moment{f.from, true, f}, moment{f.to, false, f})
	}
	slices.SortStableFunc(moments, func(a, b moment) int { return int(a.at - b.at) })
	delay := n.run.since()
	for _, m := range moments {
		select {
		case <-time.After(m.at + delay - n.run.since()):
		case <-ctx.Done():
			return ctx.Err()
		}
		planned := n.run.since()
		f := n.begin
		if !m.begin {
			f = n.end
		}
		if err := f(ctx, m.fault); err != nil {
			n.note("%s failed: %v", m.fault, err)
			return fmt.Errorf("%s: %w", m.fault, err)
		}
		delay += n.run.since() - planned
	}
	select {
	case <-time.After(length + delay - n.run.since()):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *nemesis) begin(ctx context.Context, f fault) error {
	if f.kind == faultWipe && n.wiped {
		if err := n.becomeWhole(ctx); err != nil {
			return err
		}
	}
	n.counts[f.kind]++
	n.note("%s", f)
	s := n.c.server(f.nodes[0])
	switch f.kind {
	case faultKill:
		return n.c.kill(s)
	case faultPause:
		return n.c.pause(s)
	case faultRestart:
		return n.c.end(s, syscall.SIGTERM, 12*time.Second)
	case faultWipe:
		n.wiped = true
		if err := n.c.kill(s); err != nil {
			return err
		}
		return os.RemoveAll(n.c.data(s))
	}
	for _, a := range f.nodes {
		for _, b := range f.others {
			if err := n.c.network.cut(ctx, n.c.server(a), n.c.server(b)); err != nil {
				return err
			}
			if f.kind == faultOneWay {
				continue
			}
			if err := n.c.network.cut(ctx, n.c.server(b), n.c.server(a)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *nemesis) end(ctx context.Context, f fault) error {
	s := n.c.server(f.nodes[0])
	defer n.note("over: %s", f)
	switch f.kind {
	case faultCut, faultOneWay:
		return n.c.network.heal(ctx)
	case faultPause:
		if err := n.c.resume(s); err != nil {
			return err
		}
		return n.c.network.restore(ctx, s)
	}
	return n.c.start(ctx, s)
}

// wholeWithin bounds the time until all replicas are equal and no hint is left, once everything works.
const wholeWithin = 60 * time.Second

// becomeWhole holds the clients until every copy of everything is there again. Only then may another disk be
// destroyed: a write at W=2 survives the loss of one.
func (n *nemesis) becomeWhole(ctx context.Context) error {
	n.run.gate.Lock()
	defer n.run.gate.Unlock()
	began := n.run.since()
	if err := n.run.whole(ctx); err != nil {
		return err
	}
	n.wiped = false
	took := n.run.since() - began
	n.held += took
	n.note("everything is whole again, after %.1f s without clients", took.Seconds())
	return nil
}
