package coordinator

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"dynamo/node/causal"
	"dynamo/node/peer"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// noTaker says that no node took a write that was forwarded.
type noTaker struct {
	// reason is why one of them, or this node, cannot take part now; "" if all were silent.
	reason Code
	// maybeStored: one of them may have the write all the same.
	maybeStored bool
}

// Error implements error.
func (*noTaker) Error() string { return "coordinator: no node took the write" }

// answer is what the client is told.
func (n *noTaker) answer() *Error {
	e := &Error{Code: n.reason, Retryable: true, MaybeStored: n.maybeStored}
	switch n.reason {
	case CodeDiskFull:
		e.Detail, e.Err = "the disk is full, and no other node could take the write", store.ErrDiskFull
	case "":
		e.Code, e.MaybeStored = CodeQuorumUnmet, true
		e.Detail = "no primary of the key can be reached, and sloppy=false"
	default:
		e.Detail = "no node can take the write now"
	}
	return e
}

// heard takes note of a node that did not take the write; false if its answer is the last word.
func (n *noTaker) heard(err error) bool {
	if code := refused(err); code != "" {
		if n.reason != CodeDiskFull {
			n.reason = code
		}
		return true
	}
	if _, answered := errors.AsType[*peer.Error](err); answered {
		return false
	}
	n.maybeStored = true
	return true
}

// add takes over what a forward ran into; false if that was anything but that nobody took the write.
func (n *noTaker) add(err error) bool {
	also, ok := errors.AsType[*noTaker](err)
	if ok {
		n.reason, n.maybeStored = cmp.Or(n.reason, also.reason), n.maybeStored || also.maybeStored
	}
	return ok
}

// forward hands a write to the first of the nodes that takes it. The ones that gossip holds for dead come
// last: it may be wrong. One that keeps silent is given up after hedgeAfter for the next one, and, if
// standIn says that somebody else can, all of them are; the write may then be minted twice, as two
// siblings of the same bytes and time, which reads show as one.
func (c *Coordinator) forward(ctx context.Context, p plan, req WriteRequest, nodes []string, standIn bool) (outcome, error) {
	m := &wire.Write{
		Target: p.target, Token: req.Token, Value: req.Value, R: p.r, W: p.w, Sloppy: p.sloppy,
		IfMatch: req.IfMatch, IfNoneMatch: req.IfNoneMatch, RequestID: req.RequestID,
	}
	order := c.byReach(nodes)
	if n := c.reachable(order); n > 0 {
		// Those that are down would only cost time; with all of them down the next best stands in at once.
		order = order[:n]
	}
	replies := make(chan reply, len(order))
	slow := time.NewTimer(hedgeAfter)
	defer slow.Stop()
	failed := &noTaker{}
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
			if !failed.heard(a.err) {
				return outcome{}, a.err
			}
			ask()
		case <-slow.C:
			if next == len(order) && standIn {
				// They may be paused, or cut off behind an open connection. A write does not wait for that.
				failed.maybeStored = true
				return outcome{}, failed
			}
			ask()
			slow.Reset(hedgeAfter)
		case <-ctx.Done():
			return outcome{}, ctx.Err()
		}
	}
	return outcome{}, failed
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
	defer c.s.Flights.End(c.s.Flights.Begin())
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
