// Package sim runs whole clusters of real nodes in one process: on virtual time when it is called in a
// bubble of testing/synctest, over a memory network with faults, on a file system that loses what was
// not synced. The nodes are those of package node, down to the bytes on the disk; what is replaced
// comes in through node.Seams.
package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"dynamo/node"
	"dynamo/node/cluster"
	"dynamo/node/config"
	"dynamo/node/peer"
	"dynamo/resolver"
)

// Options describe a simulated cluster. Config, Logger and Now are required.
type Options struct {
	// Config is the cluster file; its addresses are names only.
	Config *config.Cluster
	// Seed determines every random choice of the simulation.
	Seed   uint64
	Logger *slog.Logger
	// Now is the clock of all nodes.
	Now func() time.Time
	// ModuleCache is a directory for compiled modules, shared with other simulations.
	ModuleCache string
	// Builtins are the ready-made resolver modules by name [none].
	Builtins func(name string) ([]byte, bool)
	// Engine runs the resolver modules [this process].
	Engine resolver.Engine
	// LawRounds bounds the law checks of the nodes [as in node.Options].
	LawRounds int
	// PauseNetworkOnly lets the disk of a paused node go on: where a log is changed by another one under a lock, the others
	// that wait for that lock keep the virtual time of testing/synctest from passing.
	PauseNetworkOnly bool
	// Fatal is told of a failure after which a node must not go on; it must not block [a line in the log].
	Fatal func(id string, err error)
}

// Cluster is a simulated cluster. It belongs to one goroutine, but for Node; the nodes run on their own.
type Cluster struct {
	o       Options
	rng     *rand.ChaCha8
	Network *peer.Network
	air     *air
	disks   map[string]*drive
	clocks  map[string]*clock
	// mu guards the nodes that run, so that clients may look one up at any time.
	mu struct {
		sync.RWMutex
		nodes map[string]*node.Node
	}
}

// New returns a cluster with all nodes down.
func New(o Options) *Cluster {
	if o.Fatal == nil {
		o.Fatal = func(id string, err error) { o.Logger.Error("node must stop", "node", id, "err", err) }
	}
	var seed [32]byte
	for i := range 8 {
		seed[i] = byte(o.Seed >> (8 * i))
	}
	rng := rand.NewChaCha8(seed)
	c := &Cluster{
		o: o, rng: rng, air: newAir(),
		Network: peer.NewNetwork(peer.NetworkOptions{Rand: fork(rng), Logger: o.Logger, Now: o.Now}),
		disks:   make(map[string]*drive), clocks: make(map[string]*clock),
	}
	c.mu.nodes = make(map[string]*node.Node)
	for _, n := range o.Config.Nodes {
		c.disks[n.ID], c.clocks[n.ID] = newDrive(vfs.NewCrashableMem()), &clock{base: o.Now}
	}
	return c
}

// fork draws an independent source, so that parts do not disturb each other's sequence.
func fork(r *rand.ChaCha8) io.Reader {
	var seed [32]byte
	_, _ = r.Read(seed[:]) // never fails
	return rand.NewChaCha8(seed)
}

// Start boots a node from its disk and waits until it is ready.
func (c *Cluster) Start(ctx context.Context, id string) error {
	if err := c.Boot(ctx, id); err != nil {
		return err
	}
	select {
	case <-c.Node(id).Ready():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Boot boots a node from its disk and does not wait until it is ready: it may never be, alone.
func (c *Cluster) Boot(ctx context.Context, id string) error { return c.boot(ctx, id, false) }

func (c *Cluster) open(ctx context.Context, id string, reset bool) (*node.Node, error) {
	if c.Node(id) != nil {
		return nil, fmt.Errorf("sim: node %s is running", id)
	}
	c.disks[id] = c.disks[id].alive()
	disk := c.disks[id]
	// The process would be gone, but one that is still booting says so itself, and closes what it has opened.
	var booted, dies atomic.Bool
	fatal := func(err error) {
		var refused *peer.Refused
		if !errors.Is(err, cluster.ErrStaleIdentity) && !errors.As(err, &refused) { // with these the disk has nothing to do: it can be closed
			dies.Store(true)
			if booted.Load() {
				disk.die()
			}
		}
		c.o.Fatal(id, err)
	}
	n, err := node.Open(ctx, node.Options{
		Cluster: c.o.Config, ID: id, Logger: c.o.Logger, ResetUnusable: reset, Fatal: fatal,
		Builtins: c.o.Builtins, LawRounds: c.o.LawRounds,
		Seams: node.Seams{
			Now: c.clocks[id].now, Rand: &lockedReader{r: fork(c.rng)}, FS: disk, ModuleCache: c.o.ModuleCache, Engine: c.o.Engine,
			Listen: func(string) (net.Listener, error) { return nil, nil },
			Transport: func(p peer.Options) (node.Transport, error) {
				return c.Network.Attach(p.Hello, p.Handler, p.Admit), nil
			},
			Gossip: func(m cluster.GossipOptions) cluster.Gossip { return c.air.station(m.Self) },
		},
	})
	if err != nil {
		if dies.Load() {
			c.abandon(id)
		}
		return nil, fmt.Errorf("sim: start %s: %w", id, err)
	}
	if booted.Store(true); dies.Load() {
		disk.die()
	}
	return n, nil
}

// StartAll boots every node that is down and waits until all are ready.
func (c *Cluster) StartAll(ctx context.Context) error {
	for _, n := range c.o.Config.Nodes {
		if c.Node(n.ID) == nil {
			if err := c.Boot(ctx, n.ID); err != nil {
				return err
			}
		}
	}
	for _, n := range c.o.Config.Nodes {
		select {
		case <-c.Node(n.ID).Ready():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Node returns a running node, nil if it is down. It may be called from any goroutine.
func (c *Cluster) Node(id string) *node.Node {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.mu.nodes[id]
}

// Crash takes the power from a node: of what it had not synced, the given percentage survives, in
// pieces. Start boots it again. A pause ends with it.
func (c *Cluster) Crash(ctx context.Context, id string, unsyncedPercent int) error {
	before := c.disks[id]
	c.Network.Kill(id) // before the disk is as it will be: what it acknowledges from now on is not there
	after := before.replaced(before.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsyncedPercent, RNG: c.dice()}))
	err := c.stop(ctx, id)
	before.die()
	c.disks[id] = after
	return err
}

// Stop shuts a node down in good order. If it fails, that is a power loss: a database that failed keeps its lock.
func (c *Cluster) Stop(ctx context.Context, id string) error {
	err := c.stop(ctx, id)
	if err != nil {
		c.abandon(id)
	}
	return err
}

// abandon leaves the disk of a node to a database that cannot be closed, and gives the node what its power loss would.
func (c *Cluster) abandon(id string) {
	before := c.disks[id]
	c.disks[id] = before.replaced(before.CrashClone(vfs.CrashCloneCfg{}))
	before.die()
}

func (c *Cluster) stop(ctx context.Context, id string) error {
	c.mu.Lock()
	n := c.mu.nodes[id]
	delete(c.mu.nodes, id)
	c.mu.Unlock()
	if n == nil {
		return nil
	}
	c.disks[id].release()
	err := n.Close(ctx)
	c.Resume(id)
	return err
}

// Wipe empties the disk of a node that is down.
func (c *Cluster) Wipe(id string) {
	c.disks[id] = c.disks[id].replaced(vfs.NewCrashableMem())
}

// Backup copies the disk of a node that is down.
func (c *Cluster) Backup(id string) *vfs.MemFS {
	return c.disks[id].CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0})
}

// Restore puts a copy made by Backup in the place of a node's disk.
func (c *Cluster) Restore(id string, backup *vfs.MemFS) {
	c.disks[id] = c.disks[id].replaced(backup)
}

// Link is a way through the network, in one direction.
type Link struct{ From, To string }

// Cut parts the network, on top of what is cut already: nodes of different groups do not hear each other.
func (c *Cluster) Cut(groups ...[]string) {
	for i, g := range groups {
		for _, h := range groups[i+1:] {
			for _, a := range g {
				for _, b := range h {
					c.CutLinks(Link{a, b}, Link{b, a})
				}
			}
		}
	}
}

// CutLinks swallows all that goes these ways, on top of what is cut already.
func (c *Cluster) CutLinks(links ...Link) {
	for _, l := range links {
		c.Network.CutOneWay(l.From, l.To)
	}
	c.air.cut(links)
}

// Heal undoes all cuts.
func (c *Cluster) Heal() {
	c.Network.Heal()
	c.air.heal()
}

// Close stops all nodes.
func (c *Cluster) Close(ctx context.Context) error {
	var errs []error
	for _, n := range c.o.Config.Nodes {
		errs = append(errs, c.stop(ctx, n.ID))
	}
	return errors.Join(errs...)
}

// Config returns a cluster file of n nodes in zones of their own names, for simulations.
func Config(n, partitions int, keyspaces ...config.Keyspace) *config.Cluster {
	c := &config.Cluster{
		Name: "sim", Partitions: partitions, Replication: config.Majority(min(3, n)), Limits: config.DefaultLimits(), Insecure: true,
		Keyspaces: keyspaces,
	}
	for i := range n {
		id := fmt.Sprintf("n%d", i+1)
		c.Nodes = append(c.Nodes, config.Node{
			ID: id, Zone: string(rune('a' + i%3)), Weight: 1, HTTP: id + ":1", Peer: id + ":2", Gossip: id + ":3", Data: "/" + id,
		})
	}
	return c
}

// lockedReader lets several goroutines of one node draw.
type lockedReader struct {
	mu sync.Mutex
	r  io.Reader
}

// Read implements io.Reader.
func (l *lockedReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(p)
}

// air is a failure detector without packets: every node hears every other that runs and is not cut off,
// with the delay that gossip would have.
type air struct {
	// mu guards stations and cuts. Invariant: stations holds those that are started and not closed.
	mu struct {
		sync.Mutex
		stations map[string]*station
		cuts     map[Link]bool
		paused   map[string]bool
	}
}

func newAir() *air {
	a := &air{}
	a.mu.stations, a.mu.cuts = make(map[string]*station), make(map[Link]bool)
	a.mu.paused = make(map[string]bool)
	return a
}

func (a *air) cut(links []Link) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range links {
		a.mu.cuts[l] = true
	}
}

func (a *air) pause(id string, paused bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.paused[id] = paused
}

func (a *air) heal() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.mu.cuts)
}

// hears reports whether to hears from, which a failure detector that probes does only if both ways are open; a.mu is
// held.
func (a *air) hears(from, to string) bool {
	return a.mu.stations[from] != nil && !a.mu.cuts[Link{from, to}] && !a.mu.cuts[Link{to, from}] && !a.mu.paused[from] && !a.mu.paused[to]
}

func (a *air) station(id string) *station {
	return &station{air: a, id: id, heard: make(map[string]bool), stop: make(chan struct{})}
}

// station is one node's end of the air.
type station struct {
	air    *air
	id     string
	events cluster.Events
	heard  map[string]bool
	stop   chan struct{}
	wg     sync.WaitGroup
	digest [32]byte // guarded by air.mu
}

// hearEvery is how often a station listens; an odd number of nanoseconds keeps it off other timers.
const hearEvery = 500*time.Millisecond + 7

// Start implements cluster.Gossip.
func (s *station) Start(e cluster.Events) error {
	s.events = e
	s.air.mu.Lock()
	s.air.mu.stations[s.id] = s
	s.air.mu.Unlock()
	s.wg.Go(s.listen)
	return nil
}

// SetDigest implements cluster.Gossip.
func (s *station) SetDigest(d [32]byte) {
	s.air.mu.Lock()
	defer s.air.mu.Unlock()
	s.digest = d
}

// Close implements cluster.Gossip.
func (s *station) Close() error {
	s.air.mu.Lock()
	if s.air.mu.stations[s.id] == s {
		delete(s.air.mu.stations, s.id)
	}
	s.air.mu.Unlock()
	close(s.stop)
	s.wg.Wait()
	return nil
}

func (s *station) listen() {
	t := time.NewTicker(hearEvery)
	defer t.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
			s.round()
		}
	}
}

// round reports what changed since the last one.
func (s *station) round() {
	s.air.mu.Lock()
	now := make(map[string][32]byte)
	for id, other := range s.air.mu.stations {
		if id != s.id && s.air.hears(id, s.id) {
			now[id] = other.digest
		}
	}
	s.air.mu.Unlock()
	for id, d := range now {
		if !s.heard[id] {
			s.heard[id] = true
			s.events.Up(id)
		}
		s.events.Digest(id, d)
	}
	for id := range s.heard {
		if _, ok := now[id]; !ok {
			delete(s.heard, id)
			s.events.Down(id)
		}
	}
}
