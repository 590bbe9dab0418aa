package repair

import (
	"time"

	"dynamo/node/store"
	"dynamo/node/wire"
)

// Bounds on the hints that are read from the disk before they are sent.
const (
	handoffBatch      = 256
	handoffBatchBytes = 8 << 20
)

// runHandoff gives hints back to primaries that have returned (Dynamo paper, section 4.6).
func (r *Repairer) runHandoff() {
	defer r.handoff.Store(int32(Done))
	t := time.NewTicker(r.o.HandoffEvery)
	defer t.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-t.C:
		}
		for node, st := range r.o.Hints.HintStats() {
			if st.Count > 0 && node != r.o.Self && r.o.Reachable(node) {
				r.handoff.Store(int32(Busy))
				r.handBack(node)
			}
		}
		r.handoff.Store(int32(Idle))
	}
}

// handBack delivers the hints of one primary, batch after batch, until none is left or one fails.
func (r *Repairer) handBack(node string) {
	for r.ctx.Err() == nil {
		var batch []store.Hint
		size := 0
		err := r.o.Hints.ScanHints(node, func(h store.Hint) bool {
			batch = append(batch, h)
			size += h.Bytes
			return len(batch) < handoffBatch && size < handoffBatchBytes
		})
		if err != nil {
			r.o.Logger.Error("hints cannot be read", "for", node, "err", err)
			return
		}
		if len(batch) == 0 {
			return
		}
		for _, h := range batch {
			if !r.deliver(node, h) {
				return
			}
		}
	}
}

// deliver sends one hint. It is removed only after the primary has acknowledged that very content: one
// that grew meanwhile stays for the next round.
func (r *Repairer) deliver(node string, h store.Hint) bool {
	name, known := r.o.KeyspaceName(h.Ref.Keyspace)
	if known {
		t := wire.Target{Keyspace: name, KeyspaceID: h.Ref.Keyspace, Key: h.Ref.Key}
		if err := r.apply(node, t, h.Record.Object); err != nil {
			r.stats.deliveryFailed.Add(1)
			r.o.Logger.Debug("hint not delivered", "for", node, "err", err)
			return false
		}
	}
	if _, err := r.o.Hints.DeleteHint(h.Ref, h.Record.Object.Hash()); err != nil {
		r.o.Logger.Error("delivered hint cannot be removed", "for", node, "err", err)
		return false
	}
	r.stats.delivered.Add(1)
	return true
}
