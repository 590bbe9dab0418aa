package coordinator

import (
	"context"
	"errors"
	"time"

	"dynamo/node/peer"
	"dynamo/node/wire"
)

// hedgeAfter is how long a replica may keep a request waiting before a fallback is asked in its
// place. It is far above a healthy fsync and far below the default deadline.
const hedgeAfter = 250 * time.Millisecond

// reply is what one node answered.
type reply struct {
	target
	message wire.Message
	err     error
}

// round asks nodes for one request. Its goroutines only call and send on a channel that has room for
// all of them; the request's own goroutine reads, counts and decides.
type round struct {
	c       *Coordinator
	ctx     context.Context
	message func(t target) wire.Message
	replies chan reply
	// spare are the fallbacks not asked yet.
	spare []string
	// open are the targets that have not answered.
	open map[target]bool
	// replaced are primaries for which a fallback stands in.
	replaced map[string]bool
}

// newRound starts a round over the plan's primaries: each that seems reachable is asked, for each
// other the next reachable fallback. Where there is no fallback the primary is asked all the same:
// what gossip says may be old. self is the copy that needs no message, if there is one.
func (c *Coordinator) newRound(ctx context.Context, p plan, self target, message func(t target) wire.Message) *round {
	r := &round{
		c: c, ctx: ctx, message: message, replies: make(chan reply, 4*len(p.list)),
		open: make(map[target]bool), replaced: make(map[string]bool),
	}
	for _, id := range p.fallbacks() {
		if id != self.node && c.s.Members.Reachable(id) {
			r.spare = append(r.spare, id)
		}
	}
	for _, id := range p.primaries() {
		switch {
		case id == self.node || id == self.hintFor:
		case c.s.Members.Reachable(id):
			r.ask(target{node: id}, nil)
		case p.sloppy && r.standIn(id):
		default:
			r.ask(target{node: id}, nil)
		}
	}
	return r
}

// ask sends to one node; a nil message takes the round's.
func (r *round) ask(t target, m wire.Message) {
	if m == nil {
		m = r.message(t)
	}
	r.open[t] = true
	started := r.c.spawn(func() {
		m, err := r.c.s.Transport.Call(r.ctx, t.node, m)
		r.c.observe(t.node, err)
		r.replies <- reply{t, m, err}
	})
	if !started {
		r.replies <- reply{t, nil, context.Canceled}
	}
}

// observe tells the failure detector how a call went. An answer of any kind, a refusal included, shows
// that the node is there.
func (c *Coordinator) observe(node string, err error) {
	if c.background.Err() != nil {
		return
	}
	if _, answered := errors.AsType[*peer.Error](err); answered {
		err = nil
	}
	c.s.Members.Observe(node, err)
}

// standIn asks the next fallback in the place of a primary and reports whether there was one.
func (r *round) standIn(primary string) bool {
	if r.replaced[primary] || len(r.spare) == 0 {
		return false
	}
	next := r.spare[0]
	r.spare = r.spare[1:]
	r.replaced[primary] = true
	r.ask(target{node: next, hintFor: primary}, nil)
	return true
}

// took removes an answered target.
func (r *round) took(t target) { delete(r.open, t) }

// hedge lets fallbacks stand in for all that have not answered.
func (r *round) hedge() {
	for t := range r.open {
		r.instead(t)
	}
}

// instead asks a fallback in the place of a target that failed or is slow.
func (r *round) instead(t target) {
	if t.hintFor == "" {
		r.standIn(t.node)
		return
	}
	delete(r.replaced, t.hintFor)
	r.standIn(t.hintFor)
}
