package fuel_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"dynamo/resolver/frame"
	"dynamo/resolver/fuel"
)

func cart(seed, items int) string {
	var b strings.Builder
	for i := range items {
		fmt.Fprintf(&b, `,"sku-%07d":%d`, i*31+seed, i+seed)
	}
	return `{"items":{` + b.String()[1:] + `}}`
}

func carts(values ...string) []byte {
	r := frame.Request{Keyspace: "carts", Key: []byte("alice")}
	for i, v := range values {
		r.Siblings = append(r.Siblings, frame.Sibling{Value: []byte(v), ContentType: "application/json", TimeMs: uint64(1_700_000_000_000 + i)})
	}
	return frame.AppendRequest(nil, r)
}

const plenty = 1 << 40

func TestCart(t *testing.T) {
	t.Parallel()
	module := cartModule(t)
	res := mustRewrite(t, module, fuel.Options{})
	t.Logf("%d -> %d bytes, charges %d, checks %d, counted %d of %d, NaNs %d, compile %.1f s, restorable %v",
		len(module), len(res.Module), res.Info.Charges, res.Info.Checks, res.Info.Counted, res.Info.Functions, res.Info.NaNs,
		float64(res.Info.CompileNs)/1e9, res.Info.Restorable)
	m := newMachine(t, false, sharedCache())
	before, after := m.compile(module), m.compile(res.Module)
	for _, n := range []int{1, 40} {
		frame := carts(cart(0, n), cart(31, n))
		a, b := m.mustInstantiate(before, 0, 0), m.mustInstantiate(after, plenty, 0)
		wantOut, err := a.merge(frame)
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.merge(frame)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, wantOut) {
			t.Errorf("got %q, want %q", got, wantOut)
		}
		if a.state() != b.state() {
			t.Error("memory differs")
		}
		t.Logf("%d items: %d units", n, b.used())
	}
}

func BenchmarkCart(b *testing.B) {
	module := cartModule(b)
	res := mustRewrite(b, module, fuel.Options{})
	for _, items := range []int{12, 100} {
		frame := carts(cart(0, items), cart(31, items))
		for _, c := range []struct {
			name          string
			module        []byte
			interruptible bool
		}{{"plain", module, false}, {"interruptible", module, true}, {"rewritten", res.Module, false}} {
			m := newMachine(b, c.interruptible, sharedCache())
			compiled := m.compile(c.module)
			b.Run(fmt.Sprintf("merge/items=%d/%s", items, c.name), func(b *testing.B) {
				run := m.mustInstantiate(compiled, plenty, 0)
				if _, err := run.merge(frame); err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					if _, err := run.again(frame); err != nil {
						b.Fatal(err)
					}
				}
			})
			if items == 12 {
				b.Run("fresh/"+c.name, func(b *testing.B) {
					for b.Loop() {
						run, err := m.instantiate(compiled, plenty, 0)
						if err != nil {
							b.Fatal(err)
						}
						if _, err := run.merge(frame); err != nil {
							b.Fatal(err)
						}
						_ = run.Close(b.Context())
					}
				})
			}
		}
	}
}
