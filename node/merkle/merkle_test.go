package merkle

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"dynamo/node/causal"
)

// rebuilt is the judge: the digests of all branches, computed from scratch.
func rebuilt(keys map[string]causal.Hash) (t Tree) {
	for k, h := range keys {
		b := PositionOf([]byte(k)).Branch()
		t.SetBranch(b, t.Branch(b).Add(Item([]byte(k), h)))
	}
	return t
}

func drawHash(t *rapid.T) causal.Hash {
	return causal.Hash{byte(rapid.IntRange(0, 3).Draw(t, "hash")), 1}
}

func TestIncrementalTreeIsTheRebuiltOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := make(map[string]causal.Hash)
		var tree Tree
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			k := fmt.Sprint(rapid.IntRange(0, 20).Draw(t, "key"))
			h := drawHash(t)
			if rapid.Bool().Draw(t, "remove") {
				h = causal.Hash{}
			}
			b := PositionOf([]byte(k)).Branch()
			tree.SetBranch(b, tree.Branch(b).Sub(Item([]byte(k), keys[k])).Add(Item([]byte(k), h)))
			if keys[k] = h; h == (causal.Hash{}) {
				delete(keys, k)
			}
		}
		if want := rebuilt(keys); tree != want {
			t.Fatalf("incremental %v, rebuilt %v", tree.Root(), want.Root())
		}
		if tree.Root().Count != uint64(len(keys)) {
			t.Fatalf("counts %d keys, there are %d", tree.Root().Count, len(keys))
		}
	})
}

func TestTreesOfDifferentKeysDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gen := rapid.Custom(func(t *rapid.T) map[string]causal.Hash {
			m := make(map[string]causal.Hash)
			for range rapid.IntRange(0, 8).Draw(t, "n") {
				m[fmt.Sprint(rapid.IntRange(0, 5).Draw(t, "key"))] = drawHash(t)
			}
			return m
		})
		a, b := gen.Draw(t, "a"), gen.Draw(t, "b")
		ta, tb := rebuilt(a), rebuilt(b)
		if maps.Equal(a, b) != (ta == tb) {
			t.Fatalf("equal keys: %t, equal trees: %t", maps.Equal(a, b), ta == tb)
		}
		// Every key that differs is under a branch that differs.
		differ := Differ(ta.branches[:], tb.branches[:])
		for k := range a {
			if a[k] != b[k] && !slices.Contains(differ, PositionOf([]byte(k)).Branch()) {
				t.Fatalf("key %s differs, its branch does not", k)
			}
		}
	})
}

func TestSwappedObjectsShow(t *testing.T) {
	x, y := causal.Hash{1}, causal.Hash{2}
	a := Item([]byte("k"), x).Add(Item([]byte("l"), y))
	b := Item([]byte("k"), y).Add(Item([]byte("l"), x))
	if a == b {
		t.Fatal("two keys that swapped their objects have one digest")
	}
}

func TestKeysSpreadOverLeaves(t *testing.T) {
	var n [Positions]int
	const keys = Positions * 64
	for i := range keys {
		n[PositionOf(fmt.Appendf(nil, "user:%08d", i))]++
	}
	if most := slices.Max(n[:]); most > 110 {
		t.Fatalf("a leaf holds %d keys where 64 are expected", most)
	}
	if least := slices.Min(n[:]); least < 28 {
		t.Fatalf("a leaf holds %d keys where 64 are expected", least)
	}
}

// The place and the item of a key are part of the protocol between nodes and of the format on disk.
func TestGolden(t *testing.T) {
	if p := PositionOf([]byte("cart:7")); p != 2171 {
		t.Errorf("position %d", p)
	}
	b := Item([]byte("cart:7"), causal.Hash{1, 2, 3}).AppendTo(nil)
	if got := hex.EncodeToString(b); got != "074b88abb2d228724fa049614cf9b2400000000000000001" {
		t.Errorf("item %s", got)
	}
	d, err := DecodeDigest(b)
	if err != nil || d != Item([]byte("cart:7"), causal.Hash{1, 2, 3}) {
		t.Errorf("decoded %v, %v", d, err)
	}
	for n := range 40 {
		if _, err := DecodeDigest(make([]byte, n)); (err == nil) != (n == DigestBytes) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func BenchmarkItem(b *testing.B) {
	key := []byte("user:00001234")
	for b.Loop() {
		Item(key, causal.Hash{1})
	}
}
