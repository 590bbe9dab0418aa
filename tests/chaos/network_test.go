package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"dynamo/client"
)

// network is where the nodes live and how it breaks. It is used by one goroutine at a time.
type network interface {
	// addresses are HTTP, peer and gossip of each node.
	addresses() [][3]string
	command(s *server, name string, args ...string) *exec.Cmd
	// cut loses everything that goes from one node to another, in this direction only if oneWay says that it can.
	cut(ctx context.Context, from, to *server) error
	// restore breaks again for a node that has started anew what is broken for it.
	restore(ctx context.Context, s *server) error
	heal(ctx context.Context) error
	// oneWay says whether a cut can be of one direction.
	oneWay() bool
	close()
}

// newNetwork takes network namespaces if it is to, and loopback with the nodes' own fault injection otherwise.
func newNetwork(t testing.TB, c *cluster, n int) network {
	t.Helper()
	if *networkFlag != "loopback" {
		ns, err := newNamespaces(n)
		if err == nil {
			return ns
		}
		if *networkFlag == "netns" {
			t.Fatal(err)
		}
		t.Logf("no network namespaces here, so the nodes cut themselves off: %v", err)
	}
	l := &loopback{c: c, cuts: map[string][]string{}}
	for a := range slices.Chunk(freePorts(t, 3*n), 3) {
		l.address = append(l.address, [3]string(a))
	}
	return l
}

// freePorts returns loopback addresses that nobody listens on now.
func freePorts(t testing.TB, n int) []string {
	t.Helper()
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() //nolint:errcheck // a probe
		out = append(out, l.Addr().String())
	}
	return out
}

// loopback cuts by PUT /v1/debug/cut.
type loopback struct {
	c       *cluster
	address [][3]string
	cuts    map[string][]string // by the node that ignores the others
}

func (l *loopback) addresses() [][3]string { return l.address }
func (l *loopback) oneWay() bool           { return false }
func (l *loopback) close()                 {}

func (l *loopback) command(_ *server, name string, args ...string) *exec.Cmd {
	return exec.Command(name, args...)
}

func (l *loopback) cut(ctx context.Context, from, to *server) error {
	l.cuts[from.id] = append(l.cuts[from.id], to.id)
	return l.restore(ctx, from)
}

func (l *loopback) restore(ctx context.Context, s *server) error {
	if !s.running() || s.paused {
		return nil // it will be told when it is back
	}
	nodes := l.cuts[s.id]
	if nodes == nil {
		nodes = []string{}
	}
	body, err := json.Marshal(map[string][]string{"nodes": nodes})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return await(ctx, 20*time.Second, func(ctx context.Context) error {
		_, err := s.client.Do(ctx, client.Request{Method: http.MethodPut, Path: client.Path("debug", "cut"), Body: body})
		if err != nil {
			return fmt.Errorf("cut %s off: %w", s.id, err)
		}
		return nil
	})
}

func (l *loopback) heal(ctx context.Context) error {
	clear(l.cuts)
	for _, s := range l.c.servers {
		if err := l.restore(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// namespaces gives each node a network namespace of its own, all on one bridge. A cut makes a node send to an address
// of the link layer that nobody has: packets vanish in one direction, and nobody is told.
type namespaces struct {
	prefix, bridge string
	n              int
	cuts           [][2]string // namespace, address
}

const nobody = "02:00:00:00:00:01"

func newNamespaces(n int) (*namespaces, error) {
	pid := os.Getpid()
	ns := &namespaces{prefix: fmt.Sprintf("dyn%d-", pid), bridge: fmt.Sprintf("dynbr%d", pid), n: n}
	if err := ns.setUp(); err != nil {
		ns.close()
		return nil, err
	}
	return ns, nil
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (ns *namespaces) host(i int) string {
	return fmt.Sprintf("10.213.%d.%d", os.Getpid()%250, i+1)
}

// outside is the end of a node's link that hangs on the bridge.
func (ns *namespaces) outside(i int) string { return fmt.Sprintf("dy%dx%d", os.Getpid(), i+1) }

func (ns *namespaces) name(i int) string { return fmt.Sprintf("%s%d", ns.prefix, i+1) }

func (ns *namespaces) setUp() error {
	steps := [][]string{
		{"link", "add", ns.bridge, "type", "bridge"},
		{"addr", "add", ns.host(253) + "/24", "dev", ns.bridge},
		{"link", "set", ns.bridge, "up"},
	}
	for i := range ns.n {
		outside, inside := ns.outside(i), "eth0"
		name := ns.name(i)
		steps = append(
			steps, []string{"netns", "add", name},
			[]string{"link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name},
			[]string{"link", "set", outside, "master", ns.bridge, "up"},
			[]string{"-n", name, "addr", "add", ns.host(i) + "/24", "dev", inside},
			[]string{"-n", name, "link", "set", inside, "up"},
			[]string{"-n", name, "link", "set", "lo", "up"},
		)
	}
	for _, s := range steps {
		if err := ip(s...); err != nil {
			return err
		}
	}
	return nil
}

func (ns *namespaces) addresses() [][3]string {
	var out [][3]string
	for i := range ns.n {
		out = append(out, [3]string{ns.host(i) + ":7101", ns.host(i) + ":7201", ns.host(i) + ":7301"})
	}
	return out
}

func (ns *namespaces) index(s *server) int {
	return slices.IndexFunc(ns.addresses(), func(a [3]string) bool { return a[0] == s.http })
}

func (ns *namespaces) command(s *server, name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", ns.name(ns.index(s)), name}, args...)...)
}

func (ns *namespaces) cut(_ context.Context, from, to *server) error {
	c := [2]string{ns.name(ns.index(from)), ns.host(ns.index(to))}
	if slices.Contains(ns.cuts, c) {
		return nil
	}
	ns.cuts = append(ns.cuts, c)
	return ip("-n", c[0], "neigh", "replace", c[1], "lladdr", nobody, "dev", "eth0", "nud", "permanent")
}

func (ns *namespaces) restore(context.Context, *server) error { return nil }

func (ns *namespaces) heal(context.Context) error {
	for _, c := range ns.cuts {
		if err := ip("-n", c[0], "neigh", "del", c[1], "dev", "eth0"); err != nil {
			return err
		}
	}
	ns.cuts = nil
	return nil
}

func (ns *namespaces) oneWay() bool { return true }

func (ns *namespaces) close() {
	for i := range ns.n {
		_ = ip("link", "del", ns.outside(i)) // at once; that of the namespace takes its time
		_ = ip("netns", "del", ns.name(i))
	}
	_ = ip("link", "del", ns.bridge)
}
