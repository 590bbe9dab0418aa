package guests_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"dynamo/examples/guests/parse"
	"dynamo/plugins"
	"dynamo/resolver"
)

// contender merges the two carts of the benchmark in one of the ways.
type contender struct {
	name  string
	merge func(context.Context) ([]byte, error)
	// most is the largest ratio of its time to that of native-json which TestRatios lets pass; 0: any.
	most float64
}

// benchmarkCarts are two carts of about 200 bytes, which have 11 SKUs in common.
func benchmarkCarts() [][]byte { return [][]byte{twelve(0), twelve(31)} }

func twelve(seed int) []byte {
	var b strings.Builder
	for i := range 12 {
		fmt.Fprintf(&b, `,"sku-%07d":%d`, i*31+seed, i+seed)
	}
	return []byte(`{"items":{` + b.String()[1:] + `}}`)
}

// nativeJSON is what testdata/go-json does in a guest.
func nativeJSON(values [][]byte) ([]byte, error) {
	type cart struct {
		Items map[string]uint64 `json:"items"`
	}
	merged := cart{map[string]uint64{}}
	for _, v := range values {
		var c cart
		if err := json.Unmarshal(v, &c); err != nil {
			return nil, err
		}
		for sku, n := range c.Items {
			merged.Items[sku] = max(merged.Items[sku], n)
		}
	}
	return json.Marshal(merged)
}

// contenders are all ways, native-json first. Each guest's price is the whole one: frame, fuel, time limit, the calls,
// the answer, and putting the instance back.
func contenders(t testing.TB) []contender {
	t.Helper()
	r, err := resolver.New(resolver.Options{Logger: slog.New(slog.DiscardHandler), CacheDir: filepath.Join(os.TempDir(), "dynamo-test-modules")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	carts := benchmarkCarts()
	req := request(carts)
	guest := func(code []byte) func(context.Context) ([]byte, error) {
		m, err := r.Load(t.Context(), code, nil)
		if err != nil {
			t.Fatal(err)
		}
		return func(ctx context.Context) ([]byte, error) {
			resp, _, err := m.Merge(ctx, req, 1<<20)
			if resp.Status == resolver.StatusSelect {
				return req.Siblings[resp.Index].Value, err
			}
			return resp.Payload, err
		}
	}
	gobuild := func(dir string) []byte {
		return built(t, []string{"GOOS=wasip1", "GOARCH=wasm"}, "go", "build", "-trimpath", "-buildvcs=false", "-buildmode=c-shared", "-ldflags=-s -w -buildid=", "-o", "OUT", dir)
	}
	lww, ok := plugins.Module("lww")
	if !ok {
		t.Fatal("no builtin:lww")
	}
	return []contender{
		{"native-json", func(context.Context) ([]byte, error) { return nativeJSON(carts) }, 0},
		{"native-parser", func(context.Context) ([]byte, error) { return parse.Merge(carts) }, 0},
		{"c", guest(read(t, "c/cart.wasm")), 0.45},
		{"c-command", guest(read(t, "c-command/cart.wasm")), 0.7},
		{"assemblyscript", guest(read(t, "assemblyscript/cart.wasm")), 0.75},
		{"rust", guest(read(t, "rust/cart.wasm")), 1.2},
		{"go-parser", guest(gobuild("./go-parser")), 9},
		{"go-json", guest(gobuild("./testdata/go-json")), 30},
		{"go-strict", guest(gobuild("./go")), 0},
		{"select-newest", guest(lww), 0.13},
	}
}

// BenchmarkGuests merges two carts of 200 bytes each in all ways.
func BenchmarkGuests(b *testing.B) {
	all := contenders(b)
	for _, c := range all {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.merge(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	for _, c := range all {
		if c.name != "c" && c.name != "rust" && c.name != "go-parser" {
			continue
		}
		for _, n := range []int{1, 4} {
			b.Run(fmt.Sprintf("parallel%d/%s", n, c.name), func(b *testing.B) { parallel(b, n, c.merge) })
		}
	}
}

// parallel shares b.N merges out to n goroutines.
func parallel(b *testing.B, n int, merge func(context.Context) ([]byte, error)) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := merge(b.Context()); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
