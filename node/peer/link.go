package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// linkKey names one of the up to two connections by which this node calls another: bulk keeps long
// messages out of the way of short ones.
type linkKey struct {
	node string
	bulk bool
}

// link dials on demand and holds the connection.
type link struct {
	t    *TCP
	node string
	// At most one of conn, dial and err is there: a connection, the attempt at one that all callers
	// share, or why the last attempt failed, for as long as the pause (resume) lasts.
	mu struct {
		sync.Mutex
		conn   *clientConn
		dial   *dial
		err    error
		resume *time.Timer
		pause  time.Duration
		closed bool
	}
}

// dial is one attempt; conn and err are set before done is closed.
type dial struct {
	done chan struct{}
	conn *clientConn
	err  error
}

// connect returns the connection, if need be after dialling. ctx bounds the wait, not the dial, which
// others may be waiting for.
func (l *link) connect(ctx context.Context) (*clientConn, error) {
	l.mu.Lock()
	if l.mu.conn != nil {
		if c := l.mu.conn; c.alive() {
			l.mu.Unlock()
			return c, nil
		}
		l.mu.conn = nil
	}
	if err := l.mu.err; err != nil {
		l.mu.Unlock()
		return nil, err
	}
	d := l.mu.dial
	if d == nil {
		d = &dial{done: make(chan struct{})}
		l.mu.dial = d
		if !l.t.group.start(func() { l.attempt(d) }) {
			l.mu.dial = nil
			l.mu.Unlock()
			return nil, &UnreachableError{Node: l.node, Cause: ErrClosed}
		}
	}
	l.mu.Unlock()
	select {
	case <-d.done:
		return d.conn, d.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *link) attempt(d *dial) {
	l.t.counters.dials.Add(1)
	d.conn, d.err = l.dial()
	l.mu.Lock()
	defer l.mu.Unlock()
	defer close(d.done)
	l.mu.dial = nil
	if d.err == nil {
		l.mu.conn, l.mu.pause = d.conn, 0
		return
	}
	l.t.counters.dialFailures.Add(1)
	if l.mu.closed {
		return
	}
	l.mu.pause = min(2*max(l.mu.pause, l.t.o.MinBackoff), l.t.o.MaxBackoff)
	l.mu.err = d.err
	l.mu.resume = time.AfterFunc(l.jitter(l.mu.pause), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.mu.err = nil
	})
}

// jitter draws from the upper half of d, so that nodes do not dial a returning one in step.
func (l *link) jitter(d time.Duration) time.Duration {
	var b [8]byte
	if _, err := io.ReadFull(&l.t.rand, b[:]); err != nil {
		return d
	}
	return d/2 + time.Duration(binary.BigEndian.Uint64(b[:])%uint64(d/2+1))
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.closed = true
	if l.mu.resume != nil {
		l.mu.resume.Stop()
	}
}

// dial connects, shakes hands and starts the connection's two goroutines. Errors match
// ErrUnreachable.
func (l *link) dial() (*clientConn, error) {
	c, err := l.handshake()
	if err == nil {
		return c, nil
	}
	if l.t.dispatcher.ctx.Err() != nil {
		err = ErrClosed
	}
	if r, ok := errors.AsType[*Refused](err); ok {
		// Calls are for the node by the name that the caller knows.
		return nil, &Refused{Node: l.node, Reason: r.Reason, Stale: r.Stale, ByPeer: r.ByPeer}
	}
	return nil, &UnreachableError{Node: l.node, Cause: err}
}

func (l *link) handshake() (*clientConn, error) {
	t := l.t
	ctx, cancel := context.WithTimeout(t.dispatcher.ctx, t.o.DialTimeout)
	defer cancel()
	if t.isBlocked(l.node) {
		<-ctx.Done()
		return nil, errBlocked
	}
	addr, ok := t.o.Address(l.node)
	if !ok {
		return nil, errors.New("its address is not known")
	}
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if !t.own(nc, l.node) {
		nc.Close()
		return nil, errBlocked
	}
	h := t.newHandshake(nc)
	h.other.Node = l.node
	guard := time.AfterFunc(t.o.HandshakeTimeout, func() { nc.Close() })
	err = h.dial(l.node, &t.rand)
	if !guard.Stop() && (err == nil || errors.Is(err, net.ErrClosed)) {
		err = fmt.Errorf("no handshake within %v", t.o.HandshakeTimeout)
	}
	if err != nil {
		t.failed(h, err)
		t.disown(nc)
		return nil, err
	}
	c := newClientConn(newLine(t, h))
	if !t.group.start(func() { c.write(t.o.SilenceTimeout/6, c.watch()) }) {
		t.disown(nc)
		return nil, ErrClosed
	}
	if !t.group.start(func() { l.run(c) }) {
		c.close(ErrClosed)
		t.disown(nc)
		return nil, ErrClosed
	}
	return c, nil
}

// run reads replies until the connection is gone.
func (l *link) run(c *clientConn) {
	l.t.counters.connsOut.Add(1)
	defer l.t.counters.connsOut.Add(-1)
	c.read()
	l.t.disown(c.nc.Conn)
}
