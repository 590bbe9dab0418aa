package replica

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"dynamo/node/causal"
	"dynamo/node/cluster"
	"dynamo/node/config"
	"dynamo/node/conflict"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// union collapses an object to the sorted set of its values' bytes, as a lawful resolver would.
type union struct{ calls int }

func (u *union) Collapse(_ context.Context, p conflict.Policy, _ []byte, o causal.Object) (causal.Object, bool) {
	u.calls++
	var all []byte
	for _, v := range o.Versions {
		all = append(all, v.Bytes...)
	}
	slices.Sort(all)
	c, err := o.Collapse(causal.Value{Bytes: slices.Compact(all)}, causal.Provenance{Epoch: p.Epoch})
	return c, err == nil
}

type fixture struct {
	*Replica
	store  *store.Store
	state  *cluster.State
	merger *union
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	s, err := store.Open(store.Options{Dir: t.TempDir(), Logger: log, Rand: rand.Reader, Now: time.Now, OnFatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	file := config.Builtin(t.TempDir())
	for name, p := range map[string]config.Policy{"notes": config.PolicySiblings, "last": config.PolicyLWW} {
		ks := file.NewKeyspace(name)
		ks.Conflict = p
		file.Keyspaces = append(file.Keyspaces, ks)
	}
	var saved []byte
	state, err := cluster.Open(cluster.Options{
		Self: "n1", File: file, Now: time.Now, Rand: rand.Reader, Logger: log,
		Load: func() ([]byte, bool, error) { return saved, saved != nil, nil },
		Save: func(b []byte) error { saved = b; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := state.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &fixture{store: s, state: state, merger: &union{}}
	f.Replica = New(Options{
		Self: "n1", Store: s, Trees: s, Flights: NewFlights(1), Settler: f.merger, View: state.View, Limits: config.DefaultLimits(),
		Now: time.Now, Logger: log,
	})
	return f
}

func (f *fixture) target(keyspace, key string) wire.Target {
	ks, _ := f.state.View().Keyspace(keyspace)
	return wire.Target{Keyspace: keyspace, KeyspaceID: ks.ID(), Key: []byte(key)}
}

func (f *fixture) put(t *testing.T, keyspace string, p conflict.Policy, seen causal.Basis, v string) (Written, error) {
	t.Helper()
	return f.Write(t.Context(), Write{
		Target: f.target(keyspace, "k"), Policy: p, Seen: seen, Value: causal.Value{Bytes: []byte(v), TimeMs: 1},
	})
}

func siblings() conflict.Policy {
	return conflict.Policy{Conflict: config.PolicySiblings, MaxValueBytes: 100}
}

func TestBlindWritesStayAndContextsReplace(t *testing.T) {
	f := newFixture(t)
	first, err := f.put(t, "notes", siblings(), causal.Basis{}, "a")
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.put(t, "notes", siblings(), causal.Basis{}, "b")
	if err != nil || len(second.Object.Versions) != 2 {
		t.Fatalf("%+v, %v", second, err)
	}
	if len(first.Seen.Dots) != 0 || len(second.Seen.Dots) != 1 {
		t.Fatalf("the second writer's token must name its own dot alone: %+v, %+v", first.Seen, second.Seen)
	}
	third, err := f.put(t, "notes", siblings(), second.Seen, "c")
	if err != nil || len(third.Object.Versions) != 2 || string(third.Object.Versions[0].Bytes) != "a" {
		t.Fatalf("%+v, %v", third, err)
	}
	last, err := f.put(t, "notes", siblings(), causal.Basis{Context: third.Object.Context}, "d")
	if err != nil || len(last.Object.Versions) != 1 {
		t.Fatalf("%+v, %v", last, err)
	}
	o, err := f.Read(f.target("notes", "k"), false)
	if err != nil || !o.Equal(last.Object) {
		t.Fatalf("%+v, %v", o, err)
	}
}

// TestActors: one actor for one object on one disk, a new one whenever the object began anew.
func TestActors(t *testing.T) {
	f := newFixture(t)
	one, err := f.put(t, "notes", siblings(), causal.Basis{}, "a")
	if err != nil {
		t.Fatal(err)
	}
	two, err := f.put(t, "notes", siblings(), causal.Basis{}, "b")
	if err != nil || len(two.Object.Context) != 1 {
		t.Fatalf("a second write took another actor: %v", two.Object.Context)
	}
	hint, err := f.Write(t.Context(), Write{Target: f.target("notes", "k"), Policy: siblings(), HintFor: "n2", Value: causal.Value{Bytes: []byte("h")}})
	if err != nil || hint.Object.Context[0].Actor == one.Object.Context[0].Actor {
		t.Fatalf("the hint shares the own copy's actor: %v, %v", hint.Object.Context, err)
	}
	copies, err := f.Inspect(f.target("notes", "k"))
	if err != nil || len(copies) != 2 || copies[1].HintFor != "n2" {
		t.Fatalf("%+v, %v", copies, err)
	}
	all, err := f.Read(f.target("notes", "k"), true)
	if err != nil || len(all.Versions) != 3 {
		t.Fatalf("with hints: %+v, %v", all, err)
	}
	if _, err := f.store.DeleteHint(Ref(f.state.View(), f.target("notes", "k"), "n2"), hint.Object.Hash()); err != nil {
		t.Fatal(err)
	}
	again, err := f.Write(t.Context(), Write{Target: f.target("notes", "k"), Policy: siblings(), HintFor: "n2", Value: causal.Value{Bytes: []byte("h")}})
	if err != nil || again.Object.Context[0].Actor == hint.Object.Context[0].Actor {
		t.Fatal("a delivered hint's actor mints again: its dots could name two writes")
	}
}

func TestLWWDoesNotPileUp(t *testing.T) {
	f := newFixture(t)
	for i := range 5 {
		w, err := f.put(t, "last", conflict.Policy{Conflict: config.PolicyLWW, MaxValueBytes: 100}, causal.Basis{}, fmt.Sprint(i))
		if err != nil || len(w.Object.Versions) != 1 {
			t.Fatalf("%+v, %v", w, err)
		}
	}
	foreign, _ := causal.Object{}.Put(nil, causal.Actor{Node: causal.NodeID{9}, Incarnation: 1, Seq: 1}, causal.Value{Bytes: []byte("later"), TimeMs: 99})
	if err := f.Apply(t.Context(), f.target("last", "k"), foreign, "", store.Sync); err != nil {
		t.Fatal(err)
	}
	o, err := f.Read(f.target("last", "k"), false)
	if err != nil || len(o.Versions) != 1 || string(o.Versions[0].Bytes) != "later" || len(o.Context) != 2 {
		t.Fatalf("%+v, %v", o, err)
	}
}

// A write of a slow clock is later than what it supersedes all the same: else what that had won over would win over the write
// on a third replica, and a join of the two would have nothing.
func TestLWWIsNotBeforeWhatItSupersedes(t *testing.T) {
	f := newFixture(t)
	at := func(node byte, ms uint64) causal.Object {
		o, _ := causal.Object{}.Put(nil, causal.Actor{Node: causal.NodeID{node}, Incarnation: 1, Seq: 1}, causal.Value{Bytes: []byte{node}, TimeMs: ms})
		return o
	}
	early, late := at(8, 1000), at(9, 2000)
	if err := f.Apply(t.Context(), f.target("last", "k"), late, "", store.Sync); err != nil {
		t.Fatal(err)
	}
	w, err := f.put(t, "last", conflict.Policy{Conflict: config.PolicyLWW, MaxValueBytes: 100}, causal.Basis{}, "slow")
	if err != nil {
		t.Fatal(err)
	}
	here, there := late.Join(early).Last().Join(w.Object).Last(), early.Join(w.Object).Last()
	if o := here.Join(there).Last(); len(o.Versions) != 1 || string(o.Versions[0].Bytes) != "slow" {
		t.Errorf("%+v is left of %+v and %+v", o, here, there)
	}
}

func TestCapAndRefusal(t *testing.T) {
	f := newFixture(t)
	lawful := conflict.Policy{Conflict: config.PolicyResolver, MaxValueBytes: 1000, Lawful: true, Epoch: 1}
	limit := config.DefaultLimits().MaxSiblings
	for i := range 3 * limit {
		w, err := f.put(t, "notes", lawful, causal.Basis{}, string(rune('A'+i)))
		if err != nil || len(w.Object.Versions) > limit {
			t.Fatalf("write %d: %d siblings, %v", i, len(w.Object.Versions), err)
		}
	}
	o, err := f.Read(f.target("notes", "k"), false)
	if err != nil {
		t.Fatal(err)
	}
	held := map[rune]bool{}
	for _, v := range o.Versions {
		for _, r := range string(v.Bytes) {
			held[r] = true
		}
	}
	if len(held) != 3*limit || f.merger.calls == 0 {
		t.Fatalf("%d values of %d are there after %d collapses", len(held), 3*limit, f.merger.calls)
	}
	refused := 0
	for range config.DefaultLimits().SiblingRefusal + 5 {
		if _, err := f.put(t, "notes", siblings(), causal.Basis{}, "x"); errors.Is(err, ErrTooManySiblings) {
			refused++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if refused == 0 {
		t.Fatal("siblings without end")
	}
	o, err = f.Read(f.target("notes", "k"), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.put(t, "notes", siblings(), causal.Basis{Context: o.Context}, "covering"); err != nil {
		t.Fatalf("a write that covers everything was refused: %v", err)
	}
}

// TestConcurrentBlindWrites: no write is lost and no dot given twice, whoever writes beside whom.
func TestConcurrentBlindWrites(t *testing.T) {
	f := newFixture(t)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			if _, err := f.put(t, "notes", siblings(), causal.Basis{}, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	o, err := f.Read(f.target("notes", "k"), false)
	if err != nil || len(o.Versions) != 64 || o.Live().Count() != 64 {
		t.Fatalf("%d versions, %v", len(o.Versions), err)
	}
}

func TestDroppedKeyspace(t *testing.T) {
	f := newFixture(t)
	target := f.target("notes", "k")
	if err := f.state.DropKeyspace(t.Context(), "notes"); err != nil {
		t.Fatal(err)
	}
	if err := f.Apply(t.Context(), target, causal.Object{}, "", store.Sync); !errors.Is(err, ErrDropped) {
		t.Fatal(err)
	}
	if _, err := f.Read(target, true); !errors.Is(err, ErrDropped) {
		t.Errorf("read: %v", err)
	}
	if _, err := f.List(&wire.List{KeyspaceID: target.KeyspaceID, Limit: 1}); !errors.Is(err, ErrDropped) {
		t.Errorf("list: %v", err)
	}
	if _, err := f.Write(t.Context(), Write{Target: target, Policy: siblings()}); !errors.Is(err, ErrDropped) {
		t.Fatal(err)
	}
}

func TestListIsInByteOrderAndPages(t *testing.T) {
	f := newFixture(t)
	var want []string
	for i := range 50 {
		key := fmt.Sprintf("k%02d", (i*7)%50)
		want = append(want, key)
		target := f.target("notes", key)
		if _, err := f.Write(t.Context(), Write{Target: target, Policy: siblings(), Value: causal.Value{Bytes: []byte("v")}}); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(want)
	var got []string
	l := wire.List{Keyspace: "notes", KeyspaceID: f.target("notes", "").KeyspaceID, Limit: 7}
	for {
		page, err := f.List(&l)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			got = append(got, string(e.Key))
			l.After = e.Key
			if o, err := causal.DecodeObject(e.Object); err != nil || len(o.Versions) != 1 || len(o.Versions[0].Bytes) != 0 {
				t.Fatalf("entry %s: %+v, %v", e.Key, o, err)
			}
		}
		if !page.More {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got %v", got)
	}
}
