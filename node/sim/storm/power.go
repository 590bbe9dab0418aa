package storm

import (
	"context"
	"errors"
	"slices"
	"time"

	"dynamo/node/sim"
	"dynamo/node/sim/plan"
	"dynamo/node/store"
)

const (
	// roomy and low are what is left of a disk, in bytes.
	roomy = 500 << 20
	low   = 10 << 20
)

// backup is a disk as it was.
type backup struct {
	at   time.Duration
	disk *sim.Disk
}

// crash takes the power from nodes, of those that run.
func (r *run) crash(ctx context.Context, percent int, ids ...string) error {
	for _, id := range ids {
		if r.c.Node(id) == nil {
			continue
		}
		if err := r.c.Crash(ctx, id, percent); err != nil {
			r.note("%s closes after its power is gone: %v", id, err)
		}
	}
	return ctx.Err()
}

// start boots all nodes but those that come late, and waits until they are ready.
func (r *run) start(ctx context.Context) error {
	if i := slices.IndexFunc(r.plan.Faults, func(f plan.Fault) bool { return f.Kind == plan.Late }); i >= 0 {
		r.nemesis.active[i] = true
		r.report.Faults[plan.Late]++
	}
	if err := r.boot(ctx); err != nil {
		return err
	}
	for _, id := range r.ids() {
		if n := r.c.Node(id); n != nil {
			select {
			case <-n.Ready():
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// awaitLeavers goes on until the nodes that left are back, with nothing else wrong, so that the others might forget what they
// must not.
func (r *run) awaitLeavers(ctx context.Context) error {
	var back time.Duration
	leave := map[int]bool{}
	for i, f := range r.plan.Faults {
		if r.nemesis.active[i] && f.Kind == plan.Leave {
			back, leave[i] = max(back, f.At+f.For), true
		}
	}
	if back == 0 {
		return nil
	}
	r.nemesis.active = leave
	r.apply()
	if err := r.boot(ctx); err != nil {
		return err
	}
	return r.until(ctx, back)
}

// boot starts the nodes that are down and that no active fault holds down.
func (r *run) boot(ctx context.Context) error {
	for _, id := range r.ids() {
		if r.c.Node(id) != nil || r.hits(id, plan.Kill, plan.ZoneKill, plan.Blackout, plan.Restart, plan.BootKill, plan.Wipe, plan.FlipTables, plan.FlipLogs, plan.OldDisk, plan.Late, plan.Leave) {
			continue
		}
		if err := r.bootOne(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// bootOne boots a node as an operator would: a database that cannot be used is set aside, if there is a reason for it,
// and on a disk that fails the node waits until that is over.
func (r *run) bootOne(ctx context.Context, id string) error {
	r.note("boot %s", id)
	r.applyClock(id)
	err := r.c.Boot(ctx, id)
	switch {
	case err == nil:
	case r.hits(id, plan.SyncError, plan.ReadError, plan.NoSpace):
		r.note("%s does not boot: %v", id, err)
		return nil
	case errors.Is(err, store.ErrUnusable) && r.nemesis.damaged[id]:
		r.note("%s is set aside: %v", id, err)
		r.report.SetAside++
		r.forgive(id)
		err = r.c.BootReset(ctx, id)
	}
	if err == nil {
		r.apply() // a pause of the node has ended with it
	}
	return err
}

// forgive forgets that a node had to stop, because it was seen to.
func (r *run) forgive(id string) {
	for range len(r.fatal) {
		if other := <-r.fatal; other != id {
			r.fatal <- other
		}
	}
}

// revive boots a node that had to stop.
func (r *run) revive(ctx context.Context, id string) error {
	r.note("restart %s", id)
	percent := 0
	for i, f := range r.plan.Faults {
		if r.nemesis.active[i] && f.Kind == plan.SyncError && f.Nodes[0] == id {
			percent = f.Percent
			delete(r.nemesis.active, i)
		}
	}
	if err := r.crash(ctx, percent, id); err != nil {
		return err
	}
	r.apply()
	return r.bootOne(ctx, id)
}

// bounce takes the power from a node and gives it back, again and again.
func (r *run) bounce(ctx context.Context, f plan.Fault) error {
	for i := range 3 + f.Percent%3 {
		if err := r.crash(ctx, f.Percent, f.Nodes...); err != nil {
			return err
		}
		if err := r.boot(ctx); err != nil {
			return err
		}
		if err := r.until(ctx, r.since()+time.Duration(1+(f.Percent*(i+1)*37)%300)*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// killBoot takes the power from a node, and again while it boots.
func (r *run) killBoot(ctx context.Context, f plan.Fault) error {
	id := f.Nodes[0]
	if err := r.crash(ctx, f.Percent, id); err != nil {
		return err
	}
	if r.hits(id, plan.SyncError, plan.ReadError, plan.NoSpace) {
		return nil
	}
	early, err := r.c.CrashInBoot(ctx, id, f.Percent, 100*(f.Percent%2))
	r.note("%s lost its power while it booted: %t (%v)", id, early, err)
	return nil
}

// copyDisk makes the backup that a fault restores later.
func (r *run) copyDisk(_ context.Context, i int) error {
	if r.c.Node(r.plan.Faults[i].Nodes[0]) == nil {
		// A copy of a disk that was stopped in good order goes on as if nothing had been since. Only peers can tell it, and a
		// cut may keep them from that.
		return nil
	}
	r.note("a backup is made of %s", r.plan.Faults[i].Nodes[0])
	r.nemesis.backups[i] = backup{r.since(), r.c.Snapshot(r.plan.Faults[i].Nodes[0])}
	return nil
}

// oldestBackup is how old a disk may be that a node goes back to: with one from before a settle round, deleted values
// come back. A log that is damaged takes a disk back as well, to what was flushed last at the worst: pebble takes a flipped
// bit for the log's end.
const oldestBackup = settleAfter / 2

// lose takes a copy away once everything is whole: what was acknowledged lies on W disks, and on one alone from then on.
func (r *run) lose(ctx context.Context, f plan.Fault, i int) error {
	r.hold()
	defer r.release()
	if err := r.becomeWhole(ctx); err != nil {
		return err
	}
	if b := r.nemesis.backups[i]; f.Kind == plan.OldDisk && (b.disk == nil || r.since()-b.at > oldestBackup) {
		r.note("there is no backup of %s, or it is too old to be used", f.Nodes[0])
		return nil
	}
	if f.Kind == plan.FlipLogs && r.since() > oldestBackup {
		r.note("the log of %s may be too long to be damaged", f.Nodes[0])
		return nil
	}
	r.note("begin %s", f)
	r.report.Faults[f.Kind]++
	r.nemesis.active[i] = true
	id := f.Nodes[0]
	if f.Kind == plan.FlipLogs && f.Percent%2 == 0 {
		if err := r.c.Stop(ctx, id); err != nil {
			return err
		}
	} else if err := r.crash(ctx, 0, id); err != nil {
		return err
	}
	switch f.Kind {
	case plan.Wipe:
		r.c.Wipe(id)
	case plan.OldDisk:
		b := r.nemesis.backups[i]
		r.note("%s goes back to its disk of %v", id, b.at)
		r.c.Restore(id, b.disk)
	case plan.FlipTables, plan.FlipLogs:
		suffix := map[plan.Kind]string{plan.FlipTables: ".sst", plan.FlipLogs: ".log"}[f.Kind]
		n, err := r.c.Flip(id, suffix)
		r.note("%d bits of %s are turned round", n, id)
		r.nemesis.damaged[id] = true
		return err
	}
	return nil
}

func (r *run) applyDisk(id string) {
	fault := sim.Healthy
	switch {
	case r.hits(id, plan.NoSpace):
		fault = sim.NoSpace
	case r.hits(id, plan.SyncError):
		fault = sim.FailSync
	case r.hits(id, plan.ReadError):
		fault = sim.FailRead
	}
	r.c.FailDisk(id, fault)
	if r.plan.Has(plan.DiskFull, plan.NoSpace) {
		free := int64(roomy)
		if r.hits(id, plan.DiskFull) {
			free = low
		}
		r.c.SetFree(id, free)
	}
}
