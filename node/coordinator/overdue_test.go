package coordinator

import (
	"errors"
	"testing"
	"time"

	"dynamo/node/causal"
	"dynamo/node/wire"
)

// TestOverdueWritesAreDropped: what a cut or a pause kept from arriving while others carried it out is not minted again.
func TestOverdueWritesAreDropped(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	c := New(Settings{Now: func() time.Time { return now }})
	for name, w := range map[string]struct {
		age    time.Duration
		sloppy bool
		want   bool
	}{
		"at once":                     {0, true, false},
		"the last to be asked":        {3 * hedgeAfter, true, false},
		"given up long ago":           {overdueAfter + time.Millisecond, true, true},
		"somebody still waits for it": {overdueAfter + time.Millisecond, false, false},
		"from a clock that is ahead":  {-time.Hour, true, false},
	} {
		m := &wire.Write{Sloppy: w.sloppy, Value: causal.Value{TimeMs: uint64(now.Add(-w.age).UnixMilli())}}
		if got := c.overdue(m); got != w.want {
			t.Errorf("%s: overdue is %v", name, got)
		}
	}
}

// TestNothingIsMintedWhileStopping: the answer must say that nothing was stored.
func TestNothingIsMintedWhileStopping(t *testing.T) {
	c := New(Settings{Now: func() time.Time { return time.UnixMilli(0) }}) // without a replica: a write would panic
	c.Close()
	_, err := c.coordinate(t.Context(), plan{}, WriteRequest{}, "")
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != CodeNotReady || !e.Retryable || e.MaybeStored {
		t.Errorf("got %v", err)
	}
}
