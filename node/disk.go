package node

import (
	"context"
	"time"

	"dynamo/node/causal"
	"dynamo/node/config"
	"dynamo/node/repair"
	"dynamo/node/ring"
	"dynamo/node/store"
)

const (
	// mendRetry is the pause before a corrupt record that could not be refilled is tried again.
	mendRetry = 2 * time.Second
	// mendPending bounds the corrupt records that wait.
	mendPending = 4096
)

// storeOptions say how this node keeps its disk.
func (n *Node) storeOptions() store.Options {
	limits := n.o.Cluster.Limits
	o := store.Options{
		Dir: n.self.Data, FS: n.o.FS, Logger: n.log, Rand: n.o.Rand, Now: n.o.Now, OnFatal: n.die, OnCorrupt: n.corrupt,
		HintMaxBytes: limits.HintMaxBytes,
		Space:        store.SpaceLimits{MinFreeBytes: limits.MinFreeBytes, MinFreePercent: limits.MinFreePercent},
	}
	if n.o.ResetUnusable {
		o.SetAside = "db.unusable-" + n.o.Now().UTC().Format("20060102T150405Z")
	}
	return o
}

// room says whether this disk takes a write of so many bytes now.
func (n *Node) room(bytes int) error {
	if err := n.store.Stalled(); err != nil {
		return err
	}
	return n.store.Room(bytes)
}

// openMender starts what refills corrupt records.
func (n *Node) openMender() {
	n.mender = repair.StartMender(repair.MenderOptions{
		Self: n.o.ID, Transport: n.transport, Reachable: n.state.Reachable, KeyspaceName: n.keyspaceName,
		Flights: n.flights, Replicas: n.replicas, Replace: n.replaceCorrupt, Discard: n.store.DiscardCorrupt,
		RetryEvery: mendRetry, CallTimeout: n.o.Cluster.Limits.RequestTimeout, Pending: mendPending, Logger: n.log,
	})
	n.onClose(func(context.Context) error { n.mender.Close(); return nil })
}

// corrupt hears of every unreadable record. What is met before this node serves is met again.
func (n *Node) corrupt(ref store.Ref) {
	if n.serving.Load() {
		n.mender.Corrupt(ref)
	}
}

// replicas splits the preference list of a key.
func (n *Node) replicas(p ring.Partition, keyspace uint64) (primaries, fallbacks []string) {
	v := n.state.View()
	if int(p) >= v.Ring.Q() {
		return nil, nil
	}
	list := v.Ring.PreferenceList(p)
	for _, ks := range v.Keyspaces() {
		if ks.ID() == keyspace {
			cut := min(ks.N, len(list))
			return list[:cut], list[cut:]
		}
	}
	return list, nil
}

// replaceCorrupt is store.ReplaceCorrupt under the policy of the keyspace.
func (n *Node) replaceCorrupt(ctx context.Context, ref store.Ref, o causal.Object) (bool, error) {
	for _, ks := range n.state.View().Keyspaces() {
		if ks.ID() == ref.Keyspace && ks.Conflict == config.PolicyLWW {
			o = o.Last()
		}
	}
	return n.store.ReplaceCorrupt(ctx, ref, o)
}
