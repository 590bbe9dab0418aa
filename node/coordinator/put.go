package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"dynamo/node/causal"
	"dynamo/node/replica"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// Write puts or deletes one key (Dynamo paper, section 4.5). If this node holds a copy of the key it
// coordinates; otherwise the request goes to the first primary that can be reached, over one hop, and
// if there is none this node coordinates as a fallback, with its copy as a hint.
//
// The answer comes when W replicas have the write on disk. On an error with MaybeStored the write may
// be on fewer.
func (c *Coordinator) Write(ctx context.Context, req WriteRequest) (Answer, error) {
	end, ok := c.begin()
	if !ok {
		return Answer{}, stopping()
	}
	defer end()
	defer c.observeForeground(c.s.Now())
	p, err := c.plan(req.Keyspace, req.Key, req.Options)
	if err != nil {
		return Answer{}, err
	}
	if err := c.checkValue(p, req); err != nil {
		return Answer{}, err
	}
	if _, err := c.seen(req.Token, p.target); err != nil {
		return Answer{}, err
	}
	req.Value.TimeMs = uint64(c.s.Now().UnixMilli())
	w, err := c.dispatch(ctx, p, req)
	if err != nil {
		return Answer{}, AsError(err)
	}
	if req.ReturnValue {
		return c.answer(ctx, p, w.object, false), nil
	}
	return Answer{Token: w.token, ETag: etag(p, w.object, false)}, nil
}

// dispatch finds the coordinator of a write: this node if it is a primary, else a primary, else this node
// as a fallback, else another fallback. A node that cannot take part now, as without disk space, is passed
// over like one that cannot be reached.
func (c *Coordinator) dispatch(ctx context.Context, p plan, req WriteRequest) (outcome, error) {
	primaries := p.primaries()
	own := slices.Contains(primaries, c.s.Self)
	failed := &noTaker{}
	here := func() error { return nil }
	if own {
		w, err := c.coordinate(ctx, p, req, "", here)
		if refused(err) == "" {
			return w, err
		}
		failed.heard(err)
	}
	id := c.claims.begin()
	defer c.claims.end(id)
	rest := without(p.fallbacks(), c.s.Self)
	w, err := c.forward(ctx, p, req, without(primaries, c.s.Self), p.sloppy && (!own || len(rest) > 0), id)
	if !failed.add(err) {
		return w, err
	}
	if p.sloppy && !own {
		if !c.claims.take(id, c.s.Self) {
			return outcome{}, &Error{Code: CodeQuorumUnmet, Detail: "a node that cannot be heard carries the write out", Retryable: true, MaybeStored: true}
		}
		w, err := c.coordinate(ctx, p, req, primaries[0], here)
		if refused(err) == "" {
			return w, err
		}
		c.claims.release(id, c.s.Self)
		failed.heard(err)
	}
	if p.sloppy && len(rest) > 0 {
		w, err := c.forward(ctx, p, req, rest, false, id)
		if !failed.add(err) {
			return w, err
		}
	}
	return outcome{}, failed.answer()
}

func without(ids []string, id string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(other string) bool { return other == id })
}

func (c *Coordinator) checkValue(p plan, req WriteRequest) error {
	if n := len(req.Value.Bytes); n > p.keyspace.MaxValueBytes {
		return &Error{Code: CodeTooLarge, Detail: fmt.Sprintf("the value has %d bytes, keyspace %s takes %d", n, p.keyspace.Name, p.keyspace.MaxValueBytes)}
	}
	return nil
}

// outcome is a write that was coordinated, here or elsewhere.
type outcome struct {
	// object is what the coordinator holds right after the write.
	object causal.Object
	// token is the writer's new context. The writer is not shown what stands beside its value, so its
	// token does not claim that.
	token string
}

// coordinate runs a write at this node: guard, mint, replicate. claim is asked right before the mint.
func (c *Coordinator) coordinate(ctx context.Context, p plan, req WriteRequest, hintFor string, claim func() error) (outcome, error) {
	seen, err := c.seen(req.Token, p.target)
	if err != nil {
		return outcome{}, err
	}
	stop, seen, err := c.guard(ctx, p, req, seen, hintFor)
	if err != nil || stop {
		return outcome{}, err
	}
	if err := claim(); err != nil {
		return outcome{}, err
	}
	written, err := c.s.Local.Write(ctx, replica.Write{
		Target: p.target, Policy: p.policy, Seen: seen, Value: req.Value, HintFor: hintFor, Durability: p.durability(),
	})
	if err != nil {
		return outcome{}, AsError(err)
	}
	return outcome{written.Object, c.seal(p.target, written.Seen)}, c.replicate(ctx, p, written.Object, hintFor)
}

// guard does what must be read before a write: the preconditions, what a delete without a context
// deletes, and dots of the client's that have not arrived here. stop says that nothing is to be done.
func (c *Coordinator) guard(ctx context.Context, p plan, req WriteRequest, seen causal.Basis, hintFor string) (stop bool, out causal.Basis, err error) {
	readFirst := req.Value.Deleted && req.Token == ""
	if !readFirst && req.IfMatch == "" && !req.IfNoneMatch {
		c.learn(ctx, p, seen, hintFor)
		return false, seen, nil
	}
	o, err := c.read(ctx, p)
	if err != nil {
		return false, seen, err
	}
	if req.IfMatch != "" || req.IfNoneMatch {
		if err := precondition(p, req, o); err != nil {
			return false, seen, err
		}
	}
	if readFirst {
		seen = causal.Basis{Context: o.Context}
	}
	return readFirst && len(o.Versions) == 0, seen, nil
}

// precondition checks If-Match and If-None-Match against what a quorum holds. It is a guard against
// honest mistakes and no lock: two writers may pass it at once, and then there are siblings.
func precondition(p plan, req WriteRequest, o causal.Object) error {
	exists := slices.ContainsFunc(o.Versions, func(v causal.Version) bool { return !v.Deleted })
	if req.IfNoneMatch && exists {
		return &Error{Code: CodePreconditionFailed, Detail: "the key exists"}
	}
	tag := etag(p, o, false)
	if req.IfMatch != "" && (!exists || (req.IfMatch != "*" && req.IfMatch != tag)) {
		return &Error{Code: CodePreconditionFailed, Detail: "the key's ETag is not " + req.IfMatch}
	}
	return nil
}

// learn joins into this node's copy what the client has seen singly and this node has not: a context
// cannot supersede a dot before its predecessors are known. It is bounded and may fail: then that dot
// stays a sibling, and nothing is lost.
func (c *Coordinator) learn(ctx context.Context, p plan, seen causal.Basis, hintFor string) {
	if len(seen.Dots) == 0 {
		return
	}
	own, err := c.s.Local.Read(p.target, hintFor != "")
	if err != nil || own.Known(seen) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, hedgeAfter)
	defer cancel()
	any := p
	any.r = 1
	o, err := c.readUntil(ctx, any, func(o causal.Object) bool { return o.Known(seen) })
	if err == nil {
		err = c.s.Local.Apply(ctx, p.target, o, hintFor, p.durability())
	}
	if err != nil {
		c.s.Logger.Debug("what the client wrote before has not arrived here", "keyspace", p.keyspace.Name, "err", err)
	}
}

// replicate sends the object to the other replicas and returns when W of them, this node included,
// have it on disk. What is still under way then goes on until the deadline.
func (c *Coordinator) replicate(ctx context.Context, p plan, o causal.Object, hintFor string) error {
	bg, cancel := c.detach(ctx)
	answered := make(chan error, 1)
	encoded := causal.AppendObject(nil, o)
	flight := c.s.Flights.Join()
	started := c.spawn(func() {
		defer cancel()
		defer c.s.Flights.End(flight)
		self := target{node: c.s.Self, hintFor: hintFor}
		r := c.newRound(bg, p, self, func(t target) wire.Message {
			return &wire.Apply{
				Target: p.target, Object: encoded, HintFor: t.hintFor, Buffered: p.durability() == store.Buffered, Generation: flight,
			}
		})
		c.gather(r, p, self, answered)
	})
	if !started {
		cancel()
		c.s.Flights.End(flight)
		return &Error{Code: CodeNotReady, Detail: "the node is stopping", Retryable: true, MaybeStored: true}
	}
	return await(ctx, answered, func(err error) error { return err })
}

// await takes what a round answers. The round has the request's deadline, so at the deadline it
// answers too, and with the reasons; only a request that was given up does not wait for it.
func await[T any](ctx context.Context, answered <-chan T, gaveUp func(error) T) T {
	select {
	case a := <-answered:
		return a
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return <-answered
		}
		return gaveUp(ctx.Err())
	}
}

// gather counts the acknowledgements of a round: it answers at W, and stays until every replica has
// acknowledged, failed without a stand-in, or run out of time.
func (c *Coordinator) gather(r *round, p plan, self target, answered chan<- error) {
	w := newWrites(p.w, !p.sloppy)
	w.add(self)
	slow := time.NewTimer(hedgeAfter)
	defer slow.Stop()
	done := false
	for {
		if w.enough() && !done {
			done = true
			answered <- nil
		}
		if len(r.open) == 0 {
			break
		}
		select {
		case a := <-r.replies:
			r.took(a.target)
			if a.err == nil {
				w.add(a.target)
				continue
			}
			w.fail(a.node, a.err)
			r.instead(a.target)
		case <-slow.C:
			r.hedge()
			slow.Reset(hedgeAfter)
		case <-r.ctx.Done():
			for t := range r.open {
				w.fail(t.node, r.ctx.Err())
			}
			clear(r.open)
		}
	}
	if !done {
		e := w.unmet("the write", w.have())
		e.MaybeStored = true
		answered <- e
	}
}
