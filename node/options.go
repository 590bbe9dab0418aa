// Package node wires one node of a cluster together: disk, metadata, peers, resolvers, coordinator,
// background repair and the HTTP door. It is the only place where the parts meet.
package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"dynamo/node/cluster"
	"dynamo/node/config"
	"dynamo/node/coordinator"
	"dynamo/node/peer"
	"dynamo/node/store"
	"dynamo/resolver"
)

// Options describe one node. Cluster, ID and Logger are required.
type Options struct {
	Cluster *config.Cluster
	// ID is this node's id in the cluster file.
	ID     string
	Logger *slog.Logger
	// FaultInjection opens PUT /v1/debug/cut, which cuts this node off from others. For tests.
	FaultInjection bool
	// ResetUnusable moves a database that cannot be used aside, below the data directory, and starts with an
	// empty one under a new identity. Without it Open fails.
	ResetUnusable bool
	// Fatal is told once of a failure after which the node must not go on (a disk that does not sync, an
	// identity that another process uses). The caller closes the node and ends the process.
	Fatal func(error)
	// CompileCommand is a program and its arguments that calls resolver.TrialMain: a module new to this node is
	// compiled there first, within limits. Empty: in this process alone.
	CompileCommand []string
	// Builtins are the ready-made resolver modules by name.
	Builtins func(name string) ([]byte, bool)
	// LawRounds bounds a law check [8 at birth, 40 later, or when its time is over]. On virtual time that does not pass while
	// modules run, it is the only bound.
	LawRounds int
	// BuiltinNames lists them for who asks for another.
	BuiltinNames []string
	Seams
}

// Seams are how the world reaches a node. Zero fields take the real thing; tests and simulations put
// their own in.
type Seams struct {
	// Now is this node's wall clock. It stamps values and tokens; deadlines run on the runtime's timers.
	Now func() time.Time
	// Rand yields identities, nonces and request ids.
	Rand io.Reader
	// FS holds the data directory.
	FS store.FS
	// ModuleCache is a directory of compiled resolver modules, for tests; empty: none.
	ModuleCache string
	// Engine runs resolver modules [this process].
	Engine resolver.Engine
	// Listen opens the HTTP listener; if it returns none, the node has no HTTP door.
	Listen func(address string) (net.Listener, error)
	// Transport connects this node to its peers.
	Transport func(peer.Options) (Transport, error)
	// Gossip tells who is reachable.
	Gossip func(cluster.GossipOptions) cluster.Gossip
}

// Transport is the node's side of the peer network.
type Transport interface {
	coordinator.Transport
	Stats() peer.Stats
	Close() error
}

// blocker is what takes part in fault injection.
type blocker interface{ Block(nodes []string) }

func (o Options) withDefaults() (Options, error) {
	if o.Cluster == nil || o.Logger == nil {
		return o, errors.New("node: Cluster and Logger are required")
	}
	if _, ok := o.Cluster.Node(o.ID); !ok {
		return o, fmt.Errorf("node: the cluster file has no node %q", o.ID)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Listen == nil {
		o.Listen = func(address string) (net.Listener, error) { return net.Listen("tcp", address) }
	}
	if o.Transport == nil {
		o.Transport = func(p peer.Options) (Transport, error) { return peer.Listen(p) }
	}
	if o.Gossip == nil {
		o.Gossip = realGossip
	}
	if o.Fatal == nil {
		o.Fatal = func(err error) { o.Logger.Error("node must stop", "err", err) }
	}
	if o.Builtins == nil {
		o.Builtins = func(string) ([]byte, bool) { return nil, false }
	}
	return o, nil
}
