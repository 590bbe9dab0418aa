package resolver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dynamo/resolver/frame"
)

func cartModule(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("../examples/cart-merge/cart.wasm")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sharedCache is where all tests keep the cart module's machine code: it takes seconds to make.
func sharedCache() string { return filepath.Join(os.TempDir(), "dynamo-test-modules") }

func carts(values ...string) Request {
	r := Request{Keyspace: "carts", Key: []byte("alice")}
	for i, v := range values {
		r.Siblings = append(r.Siblings, Sibling{Value: []byte(v), ContentType: "application/json", TimeMs: uint64(1_700_000_000_000 + i)})
	}
	return r
}

// TestToolchainGuest runs what a real toolchain made: a Go guest with runtime,
// garbage collector, JSON and reflection.
func TestToolchainGuest(t *testing.T) {
	t.Parallel()
	r := newCachedRuntime(t, DefaultLimits(), sharedCache())
	m := mustCompile(t, r, cartModule(t))
	if m.Info().ABI != ABIFunction || m.WantsDeleted() {
		t.Errorf("info %+v", m.Info())
	}
	got, outcome, err := m.Merge(t.Context(), carts(`{"items":{"pear":1,"apple":2}}`, `{"items":{"apple":3,"fig":1}}`), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"items":{"apple":3,"fig":1,"pear":1}}`; string(got.Payload) != want {
		t.Errorf("got %s, want %s", got.Payload, want)
	}
	if outcome.Duration <= 0 || outcome.MemoryBytes == 0 {
		t.Errorf("outcome %+v", outcome)
	}
	_, _, err = m.Merge(t.Context(), carts(`{"items":{}}`, `{"items":{"a":-1}}`), 1<<20)
	if CodeOf(err) != CodeGuestError || !strings.Contains(err.Error(), "quantity") {
		t.Errorf("got %v", err)
	}
}

func benchmarkCart(seed int) string {
	var b strings.Builder
	for i := range 12 {
		fmt.Fprintf(&b, `,"sku-%07d":%d`, i*31+seed, i+seed)
	}
	return `{"items":{` + b.String()[1:] + `}}`
}

// BenchmarkMerge compares instances that are used again with new ones for each merge.
func BenchmarkMerge(b *testing.B) {
	r := newCachedRuntime(b, DefaultLimits(), sharedCache())
	for _, c := range []struct {
		name   string
		module []byte
		req    Request
	}{
		{"nothing", resolverModule(frame.AppendResponse(nil, Response{}), nil).build(), twoSiblings()},
		{"cart", cartModule(b), carts(benchmarkCart(0), benchmarkCart(31))},
		{"gocommand", goCommand(b), carts("pear\napple", "fig\napple")},
	} {
		for _, instance := range []string{"reset", "new"} {
			b.Run(c.name+"/"+instance, func(b *testing.B) {
				m := mustCompile(b, r, c.module)
				m.restorable = instance == "reset"
				b.ReportAllocs()
				for b.Loop() {
					if _, _, err := m.Merge(b.Context(), c.req, 1<<20); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkReset is what putting an instance back costs.
func BenchmarkReset(b *testing.B) {
	r := newCachedRuntime(b, DefaultLimits(), sharedCache())
	for name, module := range map[string][]byte{"nothing": resolverModule(frame.AppendResponse(nil, Response{}), nil).build(), "cart": cartModule(b)} {
		b.Run(name, func(b *testing.B) {
			m := mustCompile(b, r, module)
			in, _, err := m.fresh(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			defer in.close(b.Context())
			memory, s := in.module.Memory(), m.state.Load()
			for b.Loop() {
				for at := uint32(0); at < memory.Size(); at += memory.Size() / 16 { // 16 pages are written
					memory.WriteByte(at, 7)
				}
				if !in.restore(s) {
					b.Fatal("not restored")
				}
			}
		})
	}
}

// BenchmarkNative is the same work without WebAssembly.
func BenchmarkNative(b *testing.B) {
	values := [][]byte{[]byte(benchmarkCart(0)), []byte(benchmarkCart(31))}
	type cart struct {
		Items map[string]uint64 `json:"items"`
	}
	var out []byte
	for b.Loop() {
		merged := cart{map[string]uint64{}}
		for _, v := range values {
			var c cart
			if err := json.Unmarshal(v, &c); err != nil {
				b.Fatal(err)
			}
			for sku, n := range c.Items {
				merged.Items[sku] = max(merged.Items[sku], n)
			}
		}
		var err error
		if out, err = json.Marshal(merged); err != nil {
			b.Fatal(err)
		}
	}
	if !bytes.Contains(out, []byte("sku")) {
		b.Fatal("nothing merged")
	}
}
