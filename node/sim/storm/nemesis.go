package storm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dynamo/node/peer"
	"dynamo/node/sim"
	"dynamo/node/sim/plan"
	"dynamo/node/store"
)

// calm is the network when nothing is wrong.
func calm() peer.Faults {
	return peer.Faults{MinDelay: 50 * time.Microsecond, MaxDelay: time.Millisecond}
}

// moment is when a fault begins or ends.
type moment struct {
	at    time.Duration
	act   func(ctx context.Context, fault int) error
	fault int
}

// nemesis is what the goroutine of Run remembers of the faults.
type nemesis struct {
	// active are the faults, by their number in the plan, that have begun and not ended.
	active map[int]bool
	// backups are old disks, by the number of the fault that they are for.
	backups map[int]backup
	// damaged are nodes whose database may be unusable.
	damaged map[string]bool
}

// arm prepares what must be there before nodes boot.
func (r *run) arm() {
	r.nemesis = nemesis{active: map[int]bool{}, backups: map[int]backup{}, damaged: map[string]bool{}}
	if r.plan.Has(plan.DiskFull, plan.NoSpace) {
		for _, id := range r.ids() {
			r.c.SetFree(id, roomy)
		}
	}
}

// play breaks things by the plan until its length is over. All that is broken then is left as it is.
func (r *run) play(ctx context.Context) error {
	var moments []moment
	for i, f := range r.plan.Faults {
		if f.Kind == plan.OldDisk {
			moments = append(moments, moment{f.At / 2, r.copyDisk, i})
		}
		if f.Kind == plan.Late {
			moments = append(moments, moment{f.At, r.end, i})
			continue
		}
		moments = append(moments, moment{f.At, r.begin, i}, moment{f.At + f.For, r.end, i})
	}
	slices.SortStableFunc(moments, func(a, b moment) int { return cmp.Compare(a.at, b.at) })
	for _, m := range moments {
		if m.at >= r.plan.Length {
			break
		}
		if err := r.until(ctx, m.at); err != nil {
			return err
		}
		if err := m.act(ctx, m.fault); err != nil {
			return fmt.Errorf("%v: %w", r.plan.Faults[m.fault], err)
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
			if err := r.revive(ctx, id); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// begin lets a fault happen.
func (r *run) begin(ctx context.Context, i int) error {
	f := r.plan.Faults[i]
	switch f.Kind {
	case plan.Wipe, plan.FlipTables, plan.FlipLogs, plan.OldDisk:
		return r.lose(ctx, f, i)
	}
	r.note("begin %s", f)
	r.report.Faults[f.Kind]++
	r.nemesis.active[i] = true
	r.apply()
	switch f.Kind {
	case plan.Kill, plan.ZoneKill, plan.Blackout:
		return r.crash(ctx, f.Percent, f.Nodes...)
	case plan.Restart, plan.Leave:
		return r.stop(ctx, f.Nodes)
	case plan.Clock:
		if err := r.stop(ctx, f.Nodes); err != nil {
			return err
		}
		return r.boot(ctx)
	case plan.Bounce:
		return r.bounce(ctx, f)
	case plan.BootKill:
		return r.killBoot(ctx, f)
	case plan.Upgrade, plan.Failing, plan.Unlawful:
		r.rebind(i)
	}
	return nil
}

// end ends a fault, unless that was done early or it could not begin.
func (r *run) end(ctx context.Context, i int) error {
	if !r.nemesis.active[i] {
		return nil
	}
	delete(r.nemesis.active, i)
	f := r.plan.Faults[i]
	r.note("end %s", f)
	r.apply()
	if f.Kind == plan.Failing || f.Kind == plan.Unlawful {
		r.mendLater(i)
	}
	if f.Kind == plan.Clock {
		if err := r.stop(ctx, f.Nodes); err != nil {
			return err
		}
	}
	return r.boot(ctx)
}

// stop stops nodes in good order.
func (r *run) stop(ctx context.Context, ids []string) error {
	for _, id := range ids {
		if err := r.c.Stop(ctx, id); errors.Is(err, store.ErrFailed) {
			r.note("%s does not stop in good order: %v", id, err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// hits reports whether an active fault of one of the kinds hits a node.
func (r *run) hits(id string, kinds ...plan.Kind) bool {
	for i := range r.nemesis.active {
		if f := r.plan.Faults[i]; slices.Contains(kinds, f.Kind) && slices.Contains(f.Nodes, id) {
			return true
		}
	}
	return false
}

// apply makes network, clocks and disks as the active faults want them.
func (r *run) apply() {
	r.cut()
	now := calm()
	r.c.Fair()
	for i, f := range r.plan.Faults {
		late := time.Duration(f.Percent) * time.Millisecond
		switch {
		case !r.nemesis.active[i]:
		case f.Kind == plan.Weather:
			now.MaxDelay, now.Loss, now.Duplicate = late, 0.05, 0.05
		case f.Kind == plan.Slow:
			r.c.Slow(peer.Faults{MinDelay: late, MaxDelay: 2 * late}, f.Nodes...)
		case f.Kind == plan.Reorder:
			tangled := calm()
			tangled.Late, tangled.LateBy = 1/3., 10*late
			r.c.Slow(tangled, f.Nodes...)
		}
	}
	r.c.Network.SetFaults(now)
	for _, id := range r.ids() {
		if r.c.Node(id) != nil && r.hits(id, plan.Pause) { // one that is down could not be booted
			r.c.Pause(id)
		} else {
			r.c.Resume(id)
		}
		r.applyDisk(id)
	}
}

// applyClock sets the clock of a node that is down. While a node runs, its clock goes on evenly, as Go's does, which does not
// follow when the wall clock is set.
func (r *run) applyClock(id string) {
	var offset time.Duration
	var drift float64
	for i, f := range r.plan.Faults {
		if r.nemesis.active[i] && f.Kind == plan.Clock && slices.Contains(f.Nodes, id) {
			offset, drift = f.Offset, float64(f.Percent)/100
		}
	}
	r.c.SetClock(id, offset, drift)
}

// cut makes the network as the active faults want it.
func (r *run) cut() {
	r.c.Heal()
	for i, f := range r.plan.Faults {
		if !r.nemesis.active[i] || f.Kind != plan.Cut && f.Kind != plan.ZoneCut && f.Kind != plan.OneWay {
			continue
		}
		for _, a := range f.Nodes {
			for _, b := range r.ids() {
				if slices.Contains(f.Nodes, b) {
					continue
				}
				r.c.CutLinks(sim.Link{From: a, To: b})
				if f.Kind != plan.OneWay {
					r.c.CutLinks(sim.Link{From: b, To: a})
				}
			}
		}
	}
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
	clear(r.nemesis.active)
	r.apply()
	if err := r.boot(ctx); err != nil {
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
