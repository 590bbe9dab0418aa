package coordinator

import (
	"testing"

	"dynamo/node/causal"
)

// TestStrictReadsCountPrimaries: with sloppy=false the answer of a fallback is joined and does not count, or a read might miss
// what primaries have acknowledged.
func TestStrictReadsCountPrimaries(t *testing.T) {
	for _, strict := range []bool{false, true} {
		r := newReads(2, strict)
		r.add(target{node: "a"}, causal.Hash{}, nil)
		o, _ := causal.Object{}.Put(nil, causal.Actor{Seq: 1}, causal.Value{Bytes: []byte("v")})
		r.add(target{node: "d", hintFor: "b"}, o.Hash(), &o)
		if r.enough() == strict {
			t.Errorf("strict %t: one primary and one fallback are enough: %t", strict, r.enough())
		}
		if len(r.joined.Versions) != 1 {
			t.Errorf("strict %t: what the fallback has is not shown", strict)
		}
		r.add(target{node: "c"}, causal.Hash{}, nil)
		if !r.enough() {
			t.Errorf("strict %t: two primaries are not enough", strict)
		}
	}
}
