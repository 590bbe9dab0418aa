package resolver

import (
	"math"
	"testing"
	"time"

	"dynamo/resolver/hostile"
)

func TestProbe(t *testing.T) {
	l := DefaultLimits()
	l.Timeout, l.Fuel = 50*time.Millisecond, math.MaxInt64
	r := newRuntime(t, l)
	for _, a := range hostile.Attacks() {
		if !a.Clock || a.Config != nil {
			continue
		}
		m, err := r.Load(t.Context(), a.Module, a.Config)
		if err != nil {
			t.Fatal(err)
		}
		var times []time.Duration
		for range 4 {
			begin := time.Now()
			m.Merge(t.Context(), twoSiblings(), 100)
			times = append(times, time.Since(begin).Round(100*time.Microsecond))
		}
		t.Logf("%s: %v", a.Name, times)
		m.Close(t.Context())
	}
}
