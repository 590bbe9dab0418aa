package cluster

import (
	"sync"
	"time"
)

const (
	// failuresInARow make a member unreachable for restAfterFailures.
	failuresInARow    = 2
	restAfterFailures = time.Second
	// trustAnswer is how long an answer counts for more than the silence that gossip reports.
	trustAnswer = time.Second
)

// health is this node's opinion of who can be reached.
type health struct {
	now func() time.Time
	// mu guards what is known of the members; one that is missing is as good as any.
	mu struct {
		sync.Mutex
		members map[string]vitals
	}
}

// vitals are what is known of one member.
type vitals struct {
	// down says that gossip has lost the member.
	down bool
	// failures of requests since the last success.
	failures int
	// resting is until when the member is left alone, answered when it answered last.
	resting, answered time.Time
}

func newHealth(now func() time.Time) *health {
	h := &health{now: now}
	h.mu.members = make(map[string]vitals)
	return h
}

func (h *health) reachable(id string) bool {
	h.mu.Lock()
	v, ok := h.mu.members[id]
	h.mu.Unlock()
	if !ok {
		return true
	}
	now := h.now()
	if now.Before(v.resting) {
		return false
	}
	return !v.down || (v.failures == 0 && !v.answered.IsZero() && now.Sub(v.answered) < trustAnswer)
}

func (h *health) update(id string, f func(*vitals)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := h.mu.members[id]
	f(&v)
	h.mu.members[id] = v
}

func (h *health) observe(id string, answered bool) {
	now := h.now()
	h.update(id, func(v *vitals) {
		if answered {
			v.failures, v.resting, v.answered = 0, time.Time{}, now
			return
		}
		if v.failures++; v.failures >= failuresInARow {
			v.resting = now.Add(restAfterFailures)
		}
	})
}

// up forgets the failures of requests: the member is worth a try at once.
func (h *health) up(id string) {
	h.update(id, func(v *vitals) { v.down, v.failures, v.resting = false, 0, time.Time{} })
}

func (h *health) down(id string) {
	h.update(id, func(v *vitals) { v.down = true })
}
