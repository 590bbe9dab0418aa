package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"dynamo/node/api"
	"dynamo/node/causal"
	"dynamo/node/cluster"
	"dynamo/node/config"
	"dynamo/node/conflict"
	"dynamo/node/coordinator"
	"dynamo/node/merkle"
	"dynamo/node/peer"
	"dynamo/node/repair"
	"dynamo/node/replica"
	"dynamo/node/ring"
	"dynamo/node/store"
	"dynamo/node/versions"
	"dynamo/node/wire"
	"dynamo/resolver"
)

// Node is one running node. Close it.
type Node struct {
	o    Options
	self config.Node
	log  *slog.Logger
	// nonce tells this process from a clone that started from the same disk.
	nonce [16]byte

	store       *store.Store
	runtime     *resolver.Runtime
	settler     *conflict.Settler
	state       *cluster.State
	gossip      cluster.Gossip
	transport   Transport
	flights     *replica.Flights
	replica     *replica.Replica
	coordinator *coordinator.Coordinator
	resolvers   *versions.Resolvers
	repairer    *repair.Repairer
	mender      *repair.Mender
	api         *api.Server

	// serving is set once all parts above are: before that, peers are told to come back.
	serving atomic.Bool
	// connected is set once state and transport are: gossip and metadata begin to call before that.
	connected atomic.Bool
	ready     chan struct{}
	fatal     sync.Once

	ctx     context.Context
	stop    context.CancelFunc
	wg      sync.WaitGroup
	changed chan struct{}
	// closers undo Open in reverse order.
	closers []func(context.Context) error
}

// Open starts a node: recipe top to bottom, undone in reverse by Close. It returns as soon as the node
// answers HTTP; Ready tells when it can coordinate.
func Open(ctx context.Context, o Options) (*Node, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	self, _ := o.Cluster.Node(o.ID)
	if err := o.Cluster.CheckExposure(self); err != nil {
		return nil, err
	}
	n := &Node{
		o: o, self: self, log: o.Logger.With("node", o.ID),
		ready: make(chan struct{}), changed: make(chan struct{}, 1),
	}
	n.ctx, n.stop = context.WithCancel(context.Background())
	if _, err := io.ReadFull(o.Rand, n.nonce[:]); err != nil {
		return nil, fmt.Errorf("node: random source: %w", err)
	}
	for _, step := range []func() error{
		n.openStore, n.openResolvers, n.openCluster, n.openPeers, n.openRequests, n.openHTTP,
	} {
		if err := step(); err != nil {
			return nil, errors.Join(err, n.Close(ctx))
		}
	}
	n.serving.Store(true)
	n.wg.Go(n.becomeReady)
	n.wg.Go(n.followMetadata)
	n.wg.Go(n.watchLaws)
	return n, nil
}

// Ready is closed once the node has joined its ring and can coordinate.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Close stops the node gracefully: the door first, the disk last. It may be called once.
func (n *Node) Close(ctx context.Context) error {
	n.stop()
	n.wg.Wait()
	var errs []error
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i](ctx))
	}
	n.closers = nil
	return errors.Join(errs...)
}

func (n *Node) onClose(f func(context.Context) error) { n.closers = append(n.closers, f) }

// die reports a failure after which the node must not go on.
func (n *Node) die(err error) { n.fatal.Do(func() { n.o.Fatal(err) }) }

// Requests is the coordinator of this node, for programs that run a node inside of them.
func (n *Node) Requests() *coordinator.Coordinator { return n.coordinator }

// Resolvers is the administration of resolvers on this node, for programs that run a node inside of them.
func (n *Node) Resolvers() *versions.Resolvers { return n.resolvers }

func (n *Node) openStore() error {
	s, err := store.Open(n.storeOptions())
	if err != nil {
		return err
	}
	n.store = s
	n.onClose(func(context.Context) error { return s.Close() })
	id := s.Identity()
	n.log.Info("disk opened", "dir", n.self.Data, "disk", id.Node, "incarnation", id.Incarnation, "boot", id.Boot, "clean", s.CleanBoot())
	return nil
}

func (n *Node) openResolvers() error {
	o := resolver.Options{
		Limits: versions.ResolverLimits(n.o.Cluster.Limits), Logger: n.log, Now: n.o.Now, CacheDir: n.moduleCache(),
		Verdicts: verdicts{n.store}, Engine: n.o.Engine,
	}
	if len(n.o.CompileCommand) > 0 {
		o.Trial = &resolver.Trial{Command: n.o.CompileCommand}
	}
	rt, err := resolver.New(o)
	if err != nil {
		return fmt.Errorf("resolver runtime: %w", err)
	}
	n.runtime = rt
	n.onClose(rt.Close)
	n.settler = conflict.New(conflict.Options{
		Keeper: quarantines{n.store}, Patience: mergePatience, Timeout: n.o.Cluster.Limits.ResolverTimeout,
		Runtime: rt, ViewBytes: int(n.o.Cluster.Limits.ViewCacheBytes), Logger: n.log, Now: n.o.Now,
		Fetch: func(ctx context.Context, sha [32]byte) ([]byte, error) { return n.resolvers.Fetch(ctx, sha) },
	})
	n.onClose(n.settler.Close)
	return nil
}

// moduleCache is where machine code is kept, so that a restart does not compile every module again. Whoever
// can write there can write the database beside it, too.
func (n *Node) moduleCache() string {
	if n.o.ModuleCache != "" || n.o.FS != nil {
		return n.o.ModuleCache
	}
	return filepath.Join(n.self.Data, "compiled")
}

// metaCluster is the name under which the disk keeps the cluster's metadata.
const metaCluster = "cluster"

func (n *Node) openCluster() error {
	c := n.o.Cluster
	n.gossip = n.o.Gossip(cluster.GossipOptions{
		Self: n.o.ID, Bind: n.self.Gossip, Cluster: c.Name, Partitions: c.Partitions, Secret: c.Secret,
		Seeds: n.gossipSeeds, Logger: n.log, Now: n.o.Now,
	})
	s, err := cluster.Open(cluster.Options{
		Self: n.o.ID, File: c, Gossip: n.gossip, Exchange: n.exchange, Probe: n.probe, Now: n.o.Now, Rand: n.o.Rand, Logger: n.log,
		Load:     func() ([]byte, bool, error) { return n.store.Meta(metaCluster) },
		Save:     func(b []byte) error { return n.store.PutMeta(metaCluster, b) },
		OnChange: func(*cluster.View) { n.metadataChanged() },
	})
	if err != nil {
		return err
	}
	n.state = s
	n.onClose(func(context.Context) error { return s.Close() })
	return nil
}

func (n *Node) openPeers() error {
	n.flights = replica.NewFlights(uint64(n.o.Now().UnixMicro()))
	t, err := n.o.Transport(peer.Options{
		Addr: n.self.Peer, Hello: n.hello, Secret: n.o.Cluster.Secret, Address: n.peerAddress, Handler: n,
		Admit: n.admit, OnRefused: n.refused, Logger: n.log, Rand: n.o.Rand, Now: n.o.Now,
		MaxBackoff: peerMaxBackoff, SilenceTimeout: peerSilence, MaxInflightBytes: peerInflightBytes,
	})
	if err != nil {
		return err
	}
	n.transport = guarded{t, n}
	n.connected.Store(true)
	n.onClose(func(context.Context) error { return t.Close() })
	return nil
}

func (n *Node) openRequests() error {
	limits := n.o.Cluster.Limits
	n.replica = replica.New(replica.Options{
		Self: n.o.ID, Store: n.store, Trees: n.store, Flights: n.flights, Settler: n.settler, View: n.state.View,
		Limits: limits, Now: n.o.Now, Logger: n.log, Room: n.room,
		Unsure: func() bool { return n.repairer.Unsure() },
	})
	n.openMender()
	n.repairer = repair.Start(repair.Options{
		Self: n.o.ID, Transport: n.transport, Hints: n.store, Flights: n.flights, Reachable: n.state.Reachable, KeyspaceName: n.keyspaceName,
		Trees: n.store, Copies: n.replica, Checker: n.store, Merger: n.settler, View: n.state.View,
		Unclean: !n.store.CleanBoot(), SettleAfter: limits.SettleAfter, Now: n.o.Now, Draw: n.draw,
		Throttle:        repair.ThrottleOptions{Most: repairMost, Least: repairLeast, Goal: foregroundGoal, Every: time.Second, Now: n.o.Now},
		KeyspaceDropped: n.keyspaceDropped, Member: n.isMember, Primaries: n.primaries, HintMaxAge: limits.HintMaxAge,
		Local: func(ctx context.Context, t wire.Target, o causal.Object) error {
			return n.replica.Apply(ctx, t, o, "", store.Sync)
		},
		HandoffEvery: handoffEvery, CallTimeout: limits.RequestTimeout, QueueLength: repairQueue, Logger: n.log,
	})
	n.onClose(func(context.Context) error { n.repairer.Close(); return nil })
	n.coordinator = coordinator.New(coordinator.Settings{
		Self: n.o.ID, Members: n.state, Transport: n.transport, Local: n.replica, Settler: n.settler, Flights: n.flights,
		Tokens: causal.NewTokenKey(n.o.Cluster.Name, n.o.Cluster.Secret), Limits: limits,
		Stale: n.repairer.Stale, Foreground: n.repairer.Foreground, Now: n.o.Now, Logger: n.log,
	})
	n.onClose(func(context.Context) error { n.coordinator.Close(); return nil })
	n.resolvers = versions.New(versions.Settings{
		Self: n.o.ID, Catalog: n.state, Bindings: n.state, Members: n.state, Transport: n.transport, Modules: n.store,
		Settler: n.settler, Limits: limits, Builtins: n.o.Builtins, BuiltinNames: n.o.BuiltinNames, Laws: n.checkLaws, Certificate: n.certificate, Logger: n.log,
		Now: n.o.Now,
	})
	return nil
}

func (n *Node) openHTTP() error {
	l, err := n.o.Listen(n.self.HTTP)
	if err != nil {
		return fmt.Errorf("http: %w", err)
	}
	if l == nil {
		return nil
	}
	reg := newRegistry(n)
	o := api.Options{
		Node: n.o.ID, Listener: l, KV: n.coordinator, Keyspaces: coordinator.NewKeyspaces(n.state, n.o.Cluster),
		Resolvers: n.resolvers, Cluster: clusterInfo{n}, Limits: n.o.Cluster.Limits, Tokens: n.o.Cluster.Tokens,
		Ready: n.readiness, Metrics: reg, Registerer: reg, Now: n.o.Now, Rand: n.o.Rand, Logger: n.log,
	}
	if n.o.FaultInjection {
		n.log.Warn("fault injection is on: anybody with the admin role can cut this node off")
		o.Faults = faults{n}
	}
	s, err := api.Serve(o)
	if err != nil {
		return errors.Join(fmt.Errorf("http: %w", err), l.Close())
	}
	n.api = s
	n.onClose(s.Close)
	return nil
}

// draw returns a random number below n.
func (n *Node) draw(below uint64) uint64 {
	var b [8]byte
	if _, err := io.ReadFull(n.o.Rand, b[:]); err != nil {
		n.log.Error("random source failed", "err", err)
	}
	return binary.LittleEndian.Uint64(b[:]) % max(below, 1)
}

// Keys is how many copies this node holds, tombstones included.
func (n *Node) Keys() uint64 { return uint64(n.store.Stats().Keys) }

// Hints is how many hints this node holds for others.
func (n *Node) Hints() int64 { return n.store.Stats().Hints }

// Unsure says that what this node does not hold says nothing yet: it has not compared itself with the others since a
// crash.
func (n *Node) Unsure() bool { return n.repairer.Unsure() }

// DropKeyspace drops a keyspace on every node, for programs that run a node inside of them.
func (n *Node) DropKeyspace(ctx context.Context, name string) error {
	return n.state.DropKeyspace(ctx, name)
}

// Keyspaces is the administration of keyspaces on this node, for programs that run a node inside of them.
func (n *Node) Keyspaces() *coordinator.Keyspaces {
	return coordinator.NewKeyspaces(n.state, n.o.Cluster)
}

// Disk shows what this node's disk holds, for programs that run a node inside of them.
func (n *Node) Disk() Disk { return n.store }

// Disk is what a node's disk holds. It may be read until the node closes.
type Disk interface {
	Identity() store.Identity
	// CleanBoot says whether the disk is provably as the last clean stop left it.
	CleanBoot() bool
	Trees() []store.TreeID
	TreeRoot(id store.TreeID) (root merkle.Digest, sound bool)
	Scan(p ring.Partition, keyspace uint64, prefix, after []byte, fn func(key []byte, r store.Record) bool) error
	ScanHints(forNode string, fn func(store.Hint) bool) error
	HintStats() map[string]store.HintStat
}
