package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"dynamo/node/wire"
)

var (
	errSilent   = errors.New("the connection was silent for too long")
	errStalled  = errors.New("the other side took no bytes for too long")
	errHungUp   = errors.New("the connection was closed")
	errOverload = errors.New("too many calls to this node are waiting")
)

// line is one connection after the handshake: what both of its ends need.
type line struct {
	t    *TCP
	nc   *meter
	r    *bufio.Reader
	node string
	out  chan *[]byte
	// done is closed by close, after cause was set.
	done  chan struct{}
	once  sync.Once
	cause error
}

func newLine(t *TCP, h *handshake) *line {
	return &line{t: t, nc: h.conn, r: h.r, node: h.other.Node, out: make(chan *[]byte, 256), done: make(chan struct{})}
}

// close breaks the connection. The first cause stands.
func (w *line) close(cause error) {
	w.once.Do(func() {
		w.cause = cause
		close(w.done)
		if tc, ok := w.nc.Conn.(*net.TCPConn); ok && !errors.Is(cause, ErrClosed) && !errors.Is(cause, errHungUp) {
			// Requests that nobody waits for any more go with the connection: the kernel would deliver them
			// after the cut, however long that takes. An error leaves it at that.
			_ = tc.SetLinger(0)
		}
		w.nc.Close()
	})
}

// send queues a frame, which it owns from now on. It waits while the queue is full.
func (w *line) send(ctx context.Context, b *[]byte) error {
	select {
	case w.out <- b:
		return nil
	default:
	}
	select {
	case w.out <- b:
		return nil
	case <-ctx.Done():
		w.t.buffers.put(b)
		return ctx.Err()
	case <-w.done:
		w.t.buffers.put(b)
		return w.cause
	}
}

// write sends queued frames until the connection breaks. Whatever has gathered in the queue goes out
// in one system call. tick runs every so often.
func (w *line) write(every time.Duration, tick func()) {
	w.nc.stalled = time.AfterFunc(w.t.o.StallTimeout, func() { w.close(errStalled) })
	w.nc.stalled.Stop()
	defer w.nc.stalled.Stop()
	w.nc.patience = w.t.o.StallTimeout
	bw := bufio.NewWriterSize(w.nc, connBufferBytes)
	clock := time.NewTicker(every)
	defer clock.Stop()
	for {
		select {
		case b := <-w.out:
			if err := w.drain(bw, b); err != nil {
				w.close(hungUp(err))
				return
			}
		case <-clock.C:
			tick()
		case <-w.done:
			return
		}
	}
}

func (w *line) drain(bw *bufio.Writer, b *[]byte) error {
	for {
		_, err := bw.Write(*b)
		w.t.counters.bytesOut.Add(uint64(len(*b)))
		w.t.buffers.put(b)
		if err != nil {
			return err
		}
		select {
		case b = <-w.out:
			continue
		default:
		}
		// Whoever is about to send gets the chance to do so before the system call.
		runtime.Gosched()
		select {
		case b = <-w.out:
		default:
			return bw.Flush()
		}
	}
}

func hungUp(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return errHungUp
	}
	return err
}

// meter sees the bytes of a connection move.
type meter struct {
	net.Conn
	// progress changes when bytes come in, or when the far end takes the later parts of a long write:
	// the first part may only have gone into this machine's own buffers.
	progress atomic.Uint64
	// stalled, once set, breaks the connection if a part of a write takes longer than patience. It
	// belongs to the writing goroutine.
	stalled  *time.Timer
	patience time.Duration
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Conn.Read(p)
	if n > 0 {
		m.progress.Add(1)
	}
	return n, err
}

func (m *meter) Write(p []byte) (int, error) {
	if m.stalled != nil {
		defer m.stalled.Stop()
	}
	done := 0
	for {
		if m.stalled != nil {
			m.stalled.Reset(m.patience)
		}
		part := p[done:min(len(p), done+writePartBytes)]
		n, err := m.Conn.Write(part)
		if done += n; err != nil || done == len(p) {
			return done, err
		}
		if done > writePartBytes {
			m.progress.Add(1)
		}
	}
}

// clientConn is the end that sends requests.
type clientConn struct {
	*line
	// sent counts requests and pings written to the queue, received the frames that came back: the
	// other side owes an answer while they differ.
	sent, received atomic.Uint64
	// owedBytes are the frames of calls that wait.
	owedBytes atomic.Int64
	// Every waiting caller has an entry; whoever takes an entry out settles it. No entry is added after
	// broken is set.
	mu struct {
		sync.Mutex
		pending map[uint64]*waiter
		last    uint64
		broken  bool
	}
}

// waiter is a caller that waits for a reply. The channel holds the one outcome; a frame of kind 0 says
// that the connection broke.
type waiter struct{ outcome chan frame }

func newClientConn(w *line) *clientConn {
	c := &clientConn{line: w}
	c.mu.pending = map[uint64]*waiter{}
	return c
}

func (c *clientConn) alive() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// pingID is the request id of pings; calls start at 1.
const pingID = 0

func (c *clientConn) call(ctx context.Context, m wire.Message) (wire.Message, error) {
	timeout, ok := remaining(ctx)
	if !ok {
		return nil, context.DeadlineExceeded
	}
	w := &waiter{outcome: make(chan frame, 1)}
	id, err := c.register(w)
	if err != nil {
		return nil, err
	}
	b := c.t.buffers.get()
	*b = appendFrame(*b, id, timeout, m)
	size := int64(len(*b))
	defer c.owedBytes.Add(-size)
	if owed := c.owedBytes.Add(size); owed > c.t.o.MaxInflightBytes && owed != size {
		c.t.buffers.put(b)
		c.take(id)
		c.t.counters.overloaded.Add(1)
		return nil, &Error{Code: CodeOverloaded, Detail: errOverload.Error(), Retryable: true, Local: true}
	}
	if n := len(*b) - lengthBytes; n > c.t.o.MaxFrameBytes {
		c.t.buffers.put(b)
		c.take(id)
		return nil, &Error{Code: CodeTooLarge, Detail: fmt.Sprintf("a message of %d bytes exceeds %d", n, c.t.o.MaxFrameBytes), Local: true}
	}
	if err := c.send(ctx, b); err != nil {
		c.take(id)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &UnreachableError{Node: c.node, Cause: err}
	}
	c.sent.Add(1)
	select {
	case f := <-w.outcome:
		if f.kind == 0 {
			return nil, &UnreachableError{Node: c.node, MaybeSent: true, Cause: c.cause}
		}
		reply, err := wire.Decode(f.kind, f.payload)
		if err != nil {
			return nil, &Error{Code: CodeInternal, Detail: fmt.Sprintf("answer of node %s: %v", c.node, err), MaybeStored: true}
		}
		return answer(c.node, m, reply)
	case <-ctx.Done():
		c.take(id)
		return nil, ctx.Err()
	}
}

func (c *clientConn) register(w *waiter) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.broken {
		return 0, &UnreachableError{Node: c.node, Cause: c.cause}
	}
	if len(c.mu.pending) >= c.t.o.MaxInflight {
		c.t.counters.overloaded.Add(1)
		return 0, &Error{Code: CodeOverloaded, Detail: errOverload.Error(), Retryable: true, Local: true}
	}
	c.mu.last++
	c.mu.pending[c.mu.last] = w
	return c.mu.last, nil
}

// take removes and returns the entry, nil if it is settled already.
func (c *clientConn) take(id uint64) *waiter {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.mu.pending[id]
	delete(c.mu.pending, id)
	return w
}

// read hands replies to their callers until the connection breaks, and then breaks all that wait.
func (c *clientConn) read() {
	for {
		f, err := readFrame(c.r, false, c.t.o.MaxFrameBytes)
		if err != nil {
			c.close(hungUp(err))
			break
		}
		c.received.Add(1)
		c.t.counters.bytesIn.Add(uint64(lengthBytes + replyHeadBytes + len(f.payload)))
		// Kind 0 is not on the wire; a reply without a caller is late: the caller has given up.
		if w := c.take(f.id); w != nil && f.kind != 0 {
			w.outcome <- f
		} else if w != nil {
			w.outcome <- frame{kind: 0xff}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.broken = true
	for id, w := range c.mu.pending {
		w.outcome <- frame{}
		delete(c.mu.pending, id)
	}
}

// watch returns the tick that looks for half-open connections: while answers are owed and no bytes
// move, it pings after three ticks and gives up after six.
func (c *clientConn) watch() func() {
	var seen uint64
	silent := 0
	return func() {
		progress := c.nc.progress.Load()
		if progress != seen || c.sent.Load() <= c.received.Load() {
			seen, silent = progress, 0
			return
		}
		switch silent++; silent {
		case 3:
			b := c.t.buffers.get()
			*b = appendFrame(*b, pingID, c.t.o.SilenceTimeout, &wire.Ping{})
			select {
			case c.out <- b:
				c.sent.Add(1)
			default:
				c.t.buffers.put(b)
			}
		case 6:
			c.close(errSilent)
		}
	}
}

// serverConn is the end that answers.
type serverConn struct {
	*line
	inflight, inflightBytes atomic.Int64
}

// read starts a goroutine for every request until the connection breaks.
func (s *serverConn) read() {
	for {
		f, err := readFrame(s.r, true, s.t.o.MaxFrameBytes)
		if err != nil {
			if errors.Is(err, errFrameTooLong) || errors.Is(err, errFrameTooShort) || errors.Is(err, errVersion) {
				s.t.o.Logger.Warn("closed peer connection", "peer", s.node, "addr", s.nc.RemoteAddr().String(), "err", err)
			}
			s.close(hungUp(err))
			return
		}
		size := int64(len(f.payload))
		s.t.counters.bytesIn.Add(uint64(lengthBytes+requestHeadBytes) + uint64(size))
		if s.inflight.Add(1) > int64(s.t.o.MaxInflight) && f.kind != wire.KindPing || !s.fits(size) {
			s.t.counters.overloaded.Add(1)
			s.reply(f.id, overloaded())
			s.finish(size)
			continue
		}
		if f.kind != wire.KindPing && s.t.pauses.overdue(f.timeout) {
			s.reply(f.id, &wire.Failure{Code: CodeOverloaded, Detail: "the node was paused, and the request may be long over", Retryable: true})
			s.finish(size)
			continue
		}
		if !s.t.group.start(func() {
			s.reply(f.id, s.t.dispatcher.decodeAndRun(s.node, f.timeout, f.kind, f.payload))
			s.finish(size)
		}) {
			return
		}
	}
}

// fits counts size in and reports whether that is within the bound; one request alone always is.
func (s *serverConn) fits(size int64) bool {
	total := s.inflightBytes.Add(size)
	return total <= s.t.o.MaxInflightBytes || total == size
}

func (s *serverConn) finish(size int64) {
	s.inflightBytes.Add(-size)
	s.inflight.Add(-1)
}

func (s *serverConn) reply(id uint64, m wire.Message) {
	b := s.t.buffers.get()
	*b = appendFrame(*b, id, -1, m)
	if n := len(*b) - lengthBytes; n > s.t.o.MaxFrameBytes {
		*b = appendFrame((*b)[:0], id, -1, &wire.Failure{
			Code: CodeTooLarge, Detail: fmt.Sprintf("an answer of %d bytes exceeds %d", n, s.t.o.MaxFrameBytes), MaybeStored: true,
		})
	}
	// Without a connection there is nobody to answer.
	_ = s.send(context.Background(), b)
}
