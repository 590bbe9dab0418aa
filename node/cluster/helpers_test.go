package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"dynamo/node/config"
)

// file is a cluster of n nodes n1, n2, ... with 16 partitions.
func file(n int) *config.Cluster {
	c := &config.Cluster{
		Name: "demo", Partitions: 16, Replication: config.Majority(min(n, 3)), Limits: config.DefaultLimits(),
	}
	for i := range n {
		c.Nodes = append(c.Nodes, config.Node{
			ID: fmt.Sprintf("n%d", i+1), Zone: string(rune('a' + i)), Weight: 1,
			HTTP: fmt.Sprintf("127.0.0.1:%d", 7101+i), Peer: fmt.Sprintf("127.0.0.1:%d", 7201+i),
			Gossip: fmt.Sprintf("127.0.0.1:%d", 7301+i),
		})
	}
	return c
}

// logs captures log lines.
type logs struct {
	mu struct {
		sync.Mutex
		b bytes.Buffer
	}
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.b.String()
}

// count returns how many lines contain all parts.
func (l *logs) count(parts ...string) int {
	n := 0
	for line := range strings.Lines(l.String()) {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			n++
		}
	}
	return n
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// disk keeps what Save stores.
type disk struct {
	mu struct {
		sync.Mutex
		b     []byte
		saves int
		fail  error
	}
}

func (d *disk) load() ([]byte, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.mu.b), d.mu.b != nil, nil
}

func (d *disk) save(b []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.fail != nil {
		return d.mu.fail
	}
	d.mu.b = bytes.Clone(b)
	d.mu.saves++
	return nil
}

func (d *disk) breakDown(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.fail = err
}

// fakeGossip reports what tests say, and digests to all others of its hub at once.
type fakeGossip struct {
	hub    *hub
	id     string
	events Events
	set    [][32]byte
}

func (g *fakeGossip) Start(e Events) error { g.hub.add(g, e); return nil }
func (g *fakeGossip) Close() error         { g.hub.remove(g); return nil }
func (g *fakeGossip) SetDigest(d [32]byte) { g.hub.tell(g, d) }

var errCut = errors.New("cut")

// hub is a network of States in memory.
type hub struct {
	mu struct {
		sync.Mutex
		gossips map[string]*fakeGossip
		states  map[string]*State
		away    map[string]bool
		calls   int
	}
}

func newHub() *hub {
	h := &hub{}
	h.mu.gossips, h.mu.states, h.mu.away = make(map[string]*fakeGossip), make(map[string]*State), make(map[string]bool)
	return h
}

func (h *hub) add(g *fakeGossip, e Events) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g.events = e
	h.mu.gossips[g.id] = g
}

func (h *hub) remove(g *fakeGossip) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.mu.gossips, g.id)
	delete(h.mu.states, g.id)
}

func (h *hub) tell(from *fakeGossip, d [32]byte) {
	h.mu.Lock()
	from.set = append(from.set, d)
	var to []Events
	for id, g := range h.mu.gossips {
		if id != from.id && !h.mu.away[id] && !h.mu.away[from.id] {
			to = append(to, g.events)
		}
	}
	h.mu.Unlock()
	for _, e := range to {
		e.Digest(from.id, d)
	}
}

func (h *hub) setAway(id string, away bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.away[id] = away
}

// exchange is the Exchange of node from.
func (h *hub) exchange(from string) func(context.Context, string, [32]byte, []byte) ([32]byte, []byte, error) {
	return func(_ context.Context, node string, digest [32]byte, state []byte) ([32]byte, []byte, error) {
		h.mu.Lock()
		s, cut := h.mu.states[node], h.mu.away[node] || h.mu.away[from]
		h.mu.calls++
		h.mu.Unlock()
		if s == nil || cut {
			return [32]byte{}, nil, errCut
		}
		return s.Sync(digest, state)
	}
}

// open starts node id on that disk.
func (h *hub) open(t *testing.T, id string, f *config.Cluster, d *disk, l *logs) *State {
	t.Helper()
	s, err := Open(h.options(id, f, d, l))
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	h.mu.states[id] = s
	h.mu.Unlock()
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (h *hub) options(id string, f *config.Cluster, d *disk, l *logs) Options {
	return Options{
		Self: id, File: f, Load: d.load, Save: d.save, Gossip: &fakeGossip{hub: h, id: id}, Exchange: h.exchange(id),
		Now: time.Now, Logger: l.logger(),
	}
}

// alone opens n1 of f without anybody to talk to.
func alone(t *testing.T, f *config.Cluster, d *disk) *State {
	t.Helper()
	l := &logs{}
	s, err := Open(Options{Self: "n1", File: f, Load: d.load, Save: d.save, Now: time.Now, Logger: l.logger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func keyspace(name string) Keyspace {
	return Keyspace{
		Name: name, N: 3, R: 2, W: 2, Conflict: config.PolicySiblings, Durability: config.DurabilitySync, MaxValueBytes: 1 << 20,
	}
}

// silent is an Exchange with a node that takes everything and says nothing.
func silent(ctx context.Context, _ string, _ [32]byte, _ []byte) ([32]byte, []byte, error) {
	<-ctx.Done()
	return [32]byte{}, nil, ctx.Err()
}

// pass lets virtual time pass.
func pass(d time.Duration) { <-time.After(d) }
