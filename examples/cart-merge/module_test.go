package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"dynamo/resolver"
	"dynamo/resolver/laws"
)

// build compiles the guest and embeds its samples as `make examples` does, and returns the module.
func build(t *testing.T) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "cart.wasm")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false",
		"-ldflags=-s -w -buildid=", "-o", out, "./guest")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, text)
	}
	var samples [][]byte
	for i := range 5 {
		samples = append(samples, read(t, fmt.Sprintf("samples/%d.json", i+1)))
	}
	module, err := laws.WithSamples(read(t, out), samples)
	if err != nil {
		t.Fatal(err)
	}
	return module
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestModules runs the same vectors on the committed module and on one built
// now: the former must be what its source says. Their bytes are equal only for
// equal versions of Go, so it is their behaviour that is compared.
func TestModules(t *testing.T) {
	r, err := resolver.New(resolver.Options{
		Logger: slog.New(slog.DiscardHandler), CacheDir: filepath.Join(os.TempDir(), "dynamo-test-modules"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	modules := map[string][]byte{"committed": read(t, "cart.wasm")}
	// Equal bytes need not be run twice.
	if built := build(t); !bytes.Equal(built, modules["committed"]) {
		modules["built"] = built
	}
	for name, code := range modules {
		m, err := r.Load(t.Context(), code, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, v := range vectors {
			req := resolver.Request{Keyspace: "carts", Key: []byte("alice")}
			for _, s := range v.siblings {
				req.Siblings = append(req.Siblings, resolver.Sibling{Value: []byte(s), ContentType: "application/json"})
			}
			got, _, err := m.Merge(t.Context(), req, 1<<20)
			if resolver.CodeOf(err) != v.code || string(got.Payload) != v.want {
				t.Errorf("%s: %q: got %s, %v, want %s", name, v.siblings, got.Payload, err, v.want)
			}
		}
	}
}

var vectors = []struct {
	siblings []string
	want     string
	code     resolver.Code
}{
	{[]string{`{"items":{"pear":1}}`, `{"items":{"apple":2}}`}, `{"items":{"apple":2,"pear":1}}`, ""},
	{[]string{`{"items":{"a":1}}`, `{"items":{"a":3}}`, `{"items":{"a":2,"b":0}}`}, `{"items":{"a":3,"b":0}}`, ""},
	{[]string{`{"items":{}}`, ` {"items": {}}`}, `{"items":{}}`, ""},
	{[]string{`{"items":{"a":1}}`, `{"items":{"a":1,"a":2}}`}, `SKU "a" is there twice`, resolver.CodeGuestError},
	{[]string{`{"items":{"a":1}}`, `{"items":{"a":1.5}}`}, `quantity of "a" must be an integer from 0 to 9007199254740991`, resolver.CodeGuestError},
}
