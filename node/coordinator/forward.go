package coordinator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
// last: it may be wrong. One that keeps silent for hedgeAfter gets company by the next one, and, if standIn
// says that somebody else can, is given up with all others. Whichever of them claims the write carries it
// out; from then on that node is waited for, because what it has done cannot be known otherwise.
func (c *Coordinator) forward(ctx context.Context, p plan, req WriteRequest, nodes []string, standIn bool, id uint64) (outcome, error) {
	order := c.byReach(nodes)
	if n := c.reachable(order); n > 0 {
		// Those that are down would only cost time; with all of them down the next best stands in at once.
		order = order[:n]
	}
	f := &forwarding{c: c, id: id, order: order, replies: make(chan reply, len(order)), failed: &noTaker{}, message: &wire.Write{
		Target: p.target, Token: req.Token, Value: req.Value, R: p.r, W: p.w, Sloppy: p.sloppy,
		IfMatch: req.IfMatch, IfNoneMatch: req.IfNoneMatch, RequestID: req.RequestID, Claim: id,
	}}
	slow := time.NewTimer(hedgeAfter)
	defer slow.Stop()
	for f.ask(ctx); f.open > 0; {
		select {
		case a := <-f.replies:
			f.open--
			if a.err == nil {
				return written(a.message)
			}
			if last := f.lost(a); last != nil {
				return outcome{}, last
			}
			f.ask(ctx)
		case <-slow.C:
			slow.Reset(hedgeAfter)
			if f.next == len(order) && standIn && c.claims.giveUp(id, order) {
				// They may be paused, or cut off behind an open connection. A write does not wait for that, and nobody would
				// hear of what they do with it later.
				return outcome{}, f.failed
			}
			f.ask(ctx)
		case <-ctx.Done():
			return outcome{}, ctx.Err()
		}
	}
	return outcome{}, f.failed
}

// forwarding is the state of one forward. It belongs to one goroutine.
type forwarding struct {
	c       *Coordinator
	id      uint64
	message *wire.Write
	order   []string
	replies chan reply
	// next is the first of order that was not asked, open how many have not answered.
	next, open int
	failed     *noTaker
}

// ask sends the write to the next node, unless one has claimed it.
func (f *forwarding) ask(ctx context.Context) {
	if f.next == len(f.order) || f.c.claims.holder(f.id) != "" {
		return
	}
	t := target{node: f.order[f.next]}
	f.next++
	f.open++
	f.c.callInto(ctx, t, f.message, f.replies)
}

// lost takes note of a node that did not carry the write out; the error is for the client if that is the
// last word. Once a node holds the claim the last word is its own: another that was asked as well may have failed the
// write's precondition because it saw the very write in place.
func (f *forwarding) lost(a reply) error {
	if holder := f.c.claims.holder(f.id); holder != "" && holder != a.node {
		f.c.claims.bar(f.id, a.node)
		return nil
	}
	if f.failed.heard(a.err) {
		if refused(a.err) != "" {
			f.c.claims.release(f.id, a.node)
			f.c.claims.bar(f.id, a.node) // the request may arrive there again
			return nil
		}
		if f.c.claims.bar(f.id, a.node) {
			return &Error{
				Code: CodeQuorumUnmet, Detail: fmt.Sprintf("node %s was lost while it carried the write out: %v", a.node, a.err),
				Retryable: true, MaybeStored: true, Err: a.err,
			}
		}
		return nil
	}
	return a.err
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

// HandleWrite coordinates a write that another node forwarded, once if it arrives twice.
func (c *Coordinator) HandleWrite(ctx context.Context, from string, m *wire.Write) (wire.Message, error) {
	if m.Claim == 0 {
		return c.carryOut(ctx, from, m)
	}
	return c.arrivals.once(ctx, arrival{from, m.Claim}, func() (wire.Message, error) { return c.carryOut(ctx, from, m) })
}

// carryOut coordinates a write that another node forwarded. It is never forwarded again: if this
// node is no primary in its own view, the views differ, and it coordinates all the same with a hint.
func (c *Coordinator) carryOut(ctx context.Context, from string, m *wire.Write) (wire.Message, error) {
	end, ok := c.begin()
	if !ok {
		return nil, asPeerError(stopping())
	}
	defer end()
	// The value was checked by the node that the client talks to.
	p, err := c.plan(m.Keyspace, m.Key, Options{R: Quorum(m.R), W: Quorum(m.W), PrimariesOnly: !m.Sloppy})
	if err != nil {
		return nil, asPeerError(err)
	}
	if p.target.KeyspaceID != m.KeyspaceID {
		return nil, &peer.Error{Code: string(CodeNotReady), Detail: "the nodes know different generations of the keyspace", Retryable: true}
	}
	hintFor := ""
	if primaries := p.primaries(); !slices.Contains(primaries, c.s.Self) {
		hintFor = primaries[0]
	}
	w, err := c.coordinate(ctx, p, WriteRequest{
		Keyspace: m.Keyspace, Key: m.Key, Token: m.Token, Value: m.Value, IfMatch: m.IfMatch, IfNoneMatch: m.IfNoneMatch,
		Options: Options{RequestID: m.RequestID},
	}, hintFor, func() error {
		if m.Claim == 0 {
			return nil
		}
		return c.claim(ctx, from, m.Claim)
	})
	if err != nil {
		return nil, asPeerError(AsError(err))
	}
	return &wire.WriteReply{Object: causal.AppendObject(nil, w.object), Token: w.token}, nil
}

func asPeerError(err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	return &peer.Error{Code: string(e.Code), Detail: e.Detail, Retryable: e.Retryable, MaybeStored: e.MaybeStored}
}
