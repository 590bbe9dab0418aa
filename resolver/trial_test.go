package resolver

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// failures is a Verdicts in memory.
type failures struct {
	mu struct {
		sync.Mutex
		reasons map[[32]byte]string
		err     error
	}
}

func (f *failures) Get(sha [32]byte) (string, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	reason, ok := f.mu.reasons[sha]
	return reason, ok, f.mu.err
}

func (f *failures) Put(sha [32]byte, reason string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.reasons == nil {
		f.mu.reasons = map[[32]byte]string{}
	}
	if f.mu.reasons[sha] = reason; reason == "" {
		delete(f.mu.reasons, sha)
	}
	return nil
}

func (f *failures) known() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, v := range f.mu.reasons {
		if v != verdictPassed {
			n++
		}
	}
	return n
}

// child is this test binary: see TestMain.
func child(t *testing.T) []string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{exe, "trial"}
}

func trialRuntime(t *testing.T, trial Trial, failed Verdicts, dir string) *Runtime {
	t.Helper()
	r, err := New(Options{Limits: testLimits(), Trial: &trial, Verdicts: failed, CacheDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestTrialPasses(t *testing.T) {
	dir, module := t.TempDir(), hoarder(false).build()
	for _, dir := range []string{"", dir} {
		failed := &failures{}
		m := mustCompile(t, trialRuntime(t, Trial{Command: child(t)}, failed, dir), module)
		if got := mergeKey(m, 0); got.code != "" {
			t.Errorf("%+v", got)
		}
		if failed.known() != 0 {
			t.Error("a module that passed is remembered as failed")
		}
		// After a restart, no child is needed.
		mustCompile(t, trialRuntime(t, Trial{Command: []string{"/nonexistent"}}, failed, ""), module)
	}
	// Nor where the machine code is.
	mustCompile(t, trialRuntime(t, Trial{Command: []string{"/nonexistent"}}, &failures{}, dir), module)
}

// heavy is within the limits of Check, but takes the compiler seconds: each `i32.const br_if` begins a basic
// block.
func heavy() []byte {
	a := resolverModule(nil, nil)
	for range 5 {
		a.f = append(a.f, fn{code: bytes.Repeat(append(i32(0), opBrIf, 0), 8000)})
	}
	return a.build()
}

func TestTrialFails(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("memory and processor time are limited on Linux and macOS only; tested on Linux")
		return
	}
	module := heavy()
	for _, c := range []struct {
		name  string
		trial Trial
		says  string
	}{
		{"time", Trial{Wall: 700 * time.Millisecond}, "not compiled within"},
		{"memory", Trial{MemoryBytes: 80 << 20}, "died"},
		{"processor time", Trial{CPU: time.Second}, "died"},
	} {
		failed := &failures{}
		c.trial.Command = child(t)
		r := trialRuntime(t, c.trial, failed, "")
		_, err := r.Load(t.Context(), module, nil)
		if CodeOf(err) != CodeCompile || !strings.Contains(err.Error(), c.says) || failed.known() != 1 {
			t.Fatalf("%s: got %v, %d remembered", c.name, err, failed.known())
		}
		t.Logf("%s: %v", c.name, err)
		// After a restart, no child is started for it.
		again := trialRuntime(t, Trial{Command: []string{"/nonexistent"}}, failed, "")
		if _, err := again.Load(t.Context(), module, nil); CodeOf(err) != CodeCompile || !strings.Contains(err.Error(), "failed before") {
			t.Errorf("%s: got %v", c.name, err)
		}
		if err := again.Retry(Identity(module, nil)); err != nil || failed.known() != 0 {
			t.Errorf("%s: %v, %d remembered", c.name, err, failed.known())
		}
	}
}

// TestTrialThatIsNotTheModulesFault remembers nothing.
func TestTrialThatIsNotTheModulesFault(t *testing.T) {
	module := hoarder(false).build()
	failed := &failures{}
	for name, command := range map[string][]string{
		"no program":      {"/nonexistent"},
		"another program": {child(t)[0], "-test.run=^$"},
		"one that dies":   {child(t)[0], "-test.nonsense"},
	} {
		if _, err := trialRuntime(t, Trial{Command: command}, failed, "").Load(t.Context(), module, nil); CodeOf(err) != CodeUnavailable {
			t.Errorf("%s: got %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := trialRuntime(t, Trial{Command: child(t)}, failed, "")
	if _, err := r.Load(ctx, module, nil); CodeOf(err) != CodeCanceled {
		t.Errorf("got %v", err)
	}
	failed.mu.err = errors.New("the disk is gone")
	if _, err := r.Load(t.Context(), module, nil); CodeOf(err) != CodeUnavailable {
		t.Errorf("got %v", err)
	}
	if failed.known() != 0 {
		t.Error("remembered as failed")
	}
}

func TestTrialRefusesNonsense(t *testing.T) {
	for name, in := range map[string]string{
		"nothing": "", "half a length": "\x00\x00", "huge header": "\xff\xff\xff\xff", "no header": "\x00\x00\x00\x02",
		"not JSON": "\x00\x00\x00\x02ab", "other version": "\x00\x00\x00\x0d" + `{"version":2}`,
	} {
		var out bytes.Buffer
		if err := TrialMain(t.Context(), strings.NewReader(in), &out); err == nil || out.Len() > 0 {
			t.Errorf("%s: %v, %q", name, err, out.String())
		}
	}
}
