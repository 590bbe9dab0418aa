package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"dynamo/node/wire"
)

// Faults are how a link of a memory network treats messages.
type Faults struct {
	// Every message travels for at least MinDelay and less than MaxDelay.
	MinDelay, MaxDelay time.Duration
	// Loss is the probability that a message, request or reply, never arrives: the call then hangs until
	// its context ends.
	Loss float64
	// Duplicate is the probability that a request arrives twice. Both are answered; the first answer
	// counts.
	Duplicate float64
	// Late is the probability that a message takes LateBy longer, so that later ones overtake it.
	Late   float64
	LateBy time.Duration
}

// NetworkOptions are what a memory network is made of. Zero fields take the default in brackets.
type NetworkOptions struct {
	// Rand gives the seed, once, in NewNetwork [the same seed always].
	Rand io.Reader
	// Faults apply to links that have none of their own [50 µs to 1 ms, nothing else].
	Faults Faults
	// UnreachableAfter is how long a call into a cut takes to fail [500 ms]; SilenceTimeout how long
	// one whose request or reply was swallowed by a cut [6 s].
	UnreachableAfter, SilenceTimeout time.Duration
	// MaxInflight bounds the requests from one node to another [1024].
	MaxInflight int
	// MaxRequestTime bounds requests that came without a deadline [60 s].
	MaxRequestTime time.Duration
	Logger         *slog.Logger
	// Now is the clock that contexts and timers run on, not a skewed one [time.Now].
	Now func() time.Time
}

// Network joins transports in one process, by the rules of TCP but with faults at will. It does no
// real I/O, so that it works in a bubble of testing/synctest. Messages cross it as bytes.
//
// A message's fate is a function of the seed, the link, the instant and the bytes alone, not of the
// order in which goroutines come along, and no two deliveries happen at the same nanosecond: under
// virtual time equal seeds give equal runs. It is safe for concurrent use.
type Network struct {
	o    NetworkOptions
	seed uint64
	// taken holds the instants of deliveries to come. A session is there for pairs of endpoints that
	// have shaken hands and were neither cut nor closed since.
	mu struct {
		sync.Mutex
		endpoints map[string]*Endpoint
		faults    Faults
		links     map[[2]string]Faults
		cuts      map[[2]string]bool
		sessions  map[[2]*Endpoint]bool
		taken     map[int64]struct{}
		// held nodes stand still; a channel is closed when its node goes on.
		held map[string]chan struct{}
	}
}

// NewNetwork returns a network without nodes.
func NewNetwork(o NetworkOptions) *Network {
	orElse(&o.UnreachableAfter, 500*time.Millisecond)
	orElse(&o.SilenceTimeout, 6*time.Second)
	orElse(&o.MaxInflight, 1024)
	orElse(&o.MaxRequestTime, time.Minute)
	orElse(&o.Logger, slog.New(slog.DiscardHandler))
	orElse(&o.Faults, Faults{MinDelay: 50 * time.Microsecond, MaxDelay: time.Millisecond})
	if o.Now == nil {
		o.Now = time.Now
	}
	n := &Network{o: o, seed: 1}
	var b [8]byte
	if o.Rand != nil {
		if _, err := io.ReadFull(o.Rand, b[:]); err == nil {
			n.seed = binary.LittleEndian.Uint64(b[:])
		}
	}
	n.mu.faults = o.Faults
	n.mu.endpoints = map[string]*Endpoint{}
	n.mu.links = map[[2]string]Faults{}
	n.mu.cuts = map[[2]string]bool{}
	n.mu.sessions = map[[2]*Endpoint]bool{}
	n.mu.taken = map[int64]struct{}{}
	n.mu.held = map[string]chan struct{}{}
	return n
}

// SetFaults replaces the faults of the links that have none of their own.
func (n *Network) SetFaults(f Faults) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.faults = f
}

// SetLink gives the link from one node to another faults of its own, in this direction only.
func (n *Network) SetLink(from, to string, f Faults) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.links[[2]string{from, to}] = f
}

// Cut swallows all that goes from a to b or back, messages on their way included.
func (n *Network) Cut(a, b string) {
	n.CutOneWay(a, b)
	n.CutOneWay(b, a)
}

// CutOneWay swallows all that goes from one node to another. Requests the other way still arrive, and
// their replies do not.
func (n *Network) CutOneWay(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.cuts[[2]string{from, to}] = true
	for s := range n.mu.sessions {
		if (s[0].id == from && s[1].id == to) || (s[0].id == to && s[1].id == from) {
			delete(n.mu.sessions, s)
		}
	}
}

// CutGroups cuts every node of one group from every node of another. Nodes in no group keep their
// links.
func (n *Network) CutGroups(groups [][]string) {
	for i, g := range groups {
		for _, h := range groups[i+1:] {
			for _, a := range g {
				for _, b := range h {
					n.Cut(a, b)
				}
			}
		}
	}
}

// Heal undoes all cuts.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.mu.cuts)
}

// path says whether there is a cut on the way, and who bears the name at its end.
func (n *Network) path(from, to string) (cut bool, e *Endpoint) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.cuts[[2]string{from, to}], n.mu.endpoints[to]
}

// fate is what the network does with one message.
type fate struct {
	first, again slot
	lost, twice  bool
}

// slot is an instant that belongs to one delivery until it is released.
type slot struct {
	after time.Duration
	at    int64
}

// draw decides about a message. purpose tells the several draws of one message apart.
func (n *Network) draw(from, to, purpose string, payload []byte) fate {
	now := n.o.Now().UnixNano()
	h := fnv.New64a()
	var head []byte
	for _, s := range [...]string{from, to, purpose} {
		head = append(append(head, s...), 0)
	}
	h.Write(head)
	h.Write(payload)
	r := rand.New(rand.NewPCG(n.seed^uint64(now), h.Sum64()))
	n.mu.Lock()
	defer n.mu.Unlock()
	f, ok := n.mu.links[[2]string{from, to}]
	if !ok {
		f = n.mu.faults
	}
	span := max(int64(f.MaxDelay-f.MinDelay), 1)
	out := fate{}
	reserve := func() slot {
		at := now + int64(f.MinDelay) + r.Int64N(span)
		for {
			if _, taken := n.mu.taken[at]; !taken {
				break
			}
			at++
		}
		n.mu.taken[at] = struct{}{}
		return slot{time.Duration(at - now), at}
	}
	out.first = reserve()
	out.lost = r.Float64() < f.Loss
	if out.twice = r.Float64() < f.Duplicate; out.twice {
		out.again = reserve()
	}
	if f.Late > 0 && r.Float64() < f.Late {
		out.first.after += f.LateBy
	}
	return out
}

func (n *Network) release(s slot) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.mu.taken, s.at)
}

// Endpoint is a node's transport on a memory network.
type Endpoint struct {
	n          *Network
	id         string
	hello      func() Hello
	admit      func(Hello) error
	group      group
	counters   counters
	dispatcher dispatcher
	stop       context.CancelFunc
	// serving are the exchanges whose request has arrived here, inflight their number by caller.
	mu struct {
		sync.Mutex
		serving  map[*exchange]int
		inflight map[string]int
	}
}

// Attach adds a node under the name its hello gives. A node of the same name that is still there is
// not reachable any more, but can call: an old copy. A nil admit admits all. The caller closes the
// Endpoint.
func (n *Network) Attach(hello func() Hello, h Handler, admit func(Hello) error) *Endpoint {
	if admit == nil {
		admit = func(Hello) error { return nil }
	}
	e := &Endpoint{n: n, id: hello().Node, hello: hello, admit: admit}
	ctx, stop := context.WithCancel(context.Background())
	e.stop = stop
	e.dispatcher = dispatcher{
		handler: h, logger: n.o.Logger, counters: &e.counters, group: &e.group,
		ctx: ctx, longest: n.o.MaxRequestTime, maxLocal: int64(n.o.MaxInflight),
	}
	e.mu.serving = map[*exchange]int{}
	e.mu.inflight = map[string]int{}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.endpoints[e.id] = e
	return e
}

// Stats returns a snapshot of the counters. There are no dials and no connections.
func (e *Endpoint) Stats() Stats { return e.counters.stats() }

// Close takes the node off the network: its calls and those to it fail with ErrUnreachable, the
// contexts of the requests it is handling end, and it waits for them. It may be called more than once.
func (e *Endpoint) Close() error {
	e.fallSilent()
	e.group.wg.Wait()
	return nil
}

// fallSilent does what Close does and does not wait.
func (e *Endpoint) fallSilent() {
	e.group.close()
	n := e.n
	n.mu.Lock()
	if n.mu.endpoints[e.id] == e {
		delete(n.mu.endpoints, e.id)
	}
	for s := range n.mu.sessions {
		if s[0] == e || s[1] == e {
			delete(n.mu.sessions, s)
		}
	}
	n.mu.Unlock()
	e.stop()
	e.mu.Lock()
	for x := range e.mu.serving {
		x.settle(outcome{how: broken})
	}
	e.mu.Unlock()
}

// exchange is one call on its way through the network.
type exchange struct {
	from    *Endpoint
	node    string
	kind    wire.Kind
	payload []byte
	timeout time.Duration
	// outcomes has room for all that can happen to a request and its duplicate.
	outcomes chan outcome
}

type outcome struct {
	how     int
	kind    wire.Kind
	payload []byte
	refused *Refused
}

// How a call ends.
const (
	answered  = iota
	refused   // by a handshake
	nobody    // nobody listens there
	broken    // the other side closed after the request had arrived
	cutBefore // a cut, before anything was sent
	cutAfter  // a cut swallowed the request or its reply
)

func (x *exchange) settle(o outcome) {
	select {
	case x.outcomes <- o:
	default:
		// There is room for every first outcome of a request; beyond that they say nothing new.
	}
}

// Call implements Transport. What a cut swallows fails with ErrUnreachable after UnreachableAfter
// (nothing was sent) or SilenceTimeout (it was), what is lost hangs until ctx ends.
func (e *Endpoint) Call(ctx context.Context, node string, m wire.Message) (wire.Message, error) {
	e.counters.calls.Add(1)
	reply, err := e.call(ctx, node, m)
	if err != nil {
		e.counters.failures.Add(1)
	}
	return reply, err
}

func (e *Endpoint) call(ctx context.Context, node string, m wire.Message) (wire.Message, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if node == e.id {
		return e.dispatcher.loopback(ctx, node, m)
	}
	timeout, ok := remaining(ctx)
	if !ok {
		return nil, context.DeadlineExceeded
	}
	x := &exchange{
		from: e, node: node, kind: m.Kind(), payload: m.AppendTo(nil),
		timeout: time.Duration(timeoutMillis(timeout)) * time.Millisecond, outcomes: make(chan outcome, 8),
	}
	e.counters.bytesOut.Add(uint64(lengthBytes + requestHeadBytes + len(x.payload)))
	if !x.send() {
		return nil, &UnreachableError{Node: node, Cause: ErrClosed}
	}
	return x.wait(ctx, m)
}

// send puts the request on its way, twice if the network wants so.
func (x *exchange) send() bool {
	n, from := x.from.n, x.from.id
	if cut, _ := n.path(from, x.node); cut {
		x.settle(outcome{how: cutBefore})
		return true
	}
	f := n.draw(from, x.node, "request", x.payload)
	deliver := func(s slot) func() {
		return func() {
			defer n.release(s)
			if x.from.travel(s, x.node) && !f.lost {
				x.arrive()
			}
		}
	}
	if f.twice && !x.from.group.start(deliver(f.again)) {
		return false
	}
	return x.from.group.start(deliver(f.first))
}

// sleep waits on the network's behalf; false if e was closed meanwhile.
func (e *Endpoint) sleep(d time.Duration) bool {
	select {
	case <-time.After(d):
	case <-e.dispatcher.ctx.Done():
	}
	return e.dispatcher.ctx.Err() == nil
}

// arrive hands the request to whoever bears the node's name now.
func (x *exchange) arrive() {
	n, from := x.from.n, x.from
	cut, to := n.path(from.id, x.node)
	if cut {
		x.settle(outcome{how: cutAfter})
		return
	}
	if to == nil {
		x.settle(outcome{how: nobody})
		return
	}
	if r := n.shakeHands(from, to); r != nil {
		x.settle(outcome{how: refused, refused: r})
		return
	}
	to.counters.bytesIn.Add(uint64(lengthBytes + requestHeadBytes + len(x.payload)))
	admitted := to.enter(x)
	if !to.group.start(func() {
		defer to.leave(x)
		reply := wire.Message(overloaded())
		if admitted {
			reply = to.dispatcher.decodeAndRun(from.id, x.timeout, x.kind, x.payload)
		} else {
			to.counters.overloaded.Add(1)
		}
		x.answer(to, reply)
	}) {
		to.leave(x)
		x.settle(outcome{how: nobody})
	}
}

func (e *Endpoint) enter(x *exchange) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.serving[x]++
	e.mu.inflight[x.from.id]++
	return e.mu.inflight[x.from.id] <= e.n.o.MaxInflight
}

func (e *Endpoint) leave(x *exchange) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.serving[x]--; e.mu.serving[x] == 0 {
		delete(e.mu.serving, x)
	}
	if e.mu.inflight[x.from.id]--; e.mu.inflight[x.from.id] == 0 {
		delete(e.mu.inflight, x.from.id)
	}
}

// answer carries the reply back.
func (x *exchange) answer(to *Endpoint, reply wire.Message) {
	n := to.n
	payload := reply.AppendTo(nil)
	size := uint64(lengthBytes + replyHeadBytes + len(payload))
	to.counters.bytesOut.Add(size)
	f := n.draw(to.id, x.from.id, "reply", payload)
	n.release(f.again)
	defer n.release(f.first)
	if !to.travel(f.first, x.from.id) {
		return // Close has told the caller.
	}
	if cut, _ := n.path(to.id, x.from.id); cut {
		x.settle(outcome{how: cutAfter})
	} else if !f.lost {
		x.from.counters.bytesIn.Add(size)
		x.settle(outcome{how: answered, kind: reply.Kind(), payload: payload})
	}
}

// wait turns outcomes into the result of the call. Bad news takes its time, and a good answer to a
// duplicate may still come before.
func (x *exchange) wait(ctx context.Context, m wire.Message) (wire.Message, error) {
	var bad error
	var late <-chan time.Time
	for {
		select {
		case o := <-x.outcomes:
			if o.how == answered {
				reply, err := wire.Decode(o.kind, o.payload)
				if err != nil {
					return nil, &Error{Code: CodeInternal, Detail: err.Error(), MaybeStored: true}
				}
				return answer(x.node, m, reply)
			}
			if bad == nil {
				var after time.Duration
				after, bad = x.bad(o)
				late = time.After(after)
			}
		case <-late:
			return nil, bad
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-x.from.dispatcher.ctx.Done():
			return nil, &UnreachableError{Node: x.node, MaybeSent: true, Cause: ErrClosed}
		}
	}
}

var (
	errNobody = errors.New("nobody listens there")
	errCut    = errors.New("the network is cut")
)

// bad returns the error of an outcome and after how long the caller learns of it.
func (x *exchange) bad(o outcome) (time.Duration, error) {
	n := x.from.n
	f := n.draw(x.node, x.from.id, "failure", x.payload)
	// Given back at once: that two calls fail at one instant is rare enough.
	n.release(f.first)
	n.release(f.again)
	after := f.first.after
	e := &UnreachableError{Node: x.node}
	switch o.how {
	case refused:
		return after, o.refused
	case nobody:
		e.Cause = errNobody
	case broken:
		e.Cause, e.MaybeSent = errHungUp, true
	case cutBefore:
		e.Cause = errCut
		after += n.o.UnreachableAfter
	case cutAfter:
		e.Cause, e.MaybeSent = errCut, true
		after += n.o.SilenceTimeout
	}
	return after, e
}

// shakeHands does what the handshake of TCP does, but for the secret: nodes of one network share it.
func (n *Network) shakeHands(from, to *Endpoint) *Refused {
	pair := [2]*Endpoint{from, to}
	n.mu.Lock()
	known := n.mu.sessions[pair]
	n.mu.Unlock()
	if known {
		return nil
	}
	r, byPeer := n.refusalBetween(from, to)
	if r == nil {
		n.mu.Lock()
		n.mu.sessions[pair] = true
		n.mu.Unlock()
		return nil
	}
	from.counters.refused.Add(1)
	to.counters.refused.Add(1)
	n.o.Logger.Debug("refused peer", "from", from.id, "to", to.id, "by_acceptor", byPeer, "reason", r.here)
	if byPeer {
		return &Refused{Node: to.id, Reason: r.there, Stale: r.stale, ByPeer: true}
	}
	return &Refused{Node: to.id, Reason: r.here}
}

func (n *Network) refusalBetween(from, to *Endpoint) (r *refusal, byAcceptor bool) {
	dialler, err := decodeHello(appendHello(nil, from.hello()))
	if err != nil {
		return notAdmitted(err), true
	}
	acceptor, err := decodeHello(appendHello(nil, to.hello()))
	if err != nil {
		return notAdmitted(err), true
	}
	if r := mismatch(acceptor, dialler); r != nil {
		return r, true
	}
	if err := from.admit(acceptor); err != nil {
		return notAdmitted(err), false
	}
	if err := to.admit(dialler); err != nil {
		return notAdmitted(err), true
	}
	return nil, false
}
