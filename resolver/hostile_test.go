package resolver

import (
	"bytes"
	"math"
	"reflect"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"dynamo/resolver/frame"
	"dynamo/resolver/hostile"
)

// pastLimit is how much longer than its time limit an attack may take, at best of some tries: the machine may be busy.
const (
	pastLimit  = 5 * time.Millisecond
	bestOf     = 20
	mostMemory = 100 << 20
)

func goodModule(t *testing.T, r *Runtime) *Module {
	t.Helper()
	return mustCompile(t, r, resolverModule(frame.AppendResponse(nil, Response{Payload: []byte("ok")}), nil).build())
}

func stillMerges(t *testing.T, good *Module) {
	t.Helper()
	if got, _, err := good.Merge(t.Context(), twoSiblings(), 100); err != nil || string(got.Payload) != "ok" {
		t.Errorf("afterwards a good module gives %+v, %v", got, err)
	}
}

// TestAttacks: each is refused, or fails as it should, or has no effect; it takes its share of memory at most, and the
// next merge is as good as ever. In the end nothing is left.
func TestAttacks(t *testing.T) {
	l := DefaultLimits()
	l.Timeout = 20 * time.Second // fuel ends them, however slow the machine
	l.Fuel = 10_000_000
	r, other := newRuntime(t, l), newRuntime(t, l)
	good := goodModule(t, r)
	stillMerges(t, good)
	for _, a := range hostile.States()[:1] { // what the first use of an engine takes for ever
		mergeTwice(t, other, a)
	}
	mappings, goroutines, reserved := executableMappings(t), runtime.NumGoroutine(), reservedBytes(t)
	for _, a := range hostile.Attacks() {
		t.Run(a.Name, func(t *testing.T) {
			begin, peak := time.Now(), watchMemory(t)
			m, err := r.Load(t.Context(), a.Module, a.Config)
			if CodeOf(err) != Code(a.Refused) {
				t.Fatalf("got %v, want %q", err, a.Refused)
			}
			if took := time.Since(begin); took > 5*time.Second && !underRace {
				t.Errorf("loaded, or not, for %v", took)
			}
			if m != nil {
				peak = watchMemory(t) // nodes compile in a child: only the merges count
				mergeAndCompare(t, m, other, a)
			}
			n := peak()
			if t.Logf("%d MB of memory", n>>20); n > mostMemory && !underRace {
				t.Errorf("%d MB of memory, limit %d", n>>20, mostMemory>>20)
			}
			stillMerges(t, good)
		})
	}
	debug.FreeOSMemory()
	if n := executableMappings(t); n > mappings {
		t.Errorf("pieces of machine code: %d, then %d", mappings, n)
	}
	if n := reservedBytes(t); n > reserved+1<<30 && !underRace { // each of a hundred had three memories of up to 64 MiB
		t.Errorf("address space: %d MB, then %d", reserved>>20, n>>20)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("goroutines: %d, then %d", goroutines, n)
	}
}

// mergeAndCompare merges with a module twice, in two runtimes: all must answer the same.
func mergeAndCompare(t *testing.T, m *Module, other *Runtime, a hostile.Attack) {
	t.Helper()
	begin := time.Now()
	first, outcome, err := m.Merge(t.Context(), twoSiblings(), 100)
	if CodeOf(err) != Code(a.Fails) {
		t.Errorf("got %v, want %q", err, a.Fails)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	again, cost, err := m.Merge(t.Context(), twoSiblings(), 100)
	if CodeOf(err) != Code(a.Fails) || !reflect.DeepEqual(first, again) || cost.Fuel != outcome.Fuel {
		t.Errorf("first %+v for %d units, then %+v, %v for %d", first, outcome.Fuel, again, err, cost.Fuel)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if a.Fails == "" {
		if got, fuel := mergeTwice(t, other, a); !bytes.Equal(got.Payload, first.Payload) || fuel != outcome.Fuel {
			t.Errorf("%q for %d units here, %q for %d there", first.Payload, outcome.Fuel, got.Payload, fuel)
		}
	}
}

func mergeTwice(t *testing.T, r *Runtime, a hostile.Attack) (Response, uint64) {
	t.Helper()
	m := mustCompile(t, r, a.Module)
	var got Response
	var cost Outcome
	var err error
	for range 2 {
		if got, cost, err = m.Merge(t.Context(), twoSiblings(), 100); err != nil {
			t.Error(err)
		}
	}
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
	return got, cost.Fuel
}

// TestAttacksMeetTheClock: with fuel without end, those which would go on meet the time limit.
func TestAttacksMeetTheClock(t *testing.T) {
	l := DefaultLimits()
	l.Timeout, l.Fuel = 15*time.Millisecond, math.MaxInt64
	r := newRuntime(t, l)
	good := goodModule(t, r)
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // what is measured is not the collector
	for _, a := range hostile.Attacks() {
		if !a.Clock {
			continue
		}
		t.Run(a.Name, func(t *testing.T) {
			m, err := r.Load(t.Context(), a.Module, a.Config)
			if a.Config != nil {
				if CodeOf(err) != CodeTimeout {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			best := time.Duration(math.MaxInt64)
			for range bestOf {
				begin := time.Now()
				_, _, err := m.Merge(t.Context(), twoSiblings(), 100)
				if best = min(best, time.Since(begin)); CodeOf(err) != CodeTimeout {
					t.Fatalf("got %v", err)
				}
				if best <= l.Timeout+pastLimit {
					break
				}
			}
			if t.Logf("at best %v", best); best > l.Timeout+pastLimit && !underRace {
				t.Errorf("%v, limit %v", best, l.Timeout)
			}
			if err := m.Close(t.Context()); err != nil {
				t.Error(err)
			}
			stillMerges(t, good)
		})
	}
}

// TestDeepestRecursion: at the deepest limit too, the stack is bounded.
func TestDeepestRecursion(t *testing.T) {
	l := DefaultLimits()
	l.Timeout, l.CallDepth = 20*time.Second, maxCallDepth
	r := newRuntime(t, l)
	for _, a := range hostile.Stacks() {
		m := mustCompile(t, r, a.Module)
		peak := watchMemory(t)
		if _, _, err := m.Merge(t.Context(), twoSiblings(), 100); CodeOf(err) != Code(a.Fails) {
			t.Errorf("%s: got %v", a.Name, err)
		}
		n := peak()
		if t.Logf("%s: %d MB", a.Name, n>>20); n > mostMemory && !underRace {
			t.Errorf("%s: the stack took %d MB", a.Name, n>>20)
		}
		if err := m.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
