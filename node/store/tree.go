package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"dynamo/node/causal"
	"dynamo/node/merkle"
	"dynamo/node/record"
)

// trees are the hash trees of a disk. They are kept with the copies: one batch changes a copy, its entry
// in the index and the digest of its branch, so after a crash they agree whatever the log had.
type trees struct {
	// mu guards byID. Trees are added and never taken away.
	mu struct {
		sync.RWMutex
		byID map[TreeID]*tree
	}
}

// tree is one hash tree. Its branches are on the disk as they are in memory.
type tree struct {
	// mu is held from before a batch is made that changes the tree until it is applied, so that a
	// snapshot of the database that is taken under it agrees with the tree. It is taken after a stripe.
	mu struct {
		sync.Mutex
		merkle.Tree
		// sound is false while nobody knows what the copies add up to: exchanges leave the tree alone.
		sound bool
	}
}

func (t *trees) init() { t.mu.byID = make(map[TreeID]*tree) }

// get returns nil if there is no such tree.
func (t *trees) get(id TreeID) *tree {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.mu.byID[id]
}

func (t *trees) all() []TreeID {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Collect(maps.Keys(t.mu.byID))
}

// getOrAdd returns the tree, new and empty if there was none.
func (t *trees) getOrAdd(id TreeID) *tree {
	if tr := t.get(id); tr != nil {
		return tr
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	tr := t.mu.byID[id]
	if tr == nil {
		tr = &tree{}
		tr.mu.sound = true
		t.mu.byID[id] = tr
	}
	return tr
}

// hashes returns the hash of the object in each of two stored forms of a copy.
func (s *Store) hashes(ref Ref, key, was, raw []byte) (before, after causal.Hash, err error) {
	if was != nil {
		if b, err := record.ObjectBytes(key, was); err == nil {
			before = causal.HashOf(b)
		} else if before, err = s.indexed(ref); errors.Is(err, ErrCorrupt) {
			s.doubt.Store(true) // the digest is wrong from now on, and mended by the check
		} else if err != nil {
			return before, after, err
		}
	}
	if raw != nil {
		b, err := record.ObjectBytes(key, raw)
		if err != nil {
			return before, after, err
		}
		after = causal.HashOf(b)
	}
	return before, after, nil
}

// indexed returns the hash that the index has of a copy which cannot be read; zero for none.
func (s *Store) indexed(ref Ref) (causal.Hash, error) {
	raw, err := s.value(record.IndexKey(ref.Tree(), ref.Key))
	if err != nil {
		return causal.Hash{}, s.readError(ref, "", err)
	}
	if raw == nil {
		return causal.Hash{}, nil
	}
	e, err := record.DecodeEntry(raw)
	if err != nil {
		return causal.Hash{}, s.corrupt(ref, "index entry of "+ref.String(), err)
	}
	return e.Hash, nil
}

// applyOwn applies a batch that changes an own copy, together with what the change does to the tree.
func (s *Store) applyOwn(b *pebble.Batch, st *stripe, ref Ref, key, was []byte, now stored, d Durability) (*pending, error) {
	before, after, err := s.hashes(ref, key, was, now.raw)
	if err != nil {
		return nil, err
	}
	if before == after && !now.buried {
		return s.apply(b, d, st)
	}
	id := ref.Tree()
	index := record.IndexKey(id, ref.Key)
	if now.raw == nil {
		err = now.erase(b, index)
	} else {
		err = b.Set(index, record.AppendEntry(nil, after, s.now(), now.flags), nil)
	}
	if err != nil {
		return nil, fmt.Errorf("store: writing the index of %s: %w", ref, err)
	}
	t := s.trees.getOrAdd(id)
	t.mu.Lock()
	defer t.mu.Unlock()
	branch := merkle.PositionOf(ref.Key).Branch()
	digest := t.mu.Branch(branch).Sub(merkle.Item(ref.Key, before)).Add(merkle.Item(ref.Key, after))
	if err := setBranch(b, id, branch, digest); err != nil {
		return nil, err
	}
	p, err := s.apply(b, d, st)
	if err == nil {
		t.mu.SetBranch(branch, digest)
	}
	return p, err
}

// stored is a copy in its stored form; nil bytes for none.
type stored struct {
	raw   []byte
	flags record.EntryFlags
	// buried: there are older bytes in a block that cannot be read.
	buried bool
}

// erase deletes a key. Pebble looks below the tombstone of a key, and below that of a range it does not: a bad block there
// would keep the key unreadable.
func (n stored) erase(b *pebble.Batch, key []byte) error {
	if n.buried {
		return b.DeleteRange(key, append(bytes.Clone(key), 0), nil)
	}
	return b.Delete(key, nil)
}

func setBranch(b *pebble.Batch, id TreeID, branch int, d merkle.Digest) (err error) {
	key := record.BranchKey(id, branch)
	if d.IsZero() {
		err = b.Delete(key, nil)
	} else {
		err = b.Set(key, record.AppendBlob(nil, key, d.AppendTo(nil)), nil)
	}
	if err != nil {
		return fmt.Errorf("store: writing a tree: %w", err)
	}
	return nil
}

// loadTrees reads the branches. What cannot be read leaves trees in doubt.
func (s *Store) loadTrees() (sound bool, err error) {
	v, ok, err := s.Meta(metaTrees)
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return false, err
	}
	sound = err == nil && ok && slices.Equal(v, []byte{treesV1})
	lower := []byte{record.FamilyTree}
	err = s.each(lower, record.Successor(lower), func(it *pebble.Iterator) (bool, error) {
		id, branch, err := record.DecodeBranchKey(it.Key())
		var d merkle.Digest
		if err == nil {
			var raw, b []byte
			if raw, err = it.ValueAndErr(); err == nil {
				if b, err = record.DecodeBlob(it.Key(), raw); err == nil {
					d, err = merkle.DecodeDigest(b)
				}
			}
		}
		if err != nil {
			s.log.Error("a hash tree is corrupt and will be made anew", "dir", s.dir, "err", err)
			sound = false
			return true, nil
		}
		s.trees.getOrAdd(id).mu.SetBranch(branch, d)
		return true, nil
	})
	if errors.Is(err, ErrCorrupt) {
		return false, nil // counted and logged
	}
	return sound, err
}

// metaTrees is the name under which the disk notes in which version its trees are complete.
const (
	metaTrees = "trees"
	treesV1   = 1
)

// TreesInDoubt reports whether CheckTree is due for every tree: after a boot that was no clean one, or
// with trees that are missing or of another version.
func (s *Store) TreesInDoubt() bool { return s.doubt.Load() }

// Trees returns the trees that there are, in order of partition; some may be empty.
func (s *Store) Trees() []TreeID {
	out := s.trees.all()
	slices.SortFunc(out, compareTrees)
	return out
}

// TreeRoot returns the digest of all own copies of a keyspace in a partition. sound is false while the
// tree is being made anew.
func (s *Store) TreeRoot(id TreeID) (root merkle.Digest, sound bool) {
	t := s.trees.get(id)
	if t == nil {
		return merkle.Digest{}, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.Root(), t.mu.sound
}

// TreeBranches returns the digests below the root.
func (s *Store) TreeBranches(id TreeID) []merkle.Digest {
	out := make([]merkle.Digest, merkle.Branches)
	t := s.trees.get(id)
	if t == nil {
		return out
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range out {
		out[i] = t.mu.Branch(i)
	}
	return out
}

// TreeLeaves returns the digests below a branch. They are summed up from the index.
func (s *Store) TreeLeaves(id TreeID, branch int) ([]merkle.Digest, error) {
	out := make([]merkle.Digest, merkle.Leaves)
	from := merkle.Position(branch * merkle.Leaves)
	err := s.Entries(id, from, from+merkle.Leaves, nil, func(e Entry) bool {
		leaf := int(e.Position() - from)
		out[leaf] = out[leaf].Add(merkle.Item(e.Key, e.Hash))
		return true
	})
	return out, err
}

// Entry returns the index entry of an own copy.
func (s *Store) Entry(ref Ref) (e Entry, found bool, err error) {
	if err := s.enter(); err != nil {
		return Entry{}, false, err
	}
	defer s.exit()
	raw, err := s.value(record.IndexKey(ref.Tree(), ref.Key))
	if err != nil {
		return Entry{}, false, s.readError(ref, "", err)
	}
	if raw == nil {
		return Entry{}, false, nil
	}
	if e, err = record.DecodeEntry(raw); err != nil {
		s.doubt.Store(true)
		return Entry{}, false, s.corrupt(ref, "index entry of "+ref.String(), err)
	}
	e.Key = ref.Key
	return e, true, nil
}

// Entries calls fn for the entries of the leaves in [from, to), in order of leaf and then of key,
// strictly after the key `after` unless that is nil, until fn returns false. It sees one moment. What is
// passed is the caller's to keep.
func (s *Store) Entries(id TreeID, from, to merkle.Position, after []byte, fn func(Entry) bool) error {
	lower := record.IndexScope(id, from)
	if after != nil {
		lower = append(record.IndexKey(id, after), 0)
	}
	skip := len(record.IndexScope(id, 0))
	return s.each(lower, record.IndexScope(id, to), func(it *pebble.Iterator) (bool, error) {
		v, err := it.ValueAndErr()
		if err != nil {
			return false, s.readError(Ref{}, "the index", err)
		}
		e, err := record.DecodeEntry(v)
		if err != nil {
			s.doubt.Store(true)
			return false, s.corrupt(Ref{}, fmt.Sprintf("index entry %x", it.Key()), err)
		}
		e.Key = slices.Clone(it.Key()[skip:])
		return fn(e), nil
	})
}
