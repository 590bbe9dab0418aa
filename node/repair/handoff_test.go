package repair

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"dynamo/node/causal"
	"dynamo/node/peer"
	"dynamo/node/replica"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// network answers applies by a function per node.
type network struct {
	mu     sync.Mutex
	got    map[string][]string
	flight map[string]int
	most   map[string]int
	answer func(ctx context.Context, node, key string) error
}

func (n *network) Call(ctx context.Context, node string, m wire.Message) (wire.Message, error) {
	key := string(m.(*wire.Apply).Key)
	n.mu.Lock()
	n.flight[node]++
	n.most[node] = max(n.most[node], n.flight[node])
	n.mu.Unlock()
	err := n.answer(ctx, node, key)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.flight[node]--
	if err == nil {
		n.got[node] = append(n.got[node], key)
	}
	return &wire.Ack{}, err
}

func (n *network) received(node string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.got[node])
}

type world struct {
	*network
	store *store.Store
	o     Options
}

func newWorld(t *testing.T, answer func(ctx context.Context, node, key string) error) *world {
	t.Helper()
	s, err := store.Open(store.Options{Dir: "/d", FS: vfs.NewMem(), Rand: rand.Reader, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{network: &network{got: map[string][]string{}, flight: map[string]int{}, most: map[string]int{}, answer: answer}, store: s}
	w.o = Options{
		Self: "self", Transport: w.network, Hints: s, Flights: replica.NewFlights(1), Now: time.Now, HintMaxAge: time.Hour,
		Reachable: func(string) bool { return true }, Member: func(string) bool { return true },
		Primaries:       func(wire.Target) []string { return []string{"a", "b", "c"} },
		Local:           func(context.Context, wire.Target, causal.Object) error { return nil },
		KeyspaceName:    func(id uint64) (string, bool) { return "k", id == 1 },
		KeyspaceDropped: func(id uint64) bool { return id == 2 },
		Throttle:        ThrottleOptions{Most: 1e9, Least: 1e9, Goal: time.Second, Every: time.Second, Now: time.Now},
		HandoffEvery:    500 * time.Millisecond, CallTimeout: 2 * time.Second, QueueLength: 1, Logger: slog.New(slog.DiscardHandler),
	}
	return w
}

func (w *world) keep(t *testing.T, node string, keyspace uint64, key, value string) {
	t.Helper()
	ref := store.Ref{Keyspace: keyspace, Key: []byte(key), HintFor: node}
	_, err := w.store.Update(context.Background(), ref, store.Sync, func(r store.Record) (store.Record, error) {
		r.Own = causal.Actor{Node: causal.NodeID{7}, Incarnation: 1, Seq: 1}
		r.Object, _ = r.Object.Put(r.Object.Context, r.Own, causal.Value{Bytes: []byte(value)})
		return r, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// run works for a while of virtual time.
func (w *world) run(d time.Duration) Stats {
	r := newRepairer(w.o)
	r.wg.Go(r.runHandoff)
	<-time.After(d)
	st := r.Stats()
	r.Close()
	return st
}

func (w *world) end(t *testing.T) {
	t.Helper()
	if err := w.store.Close(); err != nil {
		t.Error(err)
	}
}

func TestOldestFirstAndNoMoreThanTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(context.Context, string, string) error { <-time.After(time.Millisecond); return nil })
		defer w.end(t)
		for i := range 600 {
			w.keep(t, "a", 1, fmt.Sprintf("%03d", 999-i), "v")
		}
		w.run(10 * time.Second)
		got := w.received("a")
		for i, key := range got {
			var n int
			if _, err := fmt.Sscan("1"+key, &n); err != nil {
				t.Fatal(err)
			}
			if at := 1999 - n; at-i > maxWindow || i-at > maxWindow {
				t.Fatalf("hint %d came as number %d", at, i)
			}
		}
		if len(got) != 600 || w.most["a"] != maxWindow || len(w.store.HintStats()) != 0 {
			t.Fatalf("%d delivered, %d at once, left %v", len(got), w.most["a"], w.store.HintStats())
		}
	})
}

func TestASilentPrimaryHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(ctx context.Context, node, _ string) error {
			if node == "a" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
		defer w.end(t)
		for i := range 50 {
			w.keep(t, "a", 1, fmt.Sprint(i), "v")
			w.keep(t, "b", 1, fmt.Sprint(i), "v")
		}
		w.run(time.Second)
		if len(w.received("b")) != 50 || w.store.HintStats()["a"].Count != 50 || w.most["a"] != 1 {
			t.Fatalf("b got %d, left %v, %d at once to the silent one", len(w.received("b")), w.store.HintStats(), w.most["a"])
		}
	})
}

func TestOverloadIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusals := 10
		var mu sync.Mutex
		w := newWorld(t, func(context.Context, string, string) error {
			mu.Lock()
			defer mu.Unlock()
			if refusals > 0 {
				refusals--
				return &peer.Error{Code: peer.CodeOverloaded, Retryable: true}
			}
			return nil
		})
		defer w.end(t)
		for i := range 20 {
			w.keep(t, "a", 1, fmt.Sprint(i), "v")
		}
		w.run(20 * time.Second)
		if len(w.received("a")) != 20 || len(w.store.HintStats()) != 0 {
			t.Fatalf("got %v, left %v", w.received("a"), w.store.HintStats())
		}
	})
}

func TestAHintThatGrewUnderWayStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w *world
		var once sync.Once
		w = newWorld(t, func(context.Context, string, string) error {
			once.Do(func() { w.keep(t, "a", 1, "k", "later") })
			return nil
		})
		defer w.end(t)
		w.keep(t, "a", 1, "k", "v")
		w.run(5 * time.Second)
		if len(w.received("a")) != 2 || len(w.store.HintStats()) != 0 {
			t.Fatalf("sent %d times, left %v", len(w.received("a")), w.store.HintStats())
		}
	})
}

func TestHintsThatGoAnotherWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(_ context.Context, node, _ string) error { return nil })
		defer w.end(t)
		away := map[string]bool{"a": true, "b": true, "c": true}
		w.o.Reachable = func(id string) bool { return !away[id] }
		w.o.Member = func(id string) bool { return id != "gone" }
		w.keep(t, "a", 1, "old", "v")
		w.keep(t, "b", 2, "dropped", "v")
		w.o.HintMaxAge = time.Minute
		w.run(2 * time.Minute)
		if w.store.HintStats()["a"].Count != 1 {
			t.Fatal("an old hint was dropped though nobody else has it")
		}
		w.keep(t, "a", 1, "young", "v")
		w.keep(t, "gone", 1, "moved", "v")
		away["b"], away["c"] = false, false
		w.run(20 * time.Second)
		if got := w.received("b"); !slices.Contains(got, "old") || slices.Contains(got, "young") {
			t.Errorf("b got %v", got)
		}
		left := w.store.HintStats()
		if left["a"].Count != 1 || left["b"].Count != 0 || left["gone"].Count != 1 {
			t.Errorf("left %v", left)
		}
		away["a"] = false
		w.run(20 * time.Second)
		if left := w.store.HintStats(); len(left) != 0 {
			t.Errorf("left %v", left)
		}
	})
}
