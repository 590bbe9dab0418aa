package coordinator

import (
	"context"
	"errors"
	"slices"
	"time"

	"dynamo/node/causal"
	"dynamo/node/peer"
	"dynamo/node/wire"
)

var errNoPrimary = errors.New("coordinator: no primary of the key can be reached")

// forward hands a write to the first primary that answers. The ones that gossip holds for dead come
// last: it may be wrong. A primary that keeps silent is given up after hedgeAfter for the next one, and
// with all of them silent this node stands in itself; the write may then be minted twice, as two
// siblings of the same bytes and time, which reads show as one.
func (c *Coordinator) forward(ctx context.Context, p plan, req WriteRequest) (outcome, error) {
	m := &wire.Write{
		Target: p.target, Token: req.Token, Value: req.Value, R: p.r, W: p.w, Sloppy: p.sloppy,
		IfMatch: req.IfMatch, IfNoneMatch: req.IfNoneMatch, RequestID: req.RequestID,
	}
	order := c.byReach(p.primaries())
	if c.s.Members.Reachable(order[0]) {
		// Those that are down would only cost time; with all of them down this node stands in at once.
		order = order[:c.reachable(order)]
	}
	replies := make(chan reply, len(order))
	slow := time.NewTimer(hedgeAfter)
	defer slow.Stop()
	next, open := 0, 0
	ask := func() {
		if next == len(order) {
			return
		}
		t := target{node: order[next]}
		next++
		open++
		c.callInto(ctx, t, m, replies)
	}
	for ask(); open > 0; {
		select {
		case a := <-replies:
			open--
			if a.err == nil {
				return written(a.message)
			}
			if pe, ok := errors.AsType[*peer.Error](a.err); ok && pe.Code != string(CodeNotReady) && pe.Code != string(CodeOverloaded) {
				return outcome{}, pe
			}
			ask()
		case <-slow.C:
			if next == len(order) && p.sloppy {
				// They may be paused, or cut off behind an open connection. A write does not wait for that.
				return outcome{}, errNoPrimary
			}
			ask()
			slow.Reset(hedgeAfter)
		case <-ctx.Done():
			return outcome{}, ctx.Err()
		}
	}
	return outcome{}, errNoPrimary
}

func (c *Coordinator) callInto(ctx context.Context, t target, m wire.Message, out chan<- reply) {
	started := c.spawn(func() {
		m, err := c.s.Transport.Call(ctx, t.node, m)
		if ctx.Err() == nil {
			c.observe(t.node, err)
		}
		out <- reply{t, m, err}
	})
	if !started {
		out <- reply{t, nil, context.Canceled}
	}
}

// byReach puts the nodes that seem reachable first, otherwise in order.
func (c *Coordinator) byReach(ids []string) []string {
	out := make([]string, 0, len(ids))
	for _, want := range []bool{true, false} {
		for _, id := range ids {
			if c.s.Members.Reachable(id) == want {
				out = append(out, id)
			}
		}
	}
	return out
}

func (c *Coordinator) reachable(ids []string) int {
	n := 0
	for _, id := range ids {
		if c.s.Members.Reachable(id) {
			n++
		}
	}
	return n
}

func written(m wire.Message) (outcome, error) {
	w, ok := m.(*wire.WriteReply)
	if !ok {
		return outcome{}, errors.New("coordinator: a write was answered by another kind of message")
	}
	o, err := causal.DecodeObject(w.Object)
	if err != nil {
		return outcome{}, err
	}
	return outcome{object: o, token: w.Token}, nil
}

// HandleWrite coordinates a write that another node forwarded. It is never forwarded again: if this
// node is no primary in its own view, the views differ, and it coordinates all the same with a hint.
func (c *Coordinator) HandleWrite(ctx context.Context, m *wire.Write) (wire.Message, error) {
	// The value was checked by the node that the client talks to.
	p, err := c.plan(m.Keyspace, m.Key, Options{R: Quorum(m.R), W: Quorum(m.W), PrimariesOnly: !m.Sloppy})
	if err != nil {
		return nil, asPeerError(err)
	}
	if p.target.KeyspaceID != m.KeyspaceID {
		return nil, &peer.Error{Code: string(CodeNotReady), Detail: "the nodes know different generations of the keyspace", Retryable: true}
	}
	if c.overdue(m) {
		return nil, &peer.Error{Code: string(CodeNotReady), Detail: "the write was under way for too long", Retryable: true}
	}
	hintFor := ""
	if primaries := p.primaries(); !slices.Contains(primaries, c.s.Self) {
		hintFor = primaries[0]
	}
	w, err := c.coordinate(ctx, p, WriteRequest{
		Keyspace: m.Keyspace, Key: m.Key, Token: m.Token, Value: m.Value, IfMatch: m.IfMatch, IfNoneMatch: m.IfNoneMatch,
		Options: Options{RequestID: m.RequestID},
	}, hintFor)
	if err != nil {
		return nil, asPeerError(asError(err))
	}
	return &wire.WriteReply{Object: causal.AppendObject(nil, w.object), Token: w.token}, nil
}

// overdueAfter is more than forward waits for all primaries together.
const overdueAfter = 4 * hedgeAfter

// overdue says of a forwarded write that its sender has given this node up long ago: a cut that healed, or a pause of
// this process, delivers what others have carried out in the meantime. Minted once more, it would stay beside, and
// after, what superseded it. A clock that is ahead by as much has the sender ask the next node, or stand in.
func (c *Coordinator) overdue(m *wire.Write) bool {
	return m.Sloppy && c.s.Now().UnixMilli()-int64(m.Value.TimeMs) > overdueAfter.Milliseconds()
}

func asPeerError(err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	return &peer.Error{Code: string(e.Code), Detail: e.Detail, Retryable: e.Retryable, MaybeStored: e.MaybeStored}
}
