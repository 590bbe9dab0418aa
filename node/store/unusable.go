package store

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"dynamo/node/disk"
	"dynamo/node/record"
)

// unusableName is the file in the database's directory that says why it must not be used again.
const unusableName = "UNUSABLE"

// maxCause bounds what is read of it, in bytes.
const maxCause = 4096

// markUnusable leaves the mark that checkUsable finds. It moves along with the database.
func (s *Store) markUnusable(cause error) error {
	text := strings.ReplaceAll(cause.Error(), "\n", "; ")
	return disk.ReplaceFile(s.fs, dbDir(s.fs, s.dir), unusableName, []byte(text[:min(len(text), maxCause)]))
}

// checkUsable finds what pebble would not refuse: a database that was marked, and one that lost the file
// which names its MANIFEST. Pebble takes that for an empty directory, and removes what it does not know.
func checkUsable(fsys FS, db string) error {
	cause, err := disk.ReadFile(fsys, fsys.PathJoin(db, unusableName), maxCause)
	switch {
	case err == nil:
		return &UnusableError{Dir: db, Err: errors.New(string(cause))}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("store: looking for a mark in %s: %w", db, err)
	}
	d, err := pebble.Peek(db, fsys)
	if err != nil {
		return &UnusableError{Dir: db, Err: err}
	}
	if d.Exists {
		return nil
	}
	names, err := fsys.List(db)
	if err != nil {
		return fmt.Errorf("store: listing %s: %w", db, err)
	}
	for _, name := range names {
		// A database that was being made when the power failed has an empty log at most.
		if !strings.HasSuffix(name, ".sst") && !strings.HasSuffix(name, ".log") {
			continue
		}
		info, err := fsys.Stat(fsys.PathJoin(db, name))
		if err != nil {
			return fmt.Errorf("store: looking at %s: %w", name, err)
		}
		if info.Size() > 0 {
			return &UnusableError{Dir: db, Err: fmt.Errorf("there is data (%s), but the file that names the current MANIFEST is missing", name)}
		}
	}
	return nil
}

// checkMeta reads all metadata: without it a node cannot start, and nobody refills it piece by piece.
func (s *Store) checkMeta() error {
	lower := []byte{record.FamilyMeta}
	return s.each(lower, record.Successor(lower), func(it *pebble.Iterator) (bool, error) {
		v, err := it.ValueAndErr()
		if err == nil {
			_, err = record.DecodeBlob(it.Key(), v)
		}
		if err != nil {
			return false, fmt.Errorf("metadata %q: %w", it.Key()[1:], err)
		}
		return true, nil
	})
}

// setAside renames the directory of an unusable database to the given name beside it.
func (s *Store) setAside(name string, cause error) error {
	db, to := dbDir(s.fs, s.dir), s.fs.PathJoin(s.dir, name)
	if _, err := s.fs.Stat(to); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(cause, fmt.Errorf("store: it cannot be moved to %s, which is taken (%w)", to, err))
	}
	lock, err := pebble.LockDirectory(db, s.fs)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrLocked, db, err)
	}
	err = s.fs.Rename(db, to)
	if err == nil {
		err = disk.SyncDir(s.fs, s.dir)
	}
	if err = errors.Join(err, lock.Close()); err != nil {
		return errors.Join(cause, fmt.Errorf("store: moving it to %s: %w", to, err))
	}
	s.log.Warn("moved the unusable database aside; starting with an empty one, under a new identity",
		"dir", s.dir, "moved_to", to, "cause", cause)
	return nil
}
