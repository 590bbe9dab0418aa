package repair

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dynamo/node/causal"
	"dynamo/node/replica"
	"dynamo/node/wire"
)

// calls counts messages by node; those to a hanging node wait for their deadline.
type calls struct {
	mu      sync.Mutex
	applies map[string][]*wire.Apply
	open    map[string]int
	most    map[string]int
	hangs   string
}

func newCalls() *calls {
	return &calls{applies: map[string][]*wire.Apply{}, open: map[string]int{}, most: map[string]int{}}
}

// Call implements Transport.
func (c *calls) Call(ctx context.Context, node string, m wire.Message) (wire.Message, error) {
	c.mu.Lock()
	c.applies[node] = append(c.applies[node], m.(*wire.Apply))
	c.open[node]++
	c.most[node] = max(c.most[node], c.open[node])
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.open[node]--
		c.mu.Unlock()
	}()
	if node == c.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	select {
	case <-time.After(time.Millisecond):
		return &wire.Ack{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *calls) sent(node string) []*wire.Apply {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.applies[node]
}

func pass(d time.Duration)     { <-time.After(d) }
func key(s string) wire.Target { return wire.Target{Keyspace: "notes", KeyspaceID: 7, Key: []byte(s)} }

func seen(t *testing.T, writer byte, value string) causal.Object {
	t.Helper()
	o, _ := causal.Object{}.PutOver(causal.Basis{}, causal.Actor{Node: causal.NodeID{writer}, Incarnation: 1, Seq: 1}, causal.Value{Bytes: []byte(value)})
	return o
}

func start(c *calls, limit int) *Repairer {
	r := newRepairer(Options{
		Self: "n1", Transport: c, Flights: replica.NewFlights(1), Reachable: func(id string) bool { return id != "away" },
		CallTimeout: 2 * time.Second, QueueLength: limit, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
		Throttle: ThrottleOptions{Most: 1e9, Least: 1e9, Goal: time.Second, Every: time.Second, Now: time.Now},
	})
	r.wg.Go(r.runReadRepair)
	return r
}

// TestRepairsOfAKeyAreJoined: many reads of a key in a short time are one message with all that they saw.
func TestRepairsOfAKeyAreJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCalls()
		r := start(c, 100)
		defer r.Close()
		a, b := seen(t, 1, "a"), seen(t, 2, "b")
		for range 500 {
			r.Stale("n2", key("k"), a)
			r.Stale("n2", key("k"), b)
			r.Stale("n3", key("k"), a)
			r.Stale("n2", key("l"), a)
		}
		pass(time.Second)
		if n2, n3 := c.sent("n2"), c.sent("n3"); len(n2) != 2 || len(n3) != 1 {
			t.Fatalf("%d messages to n2, %d to n3", len(n2), len(n3))
		}
		for _, m := range c.sent("n2") {
			o, err := causal.DecodeObject(m.Object)
			if err != nil {
				t.Fatal(err)
			}
			if want := map[string]int{"k": 2, "l": 1}[string(m.Key)]; len(o.Versions) != want {
				t.Errorf("%s has %d versions, want %d", m.Key, len(o.Versions), want)
			}
		}
		if st := r.Stats(); st.Repaired != 3 || st.Dropped != 0 || st.ReadRepair != Idle {
			t.Errorf("%+v", st)
		}
	})
}

// TestSlowNodeHoldsUpNobody: a node that hangs takes its own few places and half of the queue.
func TestSlowNodeHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCalls()
		c.hangs = "n2"
		r := start(c, 100)
		defer r.Close()
		for i := range 200 {
			r.Stale("n2", key(fmt.Sprint(i)), seen(t, 1, "a"))
		}
		if st := r.Stats(); st.Dropped != 150 {
			t.Errorf("%d of 200 dropped by a queue of 100", st.Dropped)
		}
		for i := range 40 {
			r.Stale("n3", key(fmt.Sprint(i)), seen(t, 1, "a"))
		}
		pass(time.Second)
		if n := len(c.sent("n3")); n != 40 {
			t.Errorf("%d of 40 repairs of n3 beside a node that hangs", n)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.most["n2"] != repairsPerNode {
			t.Errorf("%d messages at once to n2", c.most["n2"])
		}
	})
}

// TestAbsentNodeIsNotTried: whoever is away is repaired by hints and by later reads.
func TestAbsentNodeIsNotTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCalls()
		r := start(c, 100)
		defer r.Close()
		r.Stale("away", key("k"), seen(t, 1, "a"))
		pass(time.Second)
		if st := r.Stats(); len(c.sent("away")) != 0 || st.RepairFailed != 1 {
			t.Errorf("%d messages, %+v", len(c.sent("away")), st)
		}
	})
}

// TestQueueBytesAreBounded counts memory, not only keys.
func TestQueueBytesAreBounded(t *testing.T) {
	q := newRepairQueue(1000, time.Now)
	o := seen(t, 1, string(make([]byte, 10<<20)))
	n := 0
	for i := range 10 {
		if _, ok := q.add("n2", key(fmt.Sprint(i)), o, 1); ok {
			n++
		}
	}
	if n != 6 || q.mu.bytes > repairQueueBytes {
		t.Errorf("%d objects of 10 MiB, %d bytes", n, q.mu.bytes)
	}
}
