package store

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"dynamo/node/disk"
)

// FS is the file system below a store: the disk, or memory in a simulation.
type FS = disk.FS

// Options say where a store lives. The zero value of an optional field takes the default.
type Options struct {
	// Dir is the data directory. It is made if it is missing. Everything of the store is below it.
	Dir string
	// FS is optional; nil is the disk.
	FS FS
	// Logger is optional; nil discards.
	Logger *slog.Logger
	// Rand is where uuids come from. Required, and never to repeat itself: two disks of one uuid would
	// mint the same dots.
	Rand io.Reader
	// Now stamps hints and changes. Required.
	Now func() time.Time
	// HintMaxBytes bounds what is kept in hints, keys included; 0 is no bound. Beyond it an update that
	// would make the hints larger is answered with ErrHintsFull.
	HintMaxBytes int64
	// CacheBytes bounds the block cache, default 64 MiB. Too small shows as slow reads of data that is
	// read often.
	CacheBytes int64
	// OnFatal is called once if the disk fails a write or a sync: the process must stop, for its memory
	// may hold what the disk lost. It is called on any goroutine, with locks held, so it must not wait for
	// operations of the store to end; Close does not then, and may be called. Every operation that starts
	// after the failure answers ErrFailed, with or without an OnFatal.
	OnFatal func(error)
	// OnCorrupt is optional: it is called for every own copy or hint that is met and cannot be read, with
	// locks held, so it must not block.
	OnCorrupt func(Ref)
	// Space says when the disk counts as full. The zero value guards nothing.
	Space SpaceLimits
	// SetAside is the name, below Dir, that an unusable database is moved to instead of an error; the store
	// then begins with an empty one under a new identity. Empty: Open answers with ErrUnusable.
	SetAside string
}

// UnusableError says that the database in Dir does not open, or cannot go on. Nothing was deleted.
type UnusableError struct {
	Dir string
	Err error
}

// Error names the way out.
func (e *UnusableError) Error() string {
	return fmt.Sprintf("store: the database in %s cannot be used: %s; nothing was deleted: move that "+
		"directory aside to start with an empty one, which takes a new identity and is refilled from the "+
		"other replicas", e.Dir, strings.ReplaceAll(e.Err.Error(), "\n", "; "))
}

// Unwrap returns ErrUnusable and the cause.
func (e *UnusableError) Unwrap() []error { return []error{ErrUnusable, e.Err} }

func dbDir(fs FS, dir string) string { return fs.PathJoin(dir, "db") }

// Open opens the data directory, or makes one, and settles under which identity: see Identity. The
// errors to tell apart are ErrLocked and ErrUnusable.
func Open(o Options) (*Store, error) {
	if o.Dir == "" || o.Rand == nil || o.Now == nil {
		return nil, errors.New("store: Options.Dir, Options.Rand and Options.Now are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = 64 << 20
	}
	fs := o.FS
	if fs == nil {
		fs = vfs.Default
	}
	s, err := openOnce(fs, o)
	if o.SetAside != "" && errors.Is(err, ErrUnusable) {
		if err := (&Store{dir: o.Dir, fs: fs, log: o.Logger}).setAside(o.SetAside, err); err != nil {
			return nil, err
		}
		s, err = openOnce(fs, o)
	}
	if err != nil {
		return nil, err
	}
	s.space.start()
	id := s.Identity()
	s.log.Info("store open", "dir", o.Dir, "disk", id.Node, "incarnation", id.Incarnation, "boot", id.Boot, "clean", s.clean)
	return s, nil
}

func openOnce(fs FS, o Options) (*Store, error) {
	s := &Store{dir: o.Dir, fs: fs, log: o.Logger, fatal: o.OnFatal, onCorrupt: o.OnCorrupt, now: o.Now, hintMaxBytes: o.HintMaxBytes}
	s.failed.ch, s.broken.byPath = make(chan struct{}), make(map[string]int)
	s.hints.init()
	s.trees.init()
	return s, s.openLocked(o)
}

// openLocked holds the directory's lock from before the identity is read until Close, or until it
// fails: two processes must not both read a clean identity and go on as the same actor.
func (s *Store) openLocked(o Options) (err error) {
	db := dbDir(s.fs, s.dir)
	if err := disk.MakeDir(s.fs, db); err != nil {
		return fmt.Errorf("store: making %s: %w", db, err)
	}
	s.lock, err = pebble.LockDirectory(db, s.fs)
	if err != nil {
		return fmt.Errorf("%w: %s is locked by another process, or cannot be locked: %w", ErrLocked, db, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.lock.Close())
		}
	}()
	if err := checkUsable(s.fs, db); err != nil {
		return err
	}
	s.space = newSpaceGuard(s, o.Space)
	s.id, s.clean, err = disk.Boot(s.fs, s.dir, db, o.Rand, s.log)
	if errors.Is(err, disk.ErrDatabase) {
		return &UnusableError{Dir: db, Err: err}
	}
	if err != nil {
		return err
	}
	if s.db, err = openPebble(db, s.pebbleOptions(o)); err != nil {
		return &UnusableError{Dir: db, Err: err}
	}
	if err := s.rebuild(); err != nil {
		return errors.Join(&UnusableError{Dir: db, Err: err}, s.db.Close())
	}
	return nil
}

// openPebble turns a panic into an error: pebble panics on some contents that a sick disk can show.
func openPebble(dir string, o *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("panic while opening: %v", r)
		}
	}()
	return pebble.Open(dir, o)
}

// rebuild brings into memory what is kept incrementally from then on.
func (s *Store) rebuild() error {
	if err := s.checkMeta(); err != nil {
		return err
	}
	if err := s.rebuildHints(); err != nil {
		return err
	}
	return s.openTrees()
}
