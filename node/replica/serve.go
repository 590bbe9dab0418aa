package replica

import (
	"context"
	"errors"
	"fmt"

	"dynamo/node/causal"
	"dynamo/node/peer"
	"dynamo/node/store"
)

// Handle answers the messages of other nodes that are about this node's copies. handled is false for
// all other messages.
func (r *Replica) Handle(ctx context.Context, m peer.Message) (reply peer.Message, handled bool, err error) {
	switch m := m.(type) {
	case *peer.Read:
		reply, err = r.serveRead(m)
	case *peer.Apply:
		reply, err = r.serveApply(ctx, m)
	case *peer.Inspect:
		reply, err = r.serveInspect(m)
	case *peer.List:
		reply, err = r.List(m)
	default:
		return nil, false, nil
	}
	return reply, true, failure(err)
}

func (r *Replica) serveRead(m *peer.Read) (peer.Message, error) {
	o, err := r.Read(m.Target, m.Hints)
	if err != nil || o.IsZero() {
		return &peer.ReadReply{}, err
	}
	b := causal.AppendObject(nil, o)
	reply := &peer.ReadReply{Hash: causal.HashOf(b)}
	if m.WantObject && reply.Hash != m.Known {
		reply.Object = b
	}
	return reply, nil
}

func (r *Replica) serveApply(ctx context.Context, m *peer.Apply) (peer.Message, error) {
	o, err := causal.DecodeObject(m.Object)
	if err != nil {
		return nil, fmt.Errorf("apply: %w", err)
	}
	d := store.Sync
	if m.Buffered {
		d = store.Buffered
	}
	return &peer.Ack{}, r.Apply(ctx, m.Target, o, m.HintFor, d)
}

func (r *Replica) serveInspect(m *peer.Inspect) (peer.Message, error) {
	copies, err := r.Inspect(m.Target)
	if err != nil {
		return nil, err
	}
	reply := &peer.InspectReply{Own: causal.AppendObject(nil, copies[0].Object)}
	for _, c := range copies[1:] {
		reply.Hints = append(reply.Hints, peer.InspectHint{For: c.HintFor, Object: causal.AppendObject(nil, c.Object)})
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
	case errors.Is(err, store.ErrClosed):
		return &peer.Error{Code: "not_ready", Detail: "the node is stopping", Retryable: true}
	}
	return err
}
