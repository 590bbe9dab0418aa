package replica

import (
	"bytes"
	"container/heap"
	"slices"

	"dynamo/node/causal"
	"dynamo/node/ring"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// MaxListBytes bounds one answer to a listing; what does not fit comes with the next page.
const MaxListBytes = 8 << 20

// List returns the first keys of a keyspace that this node holds, in byte order over all partitions,
// strictly after l.After. Without values the versions' bytes are left out.
//
// A partition is one run on the disk and the order of a listing cuts across all of them, so the
// smallest keys are kept in a heap: a partition is left as soon as it yields a key beyond them.
func (r *Replica) List(l *wire.List) (*wire.ListReply, error) {
	var h keyHeap
	more, v := false, r.o.View()
	if slices.Contains(v.DroppedIDs(), l.KeyspaceID) {
		return nil, ErrDropped
	}
	for p := range v.Ring.Q() {
		err := r.o.Store.Scan(ring.Partition(p), l.KeyspaceID, l.Prefix, l.After, func(key []byte, rec store.Record) bool {
			if len(h) == l.Limit {
				more = true
				if bytes.Compare(key, h[0].key) > 0 {
					return false
				}
				heap.Pop(&h)
			}
			heap.Push(&h, listed{bytes.Clone(key), encodeListed(rec.Object, l.Values)})
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	out := &wire.ListReply{Entries: make([]wire.ListEntry, len(h)), More: more}
	for i := len(h) - 1; i >= 0; i-- {
		e := heap.Pop(&h).(listed)
		out.Entries[i] = wire.ListEntry{Key: e.key, Object: e.object}
	}
	return cutBytes(out), nil
}

// cutBytes keeps as many entries as fit, at least one.
func cutBytes(l *wire.ListReply) *wire.ListReply {
	n := 0
	for i, e := range l.Entries {
		if n += len(e.Key) + len(e.Object); n > MaxListBytes && i > 0 {
			return &wire.ListReply{Entries: l.Entries[:i], More: true}
		}
	}
	return l
}

func encodeListed(o causal.Object, values bool) []byte {
	if !values {
		bare := make([]causal.Version, len(o.Versions))
		for i, v := range o.Versions {
			v.Bytes, v.ContentType = nil, ""
			bare[i] = v
		}
		o.Versions = bare
	}
	return causal.AppendObject(nil, o)
}

type listed struct{ key, object []byte }

// keyHeap has the largest key on top.
type keyHeap []listed

func (h keyHeap) Len() int           { return len(h) }
func (h keyHeap) Less(i, j int) bool { return bytes.Compare(h[i].key, h[j].key) > 0 }
func (h keyHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *keyHeap) Push(x any)        { *h = append(*h, x.(listed)) }
func (h *keyHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
