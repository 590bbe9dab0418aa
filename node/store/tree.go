package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"dynamo/node/causal"
	"dynamo/node/merkle"
	"dynamo/node/ring"
)

// TreeID names the hash tree of the own copies of one keyspace in one partition. Keyspaces have trees of
// their own because they may have different replicas.
type TreeID struct {
	Partition ring.Partition
	Keyspace  uint64
}

func (r Ref) tree() TreeID { return TreeID{r.Partition, r.Keyspace} }

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

// EntryFlags say what a clean-up would have to do with a key.
type EntryFlags uint8

// The flags of an entry.
const (
	// EntryDeleted: nothing but tombstones is left.
	EntryDeleted EntryFlags = 1 << iota
	// EntrySiblings: there are several versions.
	EntrySiblings
	// EntryCrowded: the context has more than [CrowdedActors] actors.
	EntryCrowded
)

// CrowdedActors is how many actors a context may have before it is worth a look at which of them are
// closed: each costs some 20 bytes in every copy and message.
const CrowdedActors = 8

// Entry is what the index knows of an own copy, without reading it.
type Entry struct {
	Key  []byte
	Hash causal.Hash
	// Changed is when this disk last changed the object, by the node's clock.
	Changed time.Time
	Flags   EntryFlags
}

// Position is the leaf that the key is under.
func (e Entry) Position() merkle.Position { return merkle.PositionOf(e.Key) }

// The index has one entry for each own copy, in the order of the leaves, so that a leaf's keys are found
// without reading the others':
//
//	entry := u8 version=1  u8 flags  16 bytes hash of the object  uvarint changed, in ms since 1970
//
// A branch is stored as a blob of its digest; none for no keys.
const entryV1 = 1

func appendEntry(dst []byte, h causal.Hash, changed time.Time, f EntryFlags) []byte {
	dst = append(dst, entryV1, byte(f))
	dst = append(dst, h[:]...)
	return binary.AppendUvarint(dst, uint64(max(changed.UnixMilli(), 0)))
}

var errEntry = errors.New("malformed index entry")

// decodeEntry is the inverse of appendEntry, for any bytes.
func decodeEntry(b []byte) (Entry, error) {
	const head = 2 + len(causal.Hash{})
	if len(b) <= head || b[0] != entryV1 {
		return Entry{}, errEntry
	}
	ms, n := binary.Uvarint(b[head:])
	if n <= 0 || head+n != len(b) || ms > 1<<52 {
		return Entry{}, errEntry
	}
	return Entry{Flags: EntryFlags(b[1]), Hash: causal.Hash(b[2:head]), Changed: time.UnixMilli(int64(ms))}, nil
}

func flagsOf(o causal.Object) EntryFlags {
	f := EntryDeleted
	for _, v := range o.Versions {
		if !v.Deleted {
			f = 0
		}
	}
	if len(o.Versions) > 1 {
		f |= EntrySiblings
	}
	if len(o.Context) > CrowdedActors {
		f |= EntryCrowded
	}
	return f
}

// hashes returns the hash of the object in each of two stored forms of a copy.
func (s *Store) hashes(ref Ref, key, was, raw []byte) (before, after causal.Hash, err error) {
	if was != nil {
		if b, err := objectBytes(key, was); err == nil {
			before = causal.HashOf(b)
		} else if before, err = s.indexed(ref); err != nil {
			return before, after, err
		}
	}
	if raw != nil {
		b, err := objectBytes(key, raw)
		if err != nil {
			return before, after, err
		}
		after = causal.HashOf(b)
	}
	return before, after, nil
}

// indexed returns the hash that the index has of a copy which cannot be read; zero for none.
func (s *Store) indexed(ref Ref) (causal.Hash, error) {
	raw, err := s.value(indexKey(ref.tree(), ref.Key))
	if err != nil {
		return causal.Hash{}, s.readError(ref, "", err)
	}
	if raw == nil {
		return causal.Hash{}, nil
	}
	e, err := decodeEntry(raw)
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
	if before == after {
		return s.apply(b, d, st)
	}
	id := ref.tree()
	index := indexKey(id, ref.Key)
	if now.raw == nil {
		err = b.Delete(index, nil)
	} else {
		err = b.Set(index, appendEntry(nil, after, s.now(), now.flags), nil)
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
	flags EntryFlags
}

func setBranch(b *pebble.Batch, id TreeID, branch int, d merkle.Digest) (err error) {
	key := branchKey(id, branch)
	if d.IsZero() {
		err = b.Delete(key, nil)
	} else {
		err = b.Set(key, appendBlob(nil, key, d.AppendTo(nil)), nil)
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
	lower := []byte{familyTree}
	err = s.each(lower, successor(lower), func(it *pebble.Iterator) (bool, error) {
		id, branch, err := decodeBranchKey(it.Key())
		var d merkle.Digest
		if err == nil {
			var raw, b []byte
			if raw, err = it.ValueAndErr(); err == nil {
				if b, err = decodeBlob(it.Key(), raw); err == nil {
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
	raw, err := s.value(indexKey(ref.tree(), ref.Key))
	if err != nil {
		return Entry{}, false, s.readError(ref, "", err)
	}
	if raw == nil {
		return Entry{}, false, nil
	}
	if e, err = decodeEntry(raw); err != nil {
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
	lower := indexScope(id, from)
	if after != nil {
		lower = append(indexKey(id, after), 0)
	}
	skip := len(indexScope(id, 0))
	return s.each(lower, indexScope(id, to), func(it *pebble.Iterator) (bool, error) {
		v, err := it.ValueAndErr()
		if err != nil {
			return false, s.readError(Ref{}, "the index", err)
		}
		e, err := decodeEntry(v)
		if err != nil {
			s.doubt.Store(true)
			return false, s.corrupt(Ref{}, fmt.Sprintf("index entry %x", it.Key()), err)
		}
		e.Key = slices.Clone(it.Key()[skip:])
		return fn(e), nil
	})
}
