package repair

import (
	"errors"
	"sync"
	"time"

	"dynamo/node/causal"
	"dynamo/node/wire"
)

const (
	// repairDelay is how long a stale replica waits: what it lacks may be on its way to it, and what other
	// reads see meanwhile goes with the same message.
	repairDelay = 50 * time.Millisecond
	// repairsPerNode bounds the messages under way to one node, so that a slow one does not hold up the rest;
	// repairsAtOnce those to all nodes.
	repairsPerNode = 4
	repairsAtOnce  = 16
	// repairQueueBytes bounds the objects that wait.
	repairQueueBytes = 64 << 20
)

var errAway = errors.New("the node cannot be reached")

// repairKey names a copy: one key on one node.
type repairKey struct {
	node     string
	keyspace uint64
	key      string
}

// staleCopy is a copy that reads saw behind, and the join of what they saw.
type staleCopy struct {
	target wire.Target
	object causal.Object
	bytes  int
	due    time.Time
	// flight is held until the replica has the object, or it is given up.
	flight uint64
}

// repairQueue holds the stale copies that wait for repair, each once.
type repairQueue struct {
	// limit bounds the copies; one node may take half of it.
	limit int
	now   func() time.Time
	// wake says that there may be something to do.
	wake chan struct{}
	// mu guards the copies. Invariant: every key of copies is in order[its node] exactly once, and bytes is the
	// sum of their sizes.
	mu struct {
		sync.Mutex
		copies   map[repairKey]*staleCopy
		order    map[string][]repairKey
		bytes    int
		inflight map[string]int
		total    int
	}
}

func newRepairQueue(limit int, now func() time.Time) *repairQueue {
	q := &repairQueue{limit: limit, now: now, wake: make(chan struct{}, 1)}
	q.mu.copies = make(map[repairKey]*staleCopy)
	q.mu.order = make(map[string][]repairKey)
	q.mu.inflight = make(map[string]int)
	return q
}

// add joins the object into what waits for the copy; false: there is no room. It keeps the older flight of
// the two and gives back the one that is to be ended, 0 for none.
func (q *repairQueue) add(node string, t wire.Target, o causal.Object, flight uint64) (spare uint64, ok bool) {
	k := repairKey{node, t.KeyspaceID, string(t.Key)}
	q.mu.Lock()
	defer q.mu.Unlock()
	if c := q.mu.copies[k]; c != nil {
		joined := c.object.Join(o)
		size := len(t.Key) + joined.ValueBytes()
		if q.mu.bytes+size-c.bytes > repairQueueBytes {
			return flight, false
		}
		q.mu.bytes += size - c.bytes
		spare = max(c.flight, flight)
		c.object, c.bytes, c.flight = joined, size, min(c.flight, flight)
		return spare, true
	}
	size := len(t.Key) + o.ValueBytes()
	if len(q.mu.copies) >= q.limit || len(q.mu.order[node]) >= max(1, q.limit/2) || q.mu.bytes+size > repairQueueBytes {
		return flight, false
	}
	q.mu.copies[k] = &staleCopy{target: t, object: o, bytes: size, due: q.now().Add(repairDelay), flight: flight}
	q.mu.order[node] = append(q.mu.order[node], k)
	q.mu.bytes += size
	q.signal()
	return 0, true
}

func (q *repairQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns a copy that is due and may be sent, oldest of its node first; the caller calls sent after it. If
// there is none, wait is when to look again; negative: when woken.
func (q *repairQueue) take() (node string, c *staleCopy, wait time.Duration) {
	now := q.now()
	wait = -1
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.total >= repairsAtOnce {
		return "", nil, -1
	}
	for node, keys := range q.mu.order {
		if q.mu.inflight[node] >= repairsPerNode {
			continue
		}
		c := q.mu.copies[keys[0]]
		if left := c.due.Sub(now); left > 0 {
			if wait < 0 || left < wait {
				wait = left
			}
			continue
		}
		delete(q.mu.copies, keys[0])
		if keys = keys[1:]; len(keys) == 0 {
			delete(q.mu.order, node)
		} else {
			q.mu.order[node] = keys
		}
		q.mu.bytes -= c.bytes
		q.mu.inflight[node]++
		q.mu.total++
		return node, c, 0
	}
	return "", nil, wait
}

// sent frees the place of a message that was under way.
func (q *repairQueue) sent(node string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.total--
	if q.mu.inflight[node]--; q.mu.inflight[node] == 0 {
		delete(q.mu.inflight, node)
	}
	q.signal()
}

// Stale takes note that a node is behind the given object. It never blocks: what waits for the same key of that
// node is joined, and when there is no room the replica waits for the next read that sees it.
func (r *Repairer) Stale(node string, t wire.Target, o causal.Object) {
	flight := r.o.Flights.Join()
	spare, ok := r.queue.add(node, t, o, flight)
	if spare != 0 {
		r.o.Flights.End(spare)
	}
	if !ok {
		r.stats.dropped.Add(1)
	}
}

// runReadRepair sends the joined objects of reads to the replicas that lacked part of them (Dynamo paper,
// section 5).
func (r *Repairer) runReadRepair() {
	var sending sync.WaitGroup
	defer r.readRepair.Store(int32(Done))
	defer sending.Wait()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		node, c, wait := r.queue.take()
		if c != nil {
			r.readRepair.Store(int32(Busy))
			sending.Go(func() {
				defer r.queue.sent(node)
				r.repairOne(node, c)
			})
			continue
		}
		var tick <-chan time.Time
		if wait >= 0 {
			timer.Reset(wait)
			tick = timer.C
		} else {
			r.readRepair.Store(int32(Idle))
		}
		select {
		case <-r.ctx.Done():
			return
		case <-r.queue.wake:
		case <-tick:
		}
	}
}

func (r *Repairer) repairOne(node string, c *staleCopy) {
	defer r.o.Flights.End(c.flight)
	err := errAway
	if r.o.Reachable(node) {
		err = r.apply(node, c.target, c.object)
	}
	if err != nil {
		r.stats.repairFailed.Add(1)
		r.o.Logger.Debug("read repair failed", "node", node, "keyspace", c.target.Keyspace, "err", err)
		return
	}
	r.stats.repaired.Add(1)
}
