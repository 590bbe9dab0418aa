package peer

import (
	"testing"
	"time"
)

func TestPauses(t *testing.T) {
	now := time.Unix(1000, 0)
	p := &pauses{now: func() time.Time { return now }}
	is := func(want bool, timeout time.Duration, when string) {
		t.Helper()
		if p.overdue(timeout) != want {
			t.Errorf("%s: overdue is %v", when, !want)
		}
	}
	is(false, time.Second, "at the start")
	for range 30 {
		now = now.Add(beatEvery)
		p.tick()
		is(false, time.Millisecond, "while it runs")
	}
	now = now.Add(pauseLeast - time.Millisecond)
	is(false, time.Millisecond, "a busy machine")
	now = now.Add(5 * time.Second)
	is(true, 2*time.Second, "out of the socket after a pause")
	is(false, 6*time.Second, "more time left than the pause took")
	is(false, 0, "no deadline")
	now = now.Add(wakeTime)
	is(false, 2*time.Second, "a while after the pause")
}
