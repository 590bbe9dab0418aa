package replica

import (
	"context"
	"errors"
	"fmt"

	"dynamo/node/causal"
	"dynamo/node/merkle"
	"dynamo/node/ring"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// Trees is the part of the disk that anti-entropy compares.
type Trees interface {
	TreeRoot(id store.TreeID) (root merkle.Digest, sound bool)
	TreeBranches(id store.TreeID) []merkle.Digest
	TreeLeaves(id store.TreeID, branch int) ([]merkle.Digest, error)
	Entry(ref store.Ref) (e store.Entry, found bool, err error)
	Entries(id store.TreeID, from, to merkle.Position, after []byte, fn func(store.Entry) bool) error
}

// Bounds on one answer of anti-entropy.
const (
	maxTreeKeys      = 4096
	maxTreeKeysBytes = 256 << 10
	maxObjectsBytes  = 1 << 20
)

// Compare says which trees differ from those of another node.
func (r *Replica) Compare(m *wire.TreeCompare) *wire.TreeCompareReply {
	v := r.o.View()
	out := &wire.TreeCompareReply{Verdicts: make([]wire.TreeVerdict, len(m.Roots))}
	for i, t := range m.Roots {
		root, sound := r.o.Trees.TreeRoot(store.TreeID{Partition: t.Partition, Keyspace: t.KeyspaceID})
		_, known := v.KeyspaceByID(t.KeyspaceID)
		switch {
		case !sound || !known:
			out.Verdicts[i] = wire.TreeUnready
		case root != t.Digest:
			out.Verdicts[i] = wire.TreeDiffers
		}
	}
	return out
}

// Digests returns the digests below the root or a branch of a tree.
func (r *Replica) Digests(m *wire.TreeDigests) (*wire.TreeDigestsReply, error) {
	id := store.TreeID{Partition: m.Partition, Keyspace: m.KeyspaceID}
	if m.Branch < 0 {
		return &wire.TreeDigestsReply{Digests: r.o.Trees.TreeBranches(id)}, nil
	}
	leaves, err := r.o.Trees.TreeLeaves(id, m.Branch)
	return &wire.TreeDigestsReply{Digests: leaves}, err
}

// TreeKeys lists keys with the hashes of their objects.
func (r *Replica) TreeKeys(m *wire.TreeKeys) (*wire.TreeKeysReply, error) {
	out := &wire.TreeKeysReply{}
	size := 0
	id := store.TreeID{Partition: m.Partition, Keyspace: m.KeyspaceID}
	err := r.o.Trees.Entries(id, m.From, m.To, m.After, func(e store.Entry) bool {
		if size += len(e.Key) + len(e.Hash); len(out.Keys) == maxTreeKeys || size > maxTreeKeysBytes && len(out.Keys) > 0 {
			out.More = true
			return false
		}
		out.Keys = append(out.Keys, wire.KeyHash{Key: e.Key, Hash: e.Hash})
		return true
	})
	return out, err
}

// Objects returns this node's copies of some keys, as many as fit, at least one.
func (r *Replica) Objects(m *wire.ObjectsGet) (*wire.ObjectsReply, error) {
	v := r.o.View()
	ks, ok := v.KeyspaceByID(m.KeyspaceID)
	if !ok {
		return nil, ErrDropped
	}
	out := &wire.ObjectsReply{}
	size := 0
	for _, key := range m.Keys {
		o, err := r.Read(wire.Target{Keyspace: ks.Name, KeyspaceID: m.KeyspaceID, Key: key}, false)
		if err != nil {
			if !errors.Is(err, store.ErrCorrupt) {
				return nil, err
			}
			o = causal.Object{} // nothing to show, until it is mended
		}
		e := wire.ListEntry{Key: key}
		if !o.IsZero() {
			e.Object = causal.AppendObject(nil, o)
		}
		if size += len(e.Object) + len(key); size > maxObjectsBytes && len(out.Entries) > 0 {
			break
		}
		out.Entries = append(out.Entries, e)
	}
	return out, nil
}

// ApplyAll joins objects into this node's copies and returns when all of them are durable. A copy that
// cannot be joined does not keep the others from it.
func (r *Replica) ApplyAll(ctx context.Context, keyspace uint64, entries []wire.ListEntry) error {
	ks, ok := r.o.View().KeyspaceByID(keyspace)
	if !ok {
		return ErrDropped
	}
	var errs []error
	for _, e := range entries {
		o, err := causal.DecodeObject(e.Object)
		if err == nil {
			t := wire.Target{Keyspace: ks.Name, KeyspaceID: keyspace, Key: e.Key}
			err = r.Apply(ctx, t, o, "", store.Buffered)
		}
		if err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if err := r.o.Store.Flush(ctx); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	return errors.Join(errs...)
}

// hinted returns the partitions for which there are hints.
func (r *Replica) hinted() ([]ring.Partition, error) {
	seen := make(map[ring.Partition]bool)
	var out []ring.Partition
	err := r.o.Store.ScanHints("", func(h store.Hint) bool {
		if !seen[h.Ref.Partition] {
			seen[h.Ref.Partition] = true
			out = append(out, h.Ref.Partition)
		}
		return true
	})
	return out, err
}
