package peer

import (
	"sync"
	"time"
)

const (
	// beatEvery is how often the process looks at its clock; a beat that is pauseLeast late shows that it
	// was paused. A busy machine is late by less.
	beatEvery  = 100 * time.Millisecond
	pauseLeast = time.Second
	// wakeTime is how long after a pause requests are held for such as may have waited in the socket.
	wakeTime = 250 * time.Millisecond
)

// pauses notices that this process did not run for a while (a stopped process, a machine that swaps). A
// request says how much time it has left, not since when; one that waited in the socket meanwhile looks
// fresh, and its caller has long given up.
//
// What remains: a pause of less than pauseLeast goes unnoticed, and so does one of a whole virtual machine
// whose clock stood still with it. A client's write that is executed too late costs a sibling and no more.
type pauses struct {
	now func() time.Time
	mu  struct {
		sync.Mutex
		beat, woke time.Time
		gap        time.Duration
	}
}

// tick is called every beatEvery, and when a request comes in.
func (p *pauses) tick() {
	now := p.now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if gap := now.Sub(p.mu.beat); !p.mu.beat.IsZero() && gap >= pauseLeast {
		p.mu.woke, p.mu.gap = now, gap
	}
	p.mu.beat = now
}

// overdue reports whether a request that came in now, with so much time left (0: no deadline), may have
// waited for longer than that while the process was paused.
func (p *pauses) overdue(timeout time.Duration) bool {
	p.tick()
	p.mu.Lock()
	defer p.mu.Unlock()
	return timeout > 0 && p.mu.gap > 0 && p.mu.beat.Sub(p.mu.woke) < wakeTime && timeout < p.mu.gap
}
