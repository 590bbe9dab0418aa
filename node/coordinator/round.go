package coordinator

import (
	"context"
	"errors"
	"time"

	"dynamo/node/cluster"
	"dynamo/node/peer"
	"dynamo/node/store"
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
	// spare are the fallbacks not asked yet: first those that seem reachable. What the failure detector
	// says may be old, so the others are asked when nobody else is left.
	spare, doubtful []string
	// open are the targets that have not answered.
	open map[target]bool
	// replaced are primaries for which a fallback stands in, direct those that were asked themselves.
	replaced, direct map[string]bool
}

// newRound starts a round over the plan's primaries: each that seems reachable is asked, for each
// other the next reachable fallback. Where there is no fallback the primary is asked all the same:
// what gossip says may be old. self is the copy that needs no message, if there is one.
func (c *Coordinator) newRound(ctx context.Context, p plan, self target, message func(t target) wire.Message) *round {
	r := &round{
		c: c, ctx: ctx, message: message, replies: make(chan reply, 4*len(p.list)),
		open: make(map[target]bool), replaced: make(map[string]bool), direct: make(map[string]bool),
	}
	for _, id := range p.fallbacks() {
		switch {
		case id == self.node:
		case c.s.Members.Reachable(id):
			r.spare = append(r.spare, id)
		case p.sloppy:
			r.doubtful = append(r.doubtful, id)
		}
	}
	for _, id := range p.primaries() {
		switch {
		case id == self.node || id == self.hintFor:
		case !c.s.Members.Reachable(id) && p.sloppy && len(r.spare) > 0:
			r.standIn(id)
		default:
			r.askPrimary(id)
		}
	}
	return r
}

// askPrimary asks a primary itself.
func (r *round) askPrimary(id string) {
	r.direct[id] = true
	r.ask(target{node: id}, nil)
}

// ask sends to one node; a nil message takes the round's.
func (r *round) ask(t target, m wire.Message) {
	if m == nil {
		m = r.message(t)
	}
	r.open[t] = true
	r.c.callInto(r.ctx, t, m, r.replies)
}

// callInto calls in the background and sends the one reply to out, which must have room for it.
func (c *Coordinator) callInto(ctx context.Context, t target, m wire.Message, out chan<- reply) {
	started := c.spawn(func() {
		m, err := c.call(ctx, t.node, m)
		out <- reply{t, m, err}
	})
	if !started {
		out <- reply{t, nil, context.Canceled}
	}
}

// call is the one way to other nodes, and holds the one rule of what the failure detector hears: an
// answer of any kind, a refusal included, shows that the node is there; no answer within hedgeAfter is
// a strike, at that moment and whatever becomes of the request; no connection says that it is away. A
// request cut short by its own deadline says nothing more.
func (c *Coordinator) call(ctx context.Context, node string, m wire.Message) (wire.Message, error) {
	silent := time.AfterFunc(hedgeAfter, func() { c.observe(node, cluster.ErrSilent) })
	defer silent.Stop()
	reply, err := c.s.Transport.Call(ctx, node, m)
	if e, ok := errors.AsType[*peer.Error](err); !ok {
		c.observe(node, err)
	} else if !e.Local {
		c.observe(node, nil)
	}
	return reply, err
}

func (c *Coordinator) observe(node string, err error) {
	if c.background.Err() == nil {
		c.s.Members.Observe(node, err)
	}
}

// standIn asks the next fallback in the place of a primary and reports whether there was one.
func (r *round) standIn(primary string) bool {
	if r.replaced[primary] {
		return false
	}
	from := &r.spare
	if len(*from) == 0 {
		from = &r.doubtful
	}
	if len(*from) == 0 {
		return false
	}
	next := (*from)[0]
	*from = (*from)[1:]
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

// instead asks a fallback in the place of a target that failed or is slow. When there is none, the
// primary that was passed over as unreachable is asked after all.
func (r *round) instead(t target) {
	if t.hintFor == "" {
		r.standIn(t.node)
		return
	}
	delete(r.replaced, t.hintFor)
	if !r.standIn(t.hintFor) && !r.direct[t.hintFor] {
		r.askPrimary(t.hintFor)
	}
}

// refused is the code of a node that is there but cannot take part now, "" for any other error. Nothing
// was done, so another node may be asked in its place.
func refused(err error) Code {
	var code Code
	if e, ok := errors.AsType[*Error](err); ok && !e.MaybeStored {
		code = e.Code
	} else if e, ok := errors.AsType[*peer.Error](err); ok && !e.MaybeStored {
		code = Code(e.Code)
	}
	switch {
	case code == CodeOverloaded, code == CodeNotReady, code == CodeDiskFull:
		return code
	case errors.Is(err, store.ErrDiskFull):
		return CodeDiskFull
	case errors.Is(err, store.ErrStalled):
		return CodeNotReady
	case errors.Is(err, store.ErrHintsFull):
		return CodeOverloaded
	}
	return ""
}
