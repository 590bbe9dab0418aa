package peer

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"dynamo/node/wire"
)

// Options are what a TCP transport is made of. Zero limits take the default in brackets.
type Options struct {
	// Listener accepts the connections of other nodes; if it is nil, Addr is listened on.
	Listener net.Listener
	Addr     string
	// Hello is asked at every handshake, so that an identity can change while the node runs. Its Node
	// must not. Required.
	Hello func() Hello
	// Secret is what the nodes of a cluster share. Empty: whoever reaches the port may take part.
	Secret string
	// Address says where a node listens, asked at every dial. Required.
	Address func(node string) (string, bool)
	// Handler answers requests. Required.
	Handler Handler
	// Admit may refuse a node that has proved to know the secret; its error is told to the other side.
	// If the error has a method Stale() bool that says true, the other side learns that its identity is
	// an old copy. Called from many goroutines; nil admits all.
	Admit func(Hello) error
	// OnRefused is told of every refusal by another node, whichever side dialled; nil: nobody. It must
	// return soon, and not call Close, which waits for it.
	OnRefused func(*Refused)
	Logger    *slog.Logger
	// Rand gives nonces and jitter [crypto/rand]. It need not be safe for concurrent use.
	Rand io.Reader
	// Now spaces log lines out [time.Now].
	Now func() time.Time

	// MaxFrameBytes bounds a message [80 MiB]. Smaller than the largest object: that object cannot be
	// replicated.
	MaxFrameBytes int
	// MaxInflight bounds the requests of one connection that wait for an answer [1024], on both ends,
	// and the calls of the node to itself; MaxInflightBytes [256 MiB] the memory of those being
	// answered. Beyond: CodeOverloaded.
	MaxInflight      int
	MaxInflightBytes int64
	// DialTimeout bounds the TCP connect [500 ms], HandshakeTimeout what follows [2 s].
	DialTimeout, HandshakeTimeout time.Duration
	// MinBackoff and MaxBackoff [100 ms, 1 s] bound the pause after a failed dial, in which calls fail
	// at once.
	MinBackoff, MaxBackoff time.Duration
	// SilenceTimeout is how long a connection on which answers are owed may say nothing [6 s]; a ping
	// is sent at half of it.
	SilenceTimeout time.Duration
	// StallTimeout is how long the other side may take no bytes [6 s].
	StallTimeout time.Duration
	// MaxRequestTime bounds requests that came without a deadline [60 s].
	MaxRequestTime time.Duration
}

func orElse[T comparable](v *T, byDefault T) {
	var zero T
	if *v == zero {
		*v = byDefault
	}
}

func (o *Options) complete() error {
	orElse(&o.MaxFrameBytes, 80<<20)
	orElse(&o.MaxInflight, 1024)
	orElse(&o.MaxInflightBytes, 256<<20)
	orElse(&o.DialTimeout, 500*time.Millisecond)
	orElse(&o.HandshakeTimeout, 2*time.Second)
	orElse(&o.MinBackoff, 100*time.Millisecond)
	orElse(&o.MaxBackoff, time.Second)
	orElse(&o.SilenceTimeout, 6*time.Second)
	orElse(&o.StallTimeout, 6*time.Second)
	orElse(&o.MaxRequestTime, time.Minute)
	orElse(&o.Logger, slog.New(slog.DiscardHandler))
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Admit == nil {
		o.Admit = func(Hello) error { return nil }
	}
	switch {
	case o.Hello == nil || o.Address == nil || o.Handler == nil:
		return errors.New("peer: Options need Hello, Address and Handler")
	case o.MaxFrameBytes < maxRecordBytes || o.MaxInflight < 1 || o.MaxInflightBytes < 1:
		return errors.New("peer: a limit of the Options is too small")
	case o.MinBackoff > o.MaxBackoff:
		return errors.New("peer: MinBackoff is larger than MaxBackoff")
	}
	return nil
}

// TCP is the transport of real clusters. It is safe for concurrent use.
type TCP struct {
	o          Options
	self       string
	listener   net.Listener
	key        []byte
	group      group
	counters   counters
	dispatcher dispatcher
	buffers    buffers
	refusals   quiet
	pauses     pauses
	rand       lockedReader
	// shaking counts handshakes of connections that others have dialled.
	shaking atomic.Int64
	stop    context.CancelFunc

	// Every open connection is in conns, with the node at its far end once that is known. None is added
	// after closed is set, nor one to or from a blocked node.
	mu struct {
		sync.Mutex
		closed  bool
		conns   map[net.Conn]string
		blocked map[string]bool
		links   map[linkKey]*link
	}
}

// maxShaking bounds connections that have not yet proved anything.
const maxShaking = 128

// Listen starts a transport. It fails if the Options are not complete or the address cannot be
// listened on.
func Listen(o Options) (*TCP, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	l := o.Listener
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", o.Addr); err != nil {
			return nil, fmt.Errorf("peer: %w", err)
		}
	}
	t := &TCP{o: o, self: o.Hello().Node, listener: l, key: handshakeKey(o.Secret)}
	t.refusals.now, t.pauses.now = o.Now, o.Now
	t.rand.r = o.Rand
	ctx, stop := context.WithCancel(context.Background())
	t.stop = stop
	t.dispatcher = dispatcher{
		handler: o.Handler, logger: o.Logger, counters: &t.counters, group: &t.group,
		ctx: ctx, longest: o.MaxRequestTime, maxLocal: int64(o.MaxInflight),
	}
	t.mu.conns = map[net.Conn]string{}
	t.mu.links = map[linkKey]*link{}
	t.group.start(t.accept)
	t.group.start(t.beat)
	return t, nil
}

// Addr is where it listens.
func (t *TCP) Addr() net.Addr { return t.listener.Addr() }

// Stats returns a snapshot of the counters.
func (t *TCP) Stats() Stats { return t.counters.stats() }

// Close breaks all connections, ends the contexts of the requests being handled and waits for them.
// Waiting calls fail with ErrUnreachable. It may be called more than once.
func (t *TCP) Close() error {
	first := t.group.close()
	var err error
	if first {
		err = t.listener.Close()
		t.mu.Lock()
		t.mu.closed = true
		for nc := range t.mu.conns {
			nc.Close()
		}
		links := t.mu.links
		t.mu.links = nil
		t.mu.Unlock()
		for _, l := range links {
			l.close()
		}
	}
	// Only now, so that no answer of an interrupted handler gets out.
	t.stop()
	t.group.wg.Wait()
	return err
}

// Call implements Transport. A node that cannot be dialled fails calls at once for a pause of
// MinBackoff to MaxBackoff after each attempt; one that is being dialled lets them wait together.
func (t *TCP) Call(ctx context.Context, node string, m wire.Message) (wire.Message, error) {
	t.counters.calls.Add(1)
	reply, err := t.call(ctx, node, m)
	if err != nil {
		t.counters.failures.Add(1)
	}
	return reply, err
}

func (t *TCP) call(ctx context.Context, node string, m wire.Message) (wire.Message, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if node == t.self {
		return t.dispatcher.loopback(ctx, node, m)
	}
	l := t.link(linkKey{node, bulk(m)})
	if l == nil {
		return nil, &UnreachableError{Node: node, Cause: ErrClosed}
	}
	c, err := l.connect(ctx)
	if err != nil {
		return nil, err
	}
	return c.call(ctx, m)
}

func (t *TCP) link(k linkKey) *link {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.mu.links[k]
	if l == nil && !t.mu.closed {
		l = &link{t: t, node: k.node}
		t.mu.links[k] = l
	}
	return l
}

// Block is fault injection: until the next call, nothing goes to or comes from the nodes listed.
// Connections with them break at once, dials to them fail after DialTimeout like those into a cut
// network, and their handshakes get no answer. Block(nil) heals.
func (t *TCP) Block(nodes []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.blocked = map[string]bool{}
	for _, n := range nodes {
		t.mu.blocked[n] = true
	}
	for nc, node := range t.mu.conns {
		if t.mu.blocked[node] {
			nc.Close()
		}
	}
}

func (t *TCP) isBlocked(node string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.blocked[node]
}

// own takes a connection into the care of t, or names its far end. False: it must be closed.
func (t *TCP) own(nc net.Conn, node string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closed || t.mu.blocked[node] {
		return false
	}
	t.mu.conns[nc] = node
	return true
}

func (t *TCP) disown(nc net.Conn) {
	nc.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mu.conns, nc)
}

// beat keeps watch on this process's own clock.
func (t *TCP) beat() {
	clock := time.NewTicker(beatEvery)
	defer clock.Stop()
	for {
		t.pauses.tick()
		select {
		case <-clock.C:
		case <-t.dispatcher.ctx.Done():
			return
		}
	}
}

func (t *TCP) accept() {
	for {
		nc, err := t.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed) || (err != nil && t.dispatcher.ctx.Err() != nil):
			return
		case err != nil:
			// Out of file descriptors, most likely: wait for some to come back.
			t.o.Logger.Error("cannot accept peer connections", "err", err)
			select {
			case <-time.After(t.o.MinBackoff):
			case <-t.dispatcher.ctx.Done():
				return
			}
		case t.shaking.Add(1) > maxShaking || !t.own(nc, ""):
			t.shaking.Add(-1)
			nc.Close()
		case !t.group.start(func() { t.serve(nc) }):
			t.disown(nc)
			return
		}
	}
}

// serve is the life of a connection that another node dialled.
func (t *TCP) serve(nc net.Conn) {
	defer t.disown(nc)
	h := t.newHandshake(nc)
	guard := time.AfterFunc(t.o.HandshakeTimeout, func() { nc.Close() })
	err := h.accept(&t.rand)
	t.shaking.Add(-1)
	if !guard.Stop() && err == nil {
		return
	}
	if err != nil {
		t.failed(h, err)
		return
	}
	if !t.own(nc, h.other.Node) {
		return
	}
	t.counters.connsIn.Add(1)
	defer t.counters.connsIn.Add(-1)
	s := &serverConn{line: newLine(t, h)}
	if !t.group.start(func() { s.write(time.Hour, func() {}) }) {
		return
	}
	s.read()
	s.close(errHungUp)
}

func (t *TCP) newHandshake(nc net.Conn) *handshake {
	if tcp, ok := nc.(*net.TCPConn); ok {
		// For the side that only answers: it has no other way to learn that the far end is gone. Where it
		// cannot be set, the connection lives on the system's defaults.
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 3 * time.Second, Count: 3})
	}
	m := &meter{Conn: nc}
	return &handshake{
		conn: m, r: bufio.NewReaderSize(m, connBufferBytes), key: t.key,
		self: t.o.Hello(), admit: t.o.Admit, blocked: t.isBlocked,
	}
}

// failed accounts for a handshake that came to nothing, with one line per remote and minute.
func (t *TCP) failed(h *handshake, err error) {
	addr := h.conn.RemoteAddr().String()
	host, _, splitErr := net.SplitHostPort(addr)
	if splitErr != nil {
		host = addr
	}
	r, refused := errors.AsType[*Refused](err)
	if refused {
		t.counters.refused.Add(1)
	}
	if errors.Is(err, errBlocked) || t.dispatcher.ctx.Err() != nil {
		return
	}
	node := h.other.Node
	allowed := t.refusals.allow(host + "\x00" + node)
	switch {
	case refused && allowed && r.ByPeer:
		t.o.Logger.Warn(fmt.Sprintf("refused by peer %s (%s): %s", orUnknown(node), addr, r.Reason), "stale", r.Stale)
	case refused && allowed:
		t.o.Logger.Warn(fmt.Sprintf("refused peer %s (%s): %s", orUnknown(node), addr, r.Reason))
	case allowed && !errors.Is(err, io.EOF):
		t.o.Logger.Warn(fmt.Sprintf("peer handshake with %s (%s) failed: %v", orUnknown(node), addr, err))
	}
	if refused && r.ByPeer && t.o.OnRefused != nil {
		t.o.OnRefused(r)
	}
}

func orUnknown(node string) string {
	if node == "" {
		return "unknown"
	}
	return node
}

// lockedReader makes a random source safe for concurrent use.
type lockedReader struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *lockedReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(p)
}
