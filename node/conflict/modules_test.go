package conflict

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"dynamo/resolver"
)

// verdicts is a resolver.Verdicts in memory that says the same of everything.
type verdicts struct {
	mu struct {
		sync.Mutex
		verdict string
	}
}

func (v *verdicts) Get([32]byte) (string, bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.verdict, v.mu.verdict != "", nil
}

func (v *verdicts) Put(_ [32]byte, verdict string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.verdict = verdict
	return nil
}

// TestRetry: a module that failed its trial is left alone, and tried again when it is uploaded anew; that there is no
// process to try it in is no fault of its own.
func TestRetry(t *testing.T) {
	module, err := os.ReadFile("../../examples/cart-merge/cart.wasm")
	if err != nil {
		t.Fatal(err)
	}
	sha, now := sha256.Sum256(module), time.UnixMilli(1)
	known := &verdicts{}
	known.mu.verdict = "too slow"
	log := slog.New(slog.DiscardHandler)
	rt, err := resolver.New(resolver.Options{Logger: log, Verdicts: known, Trial: &resolver.Trial{Command: []string{"/nonexistent"}}})
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{
		Runtime: rt, Logger: log, Now: func() time.Time { return now },
		Fetch: func(context.Context, [32]byte) ([]byte, error) { return module, nil },
	})
	defer func() {
		if err := errors.Join(s.Close(context.Background()), rt.Close(context.Background())); err != nil {
			t.Error(err)
		}
	}()
	want := func(what string, code resolver.Code) {
		t.Helper()
		if _, err := s.Load(t.Context(), sha); resolver.CodeOf(err) != code {
			t.Errorf("%s: got %v, want %s", what, err, code)
		}
	}
	want("failed before", resolver.CodeCompile)
	now = now.Add(time.Hour)
	want("an hour later", resolver.CodeCompile)
	if err := s.Retry(sha); err != nil {
		t.Fatal(err)
	}
	want("after retry", resolver.CodeUnavailable)
	if verdict, ok, _ := known.Get(sha); ok {
		t.Errorf("remembered %q", verdict)
	}
	known.mu.verdict = "too slow" // seen only if it is loaded once more
	want("at once", resolver.CodeUnavailable)
	now = now.Add(refetchAfter + time.Millisecond)
	want("somewhat later", resolver.CodeCompile)
}

// slowStart is a module whose configuration never ends.
func slowStart() []byte {
	section := func(id byte, content []byte) []byte { return slices.Concat([]byte{id, byte(len(content))}, content) }
	export := func(name string, kind, index byte) []byte {
		return slices.Concat([]byte{byte(len(name))}, []byte(name), []byte{kind, index})
	}
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		section(1, []byte{3, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 2, 0x7f, 0x7f, 1, 0x7e, 0x60, 2, 0x7f, 0x7f, 1, 0x7f}),
		section(3, []byte{3, 0, 1, 2}),
		section(5, []byte{1, 0, 1}),
		section(7, slices.Concat([]byte{4}, export("memory", 2, 0), export("dynamo_alloc", 0, 0), export("dynamo_resolve_v1", 0, 1), export("dynamo_configure_v1", 0, 2))),
		section(10, []byte{3, 4, 0, 0x41, 16, 0x0b, 3, 0, 0, 0x0b, 9, 0, 0x03, 0x40, 0x0c, 0, 0x0b, 0x41, 0, 0x0b}),
	)
}

// TestSlowStartIsTriedAgain: a module that had no time to start is started anew later, unlike one that cannot be
// compiled.
func TestSlowStartIsTriedAgain(t *testing.T) {
	f := newFixtureOf(t, trap(), resolver.Limits{
		MemoryBytes: 1 << 20, ModuleBytes: 1 << 20, OutputBytes: 1 << 20, Timeout: 10 * time.Millisecond, CallDepth: 100, Fuel: 1 << 40,
	})
	f.add(slowStart())
	f.add([]byte("config"))
	id := f.add(resolver.Manifest(slowStart(), []byte("config")))
	load := func() *loaded {
		t.Helper()
		if _, err := f.Load(t.Context(), id); resolver.CodeOf(err) != resolver.CodeTimeout {
			t.Fatalf("%v", err)
		}
		f.modules.mu.Lock()
		defer f.modules.mu.Unlock()
		return f.modules.mu.byID[id]
	}
	first := load()
	f.now = f.now.Add(restartAfter)
	if load() != first {
		t.Error("tried again at once")
	}
	f.now = f.now.Add(time.Millisecond)
	if load() == first {
		t.Error("not tried again")
	}
}
