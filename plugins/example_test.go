//go:build !race

package plugins_test

import (
	"os"
	"testing"

	"pgregory.net/rapid"
)

// TestCartIsTheExample: the plugin and examples/cart-merge agree in every byte. Under the race detector,
// compiling the example alone takes 20 s.
func TestCartIsTheExample(t *testing.T) {
	r := newRuntime(t)
	b, err := os.ReadFile("../examples/cart-merge/cart.wasm")
	if err != nil {
		t.Fatal(err)
	}
	example, err := r.Load(t.Context(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	ours := load(t, r, "cart")
	v := readVectors(t, "cart")
	for _, bad := range v.Refused {
		_, err1 := merge(example, v.Valid, bad)
		_, err2 := merge(ours, v.Valid, bad)
		if !refused(err1) || !refused(err2) {
			t.Errorf("%q: the example says %v, the plugin %v", bad, err1, err2)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		states := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return draw{t}.state("cart") }), 2, 4).Draw(t, "carts")
		if a, b := must(t, example, states...), must(t, ours, states...); a != b {
			t.Fatalf("%q: the example says %s, the plugin %s", states, a, b)
		}
	})
}
