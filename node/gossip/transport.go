package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"dynamo/node/cluster"
)

// Every stream between nodes begins with who opens it: streamFormat, the length of the id, the id. It is not
// authenticated and decides nothing but whether fault injection has cut that node off: streams come from ports that say
// nothing.
const (
	streamFormat = 0xD1
	// introduceTimeout bounds how long the other side may take to say it, maxStrangers how many may be at it.
	introduceTimeout = time.Second
	maxStrangers     = 64
)

var errBlocked = errors.New("cut off by fault injection")

// blockade are the nodes that fault injection has cut off.
type blockade struct{ names, addresses map[string]bool }

func (b *blockade) has(name, address string) bool {
	return b != nil && (b.names[name] || b.addresses[address])
}

// gossipTransport is the library's network transport, with a blockade and with streams that end when the gossip does.
type gossipTransport struct {
	*memberlist.NetTransport
	self    string
	now     func() time.Time
	log     *slog.Logger
	rare    *cluster.Limiter
	blocked atomic.Pointer[blockade]
	packets chan *memberlist.Packet
	streams chan net.Conn
	// gossip ends when the gossip is closed: streams that this node opened end with it.
	gossip context.Context
	// While the transport shuts down, what comes in is thrown away (closing) until nothing can come in (closed).
	closing, closed chan struct{}
	once            sync.Once
	wg              sync.WaitGroup
}

var _ memberlist.NodeAwareTransport = (*gossipTransport)(nil)

func newGossipTransport(gossip context.Context, self string, now func() time.Time, l *slog.Logger, rare *cluster.Limiter) *gossipTransport {
	return &gossipTransport{
		self: self, now: now, log: l, rare: rare, gossip: gossip,
		packets: make(chan *memberlist.Packet), streams: make(chan net.Conn),
		closing: make(chan struct{}), closed: make(chan struct{}),
	}
}

// listen opens the ports.
func (t *gossipTransport) listen(host string, port int, l *log.Logger) error {
	nt, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{host}, BindPort: port, Logger: l})
	if err != nil {
		return err
	}
	t.NetTransport = nt
	t.wg.Go(t.receivePackets)
	t.wg.Go(t.receiveStreams)
	return nil
}

// PacketCh implements memberlist.Transport.
func (t *gossipTransport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *gossipTransport) StreamCh() <-chan net.Conn { return t.streams }

func (t *gossipTransport) receivePackets() {
	for {
		select {
		case <-t.closed:
			return
		case p := <-t.NetTransport.PacketCh():
			if t.blocked.Load().has("", p.From.String()) {
				continue
			}
			select {
			case <-t.closing:
			case t.packets <- p:
			}
		}
	}
}

func (t *gossipTransport) receiveStreams() {
	slots := make(chan struct{}, maxStrangers)
	for {
		select {
		case <-t.closed:
			return
		case c := <-t.NetTransport.StreamCh():
			select {
			case slots <- struct{}{}:
				t.wg.Go(func() { t.receiveStream(c); <-slots })
			default:
				_ = c.Close() // too many at once; whoever it was tries again
			}
		}
	}
}

// receiveStream hands a stream over once the other side has introduced itself.
func (t *gossipTransport) receiveStream(c net.Conn) {
	// A timer and not a deadline: deadlines are of the wall clock, which this package does not read.
	expire := time.AfterFunc(introduceTimeout, func() { _ = c.Close() })
	name, err := readIntroduction(c)
	if !expire.Stop() || err != nil {
		_ = c.Close()
		if err != nil && t.rare.Allow("introduction "+hostOf(c.RemoteAddr().String())) {
			t.log.Warn("a connection to the gossip port was refused, it is not from a node", "remote", c.RemoteAddr().String(), "err", err)
		}
		return
	}
	if t.blocked.Load().has(name, "") {
		_ = c.Close()
		return
	}
	select {
	case t.streams <- c:
	case <-t.closing:
		_ = c.Close()
	}
}

func introduction(self string) []byte { return append([]byte{streamFormat, byte(len(self))}, self...) }

func readIntroduction(r io.Reader) (string, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", err
	}
	if head[0] != streamFormat {
		return "", fmt.Errorf("it begins with %#x", head[0])
	}
	name := make([]byte, head[1])
	_, err := io.ReadFull(r, name)
	return string(name), err
}

// WriteToAddress implements memberlist.NodeAwareTransport. A packet to a blocked node is lost, as it would be.
func (t *gossipTransport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if t.blocked.Load().has(a.Name, a.Addr) {
		return t.now(), nil
	}
	return t.NetTransport.WriteToAddress(b, a)
}

// WriteTo implements memberlist.Transport.
func (t *gossipTransport) WriteTo(b []byte, addr string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// DialTimeout implements memberlist.Transport.
func (t *gossipTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *gossipTransport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if t.blocked.Load().has(a.Name, a.Addr) {
		return nil, errBlocked
	}
	ctx, cancel := context.WithTimeout(t.gossip, timeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", a.Addr)
	if err != nil {
		return nil, err
	}
	if _, err := c.Write(introduction(t.self)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &gossipStream{Conn: c, release: context.AfterFunc(t.gossip, func() { _ = c.Close() })}, nil
}

// Shutdown implements memberlist.Transport. The listeners go first, and to the end somebody takes what they hand over:
// they would wait for it.
func (t *gossipTransport) Shutdown() error {
	var err error
	t.once.Do(func() {
		close(t.closing)
		err = t.NetTransport.Shutdown()
		close(t.closed)
		t.wg.Wait()
	})
	return err
}

// gossipStream is a stream that this node opened.
type gossipStream struct {
	net.Conn
	release func() bool
}

// Close implements net.Conn.
func (s *gossipStream) Close() error {
	s.release()
	return s.Conn.Close()
}
