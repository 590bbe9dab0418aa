package fuel_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"dynamo/resolver/fuel"
)

type job struct {
	name string
	arg  uint64
}

func scriptJobs() []job {
	return []job{{"nbody", 500}, {"words", 500}, {"sieve", 5000}, {"fib", 15}, {"vectors", 500}, {"tight", 1000}}
}

func script(t testing.TB) []byte {
	t.Helper()
	return guest(t, "assemblyscript.wasm")
}

func guest(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pair is a module before and after.
func pair(t testing.TB, m machine, module []byte) (before, after func(units, slice uint64) run) {
	t.Helper()
	res := mustRewrite(t, module, fuel.Options{})
	plain, rewritten := m.compile(module), m.compile(res.Module)
	return func(units, slice uint64) run { return m.mustInstantiate(plain, units, slice) },
		func(units, slice uint64) run { return m.mustInstantiate(rewritten, units, slice) }
}

// same calls both and compares results and memories.
func same(t *testing.T, a, b run, name string, args ...uint64) {
	t.Helper()
	want, wantErr := a.call(name, args...)
	got, gotErr := b.call(name, args...)
	if (wantErr == nil) != (gotErr == nil) {
		t.Fatalf("%s(%v): %v before, %v after", name, args, wantErr, gotErr)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s(%v) = %x, want %x", name, args, got, want)
	}
	if a.state() != b.state() {
		t.Errorf("%s(%v): memories differ", name, args)
	}
}

// TestScript runs a guest without a garbage-collected runtime of its own in
// the host's way: many functions of one instance, floats and vectors.
func TestScript(t *testing.T) {
	t.Parallel()
	m := newMachine(t, false, "")
	before, after := pair(t, m, script(t))
	a, b := before(0, 0), after(plenty, 1000)
	single := map[string]uint64{}
	for range 2 {
		for _, j := range scriptJobs() {
			start := b.used()
			same(t, a, b, j.name, j.arg)
			fresh := after(plenty, 0)
			if _, err := fresh.call(j.name, j.arg); err != nil {
				t.Fatal(err)
			}
			if first, again := single[j.name], fresh.used(); first != 0 && first != again {
				t.Errorf("%s took %d units, then %d", j.name, first, again)
			}
			single[j.name] = fresh.used()
			if b.used() <= start {
				t.Errorf("%s took nothing", j.name)
			}
		}
	}
}

// TestClang runs what LLVM makes.
func TestClang(t *testing.T) {
	t.Parallel()
	m := newMachine(t, false, "")
	before, after := pair(t, m, guest(t, "clang.wasm"))
	a, b, c := before(0, 0), after(plenty, 0), after(plenty, 333)
	for _, n := range []uint64{1, 10, 300, 1, 3000} {
		for _, name := range []string{"interp", "sort", "dbl", "structs", "acker"} {
			same(t, a, b, name, n)
			if _, err := c.call(name, n); err != nil {
				t.Fatal(err)
			}
			if b.used() != c.used() || b.state() != c.state() {
				t.Errorf("after %s(%d): %d and %d units, or other states", name, n, b.used(), c.used())
			}
		}
	}
}

// TestStopsAtTheSameInstruction runs with every kind of budget: it ends with
// the same memory and the same globals however the fuel is sliced, and with
// enough fuel at the result.
func TestStopsAtTheSameInstruction(t *testing.T) {
	t.Parallel()
	m := newMachine(t, false, "")
	res := mustRewrite(t, script(t), fuel.Options{})
	compiled := m.compile(res.Module)
	for _, j := range []job{{"words", 60}, {"nbody", 20}, {"fib", 8}} {
		full := m.mustInstantiate(compiled, plenty, 0)
		want, err := full.call(j.name, j.arg)
		if err != nil {
			t.Fatal(err)
		}
		started := m.mustInstantiate(compiled, plenty, 0).used()
		total := full.used() - started
		seen := map[[32]byte]bool{}
		for i := range uint64(41) {
			units := started + total*i/40
			var state [32]byte
			var globals []uint64
			for k, slice := range []uint64{0, 1, 977} {
				r := m.mustInstantiate(compiled, units, slice)
				got, err := r.call(j.name, j.arg)
				switch {
				case units >= started+total && (err != nil || !slices.Equal(got, want)):
					t.Fatalf("%s with %d units of %d: %v", j.name, units, total, err)
				case units < started+total && !errors.Is(err, fuel.ErrExhausted):
					t.Fatalf("%s with %d units of %d: %v", j.name, units, total, err)
				case r.used() != units:
					t.Errorf("%s used %d of %d units", j.name, r.used(), units)
				}
				var now []uint64
				for _, g := range res.Info.Globals {
					now = append(now, r.ExportedGlobal(g.Name).Get())
				}
				if k > 0 && (r.state() != state || !slices.Equal(now, globals)) {
					t.Fatalf("%s with %d units: another state with slices of %d", j.name, units, slice)
				}
				state, globals = r.state(), now
			}
			seen[state] = true
		}
		if j.name == "words" && len(seen) < 10 {
			t.Errorf("only %d different ends", len(seen))
		}
	}
}

// TestRestore puts memory and globals back: the same call takes the same fuel
// and leaves the same state, again and again.
func TestRestore(t *testing.T) {
	t.Parallel()
	m := newMachine(t, false, "")
	res := mustRewrite(t, script(t), fuel.Options{})
	if !res.Info.Restorable || len(res.Info.Globals) == 0 {
		t.Fatalf("restorable %v, globals %v", res.Info.Restorable, res.Info.Globals)
	}
	r := m.mustInstantiate(m.compile(res.Module), plenty, 0)
	mem, _ := r.Memory().Read(0, r.Memory().Size())
	mem = bytes.Clone(mem)
	globals := map[string]uint64{}
	for _, g := range res.Info.Globals {
		globals[g.Name] = r.ExportedGlobal(g.Name).Get()
	}
	took, end := uint64(0), [32]byte{}
	for i, between := range append(scriptJobs(), scriptJobs()...) {
		start := r.used()
		if _, err := r.call("words", 300); err != nil {
			t.Fatal(err)
		}
		now := r.state()
		if used := r.used() - start; i > 0 && (used != took || now != end) {
			t.Errorf("after %s: %d units, not %d, or another state", between.name, used, took)
		}
		took, end = r.used()-start, now
		if _, err := r.call(between.name, between.arg); err != nil {
			t.Fatal(err)
		}
		all, _ := r.Memory().Read(0, r.Memory().Size())
		clear(all[copy(all, mem):])
		for name, v := range globals {
			r.ExportedGlobal(name).(api.MutableGlobal).Set(v)
		}
	}
}

// TestGoProgram builds a Go program and runs it both ways.
func TestGoProgram(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds and compiles a Go program")
	}
	path := filepath.Join(t.TempDir(), "guest.wasm")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w -buildid=", "-o", path, "./testdata/guest")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	module, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, false, sharedCache())
	before, after := pair(t, m, module)
	a, b, c := before(0, 0), after(plenty, 0), after(plenty, 12345)
	for _, r := range []run{a, b, c} {
		if _, err := r.call("_initialize"); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"floats", "maps", "recurse", "maps", "panics", "floats"} {
		same(t, a, b, name, 200)
		if _, err := c.call(name, 200); err != nil {
			t.Fatal(err)
		}
		if b.used() != c.used() || b.state() != c.state() {
			t.Errorf("after %s: %d and %d units, or other states", name, b.used(), c.used())
		}
	}
}

func BenchmarkClang(b *testing.B) {
	for _, name := range []string{"interp", "sort", "dbl", "structs", "acker"} {
		compare(b, guest(b, "clang.wasm"), job{name, 4000})
	}
}

func BenchmarkScript(b *testing.B) {
	for _, j := range []job{{"nbody", 50_000}, {"words", 20_000}, {"sieve", 1_000_000}, {"fib", 27}, {"vectors", 1_000_000}, {"tight", 10_000_000}} {
		compare(b, script(b), j)
	}
}

// compare runs a job as it is, in the engine's interruptible mode, and rewritten.
func compare(b *testing.B, module []byte, j job) {
	for _, c := range []string{"plain", "interruptible", "rewritten"} {
		b.Run(fmt.Sprintf("%s/%s", j.name, c), func(b *testing.B) {
			code := module
			if c == "rewritten" {
				code = mustRewrite(b, module, fuel.Options{}).Module
			}
			m := newMachine(b, c == "interruptible", "")
			compiled := m.compile(code)
			r := m.mustInstantiate(compiled, 1<<60, 0)
			for b.Loop() {
				if _, err := r.call(j.name, j.arg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
