package sim

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"dynamo/node/peer"
)

// Pause makes nodes stand still until Resume: what they send and are sent is held, not lost, and so are the writes
// of their logs. Their programs run on meanwhile, cut off from the world.
func (c *Cluster) Pause(ids ...string) {
	for _, id := range ids {
		c.Network.Hold(id)
		c.air.pause(id, true)
		if !c.o.PauseNetworkOnly {
			c.disks[id].hold()
		}
	}
}

// Resume lets nodes go on; all that was held is delivered.
func (c *Cluster) Resume(ids ...string) {
	for _, id := range ids {
		c.disks[id].release()
		c.air.pause(id, false)
		c.Network.Release(id)
	}
}

// Slow gives all that nodes send and are sent faults of its own, until Fair.
func (c *Cluster) Slow(f peer.Faults, ids ...string) {
	for _, id := range ids {
		for _, n := range c.o.Config.Nodes {
			if n.ID != id {
				c.Network.SetLink(id, n.ID, f)
				c.Network.SetLink(n.ID, id, f)
			}
		}
	}
}

// Fair undoes Slow.
func (c *Cluster) Fair() { c.Network.ClearLinks() }

// clock is the wall clock of one node.
type clock struct {
	base func() time.Time
	mu   struct {
		sync.Mutex
		set    time.Time
		offset time.Duration
		drift  float64
	}
}

func (k *clock) now() time.Time {
	t := k.base()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mu.offset == 0 && k.mu.drift == 0 {
		return t
	}
	return t.Add(k.mu.offset + time.Duration(k.mu.drift*float64(t.Sub(k.mu.set))))
}

func (k *clock) jump(offset time.Duration, drift float64) {
	t := k.base()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mu.offset != offset || k.mu.drift != drift {
		k.mu.set, k.mu.offset, k.mu.drift = t, offset, drift
	}
}

// SetClock puts the wall clock of a node off by offset at once, and by drift seconds a second from then on. Timers run
// on as they did. Zeros put it right, and the same again changes nothing.
func (c *Cluster) SetClock(id string, offset time.Duration, drift float64) {
	c.clocks[id].jump(offset, drift)
}

// FailDisk makes the disk of a node fail until it is made Healthy.
func (c *Cluster) FailDisk(id string, f DiskFault) { c.disks[id].setFault(f) }

// DiskFailures is how often the disk of a node failed since it was put there.
func (c *Cluster) DiskFailures(id string) int { return c.disks[id].faults() }

// SetFree makes the disk of a node one of 1 GiB, and says how many bytes of it are left. A node looks for free space
// only if its disk has a size when it boots.
func (c *Cluster) SetFree(id string, bytes int64) { c.disks[id].setFree(bytes) }

// Flip turns one bit round in each database file of a node whose name ends so; the node is down. It returns how many.
func (c *Cluster) Flip(id, suffix string) (int, error) {
	return c.disks[id].flip("/"+id+"/db", suffix, c.dice())
}

// dice draws an independent source.
func (c *Cluster) dice() *rand.Rand {
	var seed [32]byte
	_, _ = c.rng.Read(seed[:]) // never fails
	return rand.New(rand.NewChaCha8(seed))
}

// Disk is what a node's disk holds.
type Disk = vfs.MemFS

// Snapshot copies the disk of a node that runs, as its power loss would leave it now.
func (c *Cluster) Snapshot(id string) *vfs.MemFS {
	return c.disks[id].CrashClone(vfs.CrashCloneCfg{})
}

// CrashInBoot boots a node that is down and takes its power after so many writes and syncs of its disk, or when the
// boot is over. Of what was not synced the given percentage survives: with 1 to 99 a new MANIFEST may be lost and the file
// that names it not, which file systems that keep directories in order do not do. Nobody hears of the boot. It reports whether the boot was still going on.
func (c *Cluster) CrashInBoot(ctx context.Context, id string, operations, unsyncedPercent int) (bool, error) {
	d := c.disks[id]
	cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: unsyncedPercent, RNG: c.dice()}
	d.snapshotAfter(operations, func() *vfs.MemFS { return d.CrashClone(cfg) })
	c.Network.Hold(id)
	defer c.Network.Release(id)
	n, err := c.open(ctx, id, false)
	shot := d.snapshot()
	if shot == nil {
		d.snapshotAfter(0, func() *vfs.MemFS { return d.CrashClone(cfg) })
		d.tick()
	}
	if n != nil {
		err = errors.Join(err, n.Close(ctx))
	}
	c.disks[id] = d.replaced(d.snapshot())
	d.die()
	return shot != nil, err
}

// BootReset is Boot with an empty database in the place of one that cannot be used.
func (c *Cluster) BootReset(ctx context.Context, id string) error { return c.boot(ctx, id, true) }

func (c *Cluster) boot(ctx context.Context, id string, reset bool) error {
	n, err := c.open(ctx, id, reset)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.nodes[id] = n
	return nil
}
