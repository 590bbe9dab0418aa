package resolver

import (
	"math"
	"testing"
	"time"

	"dynamo/resolver/hostile"
)

func TestProbe(t *testing.T) {
	l := DefaultLimits()
	l.Timeout = 20 * time.Second
	r := newRuntime(t, l)
	e := l
	e.Timeout, e.Fuel = 50*time.Millisecond, math.MaxInt64
	endless := newRuntime(t, e)
	for _, a := range hostile.Attacks() {
		begin := time.Now()
		m, err := r.Load(t.Context(), a.Module, a.Config)
		took := time.Since(begin)
		if CodeOf(err) != Code(a.Refused) {
			t.Errorf("%s: load: %v, want %q", a.Name, err, a.Refused)
		}
		if took > 100*time.Millisecond {
			t.Logf("%s: load took %v", a.Name, took)
		}
		if m == nil && a.Config == nil {
			continue
		}
		if m != nil {
			begin = time.Now()
			_, _, err = m.Merge(t.Context(), twoSiblings(), 100)
			if CodeOf(err) != Code(a.Fails) {
				t.Errorf("%s: merge: %v, want %q", a.Name, err, a.Fails)
			}
			t.Logf("%s: %v %v", a.Name, CodeOf(err), time.Since(begin))
		}
		if a.Clock {
			begin = time.Now()
			m, err = endless.Load(t.Context(), a.Module, a.Config)
			if err == nil {
				begin = time.Now()
				_, _, err = m.Merge(t.Context(), twoSiblings(), 100)
			}
			t.Logf("%s: %v %v", a.Name, CodeOf(err), time.Since(begin))
		}
	}
}
