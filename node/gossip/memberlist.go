// Package gossip is the failure detector of a real network: cluster.Gossip over memberlist.
package gossip

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"dynamo/node/cluster"
)

// How fast failures are noticed: with these a crash is seen in 2 to 5 seconds and a healed partition in 2 to 6.
const (
	probeEvery       = 500 * time.Millisecond
	probeTimeout     = 200 * time.Millisecond
	suspicionMult    = 3
	suspicionMaxMult = 2
	gossipEvery      = 100 * time.Millisecond
	pushPullEvery    = 5 * time.Second
	gossipToTheDead  = 5 * time.Minute
	// reclaimAfter lets a dead member come back at another address.
	reclaimAfter  = 2 * time.Second
	streamTimeout = 3 * time.Second
	// rejoinEvery is the pause between two attempts to reach members that are not heard. Gossip alone would forget them,
	// and two halves of a healed partition would never meet.
	rejoinEvery = 2 * time.Second
	// rejoinAtOnce bounds how many of them are tried at the same time.
	rejoinAtOnce = 8
	// leaveTimeout bounds how long Close waits for the others to hear that this node goes.
	leaveTimeout = 400 * time.Millisecond
	// retransmitMult scales how often a digest is sent.
	retransmitMult = 3
)

// Memberlist is Gossip over github.com/hashicorp/memberlist (SWIM with Lifeguard), one UDP and one TCP port. It carries
// the digest of the metadata, never the metadata.
//
// Facts about the library that matter here: it draws from the global source of math/rand (whom to probe and when), so
// that nothing above it can be replayed from a seed - simulations bring a Gossip of their own; its packets are not
// protected against replay, so that a recorded packet can revive an old opinion for a few seconds, which requests then
// correct; it does not wait for its own goroutines when it shuts down, hence the gate in front of cluster.Events; and it calls
// its delegates under its lock, so that these must not call back.
type Memberlist struct {
	o         cluster.GossipOptions
	log       *slog.Logger
	rare      *cluster.Limiter
	list      *memberlist.Memberlist
	transport *gossipTransport
	queue     memberlist.TransmitLimitedQueue
	digest    atomic.Pointer[[32]byte]
	running   atomic.Bool
	// heard counts the nodes that are alive, this one included.
	heard atomic.Int64

	// gate lets events through while the gossip is open; Close shuts it and so waits for those under way.
	gate struct {
		sync.RWMutex
		open   bool
		events cluster.Events
	}
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
}

var _ cluster.Gossip = (*Memberlist)(nil)

// NewMemberlist returns a Gossip that does nothing yet.
func NewMemberlist(o cluster.GossipOptions) *Memberlist {
	m := &Memberlist{o: o, log: o.Logger.With("part", "gossip"), rare: cluster.NewLimiter(o.Now, cluster.WarnEvery)}
	m.ctx, m.stop = context.WithCancel(context.Background())
	m.transport = newGossipTransport(m.ctx, o.Self, o.Now, m.log, m.rare)
	m.queue = memberlist.TransmitLimitedQueue{RetransmitMult: retransmitMult, NumNodes: func() int { return int(m.heard.Load()) }}
	return m
}

// Start implements Gossip.
func (m *Memberlist) Start(e cluster.Events) error {
	host, port, err := resolve(m.ctx, m.o.Bind)
	if err != nil {
		return fmt.Errorf("gossip address %s: %w", m.o.Bind, err)
	}
	logger := newLibraryLog(m.log, m.rare, m.o.Now)
	if err := m.transport.listen(host, port, logger); err != nil {
		return err
	}
	port = m.transport.GetAutoBindPort() // another one if it was 0
	m.gate.Lock()
	m.gate.open, m.gate.events = true, e
	m.gate.Unlock()

	c := memberlist.DefaultLANConfig()
	c.Name, c.Transport, c.Logger, c.LogOutput = m.o.Self, m.transport, logger, nil
	c.BindAddr, c.BindPort = host, port
	if ip := net.ParseIP(host); !ip.IsUnspecified() {
		c.AdvertiseAddr = host
	}
	c.AdvertisePort = port
	c.Label = clusterLabel(m.o.Cluster)
	if m.o.Secret != "" {
		c.SecretKey = gossipKey(m.o.Cluster, m.o.Secret)
	}
	c.ProbeInterval, c.ProbeTimeout = probeEvery, probeTimeout
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = suspicionMult, suspicionMaxMult
	c.GossipInterval, c.GossipToTheDeadTime = gossipEvery, gossipToTheDead
	c.PushPullInterval, c.TCPTimeout, c.DeadNodeReclaimTime = pushPullEvery, streamTimeout, reclaimAfter
	c.EnableCompression = false
	hooks := delegate{m}
	c.Delegate, c.Events, c.Alive, c.Merge, c.Conflict = hooks, hooks, hooks, hooks, hooks
	c.DelegateProtocolVersion, c.DelegateProtocolMin, c.DelegateProtocolMax = 1, 1, 1
	list, err := memberlist.Create(c)
	if err != nil {
		m.shut()
		return errors.Join(fmt.Errorf("gossip on %s: %w", m.o.Bind, err), m.transport.Shutdown())
	}
	m.list = list
	m.running.Store(true)
	m.wg.Go(m.rejoin)
	return nil
}

// Close implements Gossip. It tells the other nodes that this one goes, so that they need not find out.
func (m *Memberlist) Close() error {
	m.stop()
	m.wg.Wait()
	if !m.running.CompareAndSwap(true, false) {
		return nil
	}
	if err := m.list.Leave(leaveTimeout); err != nil {
		m.log.Debug("nobody was told that this node leaves", "err", err)
	}
	m.shut()
	return m.list.Shutdown()
}

// shut closes the gate.
func (m *Memberlist) shut() {
	m.gate.Lock()
	m.gate.open = false
	m.gate.Unlock()
}

// report lets f report an event.
func (m *Memberlist) report(id string, f func(e cluster.Events)) {
	m.gate.RLock()
	defer m.gate.RUnlock()
	if m.gate.open && id != m.o.Self {
		f(m.gate.events)
	}
}

// SetDigest implements Gossip.
func (m *Memberlist) SetDigest(digest [32]byte) {
	m.digest.Store(&digest)
	m.queue.QueueBroadcast(broadcast(encodeDigest(m.o.Self, digest)))
}

// Block is fault injection: nothing goes to or comes from the gossip addresses of these nodes until the next call.
func (m *Memberlist) Block(ids []string) {
	blocked := blockade{names: make(map[string]bool), addresses: make(map[string]bool)}
	seeds := m.o.Seeds()
	for _, id := range ids {
		blocked.names[id] = true
		if a, err := net.ResolveUDPAddr("udp", seeds[id]); err == nil {
			blocked.addresses[a.String()] = true
		}
	}
	m.transport.blocked.Store(&blocked)
}

// rejoin tries to reach the members that are not heard.
func (m *Memberlist) rejoin() {
	for {
		missing := m.o.Seeds()
		delete(missing, m.o.Self)
		alive := m.list.Members()
		m.heard.Store(int64(len(alive)))
		for _, n := range alive {
			delete(missing, n.Name)
		}
		var wg sync.WaitGroup
		slots := make(chan struct{}, rejoinAtOnce)
		for id, address := range missing {
			slots <- struct{}{}
			wg.Go(func() { m.join(id, address); <-slots })
		}
		wg.Wait()
		timer := time.NewTimer(rejoinEvery)
		select {
		case <-m.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func (m *Memberlist) join(id, address string) {
	// The library looks names up in ways of its own (TCP, type ANY); it gets an IP address.
	host, port, err := resolve(m.ctx, address)
	if err == nil {
		_, err = m.list.Join([]string{id + "/" + net.JoinHostPort(host, fmt.Sprint(port))})
	}
	if err == nil || m.ctx.Err() != nil {
		return
	}
	reason := oneLine(err)
	if secretMismatch(reason) {
		if m.rare.Allow("secret " + id) {
			m.log.Error("a member does not have this cluster's secret, gossip with it is refused", "member", id, "address", address, "err", reason)
		}
		return
	}
	if m.rare.Allow("join " + id) {
		m.log.Info("a member cannot be reached by gossip yet, it will be tried again", "member", id, "address", address, "err", reason)
	}
}

// oneLine flattens the library's lists of errors.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// resolve splits host:port and looks up the host, preferring IPv4: all nodes must come to the same address.
func resolve(ctx context.Context, address string) (host string, port int, err error) {
	name, service, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err = net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return "", 0, err
	}
	switch {
	case name == "":
		return net.IPv4zero.String(), port, nil
	case net.ParseIP(name) != nil:
		return name, port, nil
	}
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return "", 0, err
	}
	best := ips[0]
	for _, ip := range ips {
		if ip.Unmap().Is4() {
			best = ip
			break
		}
	}
	return best.Unmap().String(), port, nil
}

// labelPrefix precedes the cluster's name in the label of each packet and stream.
const labelPrefix = "dynamo/1/"

// clusterLabel marks everything that is gossiped, so that other clusters drop it unread and can say whose it was.
func clusterLabel(name string) string { return labelPrefix + name }

// gossipKey derives the AES-256 key.
func gossipKey(cluster, secret string) []byte {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte("dynamo gossip\x00" + cluster))
	return h.Sum(nil)
}

// metaFormat and digestFormat start what nodes tell about themselves and their digests.
const (
	metaFormat   = 1
	digestFormat = 1
)

// nodeMeta is what a node tells about its cluster: format byte, 8 bytes of the SHA-256 of the name, Q in 4 bytes.
func nodeMeta(name string, partitions int) []byte {
	sum := sha256.Sum256([]byte(name))
	b := append([]byte{metaFormat}, sum[:8]...)
	return binary.BigEndian.AppendUint32(b, uint32(partitions))
}

// checkMeta returns nil if a node is of this cluster, else the reason why not.
func checkMeta(meta []byte, name string, partitions int) error {
	want := nodeMeta(name, partitions)
	switch {
	case len(meta) < len(want) || meta[0] != metaFormat:
		return fmt.Errorf("%w: it does not say which", cluster.ErrForeign)
	case string(meta[1:9]) != string(want[1:9]):
		return fmt.Errorf("%w: another name", cluster.ErrForeign)
	case string(meta[9:13]) != string(want[9:13]):
		return fmt.Errorf("%w: it has %d partitions, this one %d", cluster.ErrForeign, binary.BigEndian.Uint32(meta[9:13]), partitions)
	}
	return nil
}

// encodeDigest is the message with a node's digest: format byte, length of the id, id, digest.
func encodeDigest(id string, digest [32]byte) []byte {
	b := append([]byte{digestFormat, byte(len(id))}, id...)
	return append(b, digest[:]...)
}

// decodeDigest is the inverse of encodeDigest.
func decodeDigest(b []byte) (id string, digest [32]byte, ok bool) {
	if len(b) < 2 || b[0] != digestFormat || len(b) != 2+int(b[1])+len(digest) {
		return "", digest, false
	}
	return string(b[2 : 2+b[1]]), [32]byte(b[2+b[1]:]), true
}

// broadcast is a digest on its way; the latest replaces those before.
type broadcast []byte

// Invalidates implements memberlist.Broadcast.
func (broadcast) Invalidates(memberlist.Broadcast) bool { return true }

// Message implements memberlist.Broadcast.
func (b broadcast) Message() []byte { return b }

// Finished implements memberlist.Broadcast.
func (broadcast) Finished() {}

// delegate is what the library calls; see there for the meaning of its methods.
type delegate struct{ m *Memberlist }

// NodeMeta implements memberlist.Delegate.
func (d delegate) NodeMeta(int) []byte { return nodeMeta(d.m.o.Cluster, d.m.o.Partitions) }

// NotifyMsg implements memberlist.Delegate.
func (d delegate) NotifyMsg(b []byte) {
	if id, digest, ok := decodeDigest(b); ok {
		d.m.report(id, func(e cluster.Events) { e.Digest(id, digest) })
	}
}

// GetBroadcasts implements memberlist.Delegate.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.m.queue.GetBroadcasts(overhead, limit)
}

// LocalState implements memberlist.Delegate.
func (d delegate) LocalState(bool) []byte {
	digest := d.m.digest.Load()
	if digest == nil {
		return nil
	}
	return encodeDigest(d.m.o.Self, *digest)
}

// MergeRemoteState implements memberlist.Delegate.
func (d delegate) MergeRemoteState(b []byte, _ bool) { d.NotifyMsg(b) }

// NotifyJoin implements memberlist.EventDelegate.
func (d delegate) NotifyJoin(n *memberlist.Node) {
	id := n.Name
	d.m.report(id, func(e cluster.Events) {
		d.m.log.Info("member is heard", "member", id)
		e.Up(id)
	})
}

// NotifyLeave implements memberlist.EventDelegate.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	id := n.Name
	d.m.report(id, func(e cluster.Events) {
		d.m.log.Info("member is not heard any more", "member", id)
		e.Down(id)
	})
}

// NotifyUpdate implements memberlist.EventDelegate.
func (d delegate) NotifyUpdate(*memberlist.Node) {}

// NotifyAlive implements memberlist.AliveDelegate: strangers are not gossiped with.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	err := checkMeta(n.Meta, d.m.o.Cluster, d.m.o.Partitions)
	if err != nil && d.m.rare.Allow("alive "+n.Address()) {
		d.m.log.Error("a node that is not of this cluster is refused", "node", n.Name, "address", n.Address(), "err", err)
	}
	return err
}

// NotifyMerge implements memberlist.MergeDelegate: what strangers know is not taken over.
func (d delegate) NotifyMerge(nodes []*memberlist.Node) error {
	for _, n := range nodes {
		if err := d.NotifyAlive(n); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
	}
	return nil
}

// NotifyConflict implements memberlist.ConflictDelegate.
func (d delegate) NotifyConflict(known, other *memberlist.Node) {
	if d.m.rare.Allow("conflict " + known.Name) {
		d.m.log.Error("two nodes go by the same id, or one moved without its cluster file", "node", known.Name,
			"known_at", known.Address(), "refused_at", other.Address())
	}
}
