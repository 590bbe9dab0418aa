package storm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"dynamo/node/peer"
	"dynamo/node/sim"
)

// calm is the network when nothing is wrong.
func calm() peer.Faults {
	return peer.Faults{MinDelay: 50 * time.Microsecond, MaxDelay: time.Millisecond}
}

// moment is when a fault begins or ends.
type moment struct {
	at    time.Duration
	begin bool
	fault int
}

// play breaks things by the plan until its length is over. All that is broken then is left as it is.
func (r *run) play(ctx context.Context) error {
	var moments []moment
	for i, f := range r.plan.Faults {
		moments = append(moments, moment{f.At, true, i}, moment{f.At + f.For, false, i})
	}
	slices.SortStableFunc(moments, func(a, b moment) int { return cmp.Compare(a.at, b.at) })
	active := make(map[int]bool)
	for _, m := range moments {
		if m.at >= r.plan.Length {
			break
		}
		if err := r.until(ctx, m.at); err != nil {
			return err
		}
		f := r.plan.Faults[m.fault]
		if !m.begin && !active[m.fault] {
			continue // it was ended early, or could not begin
		}
		var err error
		if m.begin {
			err = r.begin(ctx, f, active, m.fault)
		} else {
			delete(active, m.fault)
			err = r.end(ctx, f, active)
		}
		if err != nil {
			return fmt.Errorf("%v: %w", f, err)
		}
	}
	return r.until(ctx, r.plan.Length)
}

// until waits, and revives nodes that had to stop meanwhile.
func (r *run) until(ctx context.Context, at time.Duration) error {
	for r.since() < at {
		select {
		case <-time.After(at - r.since()):
		case id := <-r.fatal:
			r.note("restart %s", id)
			if err := r.crash(ctx, id, 0); err != nil {
				return err
			}
			if err := r.c.Boot(ctx, id); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (r *run) begin(ctx context.Context, f Fault, active map[int]bool, i int) error {
	if f.Kind == Wipe {
		return r.wipe(ctx, f, active, i)
	}
	r.note("begin %s", f)
	r.report.Faults[f.Kind]++
	active[i] = true
	switch f.Kind {
	case Cut, OneWay:
		r.cut(active)
	case Weather:
		r.weather(active)
	case Kill:
		for _, id := range f.Nodes {
			if err := r.crash(ctx, id, f.Percent); err != nil {
				return err
			}
		}
	case Restart:
		for _, id := range f.Nodes {
			if err := r.c.Stop(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// wipe empties a disk once everything is whole: what was acknowledged lies on W disks, and on one alone from then on.
func (r *run) wipe(ctx context.Context, f Fault, active map[int]bool, i int) error {
	r.hold()
	defer r.release()
	clear(active)
	if err := r.becomeWhole(ctx); err != nil {
		return err
	}
	r.note("begin %s", f)
	r.report.Faults[f.Kind]++
	active[i] = true
	if err := r.crash(ctx, f.Nodes[0], 0); err != nil {
		return err
	}
	r.c.Wipe(f.Nodes[0])
	return nil
}

func (r *run) end(ctx context.Context, f Fault, active map[int]bool) error {
	r.note("end %s", f)
	switch f.Kind {
	case Cut, OneWay:
		r.cut(active)
	case Weather:
		r.weather(active)
	default:
		return r.boot(ctx, active)
	}
	return nil
}

// cut makes the network as the active faults want it.
func (r *run) cut(active map[int]bool) {
	r.c.Heal()
	for i, f := range r.plan.Faults {
		if !active[i] || f.Kind != Cut && f.Kind != OneWay {
			continue
		}
		for _, a := range f.Nodes {
			for _, b := range r.ids() {
				if slices.Contains(f.Nodes, b) {
					continue
				}
				r.c.CutLinks(sim.Link{From: a, To: b})
				if f.Kind == Cut {
					r.c.CutLinks(sim.Link{From: b, To: a})
				}
			}
		}
	}
}

func (r *run) weather(active map[int]bool) {
	now := calm()
	for i, f := range r.plan.Faults {
		if active[i] && f.Kind == Weather {
			now.MaxDelay, now.Loss, now.Duplicate = time.Duration(f.Percent)*time.Millisecond, 0.05, 0.05
		}
	}
	r.c.Network.SetFaults(now)
}

// boot starts the nodes that are down and that no active fault holds down.
func (r *run) boot(ctx context.Context, active map[int]bool) error {
	for _, id := range r.ids() {
		held := r.c.Node(id) != nil
		for i, f := range r.plan.Faults {
			held = held || active[i] && slices.Contains(f.Nodes, id) && (f.Kind == Kill || f.Kind == Restart || f.Kind == Wipe)
		}
		if held {
			continue
		}
		r.note("boot %s", id)
		if err := r.c.Boot(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// crash takes the power from a node, if it runs.
func (r *run) crash(ctx context.Context, id string, percent int) error {
	if r.c.Node(id) == nil {
		return nil
	}
	if err := r.c.Crash(ctx, id, percent); err != nil {
		r.note("%s closes after its power is gone: %v", id, err)
	}
	return nil
}

func (r *run) ids() []string {
	var out []string
	for _, n := range r.config().Nodes {
		out = append(out, n.ID)
	}
	return out
}

// patience is how long replicas may take to become equal once nothing is wrong any more.
const patience = 3 * time.Minute

// becomeWhole ends all faults and waits until every primary holds the same and no hints are left.
func (r *run) becomeWhole(ctx context.Context) error {
	r.cut(nil)
	r.weather(nil)
	if err := r.boot(ctx, nil); err != nil {
		return err
	}
	began, why := r.since(), ""
	for r.since()-began < patience {
		if err := r.until(ctx, r.since()+100*time.Millisecond); err != nil {
			return err
		}
		if why = r.unequal(); why == "" {
			r.note("whole after %v", r.since()-began)
			return nil
		}
	}
	r.violation("replicas become equal", "", "not after %v without faults: %s", patience, why)
	return nil
}

// unequal says what is not whole yet.
func (r *run) unequal() string {
	type tree struct {
		partition uint32
		keyspace  string
	}
	first, keyspaces := make(map[tree]string), ""
	for _, id := range r.ids() {
		n := r.c.Node(id)
		if n == nil {
			return id + " is down"
		}
		select {
		case <-n.Ready():
		default:
			return id + " is not ready"
		}
		if n.Unsure() {
			return id + " is not sure of what it holds"
		}
		if known := fmt.Sprint(n.Keyspaces().Keyspaces()); keyspaces == "" {
			keyspaces = known
		} else if known != keyspaces {
			return fmt.Sprintf("%s knows the keyspaces %s, another %s", id, known, keyspaces)
		}
		if hints := n.Hints(); hints > 0 {
			return fmt.Sprintf("%s holds %d hints", id, hints)
		}
		for _, p := range n.Partitions() {
			at, sum := tree{p.Partition, p.Keyspace}, fmt.Sprint(p.Sum, p.Count)
			if was, ok := first[at]; ok && was != sum || !p.Sound {
				return fmt.Sprintf("%v: %s holds %s, another %s, sound %t", at, id, sum, was, p.Sound)
			}
			first[at] = sum
		}
	}
	return ""
}
