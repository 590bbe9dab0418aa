package cluster

import (
	"sync"
	"time"
)

// maxLimited bounds what a limiter remembers; beyond it starts afresh.
const maxLimited = 1024

// Limiter lets the same thing through only now and then.
type Limiter struct {
	now   func() time.Time
	every time.Duration
	// mu guards when each thing was let through last.
	mu struct {
		sync.Mutex
		last map[string]time.Time
	}
}

// NewLimiter returns a limiter that lets each thing through once in a time.
func NewLimiter(now func() time.Time, every time.Duration) *Limiter {
	l := &Limiter{now: now, every: every}
	l.mu.last = make(map[string]time.Time)
	return l
}

// Allow reports whether the thing was not let through for a while, and lets it through if so.
func (l *Limiter) Allow(what string) bool {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, ok := l.mu.last[what]; ok && now.Sub(last) < l.every {
		return false
	}
	if len(l.mu.last) >= maxLimited {
		clear(l.mu.last)
	}
	l.mu.last[what] = now
	return true
}
