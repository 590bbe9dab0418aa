package replica

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"dynamo/node/causal"
	"dynamo/node/peer"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// CodeFenced refuses an object that may have been on its way since before a settle round.
const CodeFenced = "fenced"

// admit refuses what a settle round has fenced off.
func (r *Replica) admit(from string, generation uint64) error {
	least, ok := r.fence.passes(from, generation)
	if ok {
		return nil
	}
	return &peer.Error{Code: CodeFenced, Detail: fmt.Sprintf("generation %d of node %s has ended"+leastIs+"%d", generation, from, least), Retryable: true}
}

// leastIs stands before the generation that would pass.
const leastIs = ", the least is "

// maxGeneration is more than any clock shows in this millennium, in microseconds.
const maxGeneration = 1 << 56

// Fenced returns the least generation that would have passed, if err says that another node has fenced this one off. Where
// it is above all of this life, a life before this one had reached it, by a clock that has been set back since: what this
// life takes in hand is later all the same, and may say so by [Flights.Raise].
func Fenced(err error) (least uint64, ok bool) {
	e, ok := errors.AsType[*peer.Error](err)
	if !ok || e.Code != CodeFenced {
		return 0, false
	}
	_, text, _ := strings.Cut(e.Detail, leastIs)
	least, err = strconv.ParseUint(text, 10, 64)
	return least, err == nil && least < maxGeneration
}

// SettleFence refuses from now on what other nodes took in hand before the generations given, waits for
// the requests under way, and says for which partitions there are hints after that.
func (r *Replica) SettleFence(ctx context.Context, m *wire.SettleFence) (*wire.SettleFenceReply, error) {
	for _, g := range m.Generations {
		if g.Node == r.o.Self {
			r.o.Flights.Raise(g.Generation)
		}
		r.fence.raise(g.Node, g.Generation)
	}
	if _, err := r.o.Flights.Barrier(ctx); err != nil {
		return nil, err
	}
	p, err := r.hinted()
	if err == nil {
		// A hint that is gone may be back after a crash, until its removal is durable.
		err = r.o.Store.Flush(ctx)
	}
	return &wire.SettleFenceReply{Hinted: p}, err
}

// SettleCheck says what this node holds of some keys, once that is durable.
func (r *Replica) SettleCheck(ctx context.Context, m *wire.SettleCheck) (*wire.SettleCheckReply, error) {
	if err := r.o.Store.Flush(ctx); err != nil {
		return nil, err
	}
	v := r.o.View()
	ks, ok := v.KeyspaceByID(m.KeyspaceID)
	if !ok {
		return nil, ErrDropped
	}
	out := &wire.SettleCheckReply{Copies: make([]wire.SettleCopy, len(m.Keys))}
	for i, key := range m.Keys {
		ref := Ref(v, wire.Target{Keyspace: ks.Name, KeyspaceID: m.KeyspaceID, Key: key}, "")
		rec, err := r.o.Store.Get(ref)
		if err != nil {
			return nil, fmt.Errorf("settle: %w", err)
		}
		e, found, err := r.o.Trees.Entry(ref)
		if err != nil {
			return nil, fmt.Errorf("settle: %w", err)
		}
		c := &out.Copies[i]
		c.Hash = rec.Object.Hash()
		if found && e.Hash == c.Hash {
			c.QuietMs = uint64(max(r.o.Now().Sub(e.Changed), 0) / time.Millisecond)
		}
		if !rec.Own.IsZero() && r.o.Store.Owns(rec.Own) {
			c.Own = rec.Own
		}
	}
	return out, nil
}

// SettleApply replaces the copies that are still what the round agreed on, durably, and counts them.
func (r *Replica) SettleApply(ctx context.Context, m *wire.SettleApply) (*wire.SettleApplyReply, error) {
	v := r.o.View()
	ks, ok := v.KeyspaceByID(m.KeyspaceID)
	if !ok {
		return nil, ErrDropped
	}
	out := &wire.SettleApplyReply{}
	for _, item := range m.Items {
		next := causal.Object{}
		if len(item.Object) > 0 {
			o, err := causal.DecodeObject(item.Object)
			if err != nil {
				return nil, fmt.Errorf("settle: %w", err)
			}
			next = o
		}
		ref := Ref(v, wire.Target{Keyspace: ks.Name, KeyspaceID: m.KeyspaceID, Key: item.Key}, "")
		_, err := r.o.Store.Update(ctx, ref, store.Buffered, func(rec store.Record) (store.Record, error) {
			if rec.Object.Hash() != item.Agreed {
				return rec, nil
			}
			out.Done++
			if next.IsZero() {
				return store.Record{}, nil
			}
			return store.Record{Object: next, Own: rec.Own}, nil
		})
		if err != nil {
			return nil, fmt.Errorf("settle: %w", err)
		}
	}
	return out, r.o.Store.Flush(ctx)
}
