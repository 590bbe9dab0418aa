// Package store is what one disk holds: the node's own copies, the hints it keeps for others, cluster
// metadata, resolver modules, and the identity that its dots are minted under. It is the only place
// that makes anything durable, and the only one that knows pebble.
//
// Every record carries a record.Checksum over its key and its bytes. A record that fails it is an error that
// wraps [ErrCorrupt], never "not found": a replica that cannot read must count as failed, or a quorum
// of two could answer that an acknowledged write is not there.
//
// All methods may be called concurrently.
package store

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"dynamo/node/causal"
	"dynamo/node/disk"
)

// Errors that callers branch on.
var (
	// ErrClosed answers every operation that starts after Close.
	ErrClosed = errors.New("store: closed")
	// ErrFailed answers every operation after the disk failed a write or a sync: what the database
	// would say from then on need not be on the disk.
	ErrFailed = errors.New("store: stopped after a disk failure")
	// ErrCorrupt is wrapped by a *CorruptError.
	ErrCorrupt = errors.New("store: corrupt")
	// ErrLocked says that another process, or another Store, has the directory open.
	ErrLocked = errors.New("store: directory is in use")
	// ErrHintsFull refuses a hint that would not fit into Options.HintMaxBytes. Nothing was written.
	ErrHintsFull = errors.New("store: no more room for hints")
	// ErrUnusable is wrapped by an *UnusableError.
	ErrUnusable = errors.New("store: database cannot be opened")
)

// Store is an open data directory. Close it.
type Store struct {
	db    *pebble.DB
	dir   string
	fs    FS
	lock  *pebble.Lock
	log   *slog.Logger
	now   func() time.Time
	id    *disk.Keeper
	clean bool
	fatal func(error)
	hints hintTotals
	trees trees
	// doubt is set while the trees want checking.
	doubt atomic.Bool
	// hintMaxBytes is 0 for no bound.
	hintMaxBytes int64
	counts       counts
	wal          walMarks
	syncs        disk.SyncWatch
	space        *spaceGuard
	// onCorrupt hears of records that are there and cannot be read.
	onCorrupt func(Ref)
	// broken counts the failures of flushes and compactions by the corrupt file that they met.
	broken struct {
		sync.Mutex
		byPath map[string]int
	}
	// stripes are the key locks: those of a key's hash. Two keys may share one.
	stripes [stripeCount]stripe

	// ops counts the operations under way; life.closed stays set once it is, and no operation is
	// counted after that, so that Close can wait for ops to run dry.
	ops  sync.WaitGroup
	life struct {
		sync.RWMutex
		closed bool
	}
	closing struct {
		once sync.Once
		err  error
	}
	failed struct {
		once sync.Once
		err  error // written before ch is closed, read after
		ch   chan struct{}
	}
}

// enter counts an operation in; every nil answer is followed by one exit.
func (s *Store) enter() error {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.life.closed {
		return ErrClosed
	}
	if err := s.failure(); err != nil {
		return err
	}
	s.ops.Add(1)
	return nil
}

func (s *Store) exit() { s.ops.Done() }

// failure returns the error that every operation is answered with once the disk failed, else nil.
func (s *Store) failure() error {
	select {
	case <-s.failed.ch:
		return s.failed.err
	default:
		return nil
	}
}

// fail stops the store for good and tells the owner, once. It returns what failure returns.
//
// There is no way back: after a failed fsync the kernel may have dropped the dirty pages and report
// success for the next one, so nothing that this process believes about the log can be trusted. A
// restart reads what is really there, under a new incarnation.
func (s *Store) fail(cause error) error {
	first := false
	s.failed.once.Do(func() {
		first = true
		s.failed.err = fmt.Errorf("%w: %w", ErrFailed, cause)
		close(s.failed.ch)
	})
	if first {
		s.log.Error("the disk failed: the node must stop", "dir", s.dir, "err", cause)
		if s.fatal != nil {
			s.fatal(cause)
		}
	}
	return s.failed.err
}

// Close waits for the operations under way, callbacks of scans included, brings everything to the
// disk and marks the stop as clean. Later calls return the first one's answer. After a disk failure it
// waits for nothing and marks nothing: the process is to end, and the directory stays locked until it
// does.
func (s *Store) Close() error {
	// OnFatal may call Close, and may itself be called by a Close that is under way.
	if err := s.failure(); err != nil {
		return err
	}
	s.closing.once.Do(func() { s.closing.err = s.shutdown() })
	return s.closing.err
}

func (s *Store) shutdown() error {
	s.life.Lock()
	s.life.closed = true
	s.life.Unlock()
	s.space.stop()
	idle := make(chan struct{})
	go func() {
		s.ops.Wait()
		close(idle)
	}()
	select {
	case <-idle:
	case <-s.failed.ch:
	}
	if err := s.failure(); err != nil {
		return err
	}
	err := s.unlessFailed(func() error {
		if err := s.flush(); err != nil {
			return err
		}
		return s.db.Close()
	})
	if err == nil {
		err = s.id.MarkClean(s.fs, dbDir(s.fs, s.dir))
	}
	if failure := s.failure(); failure != nil {
		return failure
	}
	if err = errors.Join(err, s.lock.Close()); err != nil {
		return fmt.Errorf("store: closing %s: %w", s.dir, err)
	}
	return nil
}

// unlessFailed calls f, but does not wait for it any longer once the disk failed: it may then be held up
// by a goroutine that is parked for good.
func (s *Store) unlessFailed(f func() error) error {
	done := make(chan error, 1)
	go func() {
		var err error
		defer func() { done <- err }()
		defer s.recoverCommit(&err)
		err = f()
	}()
	select {
	case err := <-done:
		return errors.Join(err, s.failure())
	case <-s.failed.ch:
		return s.failure()
	}
}

// flushTimeout bounds the flush of Close: on a full disk pebble would try for ever.
const flushTimeout = 20 * time.Second

// flush leaves nothing in the write-ahead log: a flipped bit in its last block would go unnoticed by
// pebble (cockroachdb/pebble#4560), one in a table does not. What cannot be flushed stays in the log,
// synced.
func (s *Store) flush() error {
	p, err := s.barrier()
	if err != nil {
		return err
	}
	if err := s.syncWait(p); err != nil {
		return err
	}
	flushed, err := s.db.AsyncFlush()
	if err != nil {
		return fmt.Errorf("store: flushing %s: %w", s.dir, err)
	}
	timeout := time.NewTimer(flushTimeout)
	defer timeout.Stop()
	select {
	case <-flushed:
	case <-timeout.C:
		s.log.Warn("closing without having flushed: the log will be replayed", "dir", s.dir)
	}
	return nil
}

// Identity is whose dots this disk mints.
type Identity = disk.Identity

// Identity is what this disk mints actors under now.
func (s *Store) Identity() Identity { return s.id.Current() }

// CleanBoot reports whether this boot was provably the continuation of a clean stop. After any other,
// copies may be missing that were acknowledged, and want comparing with the other replicas.
func (s *Store) CleanBoot() bool { return s.clean }

// RenewIdentity takes a new uuid at once and durably, as when peers say that this directory is an old
// or second copy. Actors handed out from now on are of the new one, and Owns says no to older ones.
func (s *Store) RenewIdentity() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.exit()
	was := s.Identity()
	if err := s.id.Renew(); err != nil {
		return err
	}
	s.log.Warn("took a new disk identity", "dir", s.dir, "was", was.Node, "is", s.Identity().Node)
	return nil
}

// Owns reports whether a is an actor of this disk in its present incarnation: only such a one may mint.
func (s *Store) Owns(a causal.Actor) bool {
	id := s.id.Current()
	return a.Node == id.Node && a.Incarnation == id.Incarnation
}

// NewActor returns an actor that never was before. Most calls touch no disk; one in disk.SeqLease waits for
// a lease to be synced.
func (s *Store) NewActor() (causal.Actor, error) {
	if err := s.enter(); err != nil {
		return causal.Actor{}, err
	}
	defer s.exit()
	return s.id.NewActor()
}

// raise sets a to at least v.
func raise(a *atomic.Uint64, v uint64) {
	for {
		old := a.Load()
		if old >= v || a.CompareAndSwap(old, v) {
			return
		}
	}
}
