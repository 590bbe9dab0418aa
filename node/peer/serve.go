package peer

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"dynamo/node/wire"
)

// Handler answers requests. It is called from many goroutines at a time.
//
// The context ends at the caller's deadline, or when the transport is closed; not when the caller
// gives up early or its connection breaks: a write half done helps nobody. An *Error reaches the
// caller as it is, an ended context as CodeTimeout, any other error, and a panic, as CodeInternal and
// the log. The message belongs to the handler, but for a call of a node to itself it is the very one
// that the caller gave, so it must not be changed.
type Handler interface {
	Handle(ctx context.Context, from string, m wire.Message) (wire.Message, error)
}

// Transport calls other nodes. It is safe for concurrent use.
type Transport interface {
	// Call sends m to the node and waits for the answer, until ctx ends. A call to the node itself goes
	// straight to its Handler, under the same rules.
	//
	// The error is ctx's own, an *Error which the node answered with, or one that matches
	// ErrUnreachable: *UnreachableError or *Refused.
	Call(ctx context.Context, node string, m wire.Message) (wire.Message, error)
}

// Stats are counters since the start, but for the gauges that are marked so.
type Stats struct {
	// Calls of this node to others and to itself; Failures are those that ended in an error.
	Calls, Failures uint64
	// Requests that this node was asked; Overloaded are those it turned away unread.
	Requests, Overloaded uint64
	// BytesIn and BytesOut count frames, without the handshakes.
	BytesIn, BytesOut uint64
	// ConnectionsIn and ConnectionsOut are open now (gauges).
	ConnectionsIn, ConnectionsOut int64
	// Dials are attempts to connect, DialFailures those that came to nothing.
	Dials, DialFailures uint64
	// Refused counts handshakes that ended in a refusal by either side.
	Refused uint64
}

type counters struct {
	calls, failures, requests, overloaded atomic.Uint64
	bytesIn, bytesOut                     atomic.Uint64
	connsIn, connsOut                     atomic.Int64
	dials, dialFailures, refused          atomic.Uint64
}

func (c *counters) stats() Stats {
	return Stats{
		Calls: c.calls.Load(), Failures: c.failures.Load(),
		Requests: c.requests.Load(), Overloaded: c.overloaded.Load(),
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
		ConnectionsIn: c.connsIn.Load(), ConnectionsOut: c.connsOut.Load(),
		Dials: c.dials.Load(), DialFailures: c.dialFailures.Load(),
		Refused: c.refused.Load(),
	}
}

// group owns goroutines.
type group struct {
	wg sync.WaitGroup
	// Nothing is added to wg once closed is set.
	mu struct {
		sync.Mutex
		closed bool
	}
}

// start runs f in a goroutine, unless the group is closed.
func (g *group) start(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.closed {
		return false
	}
	g.wg.Go(f)
	return true
}

// close lets no more goroutines start and reports whether it is the first to do so.
func (g *group) close() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	first := !g.mu.closed
	g.mu.closed = true
	return first
}

// dispatcher runs the handler of one node, whichever way the request came.
type dispatcher struct {
	handler  Handler
	logger   *slog.Logger
	counters *counters
	group    *group
	// ctx ends when the transport is closed.
	ctx context.Context
	// longest bounds requests that came without a deadline.
	longest time.Duration
	// maxLocal bounds calls of the node to itself; local counts them.
	maxLocal int64
	local    atomic.Int64
}

// run answers one request; a timeout of 0 is none. It never fails and never returns nil.
func (d *dispatcher) run(from string, timeout time.Duration, m wire.Message) (reply wire.Message) {
	d.counters.requests.Add(1)
	if m.Kind() == wire.KindPing {
		return &wire.Ack{}
	}
	if timeout <= 0 || timeout > d.longest {
		timeout = d.longest
	}
	ctx, cancel := context.WithTimeout(d.ctx, timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			d.logger.Error("peer request panicked", "kind", m.Kind().String(), "from", from,
				"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			reply = &wire.Failure{Code: CodeInternal, Detail: "the handler panicked", MaybeStored: true}
		}
	}()
	reply, err := d.handler.Handle(ctx, from, m)
	if err == nil && reply == nil {
		err = fmt.Errorf("%s has no answer", m.Kind())
	}
	if err == nil {
		return reply
	}
	f := failureOf(err)
	if f.Code == CodeInternal {
		d.logger.Error("peer request failed", "kind", m.Kind().String(), "from", from, "err", err)
	}
	return f
}

// decodeAndRun answers one request that came as bytes.
func (d *dispatcher) decodeAndRun(from string, timeout time.Duration, kind wire.Kind, payload []byte) wire.Message {
	if kind.Reply() == 0 {
		return &wire.Failure{Code: CodeBadRequest, Detail: fmt.Sprintf("%s is no request that this node knows", kind)}
	}
	m, err := wire.Decode(kind, payload)
	if err != nil {
		return &wire.Failure{Code: CodeBadRequest, Detail: err.Error()}
	}
	return d.run(from, timeout, m)
}

// loopback is a call of the node to itself.
func (d *dispatcher) loopback(ctx context.Context, self string, m wire.Message) (wire.Message, error) {
	timeout, ok := remaining(ctx)
	if !ok {
		return nil, context.DeadlineExceeded
	}
	defer d.local.Add(-1)
	if d.local.Add(1) > d.maxLocal {
		d.counters.overloaded.Add(1)
		return answer(self, m, overloaded())
	}
	out := make(chan wire.Message, 1)
	if !d.group.start(func() { out <- d.run(self, timeout, m) }) {
		return nil, &UnreachableError{Node: self, Cause: ErrClosed}
	}
	select {
	case reply := <-out:
		if d.ctx.Err() == nil {
			return answer(self, m, reply)
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-d.ctx.Done():
	}
	return nil, &UnreachableError{Node: self, MaybeSent: true, Cause: ErrClosed}
}

func overloaded() *wire.Failure {
	return &wire.Failure{Code: CodeOverloaded, Detail: "too many requests between the two nodes", Retryable: true}
}

// remaining returns what is left until the deadline of ctx, 0 if it has none; false if it is over.
func remaining(ctx context.Context) (time.Duration, bool) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0, true
	}
	left := time.Until(deadline)
	return left, left > 0
}

// quiet lets one line per remote and minute through, so that a node that tries again and again does
// not fill the log.
type quiet struct {
	now func() time.Time
	mu  struct {
		sync.Mutex
		last map[string]time.Time
	}
}

const (
	quietFor     = time.Minute
	quietRemotes = 1024
)

func (q *quiet) allow(remote string) bool {
	now := q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	if last, ok := q.mu.last[remote]; ok && now.Sub(last) < quietFor {
		return false
	}
	if len(q.mu.last) >= quietRemotes {
		for k, last := range q.mu.last {
			if now.Sub(last) >= quietFor {
				delete(q.mu.last, k)
			}
		}
		if len(q.mu.last) >= quietRemotes {
			return false
		}
	}
	if q.mu.last == nil {
		q.mu.last = map[string]time.Time{}
	}
	q.mu.last[remote] = now
	return true
}
