package conflict

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"os"
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
