package conflict

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"dynamo/node/config"
	"dynamo/resolver"
)

// report waits until the shadow has dealt with so many conflicts.
func report(t *testing.T, f *fixture, conflicts uint64) ShadowReport {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 10_000 {
		r, ok := f.Shadow("carts")
		if !ok {
			t.Fatal("no shadow")
		}
		if r.Calls+r.Dropped >= conflicts {
			return r
		}
		<-tick.C
	}
	t.Fatal("the shadow does not come to an end")
	return ShadowReport{}
}

// TestShadow runs a module that traps, and then the active one itself, beside the active one.
func TestShadow(t *testing.T) {
	f := newFixture(t)
	p := f.policy(config.PolicyResolver)
	bad := f.add(trap())
	if err := f.StartShadow("carts", bad); err != nil {
		t.Fatal(err)
	}
	for i := range 15 {
		for range 3 { // the same conflict is looked at once
			if res := f.Settle(t.Context(), PathRead, p, fmt.Append(nil, i), written(apples, pears).Versions); string(res.Value.Bytes) != both {
				t.Fatalf("%+v", res)
			}
		}
	}
	r := report(t, f, 15)
	if r.Calls != 15 || r.Failures != 15 || r.Errors["trap"] != 15 || r.Equal+r.Different+r.ActiveFailures+r.Dropped != 0 || len(r.Examples) != shadowExamples {
		t.Fatalf("%+v", r)
	}
	e := r.Examples[0]
	if e.Siblings != 2 || e.Active.Status != "value" || string(e.Active.Value) != both || e.Candidate.Status != "error" || e.Candidate.Error != "trap" {
		t.Fatalf("%+v", e)
	}
	if f.Module(bad).Calls != 0 || f.Quarantined(p) != nil {
		t.Error("the shadow has an effect")
	}
	if err := f.StartShadow("carts", f.sha); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		f.Settle(t.Context(), PathRead, p, fmt.Append(nil, i), written(apples, pears).Versions)
	}
	f.Settle(t.Context(), PathRead, p, []byte("refused"), written(apples, "no cart").Versions)
	f.Settle(t.Context(), PathConflicts, p, []byte("not a read"), written(apples, pears).Versions)
	if r = report(t, f, 6); r.Equal != 5 || r.Failures != 1 || r.Different != 0 || len(r.Examples) != 1 || r.Calls != 6 {
		t.Fatalf("%+v", r)
	}
	if !f.StopShadow("carts") || f.StopShadow("carts") {
		t.Error("not stopped, or twice")
	}
	if _, ok := f.Shadow("carts"); ok {
		t.Error("a report of what is stopped")
	}
}

// TestShadowOfAQuarantinedVersion: a repair can be tried on the very conflicts that the active version fails.
func TestShadowOfAQuarantinedVersion(t *testing.T) {
	f := newFixture(t)
	p := f.policy(config.PolicyResolver)
	p.Module = f.add(trap())
	trip(f.wards, p)
	if err := f.StartShadow("carts", f.sha); err != nil {
		t.Fatal(err)
	}
	if res := f.Settle(t.Context(), PathRead, p, []byte("k"), written(apples, pears).Versions); res.Code != CodeQuarantined {
		t.Fatalf("%+v", res)
	}
	if r := report(t, f, 1); r.ActiveFailures != 1 || r.Failures != 0 {
		t.Fatalf("%+v", r)
	}
}

// TestShadowDropsWhatDoesNotFit: a slow candidate costs readers nothing.
func TestShadowDropsWhatDoesNotFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixtureOf(t, trap(), resolver.DefaultLimits())
		release := make(chan struct{})
		f.hold = release
		p := f.policy(config.PolicyResolver)
		p.Module = f.sha
		h := f.add(endless())
		if err := f.StartShadow("carts", h); err != nil {
			t.Fatal(err)
		}
		for i := range 3 * shadowQueue {
			f.offer(p, fmt.Append(nil, i), written(apples, pears).Versions, Result{Kind: Single})
		}
		synctest.Wait()
		r, ok := f.Shadow("carts")
		if !ok || r.Dropped < shadowQueue || r.Calls != 0 {
			t.Fatalf("%+v", r)
		}
		big := written(string(make([]byte, shadowBytes)), pears)
		f.StopShadow("carts")
		if err := f.StartShadow("carts", h); err != nil {
			t.Fatal(err)
		}
		f.offer(p, []byte("big"), big.Versions, Result{Kind: Single})
		if r, _ := f.Shadow("carts"); r.Dropped != 1 {
			t.Fatalf("%+v", r)
		}
		f.StopShadow("carts")
		close(release)
	})
}

func TestShadowsAreBounded(t *testing.T) {
	f := newFixture(t)
	for i := range maxShadows {
		if err := f.StartShadow(fmt.Sprint("ks", i), f.sha); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.StartShadow("one more", f.sha); err == nil {
		t.Error("no bound")
	}
	f.PruneShadows(func(keyspace string) bool { return keyspace != "ks3" })
	if err := f.StartShadow("one more", f.sha); err != nil {
		t.Errorf("in the place of one that ended: %v", err)
	}
	if err := f.StartShadow("ks0", [32]byte{1}); err != nil {
		t.Errorf("in the place of another: %v", err)
	}
}
