package replica

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"dynamo/node/causal"
	"dynamo/node/peer"
	"dynamo/node/wire"
)

func TestBarrierWaitsForOlderFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFlights(100)
		old := f.Begin()
		done := make(chan uint64)
		go func() {
			g, err := f.Barrier(t.Context())
			if err != nil {
				t.Error(err)
			}
			done <- g
		}()
		synctest.Wait()
		young := f.Begin()
		heir := f.Join() // of whoever is oldest
		f.End(old)
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("the barrier did not wait for what an old flight left behind")
		default:
		}
		f.End(heir)
		if g := <-done; g != young || young <= old || heir != old {
			t.Fatalf("generations: old %d, heir %d, young %d, barrier %d", old, heir, young, g)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := f.Barrier(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a barrier over an endless flight: %v", err)
		}
		f.End(young)
		if _, err := f.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// An object that was on its way since before a settle round does not arrive any more.
func TestFenceRefusesOldObjects(t *testing.T) {
	f := newFixture(t)
	o, _ := causal.Object{}.Put(nil, causal.Actor{Node: causal.NodeID{9}, Incarnation: 1, Seq: 1}, causal.Value{Bytes: []byte("old")})
	apply := func(from string, generation uint64) error {
		_, _, err := f.Handle(t.Context(), from, &wire.Apply{Target: f.target("notes", "k"), Object: causal.AppendObject(nil, o), Generation: generation})
		return err
	}
	hint := &wire.Apply{Target: f.target("notes", "h"), Object: causal.AppendObject(nil, o), HintFor: "n3", Generation: 50}
	if _, _, err := f.Handle(t.Context(), "n2", hint); err != nil {
		t.Fatal(err)
	}
	reply, _, err := f.Handle(t.Context(), "n3", &wire.SettleFence{Generations: []wire.NodeGeneration{{Node: "n2", Generation: 100}, {Node: "n1", Generation: 7}}})
	if err != nil {
		t.Fatal(err)
	}
	if r := reply.(*wire.SettleFenceReply); len(r.Hinted) != 1 {
		t.Fatalf("hinted partitions: %v", r.Hinted)
	}
	if e, ok := errors.AsType[*peer.Error](apply("n2", 99)); !ok || e.Code != CodeFenced {
		t.Fatal("an object of a generation that has ended was taken")
	}
	hint.Key = []byte("h2")
	if _, _, err := f.Handle(t.Context(), "n2", hint); err == nil {
		t.Fatal("a hint of a generation that has ended was taken")
	}
	for _, ok := range []error{apply("n2", 100), apply("n3", 1)} {
		if ok != nil {
			t.Fatal(ok)
		}
	}
}

func TestFencedTellsWhatWouldPass(t *testing.T) {
	var r Replica
	r.fence.raise("n1", 41)
	if least, ok := Fenced(fmt.Errorf("asking n2: %w", r.admit("n1", 40))); !ok || least != 41 {
		t.Errorf("%d, %t", least, ok)
	}
	for _, err := range []error{
		nil, r.admit("n1", 41), errors.New("fenced, the least is 5"), &peer.Error{Code: CodeFenced}, &peer.Error{Code: CodeFenced, Detail: leastIs + "-1"},
		&peer.Error{Code: CodeFenced, Detail: leastIs + "18446744073709551615"}, &peer.Error{Code: "other", Detail: leastIs + "5"},
	} {
		if least, ok := Fenced(err); ok {
			t.Errorf("%v: %d", err, least)
		}
	}
}
