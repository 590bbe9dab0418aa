package replica

import (
	"bytes"
	"container/heap"
	"context"

	"dynamo/node/merkle"
	"dynamo/node/ring"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// Conflicts returns the first keys of a keyspace of which this node's copy has several versions, in byte
// order, strictly after l.After, without their objects. It reads the index and no object; the index is not
// in the order of the keys, so each call goes through all of the keyspace's part.
func (r *Replica) Conflicts(ctx context.Context, l *wire.List) (*wire.ListReply, error) {
	var h keyHeap
	more, limit := false, max(l.Limit, 1)
	for p := range r.o.View().Ring.Q() {
		id := store.TreeID{Partition: ring.Partition(p), Keyspace: l.KeyspaceID}
		err := r.o.Trees.Entries(id, 0, merkle.Positions, nil, func(e store.Entry) bool {
			if e.Flags&store.EntrySiblings == 0 || !bytes.HasPrefix(e.Key, l.Prefix) || (l.After != nil && bytes.Compare(e.Key, l.After) <= 0) {
				return true
			}
			if len(h) == limit {
				more = true
				if bytes.Compare(e.Key, h[0].key) > 0 {
					return true
				}
				heap.Pop(&h)
			}
			heap.Push(&h, listed{key: e.Key})
			return true
		})
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
	}
	out := &wire.ListReply{Entries: make([]wire.ListEntry, len(h)), More: more}
	for i := len(h) - 1; i >= 0; i-- {
		out.Entries[i].Key = heap.Pop(&h).(listed).key
	}
	return out, nil
}
