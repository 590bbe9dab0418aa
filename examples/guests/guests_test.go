// Package guests_test demands one behaviour of the cart merge in all its languages.
package guests_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dynamo/examples/cart-merge/cart"
	"dynamo/resolver"
)

type vector struct {
	Name     string   `json:"name"`
	Siblings []string `json:"siblings"`
	// Base64 are Siblings that are no text.
	Base64   []string `json:"siblings_base64"`
	Ancestor *string  `json:"ancestor"`
	// Want is the merged value; without it the merge has to be refused.
	Want *string `json:"want"`
}

func (v vector) request(t *testing.T) resolver.Request {
	t.Helper()
	values := make([][]byte, 0, len(v.Siblings)+len(v.Base64))
	for _, s := range v.Siblings {
		values = append(values, []byte(s))
	}
	for _, s := range v.Base64 {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, b)
	}
	req := request(values)
	if v.Ancestor != nil {
		req.Siblings = slices.Insert(req.Siblings, 0, resolver.Sibling{Value: []byte(*v.Ancestor), ContentType: cart.ContentType, Ancestor: true})
	}
	return req
}

func request(values [][]byte) resolver.Request {
	req := resolver.Request{Keyspace: "carts", Key: []byte("alice")}
	for i, v := range values {
		req.Siblings = append(req.Siblings, resolver.Sibling{Value: v, ContentType: cart.ContentType, TimeMs: uint64(i)})
	}
	return req
}

func vectors(t *testing.T) []vector {
	t.Helper()
	var out []vector
	if err := json.Unmarshal(read(t, "testdata/vectors.json"), &out); err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("only %d vectors", len(out))
	}
	return out
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// built is the module that a command makes when OUT among its words is the file to write.
func built(t testing.TB, env []string, command ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "cart.wasm")
	command[slices.Index(command, "OUT")] = out
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append(os.Environ(), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", command, err, text)
	}
	return read(t, out)
}

// modules are the committed ones, and those that are built now: Go's are too large to commit.
func modules(t testing.TB) map[string]*resolver.Module {
	t.Helper()
	wasip1 := []string{"GOOS=wasip1", "GOARCH=wasm"}
	code := map[string][]byte{
		"Rust":           read(t, "rust/cart.wasm"),
		"C":              read(t, "c/cart.wasm"),
		"AssemblyScript": read(t, "assemblyscript/cart.wasm"),
		"Go":             built(t, wasip1, "go", "build", "-trimpath", "-buildvcs=false", "-buildmode=c-shared", "-ldflags=-s -w -buildid=", "-o", "OUT", "./go"),
		"Go, own parser": built(t, wasip1, "go", "build", "-trimpath", "-buildvcs=false", "-buildmode=c-shared", "-ldflags=-s -w -buildid=", "-o", "OUT", "./go-parser"),
		"C, as command":  read(t, "c-command/cart.wasm"),
		"Go, as command": built(t, wasip1, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", "OUT", "./command-go"),
	}
	// A runtime compiles one module at a time, and Go's take long under the race detector: each has its own.
	out := map[string]*resolver.Module{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for name, c := range code {
		limits := resolver.DefaultLimits()
		limits.Fuel, limits.Timeout = 1<<40, time.Minute // a Go guest takes a few hundred million for 5000 SKUs
		r, err := resolver.New(resolver.Options{
			Limits: limits,
			Logger: slog.New(slog.DiscardHandler), CacheDir: filepath.Join(os.TempDir(), "dynamo-test-modules"),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := r.Close(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			m, err := r.Load(t.Context(), c, nil)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out[name] = m
		})
	}
	wg.Wait()
	if len(out) != len(code) {
		t.FailNow()
	}
	for name, m := range out {
		want := resolver.ABIFunction
		if strings.HasSuffix(name, "as command") {
			want = resolver.ABICommand
		}
		if m.Info().ABI != want {
			t.Errorf("%s is of the form %v", name, m.Info().ABI)
		}
	}
	return out
}

// demand runs one merge everywhere. Nil means that it has to be refused.
func demand(t *testing.T, all map[string]*resolver.Module, name string, req resolver.Request, want []byte) {
	t.Helper()
	for language, m := range all {
		got, _, err := m.Merge(t.Context(), req, 1<<20)
		switch {
		case want == nil:
			if resolver.CodeOf(err) != resolver.CodeGuestError || len(got.Payload) == 0 {
				t.Errorf("%s: %s: got %q, %v, want a refusal", language, name, got.Payload, err)
			}
		case err != nil:
			t.Errorf("%s: %s: %v", language, name, err)
		case got.Status != resolver.StatusValue || got.ContentType != cart.ContentType || !bytes.Equal(got.Payload, want):
			t.Errorf("%s: %s: got %v, %s, %q, want %q", language, name, got.Status, got.ContentType, got.Payload, want)
		}
	}
}

func TestLanguages(t *testing.T) {
	all := modules(t)
	t.Run("vectors", func(t *testing.T) {
		for _, v := range vectors(t) {
			var want []byte
			if v.Want != nil {
				want = []byte(*v.Want)
			}
			demand(t, all, v.Name, v.request(t), want)
		}
	})
	// The merge in Go, outside of WebAssembly, is the judge of inputs that nobody thought of.
	t.Run("random", func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		refused := 0
		const rounds = 150
		for i := range rounds {
			values := [][]byte{randomCart(r), randomCart(r), randomCart(r)}[:2+r.IntN(2)]
			if i%2 == 1 {
				values[0] = damage(r, values[0])
			}
			want, err := cart.Merge(values)
			if err != nil {
				refused++
				want = nil
			}
			demand(t, all, fmt.Sprintf("%q", values), request(values), want)
		}
		if refused < rounds/10 || refused > rounds*9/10 {
			t.Errorf("%d of %d were refused: the inputs are one-sided", refused, rounds)
		}
	})
}

// BenchmarkMerge merges two carts, in an instance that is there already.
func BenchmarkMerge(b *testing.B) {
	all := modules(b)
	for _, skus := range []int{2, 5000} {
		req := request([][]byte{plainCart(skus, 0), plainCart(skus, 1)})
		for language, m := range all {
			b.Run(fmt.Sprintf("%s/%d", language, skus), func(b *testing.B) {
				for b.Loop() {
					if _, _, err := m.Merge(b.Context(), req, 1<<20); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// plainCart is spelled as the merge spells it, 18 bytes a SKU. Carts of different seeds have no SKU in common.
func plainCart(skus, seed int) []byte {
	var items []string
	for i := range skus {
		items = append(items, fmt.Sprintf(`"sku-%08d":%d`, 2*i+seed, i%97))
	}
	return []byte(`{"items":{` + strings.Join(items, ",") + `}}`)
}

// randomCart has SKUs of characters where spellings and orders differ.
func randomCart(r *rand.Rand) []byte {
	letters := []string{
		"a", "B", "é", "ß", "€", "😀", "\ue000", "\uffff", "\u2028", "\x7f", "/", " ", "<", `\"`, `\\`, `\/`, `\n`, `\b`, `\t`,
		`\u0000`, `\u001f`, `\u00E9`, `\u20ac`, `\ud83d\ude00`, `\uD800\uDC00`, `\u2029`,
	}
	var items []string
	for i := range r.IntN(8) {
		var sku strings.Builder
		for range r.IntN(4) {
			sku.WriteString(letters[r.IntN(len(letters))])
		}
		if r.IntN(3) > 0 {
			fmt.Fprintf(&sku, "%d", i) // mostly no SKU twice
		}
		items = append(items, fmt.Sprintf(`"%s"%s:%d`, &sku, strings.Repeat(" ", r.IntN(2)), r.Uint64N(1<<53)>>r.IntN(54)))
	}
	return []byte(`{"items":{` + strings.Join(items, ",") + `}}`)
}

// damage changes, drops or doubles a byte somewhere.
func damage(r *rand.Rand, b []byte) []byte {
	i := r.IntN(len(b))
	alphabet := "\"\\{}:,0129.eu \n\x00\x80\xc3\xed\xff"
	switch r.IntN(3) {
	case 0:
		b[i] = alphabet[r.IntN(len(alphabet))]
	case 1:
		b = slices.Delete(b, i, i+1)
	case 2:
		b = slices.Insert(b, i, alphabet[r.IntN(len(alphabet))])
	}
	return b
}
