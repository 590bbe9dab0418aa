package coordinator

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"

	"dynamo/node/causal"
	"dynamo/node/config"
	"dynamo/node/conflict"
	"dynamo/node/wire"
)

// Get reads one key (Dynamo paper, section 4.5): all primaries are asked, R answers are joined, and the
// keyspace's policy says what stands. Replicas that answered something else are repaired after the
// answer.
func (c *Coordinator) Get(ctx context.Context, req ReadRequest) (Answer, error) {
	defer c.observeForeground(c.s.Now())
	p, err := c.plan(req.Keyspace, req.Key, req.Options)
	if err != nil {
		return Answer{}, err
	}
	o, err := c.read(ctx, p)
	if err != nil {
		return Answer{}, AsError(err)
	}
	return c.answer(ctx, p, o, req.Raw), nil
}

// answer settles an object for a client.
func (c *Coordinator) answer(ctx context.Context, p plan, o causal.Object, raw bool) Answer {
	a := Answer{Token: c.seal(p.target, causal.Basis{Context: o.Context})}
	if len(o.Versions) == 0 {
		return a
	}
	a.ETag = etag(p, o, raw)
	if raw && len(o.Versions) > 1 {
		a.Siblings = conflict.Ordered(o.Versions)
		a.Count = len(a.Siblings)
		return a
	}
	res := c.s.Settler.Settle(ctx, conflict.PathRead, p.policy, p.target.Key, o.Versions)
	a.Count = res.Count
	switch res.Kind {
	case conflict.Single:
		a.Value, a.Merged = &res.Value, res.Merged
	case conflict.Conflict:
		a.Siblings = res.Siblings
		if p.policy.Conflict == config.PolicyResolver {
			a.ResolverError = res.Code
			a.ETag = etag(p, o, true)
		}
	}
	return a
}

// etag names what a read shows: the siblings, and the resolver that merges them if there is one. It is
// the same on every node, whatever the replicas' contexts have seen besides.
func etag(p plan, o causal.Object, raw bool) string {
	h := sha256.New()
	for _, v := range o.Versions {
		var b []byte
		for _, r := range v.Label {
			b = causal.AppendActor(b, r.Actor)
			b = binary.AppendUvarint(b, r.From)
			b = binary.AppendUvarint(b, r.To)
		}
		h.Write(binary.AppendUvarint(nil, uint64(len(b))))
		h.Write(b)
		h.Write(v.Resolver.SHA256[:])
	}
	if len(o.Versions) > 1 && !raw {
		h.Write(p.policy.Module[:])
	}
	return `"` + hex.EncodeToString(h.Sum(nil)[:12]) + `"`
}

// read joins the answers of R replicas.
func (c *Coordinator) read(ctx context.Context, p plan) (causal.Object, error) {
	return c.readUntil(ctx, p, nil)
}

// readUntil joins the answers of R replicas, and of more until the object is what the caller waits
// for or nobody is left to ask.
func (c *Coordinator) readUntil(ctx context.Context, p plan, good func(causal.Object) bool) (causal.Object, error) {
	bg, cancel := c.detach(ctx)
	answered := make(chan readResult, 1)
	flight := c.s.Flights.Join()
	started := c.spawn(func() {
		defer cancel()
		defer c.s.Flights.End(flight)
		newReading(c, bg, p, good).run(answered)
	})
	if !started {
		cancel()
		c.s.Flights.End(flight)
		return causal.Object{}, &Error{Code: CodeNotReady, Detail: "the node is stopping", Retryable: true}
	}
	res := await(ctx, answered, func(err error) readResult { return readResult{err: err} })
	return res.object, res.err
}

type readResult struct {
	object causal.Object
	err    error
}

// reading is the state machine of one read. It belongs to one goroutine.
type reading struct {
	c     *Coordinator
	p     plan
	good  func(causal.Object) bool
	reads *reads
	round *round
	// fetched are the nodes that were asked for their object after their hash.
	fetched map[string]bool
	done    bool
}

// newReading asks the replicas: this node's own copy first if it is a primary, for then the others
// need to send no more than a hash where they hold the same. Otherwise one primary is asked for the
// object and the rest for hashes.
func newReading(c *Coordinator, ctx context.Context, p plan, good func(causal.Object) bool) *reading {
	g := &reading{c: c, p: p, good: good, reads: newReads(p.r, !p.sloppy), fetched: make(map[string]bool)}
	var known causal.Hash
	self := ""
	for _, id := range p.primaries() {
		if id != c.s.Self {
			continue
		}
		self = id
		o, err := c.s.Local.Read(p.target, false)
		if err != nil {
			// A local read error is a failed replica, never "not found".
			c.s.Logger.Error("local replica failed to read", "keyspace", p.keyspace.Name, "err", err)
			g.reads.fail(id, err)
			break
		}
		known = o.Hash()
		if c.s.Local.Unsure() {
			g.reads.doubt(id)
		}
		g.reads.add(target{node: id}, known, &o)
	}
	first := len(g.reads.counted) == 0
	g.round = c.newRound(ctx, p, target{node: self}, func(t target) wire.Message {
		m := &wire.Read{Target: p.target, Hints: t.hintFor != "", WantObject: first || self != "", Known: known}
		if m.WantObject {
			g.fetched[t.node] = true
		}
		first = false
		return m
	})
	return g
}

func (g *reading) run(answered chan<- readResult) {
	slow := time.NewTimer(hedgeAfter)
	defer slow.Stop()
	for {
		g.maybeAnswer(answered)
		if len(g.round.open) == 0 {
			break
		}
		select {
		case a := <-g.round.replies:
			g.take(a)
		case <-slow.C:
			g.round.hedge()
			slow.Reset(hedgeAfter)
		case <-g.round.ctx.Done():
			for t := range g.round.open {
				g.reads.fail(t.node, g.round.ctx.Err())
			}
			clear(g.round.open)
		}
	}
	if g.done {
		g.repair()
		return
	}
	if g.good != nil && g.reads.enough() {
		answered <- readResult{object: g.reads.result()}
		return
	}
	e := g.reads.unmet("the read", g.reads.have())
	if g.reads.have() >= g.p.r {
		e.Detail = "no primary answered, and the fallbacks know nothing of the key; " + e.Detail
	}
	answered <- readResult{err: e}
}

// maybeAnswer answers once R replicas are counted.
func (g *reading) maybeAnswer(answered chan<- readResult) {
	if g.done || !g.reads.enough() || (g.good != nil && !g.good(g.reads.result())) {
		return
	}
	g.done = true
	answered <- readResult{object: g.reads.result()}
}

// take counts one reply and asks for objects that are known by hash only, as soon as the answers are
// enough to tell which those are.
func (g *reading) take(a reply) {
	g.round.took(a.target)
	if a.err == nil {
		a.err = g.add(a)
	}
	if a.err != nil {
		g.reads.forget(a.node, a.err)
		delete(g.fetched, a.node)
		g.round.instead(a.target)
	}
	if len(g.reads.hashes) < g.reads.need && len(g.round.open) > 0 {
		return
	}
	for _, t := range g.reads.wanted(g.fetched) {
		g.fetched[t.node] = true
		g.round.ask(t, &wire.Read{Target: g.p.target, Hints: t.hintFor != "", WantObject: true})
	}
}

func (g *reading) add(a reply) error {
	m, ok := a.message.(*wire.ReadReply)
	if !ok {
		return errors.New("answered by another kind of message")
	}
	var o *causal.Object
	if len(m.Object) > 0 {
		d, err := causal.DecodeObject(m.Object)
		if err != nil {
			return err
		}
		o = &d
	}
	if m.Unsure {
		g.reads.doubt(a.node)
	}
	g.reads.add(a.target, m.Hash, o)
	return nil
}

// repair hands the result to every primary that answered something else (Dynamo paper, section 5,
// read repair).
func (g *reading) repair() {
	o := g.reads.result()
	if g.p.policy.Conflict == config.PolicyLWW {
		o = o.Last()
	}
	for _, id := range g.reads.stale(o.Hash()) {
		g.c.s.Stale(id, g.p.target, o)
	}
}
