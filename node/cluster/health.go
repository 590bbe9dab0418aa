package cluster

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrSilent is what a caller observes of a member that has kept a request waiting for too long. The request itself goes
// on.
var ErrSilent = errors.New("cluster: no answer yet")

const (
	// strikesToSuspect is how many requests in a row must be kept waiting before a member is suspect: one slow answer is
	// no reason.
	strikesToSuspect = 2
	// quietFor is how long a member must have said nothing at all before a request kept waiting is held against it: under
	// load some answers are late, but others come.
	quietFor = 250 * time.Millisecond
	// livenessTimeout bounds one probe, probePauseMin and probePauseMax the pause after one that failed.
	livenessTimeout = 500 * time.Millisecond
	probePauseMin   = 50 * time.Millisecond
	probePauseMax   = 400 * time.Millisecond
	// trustAnswer is how long an answer counts for more than the silence that gossip reports. It is longer than a probe
	// and its pause together.
	trustAnswer = time.Second
	// suspicionWithoutProbe ends a suspicion where nobody probes.
	suspicionWithoutProbe = time.Second
)

// health is this node's opinion of who can be reached: gossip and requests together. A member that requests find dead or
// silent is suspect until a probe is answered; clients' requests are not spent on finding out.
type health struct {
	now func() time.Time
	// probes says that somebody probes; wake tells that one that there is something to probe.
	probes bool
	wake   chan struct{}
	// mu guards what is known of the members; one that is missing is as good as any.
	mu struct {
		sync.Mutex
		members map[string]vitals
	}
}

// vitals are what is known of one member.
type vitals struct {
	// down says that gossip has lost the member, suspect that requests have.
	down, suspect bool
	// strikes are the requests kept waiting since the last answer.
	strikes int
	// since is when the suspicion began, answered when the member answered last.
	since, answered time.Time
	// probing is set while a probe is under way; due is when the next may go, pause what follows its failure.
	probing bool
	due     time.Time
	pause   time.Duration
}

func newHealth(now func() time.Time, probes bool) *health {
	h := &health{now: now, probes: probes, wake: make(chan struct{}, 1)}
	h.mu.members = make(map[string]vitals)
	return h
}

func (h *health) reachable(id string) bool {
	h.mu.Lock()
	v, ok := h.mu.members[id]
	h.mu.Unlock()
	if !ok || !v.down && !v.suspect {
		return true
	}
	now := h.now()
	if v.suspect && (h.probes || now.Sub(v.since) < suspicionWithoutProbe) {
		return false
	}
	return !v.down || (v.strikes == 0 && !v.answered.IsZero() && now.Sub(v.answered) < trustAnswer)
}

func (h *health) update(id string, f func(*vitals)) {
	h.mu.Lock()
	v := h.mu.members[id]
	before := v.wanted()
	f(&v)
	h.mu.members[id] = v
	h.mu.Unlock()
	if v.wanted() && (!before || !v.probing) {
		select {
		case h.wake <- struct{}{}:
		default:
		}
	}
}

// wanted says that the member is worth probing.
func (v vitals) wanted() bool { return v.down || v.suspect }

// suspectNow begins a suspicion; the first probe goes at once.
func (v *vitals) suspectNow(now time.Time) {
	if !v.suspect {
		v.suspect, v.since, v.due, v.pause = true, now, now, 0
	}
}

// answer notes that the member answered, whatever it was.
func (h *health) answer(id string) {
	now := h.now()
	h.update(id, func(v *vitals) { v.suspect, v.strikes, v.answered = false, 0, now })
}

// silence notes that the member keeps a request waiting.
func (h *health) silence(id string) {
	now := h.now()
	h.update(id, func(v *vitals) {
		if now.Sub(v.answered) < quietFor {
			return
		}
		if v.strikes++; v.strikes >= strikesToSuspect {
			v.suspectNow(now)
		}
	})
}

// broken notes that there is no way to the member: no connection, or one that broke.
func (h *health) broken(id string) {
	now := h.now()
	h.update(id, func(v *vitals) {
		v.strikes++
		v.suspectNow(now)
	})
}

// up hears from gossip that the member is back. If requests had found it dead a probe must still confirm it: a process
// may gossip and yet not serve.
func (h *health) up(id string) {
	now := h.now()
	h.update(id, func(v *vitals) {
		v.down, v.due, v.pause = false, now, 0
		if !h.probes {
			v.suspect, v.strikes = false, 0
		}
	})
}

func (h *health) down(id string) {
	now := h.now()
	h.update(id, func(v *vitals) { v.down, v.due, v.pause = true, now, 0 })
}

// next takes the members whose probe is due, and says how long it is until another one is; negative: none is waited for.
func (h *health) next() (due []string, wait time.Duration) {
	now := h.now()
	wait = -1
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, v := range h.mu.members {
		if !v.wanted() || v.probing {
			continue
		}
		if left := v.due.Sub(now); left > 0 {
			if wait < 0 || left < wait {
				wait = left
			}
			continue
		}
		v.probing = true
		h.mu.members[id] = v
		due = append(due, id)
	}
	return due, wait
}

// probed notes how a probe went.
func (h *health) probed(id string, err error) {
	now := h.now()
	h.update(id, func(v *vitals) {
		v.probing = false
		v.pause = min(max(2*v.pause, probePauseMin), probePauseMax)
		v.due = now.Add(v.pause)
		if err == nil {
			v.suspect, v.strikes, v.answered = false, 0, now
		}
	})
}

// probeLoop asks members that are down or suspect whether they are back, each with pauses of its own and one probe at a
// time.
func (s *State) probeLoop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		due, wait := s.health.next()
		for _, id := range due {
			if !s.spawn(func() { s.probe(id) }) {
				return
			}
		}
		var tick <-chan time.Time
		if wait >= 0 {
			timer.Reset(wait)
			tick = timer.C
		}
		select {
		case <-s.ctx.Done():
			return
		case <-s.health.wake:
		case <-tick:
		}
	}
}

func (s *State) probe(id string) {
	err := ErrNotMember
	if _, ok := s.View().Member(id); ok {
		ctx, cancel := context.WithTimeout(s.ctx, livenessTimeout)
		defer cancel()
		err = s.o.Probe(ctx, id)
	}
	s.health.probed(id, err)
}
