package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"dynamo/node/causal"
	"dynamo/node/merkle"
	"dynamo/node/record"
)

func compareTrees(a, b TreeID) int {
	if a.Partition != b.Partition {
		return int(a.Partition) - int(b.Partition)
	}
	switch {
	case a.Keyspace < b.Keyspace:
		return -1
	case a.Keyspace > b.Keyspace:
		return 1
	}
	return 0
}

// openTrees loads the trees and settles whether they are to be trusted. Those of another version are
// dropped, and made anew while the node serves.
func (s *Store) openTrees() error {
	complete, err := s.loadTrees()
	if err != nil {
		return err
	}
	s.doubt.Store(!complete || !s.clean)
	if complete {
		return nil
	}
	s.trees.init()
	b := s.db.NewBatch()
	for _, family := range []byte{record.FamilyIndex, record.FamilyTree} {
		some := false
		err := s.each([]byte{family}, []byte{family + 1}, func(*pebble.Iterator) (bool, error) {
			some = true
			return false, nil
		})
		if !some && err == nil {
			continue // a range deletion makes work for compactions
		}
		if err := b.DeleteRange([]byte{family}, []byte{family + 1}, nil); err != nil {
			return fmt.Errorf("dropping the trees: %w", err)
		}
	}
	if _, err := s.apply(b, Buffered, nil); err != nil {
		return err
	}
	ids, err := s.scopes()
	for _, id := range ids {
		s.trees.getOrAdd(id).mu.sound = false
	}
	if err == nil && len(ids) == 0 {
		return s.TreesChecked()
	}
	return err
}

// scopes returns the trees that there should be copies of, one seek for each.
func (s *Store) scopes() ([]TreeID, error) {
	var out []TreeID
	lower, upper := []byte{record.FamilyOwn}, []byte{record.FamilyOwn + 1}
	for lower != nil {
		var next []byte
		err := s.each(lower, upper, func(it *pebble.Iterator) (bool, error) {
			ref, err := record.DecodeRef(it.Key())
			if err != nil {
				next = append(bytes.Clone(it.Key()), 0)
				return false, nil
			}
			out = append(out, ref.Tree())
			next = record.Successor(record.AppendScope([]byte{record.FamilyOwn}, ref.Partition, ref.Keyspace))
			return false, nil
		})
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return out, err
		}
		if err != nil {
			s.impassable(err)
			return out, nil
		}
		lower = next
	}
	return out, nil
}

// TreeCheck is what a check of a tree found.
type TreeCheck struct {
	// Copies were read, of Bytes together.
	Copies, Bytes int
	// Entries of the index were wrong or missing, Stray ones without a copy; all are mended.
	Entries, Stray int
	// Branches had another digest than their copies add up to; they are mended.
	Branches int
	// Corrupt are the copies that cannot be read. Their entries are left as they are.
	Corrupt []Ref
}

// CheckTree reads all own copies of a keyspace in a partition, compares them with the index and the
// branches, and mends those. Writes go on meanwhile: what the copies of one moment add up to, less what
// the tree said at that moment, is added to what the tree says at the end. pace is called with the bytes
// read now and then, and may wait.
func (s *Store) CheckTree(ctx context.Context, id TreeID, pace func(bytes int)) (TreeCheck, error) {
	if err := s.enter(); err != nil {
		return TreeCheck{}, err
	}
	defer s.exit()
	t := s.trees.getOrAdd(id)
	t.mu.Lock()
	base := t.mu.Tree
	snap := s.db.NewSnapshot()
	t.mu.Unlock()
	c := &treeCheck{s: s, ctx: ctx, id: id, snap: snap, pace: pace}
	err := errors.Join(c.run(), snap.Close())
	if pebble.IsCorruptionError(err) {
		s.impassable(err)
	}
	if err != nil {
		return c.TreeCheck, err
	}
	return c.TreeCheck, c.mend(t, &base)
}

type treeCheck struct {
	TreeCheck
	s    *Store
	ctx  context.Context
	id   TreeID
	snap *pebble.Snapshot
	pace func(int)
	// truth is what the copies add up to.
	truth merkle.Tree
	// indexed is how many of the copies have an entry; wrong are the keys whose entry is not right.
	indexed int
	wrong   [][]byte
	unpaced int
}

const paceBytes = 1 << 20

func (c *treeCheck) run() error {
	scope := record.AppendScope([]byte{record.FamilyOwn}, c.id.Partition, c.id.Keyspace)
	it, err := c.snap.NewIter(&pebble.IterOptions{LowerBound: scope, UpperBound: record.Successor(scope)})
	if err != nil {
		return c.s.readError(Ref{}, "the database", err)
	}
	for ok := it.First(); ok && c.ctx.Err() == nil; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err == nil {
			err = c.copy(it.Key(), v)
		}
		if err != nil {
			return errors.Join(c.s.readError(Ref{}, "copies", err), it.Close())
		}
	}
	if err := it.Close(); err != nil {
		return c.s.readError(Ref{}, "copies", err)
	}
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	return c.strays()
}

// copy takes account of one copy.
func (c *treeCheck) copy(key, raw []byte) error {
	ref, err := record.DecodeRef(key)
	if err != nil {
		return err
	}
	c.Copies++
	c.Bytes += len(raw)
	if c.unpaced += len(raw); c.unpaced >= paceBytes {
		c.pace(c.unpaced)
		c.unpaced = 0
	}
	entry, found, err := c.entry(ref.Key)
	if err != nil {
		return err
	}
	if found {
		c.indexed++
	}
	hash := entry.Hash
	if b, err := record.ObjectBytes(key, raw); err == nil {
		hash = causal.HashOf(b)
	} else {
		ref.Key = bytes.Clone(ref.Key)
		c.Corrupt = append(c.Corrupt, ref)
		_ = c.s.corrupt(ref, "", err) // told, counted and logged; the check goes on
	}
	branch := merkle.PositionOf(ref.Key).Branch()
	c.truth.SetBranch(branch, c.truth.Branch(branch).Add(merkle.Item(ref.Key, hash)))
	if hash != entry.Hash || !found {
		c.wrong = append(c.wrong, bytes.Clone(ref.Key))
	}
	return nil
}

// entry is the index entry of a key; one that is malformed counts as wrong.
func (c *treeCheck) entry(key []byte) (Entry, bool, error) {
	v, closer, err := c.snap.Get(record.IndexKey(c.id, key))
	if errors.Is(err, pebble.ErrNotFound) {
		return Entry{}, false, nil
	}
	if err != nil {
		return Entry{}, false, err
	}
	e, err := record.DecodeEntry(v)
	if err != nil {
		e = Entry{}
	}
	return e, true, closer.Close()
}

// strays finds entries without a copy, if there are more entries than copies with one.
func (c *treeCheck) strays() error {
	it, err := c.snap.NewIter(&pebble.IterOptions{LowerBound: record.IndexScope(c.id, 0), UpperBound: record.IndexScope(c.id, merkle.Positions)})
	if err != nil {
		return c.s.readError(Ref{}, "the index", err)
	}
	skip := len(record.IndexScope(c.id, 0))
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	for ok := n > c.indexed && it.First(); ok; ok = it.Next() {
		ref := Ref{Partition: c.id.Partition, Keyspace: c.id.Keyspace, Key: bytes.Clone(it.Key()[skip:])}
		key, err := ref.Encode()
		if err != nil {
			return errors.Join(err, it.Close())
		}
		_, closer, err := c.snap.Get(key)
		switch {
		case errors.Is(err, pebble.ErrNotFound):
			c.Stray++
			c.wrong = append(c.wrong, ref.Key)
		case err == nil:
			err = closer.Close()
		}
		if err != nil && !errors.Is(err, pebble.ErrNotFound) {
			return errors.Join(c.s.readError(ref, "", err), it.Close())
		}
	}
	return it.Close()
}

// mend writes what was found to be wrong.
func (c *treeCheck) mend(t *tree, base *merkle.Tree) error {
	c.Entries = len(c.wrong) - c.Stray
	for _, key := range c.wrong {
		if err := c.s.reindex(Ref{Partition: c.id.Partition, Keyspace: c.id.Keyspace, Key: key}); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	b := c.s.db.NewBatch()
	mended := t.mu.Tree
	for i := range merkle.Branches {
		if c.truth.Branch(i) == base.Branch(i) {
			continue
		}
		c.Branches++
		mended.SetBranch(i, t.mu.Branch(i).Sub(base.Branch(i)).Add(c.truth.Branch(i)))
		if err := setBranch(b, c.id, i, mended.Branch(i)); err != nil {
			return err
		}
	}
	if _, err := c.s.apply(b, Buffered, nil); err != nil {
		return err
	}
	t.mu.Tree, t.mu.sound = mended, true
	return nil
}

// reindex makes the index entry of a copy what the copy says; the digests are not touched.
func (s *Store) reindex(ref Ref) error {
	key, err := ref.Encode()
	if err != nil {
		return err
	}
	st := s.stripe(key)
	st.Lock()
	defer st.Unlock()
	raw, err := s.value(key)
	if err != nil {
		return s.readError(ref, "", err)
	}
	b := s.db.NewBatch()
	index := record.IndexKey(ref.Tree(), ref.Key)
	r, err := record.Decode(key, raw)
	switch {
	case raw == nil:
		err = b.Delete(index, nil)
	case err != nil:
		return b.Close() // corrupt: the entry says what it should be
	default:
		err = b.Set(index, record.AppendEntry(nil, r.Object.Hash(), s.now(), record.FlagsOf(r.Object)), nil)
	}
	if err != nil {
		return fmt.Errorf("store: writing the index of %s: %w", ref, err)
	}
	_, err = s.apply(b, Buffered, st)
	return err
}

// TreesChecked notes durably that CheckTree went well for all trees.
func (s *Store) TreesChecked() error {
	for _, id := range s.trees.all() {
		if _, sound := s.TreeRoot(id); !sound {
			return fmt.Errorf("store: the tree of partition %d, keyspace %016x was not checked", id.Partition, id.Keyspace)
		}
	}
	if err := s.PutMeta(metaTrees, []byte{treesV1}); err != nil {
		return err
	}
	s.doubt.Store(false)
	return nil
}

// Flush returns when everything written before is durable.
func (s *Store) Flush(ctx context.Context) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.exit()
	p, err := s.barrier()
	if err != nil {
		return err
	}
	return s.await(ctx, p)
}

// DropKeyspaces removes durably all copies and hints of some keyspaces. Its cost does not depend on how
// many copies there are, and where there are none it writes nothing. The caller has stopped writing to
// them; a write that was on its way may remain, so call it again later.
func (s *Store) DropKeyspaces(ids []uint64) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.exit()
	if len(ids) == 0 {
		return nil
	}
	dropped := make(map[uint64]bool, len(ids))
	for _, id := range ids {
		dropped[id] = true
	}
	if err := s.dropHints(func(keyspace uint64) bool { return dropped[keyspace] }); err != nil {
		return err
	}
	return s.dropTrees(func(keyspace uint64) bool { return dropped[keyspace] })
}

// dropTrees removes the copies of keyspaces with all that is kept about them.
func (s *Store) dropTrees(match func(keyspace uint64) bool) error {
	ids := slices.DeleteFunc(s.Trees(), func(id TreeID) bool {
		root, sound := s.TreeRoot(id)
		return !match(id.Keyspace) || (sound && root.IsZero())
	})
	if len(ids) == 0 {
		return nil
	}
	b := s.db.NewBatch()
	for _, id := range ids {
		t := s.trees.get(id)
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, family := range []byte{record.FamilyOwn, record.FamilyIndex, record.FamilyTree} {
			lower := record.AppendScope([]byte{family}, id.Partition, id.Keyspace)
			if err := b.DeleteRange(lower, record.Successor(lower), nil); err != nil {
				return fmt.Errorf("store: dropping keyspace %016x: %w", id.Keyspace, err)
			}
		}
	}
	p, err := s.apply(b, Sync, nil)
	if err != nil {
		return err
	}
	for _, id := range ids {
		t := s.trees.get(id)
		t.mu.Tree, t.mu.sound = merkle.Tree{}, true
	}
	return s.await(context.Background(), p)
}

// keys is the number of own copies.
func (s *Store) keys() (n uint64) {
	for _, id := range s.trees.all() {
		root, _ := s.TreeRoot(id)
		n += root.Count
	}
	return n
}
