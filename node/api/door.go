package api

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	// lingerTime and lingerBytes bound how long a connection that is closed with the request unread goes
	// on reading: closed at once, the kernel would reset it and the client might never see the answer.
	lingerTime  = time.Second
	lingerBytes = 64 << 20
	// maxRefusing is the number of refused connections that may linger at a time.
	maxRefusing = 64
	// acceptPauseMin and acceptPauseMax are the waits after a failed accept, such as for want of file
	// descriptors.
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// door is the listener with a limit of connections. It knows every connection until it is closed, so
// that Close can wait for them.
type door struct {
	net.Listener
	limit int
	// refusal is the whole answer to a connection beyond the limit.
	refusal func() []byte
	refused func()
	log     *slog.Logger
	stop    chan struct{}

	// refusing bounds and wg counts the goroutines that say no.
	refusing chan struct{}
	wg       sync.WaitGroup

	// mu guards the open connections. Once closed is set none is added; empty is closed when it is set and
	// the last one has gone.
	mu struct {
		sync.Mutex
		conns  map[*conn]struct{}
		closed bool
		empty  chan struct{}
	}
}

func newDoor(l net.Listener, limit int, refusal func() []byte, refused func(), log *slog.Logger) *door {
	d := &door{
		Listener: l, limit: limit, refusal: refusal, refused: refused, log: log,
		stop: make(chan struct{}), refusing: make(chan struct{}, maxRefusing),
	}
	d.mu.conns = make(map[*conn]struct{})
	d.mu.empty = make(chan struct{})
	return d
}

// Accept implements net.Listener. It returns an error only when the door is shut: the server would stop
// for good at the first one, and running out of file descriptors is no reason to.
func (d *door) Accept() (net.Conn, error) {
	pause := acceptPauseMin
	for {
		c, err := d.Listener.Accept()
		switch {
		case err == nil:
			pause = acceptPauseMin
			if in := d.admit(c); in != nil {
				return in, nil
			}
			continue
		case errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || d.isShut():
			return nil, net.ErrClosed
		}
		d.log.Warn("connections cannot be accepted", "err", err)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-d.stop:
			t.Stop()
			return nil, net.ErrClosed
		}
		pause = min(2*pause, acceptPauseMax)
	}
}

// admit takes a connection in, or refuses it and returns nil.
func (d *door) admit(nc net.Conn) *conn {
	c := &conn{Conn: nc, door: d}
	d.mu.Lock()
	shut, full := d.mu.closed, len(d.mu.conns) >= d.limit
	if !shut && !full {
		d.mu.conns[c] = struct{}{}
	}
	d.mu.Unlock()
	switch {
	case shut:
		_ = nc.Close() // nobody is served any more, and nothing was sent
		return nil
	case full:
		d.refuse(c)
		return nil
	}
	return c
}

// refuse answers a connection beyond the limit and closes it.
func (d *door) refuse(c *conn) {
	d.refused()
	select {
	case d.refusing <- struct{}{}:
		d.wg.Go(func() {
			defer func() { <-d.refusing }()
			d.sayNo(c, true)
		})
	default:
		d.sayNo(c, false)
	}
}

func (d *door) sayNo(c *conn, linger bool) {
	c.linger.Store(linger)
	// The answer fits the empty buffer of a new connection, so this does not wait for the client.
	if _, err := c.Conn.Write(d.refusal()); err != nil {
		d.log.Debug("refused connection", "err", err)
	}
	_ = c.Close() // the client is gone or told; either way there is nothing to do
}

// shut closes the listener and every connection that waits for a request; those at work go on.
func (d *door) shut() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.closed {
		return nil
	}
	d.mu.closed = true
	close(d.stop)
	for c := range d.mu.conns {
		if !c.active.Load() {
			_ = c.Conn.Close() // its worker sees the end and gives the connection back
		}
	}
	if len(d.mu.conns) == 0 {
		close(d.mu.empty)
	}
	return d.Listener.Close()
}

// Close implements net.Listener.
func (d *door) Close() error { return d.shut() }

func (d *door) isShut() bool {
	select {
	case <-d.stop:
		return true
	default:
		return false
	}
}

// abort cuts off every connection that is still open.
func (d *door) abort() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.mu.conns {
		_ = c.Conn.Close() // whoever works on it finds out
	}
}

func (d *door) forget(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.mu.conns[c]; !ok {
		return
	}
	delete(d.mu.conns, c)
	if d.mu.closed && len(d.mu.conns) == 0 {
		close(d.mu.empty)
	}
}

func (d *door) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.mu.conns)
}

// conn is one connection of a client.
type conn struct {
	net.Conn
	door *door
	// active is set while a request is read or answered.
	active atomic.Bool
	// linger lets Close read on for a moment.
	linger atomic.Bool
	closed atomic.Bool
	// ended is set once the client has closed its side and all it sent was read.
	ended atomic.Bool
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		c.ended.Store(true)
	}
	return n, err
}

// Close closes the connection once; later calls do nothing.
func (c *conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	defer c.door.forget(c)
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || !c.linger.Load() || half.CloseWrite() != nil {
		return c.Conn.Close()
	}
	end := time.AfterFunc(lingerTime, func() { _ = c.Conn.Close() })
	defer end.Stop()
	// What comes is of no interest, and neither is how it ends.
	_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
	return c.Conn.Close()
}

// connState follows fasthttp's states.
func connState(nc net.Conn, s fasthttp.ConnState) {
	if c, ok := nc.(*conn); ok {
		c.active.Store(s == fasthttp.StateActive)
	}
}

// hasEnded reports whether the client's side of the connection was read to its end.
func hasEnded(nc net.Conn) bool {
	c, ok := nc.(*conn)
	return ok && c.ended.Load()
}

// lingerOn makes the connection read on for a moment when it is closed.
func lingerOn(nc net.Conn) {
	if c, ok := nc.(*conn); ok {
		c.linger.Store(true)
	}
}
