package conflict

import (
	"context"
	"testing"
	"time"

	"dynamo/node/config"
	"dynamo/resolver"
)

// TestTimeoutsAreTriedAgainSooner: running out of wall-clock time is no verdict. It is tried again after a moment, and
// more seldom the longer it goes on; what fails in the same way each time is not.
func TestTimeoutsAreTriedAgainSooner(t *testing.T) {
	for _, c := range []struct {
		code resolver.Code
		want []time.Duration // between the calls of the first 20 s, read at every 100 ms
	}{
		{resolver.CodeTimeout, []time.Duration{600, 1100, 2100, 4100, 5100, 5100}},
		{resolver.CodeFuel, []time.Duration{5100, 5100, 5100}},
		{resolver.CodeTrap, []time.Duration{5100, 5100, 5100}},
	} {
		now := time.UnixMilli(1)
		s := newViews(1<<20, func() time.Time { return now })
		var calls []time.Time
		for range 200 {
			v := s.get(context.Background(), viewID{}, func() view {
				calls = append(calls, now)
				return view{code: string(c.code)}
			})
			if v.code != string(c.code) {
				t.Fatalf("%+v", v)
			}
			now = now.Add(100 * time.Millisecond)
		}
		if len(calls) != len(c.want)+1 {
			t.Errorf("%s: called at %v", c.code, calls)
			continue
		}
		for i, d := range c.want {
			if got := calls[i+1].Sub(calls[i]); got != d*time.Millisecond {
				t.Errorf("%s: pause %d is %v, want %v ms", c.code, i, got, int(d))
			}
		}
	}
}

// TestTimeoutsBeforeASuccessAreForgotten: a merge that once ran out of time is a view like any other when it has
// succeeded.
func TestTimeoutsBeforeASuccessAreForgotten(t *testing.T) {
	now := time.UnixMilli(1)
	s := newViews(1<<20, func() time.Time { return now })
	codes := []string{"timeout", "timeout", "", "never asked"}
	calls := 0
	for range 200 {
		s.get(context.Background(), viewID{}, func() view {
			calls++
			return view{code: codes[calls-1]}
		})
		now = now.Add(100 * time.Millisecond)
	}
	if calls != 3 {
		t.Fatalf("%d calls", calls)
	}
}

// TestTimeoutIsNoVerdict goes the whole way: a merge for which the machine had no time is merged at the next attempt,
// and its module is not in quarantine, however many keys that befell.
func TestTimeoutIsNoVerdict(t *testing.T) {
	f := newFixtureOf(t, endless(), resolver.Limits{
		MemoryBytes: 1 << 20, ModuleBytes: 1 << 20, OutputBytes: 1 << 20, Timeout: 10 * time.Millisecond, CallDepth: 100, Fuel: 1 << 40,
	})
	f.o.Timeout = 10 * time.Millisecond
	f.o.ThreadTime = func() (time.Duration, bool) { return 0, true } // the thread never had the processor
	p := f.policy(config.PolicyResolver)
	for i := range failuresInRow + 5 {
		if res := f.Settle(t.Context(), PathRead, p, []byte{byte(i)}, written(apples, pears).Versions); res.Code != string(resolver.CodeTimeout) || len(res.Siblings) != 2 {
			t.Fatalf("%+v", res)
		}
	}
	if f.Quarantined(p) != nil {
		t.Fatal("quarantined for what the machine did")
	}
	calls := f.Module(f.sha).Calls
	read := func() { f.Settle(t.Context(), PathRead, p, []byte{0}, written(apples, pears).Versions) }
	read()
	if got := f.Module(f.sha).Calls; got != calls {
		t.Errorf("%d calls at once", got-calls)
	}
	f.now = f.now.Add(timeoutLife + time.Millisecond)
	read()
	if got := f.Module(f.sha).Calls; got != calls+1 {
		t.Errorf("%d calls a moment later", got-calls)
	}
	if st := f.Module(f.sha); st.Errors[string(resolver.CodeTimeout)] != st.Failures {
		t.Errorf("%+v", st)
	}
}

// TestExhaustedFuelLeadsToQuarantine: fuel is counted alike everywhere, so it is held against the module at once.
func TestExhaustedFuelLeadsToQuarantine(t *testing.T) {
	limits := resolver.DefaultLimits()
	limits.Fuel = 100_000
	f := newFixtureOf(t, endless(), limits)
	p := f.policy(config.PolicyResolver)
	for i := range costlyInRow + 2 {
		want := string(resolver.CodeFuel)
		if i >= costlyInRow {
			want = CodeQuarantined
		}
		if res := f.Settle(t.Context(), PathRead, p, []byte{byte(i)}, written(apples, pears).Versions); res.Code != want || len(res.Siblings) != 2 {
			t.Fatalf("conflict %d: %+v", i, res)
		}
	}
	if q := f.Quarantined(p); q == nil || q.Code != string(resolver.CodeFuel) {
		t.Fatalf("%+v", q)
	}
}
