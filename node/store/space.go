package store

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"dynamo/node/disk"
)

// ErrDiskFull answers [Store.Room] while the disk has less free space than it is to keep.
var ErrDiskFull = errors.New("store: the disk is full")

// SpaceLimits say when a disk counts as full: the smaller of the two is the watermark, and 0 in either
// of them turns the guard off.
type SpaceLimits struct {
	MinFreeBytes   int64
	MinFreePercent int
}

const (
	// spaceEvery is the pause between two looks at the disk. In between, writes count what they take.
	spaceEvery = 500 * time.Millisecond
	// spaceCalm is how many looks in a row must find space before writes are taken again.
	spaceCalm = 2
	// maxBallast bounds the ballast; on a small disk it is 1/ballastShare of it.
	maxBallast   = 64 << 20
	ballastShare = 128
	ballastName  = "ballast"
	// criticalShare of the watermark is where the ballast is given up.
	criticalShare = 4
	// writeCost is what a byte takes: once in the log, once in the table that the log is flushed into.
	writeCost = 2
)

// spaceGuard keeps the disk from filling up. Pebble cannot go on once its log finds no space, and a node
// that stops is worse than one that only reads. What counts as free is what the file system has left,
// less what is sure to be taken still: the flush of the log, and the ballast, if it was given up.
//
// The ballast is a file of allocated blocks that is removed when space is critically low, because
// others fill the disk, too: then the log can still be rotated and flushed, and the node stop in good
// order.
type spaceGuard struct {
	s *Store
	// watermark and critical are bytes, fixed when the disk is opened.
	watermark, critical int64
	ballast             int64

	full     atomic.Bool
	free     atomic.Int64
	headroom atomic.Int64 // above the watermark, at the last look
	written  atomic.Int64 // what writes may have taken since
	refused  atomic.Uint64
	held     atomic.Bool // the ballast is on the disk
	stopped  chan struct{}
	// mu is held during a look. calm counts the good looks in a row while full; owed says that the ballast
	// was given up and its space is to be kept back for it; hopeless that it cannot be made at all;
	// failing that the last look saw nothing.
	mu struct {
		sync.Mutex
		calm                    int
		owed, hopeless, failing bool
		// fresh says that the ballast was made by this boot.
		fresh bool
	}
}

// SpaceStats are for metrics.
type SpaceStats struct {
	// Guarded is false if the file system does not tell its free space, or no limits are set.
	Guarded bool
	// Free is what counts as free, Watermark below what writes are refused, Ballast what is held in
	// reserve, in bytes.
	Free, Watermark, Ballast int64
	// Full says that writes are refused; Refused counts those.
	Full    bool
	Refused uint64
}

// newSpaceGuard returns nil where there is nothing to guard, as in memory. On a disk that is critically
// low it gives up the ballast, so that the database can be opened.
func newSpaceGuard(s *Store, l SpaceLimits) *spaceGuard {
	if l.MinFreeBytes <= 0 || l.MinFreePercent <= 0 {
		return nil
	}
	free, total, err := s.DiskSpace()
	if err != nil {
		s.log.Info("the free space of this disk is not watched", "dir", s.dir, "err", err)
		return nil
	}
	g := &spaceGuard{s: s, stopped: make(chan struct{})}
	g.watermark = min(l.MinFreeBytes, int64(total/100)*int64(l.MinFreePercent))
	g.critical = g.watermark / criticalShare
	g.ballast = min(maxBallast, int64(total/ballastShare), g.critical)
	_, err = s.fs.Stat(g.path())
	g.held.Store(err == nil)
	if int64(free) < g.critical {
		g.giveUp()
	}
	return g
}

func (g *spaceGuard) path() string { return g.s.fs.PathJoin(g.s.dir, ballastName) }

// start looks for the first time and then goes on until stop. It belongs to the store's operations.
func (g *spaceGuard) start() {
	if g == nil {
		return
	}
	g.mu.Lock()
	g.look()
	g.mu.Unlock()
	g.s.ops.Go(func() {
		g.renew()
		t := time.NewTicker(spaceEvery)
		defer t.Stop()
		for {
			select {
			case <-g.stopped:
				return
			case <-g.s.failed.ch:
				return
			case <-t.C:
				g.mu.Lock()
				g.look()
				g.mu.Unlock()
			}
		}
	})
}

// stop ends the goroutine, for Close to wait for.
func (g *spaceGuard) stop() {
	if g != nil {
		close(g.stopped)
	}
}

// Room says whether a write of so many bytes may be made: nil, or ErrDiskFull. The writes of clients and
// of other nodes ask; what frees space, or keeps the node itself going, does not.
func (s *Store) Room(bytes int) error {
	g := s.space
	if g == nil {
		return nil
	}
	cost := writeCost * int64(bytes)
	if !g.full.Load() && g.written.Add(cost) < g.headroom.Load() {
		return nil
	}
	if !g.full.Load() {
		if s.enter() != nil {
			return nil // the write itself will say so
		}
		g.lookAgain()
		s.exit()
		if !g.full.Load() && g.written.Add(cost) <= g.headroom.Load() {
			return nil
		}
	}
	g.refused.Add(1)
	return fmt.Errorf("%w: %d MiB are free, %d MiB are to stay free", ErrDiskFull, g.free.Load()>>20, g.watermark>>20)
}

// lookAgain looks if the writes since the last look may have brought the disk to the watermark. The
// caller is an operation of the store.
func (g *spaceGuard) lookAgain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.written.Load() >= g.headroom.Load() {
		g.look()
	}
}

// free is what disk.Allocate looks at.
func (s *Store) free() (int64, error) {
	free, _, err := s.DiskSpace()
	return int64(free), err
}

// look compares the disk with the watermark. The caller holds mu and is an operation of the store.
func (g *spaceGuard) look() {
	free, _, err := g.s.DiskSpace()
	if err != nil {
		if !g.mu.failing {
			g.s.log.Error("the free space of the disk cannot be seen", "dir", g.s.dir, "err", err)
		}
		g.mu.failing = true
		return
	}
	g.mu.failing = false
	if int64(free) < g.critical {
		g.giveUp()
	}
	unflushed := g.unflushed()
	left := int64(free) - unflushed
	if g.mu.owed {
		left -= g.ballast
	}
	g.written.Store(0)
	g.free.Store(max(left, 0))
	g.headroom.Store(left - g.watermark)
	switch was := g.full.Load(); {
	case left < g.watermark:
		g.mu.calm = 0
		if was {
			return
		}
		g.full.Store(true)
		g.s.log.Error("the disk is full: this node takes no writes until there is space", "dir", g.s.dir,
			"free_bytes", free, "unflushed_bytes", unflushed, "watermark_bytes", g.watermark)
		g.flush(int64(free), unflushed)
	case !was:
		g.make()
	default:
		if g.mu.calm++; g.mu.calm < spaceCalm {
			return
		}
		g.make()
		g.full.Store(false)
		g.s.log.Warn("the disk has space: this node takes writes again", "dir", g.s.dir, "free_bytes", free)
	}
}

// unflushed is what the log holds and tables have to take yet.
func (g *spaceGuard) unflushed() int64 {
	if g.s.db == nil {
		return 0
	}
	return int64(g.s.db.Metrics().WAL.Size)
}

// flush empties the log into a table while there is space for it, so that the log's own can be freed.
func (g *spaceGuard) flush(free, unflushed int64) {
	if unflushed == 0 || free < unflushed+g.critical {
		return
	}
	var err error
	defer func() {
		if err != nil {
			g.s.log.Warn("flush for space failed", "dir", g.s.dir, "err", err)
		}
	}()
	defer g.s.recoverCommit(&err)
	_, err = g.s.db.AsyncFlush()
}

// giveUp gives the ballast's space to the database, until there is more.
func (g *spaceGuard) giveUp() {
	if g.held.Load() && g.remove() {
		g.mu.owed = true
	}
}

func (g *spaceGuard) remove() bool {
	if err := g.s.fs.Remove(g.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.s.log.Error("the ballast cannot be removed", "path", g.path(), "err", err)
		return false
	}
	g.held.Store(false)
	return true
}

// renew makes the ballast of this boot, if there is space for it. One that is there is made again: a copied
// directory has a file of that name and nothing allocated behind it.
func (g *spaceGuard) renew() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.full.Load() || g.mu.fresh {
		return
	}
	if !g.held.Load() || g.remove() {
		g.make()
	}
}

// make puts the ballast in its place, if that leaves the disk above the watermark.
func (g *spaceGuard) make() {
	if g.held.Load() || g.mu.hopeless || g.ballast == 0 {
		return
	}
	if free, _, err := g.s.DiskSpace(); err != nil || int64(free) < g.watermark+g.ballast {
		return
	}
	g.mu.owed = false
	if err := disk.Allocate(g.s.fs, g.s.dir, ballastName, g.ballast, g.s.free); err != nil {
		g.mu.hopeless = true
		g.s.log.Warn("no ballast: a disk that others fill may stop this node", "path", g.path(), "err", err)
		return
	}
	g.held.Store(true)
	g.mu.fresh = true
}

// Space returns the present figures of the guard.
func (s *Store) Space() SpaceStats {
	g := s.space
	if g == nil {
		return SpaceStats{}
	}
	st := SpaceStats{
		Guarded: true, Free: g.free.Load(), Watermark: g.watermark, Full: g.full.Load(), Refused: g.refused.Load(),
	}
	if g.held.Load() {
		st.Ballast = g.ballast
	}
	return st
}
