package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// What is created on one node can be used on the next at once.
func TestAChangeIsEverywhereWhenItReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := newHub(), file(3)
		var states []*State
		for i := range 3 {
			states = append(states, h.open(t, fmt.Sprintf("n%d", i+1), f, &disk{}, &logs{}))
		}
		start := time.Now()
		if _, err := states[0].PutKeyspace(t.Context(), keyspace("carts")); err != nil {
			t.Fatal(err)
		}
		for _, s := range states[1:] {
			if _, ok := s.View().Keyspace("carts"); !ok {
				t.Errorf("%s does not have it", s.o.Self)
			}
		}
		if d := time.Since(start); d > 0 {
			t.Errorf("it took %v", d)
		}
		for _, s := range states {
			_ = s.Close()
		}
	})
}

// A node that was away catches up, and what it did meanwhile reaches the others.
func TestNodeThatWasAwayCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := newHub(), file(3)
		var disks [3]disk
		var states [3]*State
		for i := range 3 {
			states[i] = h.open(t, fmt.Sprintf("n%d", i+1), f, &disks[i], &logs{})
		}
		ctx := t.Context()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		put := func(i int, name string) {
			t.Helper()
			_, err := states[i].PutKeyspace(ctx, keyspace(name))
			must(err)
		}
		put(0, "old")
		h.setAway("n3", true)
		put(0, "carts")
		must(states[1].DropKeyspace(ctx, "old"))
		_, err := states[1].Bind(ctx, Binding{Keyspace: "carts", SHA256: [32]byte{1}})
		must(err)
		put(2, "island")
		if _, ok := states[2].View().Keyspace("carts"); ok {
			t.Fatal("n3 is not away")
		}
		h.setAway("n3", false)
		pass(5 * compareEvery) // virtual: the comparisons of five seconds
		synctest.Wait()
		want := states[0].View()
		for _, s := range states {
			v := s.View()
			if v.Digest != want.Digest {
				t.Errorf("%s differs", s.o.Self)
			}
			_, carts := v.Keyspace("carts")
			_, island := v.Keyspace("island")
			_, old := v.Keyspace("old")
			_, bound := v.Active("carts")
			if !carts || !island || old || !bound || len(v.DroppedIDs()) != 1 {
				t.Errorf("%s: %v %v %v %v", s.o.Self, carts, island, old, bound)
			}
		}
		// The same through a restart that missed everything.
		must(states[2].Close())
		must(states[0].DropKeyspace(ctx, "carts"))
		put(0, "carts")
		states[2] = h.open(t, "n3", f, &disks[2], &logs{})
		pass(5 * compareEvery)
		synctest.Wait()
		v := states[2].View()
		if k, _ := v.Keyspace("carts"); v.Digest != states[0].View().Digest || k.Generation != 2 {
			t.Error("n3 did not catch up")
		}
		for _, s := range states {
			must(s.Close())
		}
	})
}

// A gossiped digest that differs leads to an exchange at once; one that is the same, or from nobody, to none.
func TestGossipedDigestLeadsToExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := newHub(), file(2)
		a, b := h.open(t, "n1", f, &disk{}, &logs{}), h.open(t, "n2", f, &disk{}, &logs{})
		h.setAway("n2", true)
		if _, err := a.PutKeyspace(t.Context(), Keyspace{Name: "x", N: 1, R: 1, W: 1, MaxValueBytes: 1}); err != nil {
			t.Fatal(err)
		}
		h.setAway("n2", false)
		synctest.Wait()
		calls := func() int { h.mu.Lock(); defer h.mu.Unlock(); return h.mu.calls }
		before := calls()
		b.heard("n1", b.View().Digest)
		b.heard("n9", [32]byte{1})
		b.heard("n2", [32]byte{1})
		synctest.Wait()
		if calls() != before {
			t.Error("an exchange for nothing")
		}
		b.heard("n1", a.View().Digest)
		synctest.Wait()
		if b.View().Digest != a.View().Digest || calls() != before+1 {
			t.Errorf("%d exchanges", calls()-before)
		}
		_, _ = a.Close(), b.Close()
	})
}

func TestReachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		o := h.options("n1", file(3), &disk{}, &logs{})
		s, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		e := o.Gossip.(*fakeGossip).events
		is := func(want bool, when string) {
			t.Helper()
			if s.Reachable("n2") != want {
				t.Errorf("%s: reachable is %v", when, !want)
			}
		}
		if !s.Reachable("n1") || s.Reachable("n9") {
			t.Error("this node is, a stranger is not")
		}
		is(true, "before any gossip")
		s.Observe("n2", ErrSilent)
		is(true, "one slow answer")
		s.Observe("n2", nil)
		pass(quietFor)
		s.Observe("n2", ErrSilent)
		s.Observe("n2", context.DeadlineExceeded)
		is(true, "not in a row, and a deadline says nothing")
		s.Observe("n2", ErrSilent)
		is(false, "two silences")
		s.Observe("n2", nil)
		s.Observe("n2", ErrSilent)
		s.Observe("n2", ErrSilent)
		is(true, "some wait, but it answers others")
		s.Observe("n2", fmt.Errorf("wrapped: %w", errCut))
		is(false, "no connection")
		pass(suspicionWithoutProbe)
		is(true, "after a rest")
		s.Observe("n2", nil)
		is(true, "an answer")
		pass(2 * trustAnswer)
		e.Down("n2")
		is(false, "down")
		s.Observe("n2", nil)
		is(true, "down, but it has answered")
		s.Observe("n2", errCut)
		is(false, "down, and the last request failed")
		s.Observe("n2", nil)
		pass(trustAnswer)
		is(false, "down, and the answer is old")
		s.Observe("n2", errCut)
		e.Up("n2")
		is(true, "up forgets failures where nobody probes")
		if !s.Reachable("n3") {
			t.Error("n3 has nothing to do with it")
		}
	})
}

// TestProbes: a suspect member is left alone until a probe is answered, whatever gossip says; probes go at once, then with
// growing pauses, one at a time, and stop when nobody is suspect.
func TestProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		o := h.options("n1", file(3), &disk{}, &logs{})
		var mu sync.Mutex
		probes, back, hangs := 0, false, false
		o.Probe = func(ctx context.Context, node string) error {
			mu.Lock()
			probes++
			up, wait := back, hangs
			mu.Unlock()
			if node != "n2" {
				t.Errorf("probe of %s", node)
			}
			if wait {
				<-ctx.Done()
			}
			if up {
				return nil
			}
			return errCut
		}
		s, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		set := func(up, hang bool) (before int) {
			mu.Lock()
			defer mu.Unlock()
			back, hangs = up, hang
			return probes
		}
		e := o.Gossip.(*fakeGossip).events
		s.Observe("n2", errCut)
		pass(10 * time.Second)
		if n := set(false, false); n < 20 || n > 40 {
			t.Errorf("%d probes in 10 s", n)
		}
		e.Up("n2")
		if s.Reachable("n2") {
			t.Error("gossip alone brings back what requests found dead")
		}
		before := set(false, true)
		pass(10 * time.Second)
		if n := set(true, false) - before; n < 8 || n > 13 {
			t.Errorf("%d probes that hang in 10 s", n)
		}
		pass(livenessTimeout + 2*probePauseMax)
		if !s.Reachable("n2") {
			t.Error("it is back, and nobody noticed")
		}
		before = set(true, false)
		pass(time.Minute)
		if n := set(true, false); n != before {
			t.Errorf("%d probes of a healthy member", n-before)
		}
		e.Down("n2")
		pass(10 * time.Second)
		if !s.Reachable("n2") {
			t.Error("gossip does not hear it, but it answers")
		}
	})
}

// A member that does not answer delays a change by a second at most, and Close waits for nobody.
func TestSilentMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub()
		o := h.options("n1", file(3), &disk{}, &logs{})
		o.Exchange = silent
		s, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := s.PutKeyspace(t.Context(), keyspace("carts")); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != exchangeTimeout {
			t.Errorf("waited %v", d)
		}
		start = time.Now()
		if err := errors.Join(s.Close(), s.Close()); err != nil || time.Since(start) != 0 {
			t.Errorf("Close: %v after %v", err, time.Since(start))
		}
	})
}

// Nodes that change things at the same time, while one is closed and opened again, agree in the end and lose nothing.
func TestConcurrentChangesConverge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := newHub(), file(3)
		var disks [3]disk
		var states [3]*State
		var wg sync.WaitGroup
		for i := range 3 {
			id := fmt.Sprintf("n%d", i+1)
			states[i] = h.open(t, id, f, &disks[i], &logs{})
			wg.Go(func() {
				for j := range 8 {
					if i == 2 && j == 4 {
						_ = states[i].Close()
						states[i] = h.open(t, id, f, &disks[i], &logs{})
					}
					if _, err := states[i].PutKeyspace(t.Context(), keyspace(fmt.Sprintf("k%d-%d", i, j))); err != nil {
						t.Error(err)
					}
					if err := states[i].Admit(Identity{Node: id, Disk: [16]byte{byte(i)}, Boot: uint64(j + 1)}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		pass(10 * compareEvery)
		synctest.Wait()
		for _, s := range states {
			v := s.View()
			if v.Digest != states[0].View().Digest || len(v.Keyspaces()) != 25 {
				t.Errorf("%s: %d keyspaces", s.o.Self, len(v.Keyspaces()))
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}
