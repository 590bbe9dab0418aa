package repair

import (
	"dynamo/node/causal"
	"dynamo/node/wire"
)

// staleReplica is a replica that a read saw behind.
type staleReplica struct {
	node   string
	target wire.Target
	object causal.Object
	// flight is held until the replica has the object, or it is given up.
	flight uint64
}

// Stale takes note that a node is behind the given object. It never blocks: when the queue is full the
// replica waits for the next read that sees it.
func (r *Repairer) Stale(node string, t wire.Target, o causal.Object) {
	flight := r.o.Flights.Join()
	select {
	case r.queue <- staleReplica{node, t, o, flight}:
	default:
		r.o.Flights.End(flight)
		r.stats.dropped.Add(1)
	}
}

// runReadRepair sends the joined object of a read to the replicas that lacked part of it (Dynamo paper,
// section 5).
func (r *Repairer) runReadRepair() {
	defer r.readRepair.Store(int32(Done))
	for {
		r.readRepair.Store(int32(Idle))
		select {
		case <-r.ctx.Done():
			return
		case s := <-r.queue:
			r.readRepair.Store(int32(Busy))
			r.repairOne(s)
		}
	}
}

func (r *Repairer) repairOne(s staleReplica) {
	defer r.o.Flights.End(s.flight)
	if err := r.apply(s.node, s.target, s.object); err != nil {
		r.stats.repairFailed.Add(1)
		r.o.Logger.Debug("read repair failed", "node", s.node, "keyspace", s.target.Keyspace, "err", err)
		return
	}
	r.stats.repaired.Add(1)
}
