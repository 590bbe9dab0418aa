// Package repair is all that runs without a client: handing hints back to their primaries, bringing stale
// replicas up to date, comparing replicas by their hash trees, and forgetting what all have agreed on.
package repair

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"dynamo/node/causal"
	"dynamo/node/cluster"
	"dynamo/node/replica"
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
	ScanQueue(node string, after uint64, fn func(store.Hint) bool) error
	DeleteHints(all []store.HintContent) (int, error)
	HintStats() map[string]store.HintStat
}

// Options configure a Repairer. All fields are required.
type Options struct {
	Self      string
	Transport Transport
	Hints     Hints
	// Flights counts the objects that are in hand here.
	Flights   *replica.Flights
	Reachable func(id string) bool
	// Trees, Copies and Checker are this node's disk and replica as anti-entropy needs them.
	Trees   Trees
	Copies  Copies
	Checker Checker
	// Merger collapses siblings in the settle round.
	Merger Merger
	View   func() *cluster.View
	// Unclean says that this boot is not the continuation of a clean stop.
	Unclean bool
	// SettleAfter is how long a key must be quiet before what is settled about it is forgotten. Shorter than
	// a context token lives, and a token could bring back what was deleted.
	SettleAfter time.Duration
	// Throttle paces all that is not urgent.
	Throttle ThrottleOptions
	Now      func() time.Time
	// Draw returns a random number below n.
	Draw func(n uint64) uint64
	// Member reports whether a node is a member of the cluster.
	Member func(id string) bool
	// Primaries are the nodes that ought to hold a key.
	Primaries func(t wire.Target) []string
	// Local joins an object into this node's own copy, durably.
	Local func(ctx context.Context, t wire.Target, o causal.Object) error
	// HintMaxAge is how long a hint is kept for a node that does not return.
	HintMaxAge time.Duration
	// KeyspaceDropped tells a keyspace that is gone from one that this node has not heard of.
	KeyspaceDropped func(id uint64) bool
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
	Logger      *slog.Logger
}

// Repairer runs the background work of one node until Close.
type Repairer struct {
	o      Options
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	queue  *repairQueue
	// What the loops are doing.
	handoff, readRepair, antiEntropy, settle, check atomic.Int32
	stats                                           counters
	throttle                                        *Throttle
	doubt                                           doubt
	exchanges                                       exchangeStats
	settled                                         settleStats
}

type counters struct {
	repaired, repairFailed, dropped atomic.Uint64
	delivered, deliveryFailed       atomic.Uint64
	// hints that went another way
	expired, redirected, droppedKeyspace atomic.Uint64
}

// Stats are the counters of a Repairer since it started.
type Stats struct {
	// Repaired and RepairFailed count read repairs; Dropped those that found the queue full.
	Repaired, RepairFailed, Dropped uint64
	// Delivered and DeliveryFailed count hints.
	Delivered, DeliveryFailed uint64
	// Expired hints were too old and went to another primary; Redirected ones were for a node that is no
	// member any more; DroppedKeyspace ones were of a keyspace that is gone.
	Expired, Redirected, DroppedKeyspace uint64
	Handoff, ReadRepair                  State

	AntiEntropy, Settle, Check State
	Exchanges                  ExchangeStats
	Settled                    SettleStats
	// Rate is what background work may move now, in bytes per second; P99 is the latency of clients' requests
	// by which it was set.
	Rate float64
	P99  time.Duration
}

// Start starts the workers.
func Start(o Options) *Repairer {
	r := newRepairer(o)
	r.wg.Go(r.runReadRepair)
	r.wg.Go(r.runHandoff)
	r.wg.Go(r.runCheck)
	r.wg.Go(r.runAntiEntropy)
	r.wg.Go(r.runSettle)
	return r
}

func newRepairer(o Options) *Repairer {
	r := &Repairer{o: o, throttle: NewThrottle(o.Throttle), queue: newRepairQueue(o.QueueLength, o.Now)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.doubt.since, r.doubt.met = o.Now(), make(map[string]bool)
	r.doubt.unsure.Store(o.Unclean)
	return r
}

// Close stops the workers and waits for them.
func (r *Repairer) Close() {
	r.cancel()
	r.wg.Wait()
}

// Foreground takes note of how long a client's request took; background work gives way to slow ones.
func (r *Repairer) Foreground(d time.Duration) { r.throttle.Observe(d) }

// Stats returns the counters.
func (r *Repairer) Stats() Stats {
	rate, p99 := r.throttle.Rate()
	return Stats{
		Repaired: r.stats.repaired.Load(), RepairFailed: r.stats.repairFailed.Load(), Dropped: r.stats.dropped.Load(),
		Delivered: r.stats.delivered.Load(), DeliveryFailed: r.stats.deliveryFailed.Load(),
		Expired: r.stats.expired.Load(), Redirected: r.stats.redirected.Load(), DroppedKeyspace: r.stats.droppedKeyspace.Load(),
		Handoff: State(r.handoff.Load()), ReadRepair: State(r.readRepair.Load()),
		AntiEntropy: State(r.antiEntropy.Load()), Settle: State(r.settle.Load()), Check: State(r.check.Load()),
		Exchanges: r.exchanges.get(), Settled: r.settled.get(), Rate: rate, P99: p99,
	}
}

// apply sends an object to a node and returns once it is durable there.
func (r *Repairer) apply(node string, t wire.Target, o causal.Object) error {
	ctx, cancel := context.WithTimeout(r.ctx, r.o.CallTimeout)
	defer cancel()
	flight := r.o.Flights.Join()
	defer r.o.Flights.End(flight)
	_, err := r.o.Transport.Call(ctx, node, &wire.Apply{Target: t, Object: causal.AppendObject(nil, o), Generation: flight})
	return err
}
