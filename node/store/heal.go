package store

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"dynamo/node/causal"
	"dynamo/node/record"
)

// ReplaceCorrupt puts an object in the place of an own copy or hint that Get calls corrupt, in one step:
// at no moment does the key read as absent. False if there is nothing there or it is sound. It returns
// when that is durable.
//
// The new record has no actor of its own: what this disk minted for the key and told nobody is lost, and
// its dots must not name anything else.
func (s *Store) ReplaceCorrupt(ctx context.Context, ref Ref, o causal.Object) (bool, error) {
	if o.IsZero() {
		return false, errNothing
	}
	key, err := ref.Encode()
	if err != nil {
		return false, err
	}
	if err := s.enter(); err != nil {
		return false, err
	}
	defer s.exit()
	p, ok, err := s.replaceCorrupt(ref, key, stored{raw: record.Append(nil, key, Record{Object: o}), flags: record.FlagsOf(o)})
	if err != nil || !ok {
		return false, err
	}
	s.log.Warn("replaced a corrupt record by what other replicas have", "dir", s.dir, "record", ref.String())
	return true, s.await(ctx, p)
}

var errNothing = errors.New("store: a corrupt record cannot be replaced by nothing")

func (s *Store) replaceCorrupt(ref Ref, key []byte, now stored) (*pending, bool, error) {
	st := s.stripe(key)
	st.Lock()
	defer st.Unlock()
	was, err := s.value(key)
	switch {
	case err != nil && !pebble.IsCorruptionError(err):
		return nil, false, s.readError(ref, "", err)
	case err != nil:
		was = []byte{} // something is there, of unknown size
	case was == nil:
		return nil, false, nil
	default:
		if _, err := record.Decode(key, was); err == nil {
			return nil, false, nil
		}
	}
	p, err := s.put(st, ref, key, was, now, Sync)
	return p, err == nil, err
}

// backgroundPatience is how often flushes and compactions may fail in a row, but for a full disk: pebble never gives up.
const backgroundPatience = 1000

func (s *Store) backgroundError(err error) {
	s.counts.backgroundErrors.Add(1)
	n := s.counts.backgroundRow.Add(1)
	if n&(n-1) == 0 {
		s.log.Error("flush or compaction failed, will be tried again", "dir", s.dir, "in_a_row", n, "err", err)
	}
	switch {
	case pebble.IsCorruptionError(err):
		s.impassable(err)
	case n == backgroundPatience && !errors.Is(err, syscall.ENOSPC):
		s.fail(fmt.Errorf("flushes and compactions fail: %w", err)) //nolint:errcheck // what operations answer from now on
	}
}

func (s *Store) backgroundEnd(err error) {
	if err == nil {
		s.counts.backgroundRow.Store(0)
	}
}

// impassablePatience is how often a corrupt file may be met by what has to read all of it: twice is neither the memory nor
// the cable.
const impassablePatience = 2

// impassable is told of a flush, a compaction or a check of the trees that met a corrupt file. It will fail for ever: reads get
// slower and writes stall, or this replica cannot be compared with others. Only a new database heals that, and the store
// says so while the rest still works.
func (s *Store) impassable(cause error) {
	path := "a table"
	if i := pebble.ExtractDataCorruptionInfo(cause); i != nil {
		path, cause = i.Path, i.Details
	}
	s.broken.Lock()
	s.broken.byPath[path]++
	n := s.broken.byPath[path]
	s.broken.Unlock()
	if n != impassablePatience {
		return
	}
	err := fmt.Errorf("%s is corrupt and cannot be read whole: %w", path, cause)
	if markErr := s.markUnusable(err); markErr != nil {
		s.log.Error("the database cannot be marked as unusable", "dir", s.dir, "err", markErr)
	}
	s.fail(&UnusableError{Dir: dbDir(s.fs, s.dir), Err: err}) //nolint:errcheck // what operations answer from now on
}
