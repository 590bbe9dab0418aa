package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"dynamo/node/record"
	"dynamo/node/ring"
)

// Get returns the record, zero if there is none. A record that is there and cannot be read is a
// *CorruptError. What it returns may be visible before it is durable.
func (s *Store) Get(ref Ref) (Record, error) {
	key, err := ref.Encode()
	if err != nil {
		return Record{}, err
	}
	if err := s.enter(); err != nil {
		return Record{}, err
	}
	defer s.exit()
	s.counts.reads.Add(1)
	r, _, err := s.read(ref, key)
	return r, err
}

// read returns the record and its bytes, which it aliases; nil bytes if there is none.
func (s *Store) read(ref Ref, key []byte) (Record, []byte, error) {
	raw, err := s.value(key)
	if err != nil {
		return Record{}, nil, s.readError(ref, "", err)
	}
	if raw == nil {
		return Record{}, nil, nil
	}
	r, err := record.Decode(key, raw)
	if err != nil {
		return Record{}, nil, s.corrupt(ref, "", err)
	}
	return r, raw, nil
}

// value returns a copy of what the database has under key, nil if nothing.
func (s *Store) value(key []byte) ([]byte, error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := append([]byte{}, v...) // not nil, if empty
	return out, closer.Close()
}

// readError is an error of the database, told apart by whether a file is corrupt.
func (s *Store) readError(ref Ref, name string, err error) error {
	if pebble.IsCorruptionError(err) {
		return s.corrupt(ref, name, err)
	}
	if name == "" {
		name = ref.String()
	}
	return fmt.Errorf("store: reading %s: %w", name, err)
}

func (s *Store) corrupt(ref Ref, name string, err error) error {
	s.counts.corrupt.Add(1)
	ref.Key = bytes.Clone(ref.Key)
	e := &CorruptError{Ref: ref, Name: name, Err: err}
	s.log.Error("corrupt record", "dir", s.dir, "err", e)
	if s.onCorrupt != nil && name == "" {
		s.onCorrupt(ref)
	}
	return e
}

// Update reads the record, asks fn what it should be, and writes that; a zero Object removes it. fn is
// called at most once, under the key's lock, which other keys may share: it must not block for long nor
// call Update, and if it returns an error that is the answer and nothing is written.
//
// With Sync the call returns when the outcome is durable, also if fn changed nothing but what it saw is
// still on its way to the disk. ctx bounds only that wait: when it ends first, the record comes back
// along with the error, and the write stands.
func (s *Store) Update(ctx context.Context, ref Ref, d Durability, fn func(Record) (Record, error)) (Record, error) {
	key, err := ref.Encode()
	if err != nil {
		return Record{}, err
	}
	if err := s.enter(); err != nil {
		return Record{}, err
	}
	defer s.exit()
	if err := ctx.Err(); err != nil {
		return Record{}, context.Cause(ctx)
	}
	r, p, err := s.change(ref, key, d, fn)
	if err != nil {
		return Record{}, err
	}
	return r, s.await(ctx, p)
}

// change is Update up to the wait.
func (s *Store) change(ref Ref, key []byte, d Durability, fn func(Record) (Record, error)) (Record, *pending, error) {
	st := s.stripe(key)
	st.Lock()
	defer st.Unlock()
	old, was, err := s.read(ref, key)
	if err != nil {
		return Record{}, nil, err
	}
	r, err := fn(old)
	if err != nil {
		return Record{}, nil, err
	}
	var now stored
	if r.Object.IsZero() {
		r = Record{}
	} else {
		r.Place = s.placeOf(ref, old)
		now = stored{raw: record.Append(nil, key, r), flags: record.FlagsOf(r.Object)}
	}
	if bytes.Equal(now.raw, was) {
		s.counts.unchanged.Add(1)
		p, err := s.settled(st, d)
		return r, p, err
	}
	if err := s.admitHint(ref, key, was, now.raw); err != nil {
		return Record{}, nil, err
	}
	p, err := s.put(st, ref, key, was, now, d)
	return r, p, err
}

// settled returns what to wait for until all that was written under st is durable.
func (s *Store) settled(st *stripe, d Durability) (*pending, error) {
	if d == Buffered || st.last <= s.wal.durable.Load() {
		return nil, nil
	}
	return s.barrier()
}

// put replaces the bytes was under key, nil for none, in one batch: whatever else has to change with a
// record belongs into it. The caller holds st.
func (s *Store) put(st *stripe, ref Ref, key, was []byte, now stored, d Durability) (*pending, error) {
	b := s.db.NewBatchWithSize(2*len(key) + len(now.raw) + 192)
	var err error
	if now.raw == nil {
		err = now.erase(b, key)
	} else {
		err = b.Set(key, now.raw, nil)
	}
	if err == nil {
		err = s.batchHint(b, ref, key, was, now.raw)
	}
	if err != nil {
		return nil, fmt.Errorf("store: writing %s: %w", ref, err)
	}
	var p *pending
	if ref.HintFor == "" {
		p, err = s.applyOwn(b, st, ref, key, was, now, d)
	} else {
		p, err = s.apply(b, d, st)
	}
	if err != nil {
		return nil, err
	}
	s.counts.updates.Add(1)
	if ref.HintFor != "" {
		s.countHint(ref, key, was, now.raw)
	}
	return p, nil
}

// countHint keeps the totals.
func (s *Store) countHint(ref Ref, key, was, raw []byte) {
	var n, size int64
	if was != nil {
		n, size = n-1, size-int64(len(key)+len(was))
	}
	if raw != nil {
		n, size = n+1, size+int64(len(key)+len(raw))
	}
	s.hints.add(ref.HintFor, n, size)
	s.hints.moved(ref.HintFor, key, was, raw)
}

// remove deletes the record if match says so of its bytes, under its lock. unreadable tells match that
// the database itself could not read them.
func (s *Store) remove(ref Ref, key []byte, d Durability, match func(raw []byte, unreadable error) (bool, error)) (*pending, bool, error) {
	st := s.stripe(key)
	st.Lock()
	defer st.Unlock()
	raw, unreadable := s.value(key)
	if raw == nil && unreadable == nil {
		return nil, false, nil
	}
	ok, err := match(raw, unreadable)
	if err != nil || !ok {
		return nil, false, err
	}
	if raw == nil {
		raw = []byte{}
	}
	p, err := s.put(st, ref, key, raw, stored{buried: unreadable != nil}, d)
	return p, err == nil, err
}

// DiscardCorrupt durably removes a record that Get calls corrupt, so that it can be filled again from
// other replicas; false if there is none or it is sound. To this disk the key is then new, with a new
// actor: nothing that it acknowledged for it is there any more.
func (s *Store) DiscardCorrupt(ref Ref) (bool, error) {
	key, err := ref.Encode()
	if err != nil {
		return false, err
	}
	if err := s.enter(); err != nil {
		return false, err
	}
	defer s.exit()
	p, ok, err := s.remove(ref, key, Sync, func(raw []byte, unreadable error) (bool, error) {
		if unreadable != nil {
			if pebble.IsCorruptionError(unreadable) {
				return true, nil
			}
			return false, s.readError(ref, "", unreadable)
		}
		_, err := record.Decode(key, raw)
		return err != nil, nil
	})
	if err != nil || !ok {
		return false, err
	}
	s.log.Warn("discarded a corrupt record", "dir", s.dir, "record", ref.String())
	return true, s.await(context.Background(), p)
}

// Scan calls fn for the own copies of a keyspace in a partition whose key starts with prefix, in byte
// order, strictly after the key `after` unless that is nil, until fn returns false. It sees one moment.
// Key and record are the caller's to keep. Corrupt records are passed over, and the first of them is the
// error in the end; only a corrupt file ends the scan where it is met.
//
// Files that a scan still reads are not freed, so fn should not wait for others.
func (s *Store) Scan(p ring.Partition, keyspace uint64, prefix, after []byte, fn func(key []byte, r Record) bool) error {
	scope := record.AppendScope([]byte{record.FamilyOwn}, p, keyspace)
	within := slices.Concat(scope, prefix)
	lower := within
	if after != nil {
		if next := slices.Concat(scope, after, []byte{0}); bytes.Compare(next, lower) > 0 {
			lower = next
		}
	}
	return s.scan(lower, record.Successor(within), func(ref Ref, r Record, _ int) bool { return fn(ref.Key, r) })
}

// scan visits the copies or hints in [lower, upper); size is that of the stored bytes, key included.
func (s *Store) scan(lower, upper []byte, fn func(ref Ref, r Record, size int) bool) error {
	var first error
	note := func(err error) {
		if first == nil {
			first = err
		}
	}
	err := s.each(lower, upper, func(it *pebble.Iterator) (bool, error) {
		key := bytes.Clone(it.Key())
		ref, err := record.DecodeRef(key)
		if err != nil {
			note(s.corrupt(Ref{}, fmt.Sprintf("database key %x", key), err))
			return true, nil
		}
		v, err := it.ValueAndErr()
		if err != nil {
			note(s.readError(ref, "", err))
			return pebble.IsCorruptionError(err), nil
		}
		r, err := record.Decode(key, bytes.Clone(v))
		if err != nil {
			note(s.corrupt(ref, "", err))
			return true, nil
		}
		return fn(ref, r, len(key)+len(v)), nil
	})
	if first != nil {
		return first
	}
	return err
}

// each is one operation that moves an iterator over [lower, upper).
func (s *Store) each(lower, upper []byte, fn func(*pebble.Iterator) (bool, error)) (err error) {
	if bytes.Compare(lower, upper) >= 0 {
		return nil
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.exit()
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return s.readError(Ref{}, "the database", err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		more, err := fn(it)
		if err != nil {
			return errors.Join(err, it.Close())
		}
		if !more {
			break
		}
	}
	// Close returns the iterator's own error, if it stopped because of one.
	if err := it.Close(); err != nil {
		return s.readError(Ref{}, fmt.Sprintf("the range from %x", lower), err)
	}
	return nil
}
