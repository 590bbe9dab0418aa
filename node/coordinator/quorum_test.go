package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"dynamo/node/causal"
)

// objects of three replicas: nothing, one write, a concurrent one, and both joined.
func histories() []causal.Object {
	actor := func(n byte) causal.Actor { return causal.Actor{Node: causal.NodeID{n}, Incarnation: 1, Seq: 1} }
	a, _ := causal.Object{}.Put(nil, actor(1), causal.Value{Bytes: []byte("a")})
	b, _ := causal.Object{}.Put(nil, actor(2), causal.Value{Bytes: []byte("b")})
	return []causal.Object{{}, a, b, a.Join(b)}
}

// permutations of 0..n-1.
func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var out [][]int
	for _, p := range permutations(n - 1) {
		for i := range n {
			out = append(out, slices.Insert(slices.Clone(p), i, n-1))
		}
	}
	return out
}

// TestReadsExhaustive plays every assignment of objects to three replicas, every order of their
// answers, every choice of who sends the object and who only its hash, and every R, against the obvious
// judge: a replica counts when its object is at hand.
func TestReadsExhaustive(t *testing.T) {
	all := histories()
	nodes := []string{"n1", "n2", "n3"}
	cases := 0
	for assign := range 64 {
		held := []causal.Object{all[assign%4], all[assign/4%4], all[assign/16]}
		for withObject := range 8 {
			for _, order := range permutations(3) {
				for need := 1; need <= 3; need++ {
					cases++
					playReads(t, nodes, held, withObject, order, need)
				}
			}
		}
	}
	if cases != 64*8*6*3 {
		t.Fatalf("%d cases", cases)
	}
}

func playReads(t *testing.T, nodes []string, held []causal.Object, withObject int, order []int, need int) {
	t.Helper()
	r := newReads(need, false)
	known := map[causal.Hash]bool{{}: true}
	var judge causal.Object
	var heard []int
	for _, i := range order {
		var o *causal.Object
		if withObject&(1<<i) != 0 {
			o = &held[i]
			known[held[i].Hash()] = true
			judge = judge.Join(held[i])
		}
		heard = append(heard, i)
		// A duplicate of an answer must change nothing.
		r.add(target{node: nodes[i]}, held[i].Hash(), o)
		r.add(target{node: nodes[i]}, held[i].Hash(), o)
		counted := 0
		for _, j := range heard {
			if known[held[j].Hash()] {
				counted++
			}
		}
		if r.have() != counted || r.enough() != (counted >= need) || !r.result().Equal(judge) {
			t.Fatalf("held %v order %v objects %b: have %d, want %d", held, order, withObject, r.have(), counted)
		}
	}
	wantHashes := make(map[causal.Hash]bool)
	for _, j := range heard {
		if !known[held[j].Hash()] {
			wantHashes[held[j].Hash()] = true
		}
	}
	if got := r.wanted(nil); len(got) != len(wantHashes) {
		t.Fatalf("wanted %v, %d hashes are unknown", got, len(wantHashes))
	}
	for _, w := range r.wanted(nil) {
		i := slices.Index(nodes, w.node)
		r.add(w, held[i].Hash(), &held[i])
	}
	full := held[0].Join(held[1]).Join(held[2])
	if r.have() != 3 || !r.result().Equal(full) {
		t.Fatalf("after fetching: have %d", r.have())
	}
	stale := r.stale(full.Hash())
	for i, n := range nodes {
		if slices.Contains(stale, n) == held[i].Equal(full) {
			t.Fatalf("stale %v is wrong about %s", stale, n)
		}
	}
}

func TestReadsForget(t *testing.T) {
	all := histories()
	r := newReads(2, false)
	r.add(target{node: "n1"}, all[1].Hash(), &all[1])
	r.add(target{node: "n2"}, all[2].Hash(), nil)
	if r.enough() {
		t.Fatal("a hash without an object counted")
	}
	r.forget("n2", errors.New("gone"))
	if len(r.wanted(nil)) != 0 || r.have() != 1 || len(r.failed) != 1 {
		t.Fatal("the node was not forgotten")
	}
}

// TestFallbacksAloneCannotSayNothing: only a primary knows that a key was never written.
func TestFallbacksAloneCannotSayNothing(t *testing.T) {
	all := histories()
	r := newReads(2, false)
	r.add(target{node: "n4", hintFor: "n1"}, causal.Hash{}, nil)
	r.add(target{node: "n5", hintFor: "n2"}, causal.Hash{}, nil)
	if r.enough() {
		t.Fatal("two fallbacks without hints made a quorum for nothing")
	}
	r.add(target{node: "n5", hintFor: "n2"}, all[1].Hash(), &all[1])
	if !r.enough() {
		t.Fatal("a hint does not count")
	}
	r = newReads(2, false)
	r.add(target{node: "n4", hintFor: "n1"}, causal.Hash{}, nil)
	r.add(target{node: "n2"}, causal.Hash{}, nil)
	if !r.enough() {
		t.Fatal("a primary does not count")
	}
}

func TestWritesCountEachNodeOnce(t *testing.T) {
	for _, strict := range []bool{false, true} {
		w := newWrites(2, strict)
		w.add(target{node: "n1"})
		w.add(target{node: "n1"})
		if w.enough() {
			t.Fatal("one node counted twice")
		}
		w.add(target{node: "n4", hintFor: "n2"})
		if w.enough() == strict {
			t.Fatalf("strict %v: a hint made %d of 2", strict, w.have())
		}
		w.fail("n3", errors.New("down"))
		if got, want := w.describe("the write", w.have()), fmt.Sprintf("the write needs 2 replicas, %d answered; n3: down", w.have()); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	}
}
