package gossip

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"dynamo/node/cluster"
)

// gossiper is a Memberlist and what it reported.
type gossiper struct {
	*Memberlist
	logs logs
	mu   struct {
		sync.Mutex
		up      map[string]bool
		digests map[string][32]byte
	}
}

func (g *gossiper) isUp(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.up[id]
}

func (g *gossiper) digestOf(id string) [32]byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.digests[id]
}

func (g *gossiper) set(id string, up bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.up[id] = up
}

// network are gossip addresses on loopback by id.
type network map[string]string

// newNetwork reserves an address for each of n1, n2, ...
func newNetwork(t *testing.T, n int) network {
	t.Helper()
	net := make(network)
	for i := range n {
		net[fmt.Sprintf("n%d", i+1)] = freeAddress(t)
	}
	return net
}

// freeAddress finds a port that is free for TCP and UDP.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		u, err := net.ListenPacket("udp", l.Addr().String())
		if err := errors.Join(err, l.Close()); err != nil {
			continue
		}
		address := u.LocalAddr().String()
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		return address
	}
	t.Fatal("no free port")
	return ""
}

// start starts the gossip of a node; change may alter its options.
func (n network) start(t *testing.T, id string, change func(*cluster.GossipOptions)) *gossiper {
	t.Helper()
	g := &gossiper{}
	g.mu.up, g.mu.digests = make(map[string]bool), make(map[string][32]byte)
	o := cluster.GossipOptions{
		Self: id, Bind: n[id], Cluster: "demo", Partitions: 16, Secret: "secret",
		Seeds: func() map[string]string {
			out := make(map[string]string)
			maps.Copy(out, n)
			return out
		},
		Logger: slog.New(slog.NewTextHandler(&g.logs, nil)), Now: time.Now,
	}
	if change != nil {
		change(&o)
	}
	g.Memberlist = NewMemberlist(o)
	g.SetDigest([32]byte{1})
	err := g.Start(cluster.Events{
		Up: func(id string) { g.set(id, true) }, Down: func(id string) { g.set(id, false) },
		Digest: func(id string, d [32]byte) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.mu.digests[id] = d
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	return g
}

// crash stops a node without a word.
func (g *gossiper) crash() {
	g.stop()
	g.wg.Wait()
	g.shut()
	g.running.Store(false)
	_ = g.list.Shutdown()
}

func TestMemberlistSeesCrashAndReturn(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 3)
	a, b, c := n.start(t, "n1", nil), n.start(t, "n2", nil), n.start(t, "n3", nil)
	within(t, 8*time.Second, "all hear each other", func() bool {
		return a.isUp("n2") && a.isUp("n3") && b.isUp("n1") && b.isUp("n3") && c.isUp("n1") && c.isUp("n2")
	})
	a.SetDigest([32]byte{42})
	within(t, 8*time.Second, "the digest gets around", func() bool { return b.digestOf("n1")[0] == 42 && c.digestOf("n1")[0] == 42 })
	start := time.Now()
	c.crash()
	within(t, 10*time.Second, "the crash is seen", func() bool { return !a.isUp("n3") && !b.isUp("n3") })
	t.Logf("crash seen after %v", time.Since(start))
	start = time.Now()
	c = n.start(t, "n3", nil)
	within(t, 10*time.Second, "the return is seen", func() bool {
		return a.isUp("n3") && b.isUp("n3") && c.isUp("n1") && c.isUp("n2")
	})
	t.Logf("return seen after %v", time.Since(start))
	start = time.Now()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("Close took %v", d)
	}
	within(t, 2*time.Second, "who leaves is gone at once", func() bool { return !a.isUp("n2") && !c.isUp("n2") })
	if b.isUp("n2") || a.isUp("n1") {
		t.Error("a node reports itself")
	}
}

func TestMemberlistBlock(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 3)
	a, b, c := n.start(t, "n1", nil), n.start(t, "n2", nil), n.start(t, "n3", nil)
	all := func() bool {
		return a.isUp("n2") && a.isUp("n3") && b.isUp("n1") && b.isUp("n3") && c.isUp("n1") && c.isUp("n2")
	}
	within(t, 8*time.Second, "all hear each other", all)
	start := time.Now()
	a.Block([]string{"n2", "n3"})
	within(t, 12*time.Second, "n1 is cut off", func() bool {
		return !a.isUp("n2") && !a.isUp("n3") && !b.isUp("n1") && !c.isUp("n1")
	})
	t.Logf("cut seen after %v", time.Since(start))
	if !b.isUp("n3") || !c.isUp("n2") {
		t.Error("the others lost each other")
	}
	start = time.Now()
	a.Block(nil)
	within(t, 12*time.Second, "all hear each other again", all)
	t.Logf("heal seen after %v", time.Since(start))
}

// Strangers are refused with a line that says why, once and not with each packet.
func TestMemberlistRefusesStrangers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*cluster.GossipOptions)
		// lines of which either side must show one
		want []string
	}{
		"another cluster":  {func(o *cluster.GossipOptions) { o.Cluster = "shop" }, []string{"gossip of another cluster is refused", "cluster=shop"}},
		"another Q":        {func(o *cluster.GossipOptions) { o.Partitions = 64 }, []string{"a node that is not of this cluster is refused", "it has 64 partitions, this one 16"}},
		"another secret":   {func(o *cluster.GossipOptions) { o.Secret = "guess" }, []string{"gossip packet that this cluster's secret cannot open"}},
		"no secret":        {func(o *cluster.GossipOptions) { o.Secret = "" }, []string{"gossip packet that this cluster's secret cannot open"}},
		"no node whatever": {nil, []string{"connection to the gossip port was refused, it is not from a node"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, 2)
			a := n.start(t, "n1", nil)
			if c.change == nil {
				conn, err := net.Dial("tcp", n["n1"])
				if err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
			} else {
				b := n.start(t, "n2", c.change)
				defer func() {
					if a.isUp("n2") || b.isUp("n1") {
						t.Error("they hear each other")
					}
					if strings.Contains(name, "secret") {
						within(t, 8*time.Second, "the other side says so too", func() bool { return b.logs.count("level=ERROR", "secret") > 0 })
					}
				}()
			}
			within(t, 8*time.Second, "it is refused", func() bool { return a.logs.count(c.want...) > 0 })
			if got := a.logs.count(c.want...); got != 1 {
				t.Errorf("%d lines:\n%s", got, &a.logs)
			}
		})
	}
}

// Packets of strangers, however many, are one line in the log and nothing else.
func TestMemberlistRefusesPackets(t *testing.T) {
	t.Parallel()
	const secret, cluster = "gossip packet that this cluster's secret cannot open", "gossip of another cluster is refused"
	for name, c := range map[string]struct{ label, line, next, lineOfNext string }{
		"secret":  {clusterLabel("demo"), secret, clusterLabel("shop"), cluster},
		"cluster": {clusterLabel("shop"), cluster, clusterLabel("demo"), secret},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, 1)
			a := n.start(t, "n1", nil)
			u, err := net.Dial("udp", n["n1"])
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			send := func(label string) {
				t.Helper()
				packet := append([]byte{244, byte(len(label))}, label...)
				if _, err := u.Write(append(packet, make([]byte, 64)...)); err != nil {
					t.Fatal(err)
				}
			}
			for range 20 {
				send(c.label)
			}
			send(c.next) // packets of one socket come in order: once this one is seen, the others were
			within(t, 5*time.Second, "it is refused", func() bool { return a.logs.count(c.lineOfNext, u.LocalAddr().String()) > 0 })
			if got := a.logs.count(c.line, u.LocalAddr().String()); got != 1 {
				t.Errorf("%d lines:\n%s", got, &a.logs)
			}
		})
	}
}

func TestMemberlistPortInUse(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, 1)
	n.start(t, "n1", nil)
	m := NewMemberlist(cluster.GossipOptions{
		Self: "n2", Bind: n["n1"], Cluster: "demo", Partitions: 16, Seeds: func() map[string]string { return nil },
		Logger: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	if err := m.Start(cluster.Events{}); err == nil {
		t.Error("two nodes on one port")
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func TestLibraryLog(t *testing.T) {
	t.Parallel()
	var l logs
	now := time.Unix(0, 0)
	rare := cluster.NewLimiter(func() time.Time { return now }, cluster.WarnEvery)
	lib := newLibraryLog(l.logger(), rare, func() time.Time { return now })
	for i := range 3 {
		lib.Printf("[ERR] memberlist: Failed to send gossip to 10.0.0.%d:7301: no route", i)
		lib.Printf("[DEBUG] memberlist: Stream connection from=10.0.0.1:%d", i)
		lib.Printf("[ERR] memberlist: discarding packet with unacceptable label \"dynamo/1/shop\": from=10.0.0.1:%d", 7000+i)
	}
	if l.count("level=WARN", "Failed to send gossip") != 1 || l.count("Stream") != 0 || l.count("cluster=shop", "remote=10.0.0.1:7000") != 1 {
		t.Error(&l)
	}
	lib.Printf("[ERR] memberlist: discarding packet with unacceptable label \"dynamo/1/shop\": from=10.0.0.2:1")
	now = now.Add(cluster.WarnEvery)
	lib.Printf("[ERR] memberlist: discarding packet with unacceptable label \"other\": from=10.0.0.1:9")
	if l.count("cluster=shop") != 2 || l.count("cluster=unknown") != 1 {
		t.Error(&l)
	}
}
