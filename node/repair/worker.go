// Package repair is all that runs without a client: handing hints back to their primaries and bringing
// stale replicas up to date.
package repair

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"dynamo/node/causal"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// State is what a background worker is doing.
type State int32

// States of a worker.
const (
	Idle State = iota
	Busy
	Done
)

// String is the state's name in metrics.
func (s State) String() string { return [...]string{"idle", "busy", "done"}[s] }

// Transport reaches other nodes.
type Transport interface {
	Call(ctx context.Context, node string, m wire.Message) (wire.Message, error)
}

// Hints is the part of the disk that handoff works on.
type Hints interface {
	ScanHints(forNode string, fn func(store.Hint) bool) error
	DeleteHint(ref store.Ref, content causal.Hash) (bool, error)
	HintStats() map[string]store.HintStat
}

// Options configure a Repairer. All fields are required.
type Options struct {
	Self      string
	Transport Transport
	Hints     Hints
	Reachable func(id string) bool
	// KeyspaceName finds the name of a keyspace by its id; false for one that was dropped.
	KeyspaceName func(id uint64) (string, bool)
	// HandoffEvery is the pause between two looks at the hints; too long a pause leaves a returned primary
	// behind for longer.
	HandoffEvery time.Duration
	// CallTimeout bounds one message.
	CallTimeout time.Duration
	// QueueLength bounds the replicas that wait for read repair; beyond it the next read or exchange finds
	// them again.
	QueueLength int
	// Now is the clock by which stale replicas wait a moment before they are repaired.
	Now    func() time.Time
	Logger *slog.Logger
}

// Repairer runs the background work of one node until Close.
type Repairer struct {
	o      Options
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	queue  *repairQueue
	// handoff and readRepair are what the two loops are doing.
	handoff, readRepair atomic.Int32
	stats               counters
}

type counters struct {
	repaired, repairFailed, dropped atomic.Uint64
	delivered, deliveryFailed       atomic.Uint64
}

// Stats are the counters of a Repairer since it started.
type Stats struct {
	// Repaired and RepairFailed count read repairs; Dropped those that found the queue full.
	Repaired, RepairFailed, Dropped uint64
	// Delivered and DeliveryFailed count hints.
	Delivered, DeliveryFailed uint64
	Handoff, ReadRepair       State
}

// Start starts the workers.
func Start(o Options) *Repairer {
	r := &Repairer{o: o, queue: newRepairQueue(o.QueueLength, o.Now)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.wg.Go(r.runReadRepair)
	r.wg.Go(r.runHandoff)
	return r
}

// Close stops the workers and waits for them.
func (r *Repairer) Close() {
	r.cancel()
	r.wg.Wait()
}

// Stats returns the counters.
func (r *Repairer) Stats() Stats {
	return Stats{
		Repaired: r.stats.repaired.Load(), RepairFailed: r.stats.repairFailed.Load(), Dropped: r.stats.dropped.Load(),
		Delivered: r.stats.delivered.Load(), DeliveryFailed: r.stats.deliveryFailed.Load(),
		Handoff: State(r.handoff.Load()), ReadRepair: State(r.readRepair.Load()),
	}
}

// apply sends an object to a node and returns once it is durable there.
func (r *Repairer) apply(node string, t wire.Target, o causal.Object) error {
	ctx, cancel := context.WithTimeout(r.ctx, r.o.CallTimeout)
	defer cancel()
	_, err := r.o.Transport.Call(ctx, node, &wire.Apply{Target: t, Object: causal.AppendObject(nil, o)})
	return err
}
