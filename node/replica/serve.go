package replica

import (
	"context"
	"errors"
	"fmt"

	"dynamo/node/causal"
	"dynamo/node/peer"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// Handle answers the messages of other nodes that are about this node's copies. handled is false for
// all other messages.
func (r *Replica) Handle(ctx context.Context, from string, m wire.Message) (reply wire.Message, handled bool, err error) {
	switch m := m.(type) {
	case *wire.Read:
		reply, err = r.serveRead(m)
	case *wire.Apply:
		reply, err = r.serveApply(ctx, from, m)
	case *wire.Inspect:
		reply, err = r.serveInspect(m)
	case *wire.List:
		if m.Conflicts {
			reply, err = r.Conflicts(ctx, m)
		} else {
			reply, err = r.List(m)
		}
	case *wire.TreeCompare:
		reply = r.Compare(m)
	case *wire.TreeDigests:
		reply, err = r.Digests(m)
	case *wire.TreeKeys:
		reply, err = r.TreeKeys(m)
	case *wire.ObjectsGet:
		reply, err = r.Objects(m)
	case *wire.ObjectsPut:
		reply, err = r.serveObjectsPut(ctx, from, m)
	default:
		return r.handleSettle(ctx, m)
	}
	return reply, true, failure(err)
}

func (r *Replica) handleSettle(ctx context.Context, m wire.Message) (reply wire.Message, handled bool, err error) {
	switch m := m.(type) {
	case *wire.SettleBarrier:
		var g uint64
		g, err = r.o.Flights.Barrier(ctx)
		reply = &wire.SettleBarrierReply{Generation: g}
	case *wire.SettleFence:
		reply, err = r.SettleFence(ctx, m)
	case *wire.SettleCheck:
		reply, err = r.SettleCheck(ctx, m)
	case *wire.SettleApply:
		reply, err = r.SettleApply(ctx, m)
	default:
		return nil, false, nil
	}
	return reply, true, failure(err)
}

// serveObjectsPut holds a flight while an object of another node is in hand, as serveApply does.
func (r *Replica) serveObjectsPut(ctx context.Context, from string, m *wire.ObjectsPut) (wire.Message, error) {
	defer r.o.Flights.End(r.o.Flights.Begin())
	if err := r.admit(from, m.Generation); err != nil {
		return nil, err
	}
	return &wire.Ack{}, r.ApplyAll(ctx, m.KeyspaceID, m.Entries)
}

func (r *Replica) serveRead(m *wire.Read) (wire.Message, error) {
	o, err := r.Read(m.Target, m.Hints)
	unsure := r.Unsure()
	if err != nil || o.IsZero() {
		return &wire.ReadReply{Unsure: unsure}, err
	}
	b := causal.AppendObject(nil, o)
	reply := &wire.ReadReply{Hash: causal.HashOf(b), Unsure: unsure}
	if m.WantObject && reply.Hash != m.Known {
		reply.Object = b
	}
	return reply, nil
}

func (r *Replica) serveApply(ctx context.Context, from string, m *wire.Apply) (wire.Message, error) {
	defer r.o.Flights.End(r.o.Flights.Begin())
	if err := r.admit(from, m.Generation); err != nil {
		return nil, err
	}
	o, err := causal.DecodeObject(m.Object)
	if err != nil {
		return nil, fmt.Errorf("apply: %w", err)
	}
	d := store.Sync
	if m.Buffered {
		d = store.Buffered
	}
	return &wire.Ack{}, r.Apply(ctx, m.Target, o, m.HintFor, d)
}

func (r *Replica) serveInspect(m *wire.Inspect) (wire.Message, error) {
	copies, err := r.Inspect(m.Target)
	if err != nil {
		return nil, err
	}
	reply := &wire.InspectReply{Own: causal.AppendObject(nil, copies[0].Object)}
	for _, c := range copies[1:] {
		reply.Hints = append(reply.Hints, wire.InspectHint{For: c.HintFor, Object: causal.AppendObject(nil, c.Object)})
	}
	return reply, nil
}

// failure gives an error the code that the other node will see.
func failure(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrDropped):
		return &peer.Error{Code: "keyspace_unknown", Detail: err.Error()}
	case errors.Is(err, store.ErrHintsFull):
		return &peer.Error{Code: "overloaded", Detail: "no more room for hints", Retryable: true}
	case errors.Is(err, store.ErrStalled):
		return &peer.Error{Code: "not_ready", Detail: err.Error(), Retryable: true}
	case errors.Is(err, store.ErrDiskFull):
		return &peer.Error{Code: "disk_full", Detail: err.Error(), Retryable: true}
	case errors.Is(err, store.ErrClosed):
		return &peer.Error{Code: "not_ready", Detail: "the node is stopping", Retryable: true}
	}
	return err
}
