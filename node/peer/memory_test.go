package peer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dynamo/node/wire"
)

func seeded(seed uint64) *rand.ChaCha8 {
	var b [32]byte
	for i := range 8 {
		b[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(b)
}

// trace runs three nodes under virtual time, 16 callers each, with loss and duplicates, and returns
// what happened when.
func trace(t *testing.T, seed uint64) []string {
	var mu sync.Mutex
	var lines []string
	instants := map[time.Duration]string{}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		n := NewNetwork(NetworkOptions{
			Rand:   seeded(seed),
			Faults: Faults{MinDelay: 100 * time.Microsecond, MaxDelay: 5 * time.Millisecond, Loss: 0.1, Duplicate: 0.2},
		})
		var nodes []*Endpoint
		for i := range 3 {
			id := fmt.Sprint("n", i+1)
			nodes = append(nodes, n.Attach(spec{id: id}.hello, handlerFunc(func(ctx context.Context, from string, m wire.Message) (wire.Message, error) {
				at := time.Since(start)
				line := fmt.Sprintf("%v %s %s %s", at, from, id, m.(*wire.Read).Key)
				mu.Lock()
				defer mu.Unlock()
				if other, tie := instants[at]; tie {
					t.Errorf("two deliveries at %v: %s and %s", at, other, line)
				}
				instants[at] = line
				lines = append(lines, line)
				return echo(ctx, from, m)
			}), nil))
		}
		var wg sync.WaitGroup
		for i, e := range nodes {
			for caller := range 16 {
				wg.Go(func() {
					for round := range 5 {
						ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond+time.Duration(i*100+caller))
						to := fmt.Sprint("n", (i+1+round%2)%3+1)
						_, err := e.Call(ctx, to, read(fmt.Sprint(caller, ".", round)))
						cancel()
						if err != nil && !errors.Is(err, context.DeadlineExceeded) {
							t.Error(err)
						}
					}
				})
			}
		}
		wg.Wait()
		for _, e := range nodes {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
		if len(n.mu.taken) != 0 || len(n.mu.sessions) != 0 {
			t.Errorf("%d instants, %d sessions left", len(n.mu.taken), len(n.mu.sessions))
		}
	})
	return lines
}

func TestMemoryNetworkRepeatsItself(t *testing.T) {
	want := trace(t, 1)
	if len(want) < 200 {
		t.Fatalf("only %d deliveries", len(want))
	}
	for range 5 {
		if got := trace(t, 1); !slices.Equal(got, want) {
			t.Fatalf("the same seed gives another run:\n%s\n\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	if slices.Equal(trace(t, 2), want) {
		t.Error("another seed gives the same run")
	}
}

func TestMemoryFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(NetworkOptions{Rand: seeded(3)})
		handled := make(chan string, 100)
		handler := handlerFunc(func(ctx context.Context, from string, m wire.Message) (wire.Message, error) {
			handled <- string(m.(*wire.Read).Key)
			return echo(ctx, from, m)
		})
		n1 := n.Attach(spec{id: "n1"}.hello, handler, nil)
		n2 := n.Attach(spec{id: "n2"}.hello, handler, nil)
		defer n1.Close()
		defer n2.Close()

		start := time.Now()
		if _, err := n1.Call(t.Context(), "n2", read("plain")); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 100*time.Microsecond || took > 2*time.Millisecond {
			t.Errorf("a round trip of %v", took)
		}
		<-handled

		n.SetLink("n1", "n2", Faults{MaxDelay: time.Millisecond, Loss: 1})
		start = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := n1.Call(ctx, "n2", read("lost")); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Hour {
			t.Errorf("a lost request: %v after %v", err, time.Since(start))
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := n2.Call(ctx, "n1", read("lost on the way back")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a lost reply: %v", err)
		}

		n.SetLink("n1", "n2", Faults{MaxDelay: time.Millisecond, Duplicate: 1})
		<-handled
		if _, err := n1.Call(t.Context(), "n2", read("twice")); err != nil {
			t.Error(err)
		}
		for range 2 {
			if got := <-handled; got != "twice" {
				t.Errorf("handled %s", got)
			}
		}

		n.SetLink("n1", "n2", Faults{MaxDelay: time.Millisecond})
		n.CutOneWay("n2", "n1")
		start = time.Now()
		_, err := n1.Call(t.Context(), "n2", read("no way back"))
		if u, ok := errors.AsType[*UnreachableError](err); !ok || !u.MaybeSent || time.Since(start) < 6*time.Second {
			t.Errorf("the reply of a one-way cut: %v after %v", err, time.Since(start))
		}
		if got := <-handled; got != "no way back" {
			t.Errorf("handled %s", got)
		}
		_, err = n2.Call(t.Context(), "n1", read("no way there"))
		if u, ok := errors.AsType[*UnreachableError](err); !ok || u.MaybeSent {
			t.Errorf("the request of a one-way cut: %v", err)
		}
		n.Heal()
		if _, err := n2.Call(t.Context(), "n1", read("healed")); err != nil || <-handled != "healed" {
			t.Errorf("healed: %v", err)
		}
		n.CutGroups([][]string{{"n1"}, {"n2", "n3"}})
		if _, err := n1.Call(t.Context(), "n2", read("groups")); !errors.Is(err, ErrUnreachable) {
			t.Errorf("between groups: %v", err)
		}
	})
}

// A node that another one of its name has replaced still calls, and is told what it is.
func TestMemoryOldCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(NetworkOptions{})
		var mu sync.Mutex
		newest := uint64(0)
		n1 := n.Attach(spec{id: "n1"}.hello, handlerFunc(echo), func(h Hello) error {
			mu.Lock()
			defer mu.Unlock()
			if h.Boot < newest {
				return staleError{}
			}
			newest = h.Boot
			return nil
		})
		defer n1.Close()
		attach := func(boot uint64) *Endpoint {
			h := spec{id: "n2"}.hello()
			h.Boot = boot
			return n.Attach(func() Hello { return h }, handlerFunc(echo), nil)
		}
		old := attach(1)
		defer old.Close()
		fresh := attach(2)
		defer fresh.Close()
		if _, err := fresh.Call(t.Context(), "n1", read("k")); err != nil {
			t.Error(err)
		}
		_, err := old.Call(t.Context(), "n1", read("k"))
		if r, ok := errors.AsType[*Refused](err); !ok || !r.Stale || !r.ByPeer {
			t.Errorf("the old copy gets %v", err)
		}
		if err := old.Close(); err != nil {
			t.Error(err)
		}
		if _, err := n1.Call(t.Context(), "n2", read("k")); err != nil {
			t.Errorf("the new one is gone with the old: %v", err)
		}
	})
}
