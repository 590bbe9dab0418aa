package store

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"dynamo/node/record"
)

// Durability says when a change counts as made.
type Durability int

const (
	// Sync: the change, and everything it was computed from, is on the disk before the call returns.
	Sync Durability = iota
	// Buffered: the change is in memory; a crash of the process may lose it.
	Buffered
)

// stripeCount is far above the number of writers that run at once, so that two of them rarely wait for
// each other because of it.
const stripeCount = 1024

// stripe locks all keys of one hash.
type stripe struct {
	sync.Mutex
	// last is the mark of the newest change under this stripe.
	last uint64
}

func (s *Store) stripe(key []byte) *stripe {
	return &s.stripes[crc32.Checksum(key, record.Castagnoli())%stripeCount]
}

// walMarks say what of the write-ahead log is durable, without asking it: changes are numbered in the
// order of the log, and once one of them is synced so are all before it.
//
// Pebble's own sequence numbers do not serve: a large batch forgets its number, and an empty one shares
// it with the next.
type walMarks struct {
	// mu is held while pebble applies a batch, one at a time. What that costs is small, for most of it is
	// serial inside pebble, too. What it buys: if a commit panics, as it does when the log cannot be
	// written, pebble keeps its own lock for good, and whoever waits here instead gets away.
	mu struct {
		sync.Mutex
		applied uint64
	}
	durable atomic.Uint64
}

// pending is a change that is applied and waits for its sync.
type pending struct {
	batch *pebble.Batch
	mark  uint64
}

// apply makes the changes of b visible. The caller holds st, the lock of the key that b changes, if
// there is one. With Sync the answer is to be waited for, outside the lock: the log is synced for many
// at once, and the next writer of the key need not wait for this one's sync to begin its own.
func (s *Store) apply(b *pebble.Batch, d Durability, st *stripe) (*pending, error) {
	mark, err := s.applyNext(b, d)
	if err != nil {
		return nil, err
	}
	if st != nil {
		st.last = mark
	}
	if d == Sync {
		return &pending{batch: b, mark: mark}, nil
	}
	// A failure to close is only a buffer that is not used again.
	_ = b.Close()
	return nil, nil
}

// applyNext returns the mark of the change.
func (s *Store) applyNext(b *pebble.Batch, d Durability) (mark uint64, err error) {
	s.wal.mu.Lock()
	defer s.wal.mu.Unlock()
	if err := s.failure(); err != nil {
		return 0, err
	}
	defer s.recoverCommit(&err)
	if d == Sync {
		err = s.db.ApplyNoSyncWait(b, pebble.Sync)
	} else {
		err = s.db.Apply(b, pebble.NoSync)
	}
	if err != nil {
		return 0, s.fail(fmt.Errorf("store: commit: %w", err))
	}
	s.wal.mu.applied++
	return s.wal.mu.applied, nil
}

// recoverCommit makes a failure of the store of a panic in pebble's commit path: that is its answer to a
// log that cannot be written, as on a full disk. It leaves pebble's locks taken, so nothing may use the
// database afterwards.
func (s *Store) recoverCommit(err *error) {
	if r := recover(); r != nil {
		*err = s.fail(fmt.Errorf("store: panic in a commit: %v", r))
	}
}

// barrier changes nothing; when it is synced, so is all that was applied before.
func (s *Store) barrier() (*pending, error) {
	b := s.db.NewBatch()
	if err := b.LogData(nil, nil); err != nil {
		return nil, fmt.Errorf("store: barrier: %w", err)
	}
	return s.apply(b, Sync, nil)
}

// syncWait returns when p is durable.
func (s *Store) syncWait(p *pending) error {
	s.syncs.Begin(s.now())
	defer func() { s.syncs.End(s.now()) }()
	if err := p.batch.SyncWait(); err != nil {
		return s.fail(fmt.Errorf("store: sync of the write-ahead log: %w", err))
	}
	_ = p.batch.Close()
	s.counts.syncs.Add(1)
	raise(&s.wal.durable, p.mark)
	return nil
}

// await is syncWait for no longer than ctx allows; nil is durable already. It runs within an operation. Nobody waits for
// pebble itself: of a log that has failed it does not answer every sync.
func (s *Store) await(ctx context.Context, p *pending) error {
	if p == nil {
		return nil
	}
	done := make(chan error, 1)
	s.ops.Go(func() { done <- s.syncWait(p) })
	select {
	case err := <-done:
		return err
	case <-s.failed.ch:
		return s.failure()
	case <-ctx.Done():
		return fmt.Errorf("store: written, but not known to be durable: %w", context.Cause(ctx))
	}
}

// ErrStalled answers [Store.Stalled]'s callers: the disk does not come to an end with its syncs.
var ErrStalled = errors.New("store: the disk does not sync")

// stallAfter is how long no sync may end before the disk counts as stalled: far above a healthy one.
const stallAfter = time.Second

// Stalled returns ErrStalled while writes wait for the disk and none has got through for a second. A node
// that still answers reads would be asked for every write otherwise, and hold each up.
func (s *Store) Stalled() error {
	if s.syncs.Stalled(s.now(), stallAfter) {
		return ErrStalled
	}
	return nil
}
