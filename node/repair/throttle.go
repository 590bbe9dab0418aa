package repair

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Throttle is the admission controller of background work (Dynamo paper, section 6.5): it watches the
// latencies of the foreground and gives the background less of the machine while their 99th percentile is
// above a goal.
//
// Work asks Wait for bytes before it moves them. The rate halves with each look at the latencies that
// finds them too high, and grows by half with each that does not, between Least and Most.
type Throttle struct {
	o ThrottleOptions
	// Invariant: rate is within Least and Most; debt is what was granted ahead of time, paid off at rate.
	mu struct {
		sync.Mutex
		rate    float64
		paid    time.Time
		debt    float64
		looked  time.Time
		samples []time.Duration
		seen    int
		p99     time.Duration
	}
}

// ThrottleOptions are limits of background work, all required.
type ThrottleOptions struct {
	// Most and Least bound the rate, in bytes per second. Least keeps repair going under any load: without
	// it a cluster that is always busy would never heal.
	Most, Least float64
	// Goal is the 99th percentile of foreground latency above which the background gives way.
	Goal time.Duration
	// Every is the pause between two looks.
	Every time.Duration
	Now   func() time.Time
}

// maxSamples bounds the latencies that are kept between two looks; beyond it they replace older ones.
const maxSamples = 1024

// fewSamples is how many latencies a look needs to judge by: the slowest of a handful says little.
const fewSamples = 20

// burst is how far ahead of its rate the background may run.
const burst = 50 * time.Millisecond

// NewThrottle returns a throttle at its full rate.
func NewThrottle(o ThrottleOptions) *Throttle {
	t := &Throttle{o: o}
	t.mu.rate = o.Most
	t.mu.paid, t.mu.looked = o.Now(), o.Now()
	return t
}

// Observe takes note of how long a client's request took.
func (t *Throttle) Observe(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.mu.samples) < maxSamples {
		t.mu.samples = append(t.mu.samples, d)
	} else {
		t.mu.samples[t.mu.seen%maxSamples] = d
	}
	t.mu.seen++
}

// Wait returns when n bytes may be moved, or when ctx ends.
func (t *Throttle) Wait(ctx context.Context, n int) error {
	wait := t.take(n)
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take grants n bytes and returns how long they have to wait.
func (t *Throttle) take(n int) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.o.Now()
	t.look(now)
	t.mu.debt = max(0, t.mu.debt-now.Sub(t.mu.paid).Seconds()*t.mu.rate) + float64(n)
	t.mu.paid = now
	return time.Duration(t.mu.debt/t.mu.rate*float64(time.Second)) - burst
}

// look adapts the rate if it is time to.
func (t *Throttle) look(now time.Time) {
	if now.Sub(t.mu.looked) < t.o.Every {
		return
	}
	t.mu.looked = now
	t.mu.p99 = 0
	if n := len(t.mu.samples); n >= fewSamples {
		slices.Sort(t.mu.samples)
		t.mu.p99 = t.mu.samples[n-1-n/100]
	}
	t.mu.samples, t.mu.seen = t.mu.samples[:0], 0
	if t.mu.p99 > t.o.Goal {
		t.mu.rate = max(t.o.Least, t.mu.rate/2)
	} else {
		t.mu.rate = min(t.o.Most, t.mu.rate*1.5)
	}
}

// Rate returns the present rate in bytes per second, and the foreground's 99th percentile by which it was
// set, 0 if there were too few requests.
func (t *Throttle) Rate() (bytesPerSecond float64, p99 time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.look(t.o.Now())
	return t.mu.rate, t.mu.p99
}
