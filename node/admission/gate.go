// Package admission bounds what a node takes on: so many requests at work, so many that wait for a short
// time, so many bytes. Whatever is beyond is turned away at once, so that under overload the latency of
// what is taken, and the memory, stay what they are.
package admission

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// Reasons to be turned away. Nothing of the request was done.
var (
	// ErrFull says that as many requests wait as may.
	ErrFull = errors.New("admission: too many requests are at work and waiting")
	// ErrLate says that the request waited for as long as it may.
	ErrLate = errors.New("admission: no place became free in time")
)

// Options of a Gate.
type Options struct {
	// Work is how many may be at work at a time, Queue how many more may wait. Work is at least 1.
	Work, Queue int
	// Patience is how long one waits at most; what waits for longer is better sent elsewhere by its client.
	Patience time.Duration
}

// Gate admits requests in the order of their coming. It is safe for concurrent use.
type Gate struct {
	o       Options
	places  chan struct{}
	waiting atomic.Int64
}

// New returns a Gate with all places free.
func New(o Options) *Gate {
	o.Work = max(1, o.Work)
	return &Gate{o: o, places: make(chan struct{}, o.Work)}
}

// Enter takes a place; the caller gives it back by Leave. It waits while all are taken, for no longer than
// Patience and ctx allow: ErrLate in both cases. With the queue full it does not wait: ErrFull.
func (g *Gate) Enter(ctx context.Context) error {
	if ctx.Err() != nil {
		return ErrLate
	}
	select {
	case g.places <- struct{}{}:
		return nil
	default:
	}
	defer g.waiting.Add(-1)
	if g.waiting.Add(1) > int64(g.o.Queue) {
		return ErrFull
	}
	late := time.NewTimer(g.o.Patience)
	defer late.Stop()
	select {
	case g.places <- struct{}{}:
		if ctx.Err() != nil {
			g.Leave()
			return ErrLate
		}
		return nil
	case <-late.C:
		return ErrLate
	case <-ctx.Done():
		return ErrLate
	}
}

// Leave gives a place back.
func (g *Gate) Leave() { <-g.places }

// Full reports whether Enter would now turn a request away without a wait.
func (g *Gate) Full() bool {
	return len(g.places) == cap(g.places) && g.waiting.Load() >= int64(g.o.Queue)
}

// Load returns how many are at work and how many wait.
func (g *Gate) Load() (work, waiting int) { return len(g.places), int(g.waiting.Load()) }

// Budget bounds bytes. It is safe for concurrent use.
type Budget struct {
	limit int64
	taken atomic.Int64
}

// NewBudget returns a Budget of limit bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Take takes n bytes, or none and reports false.
func (b *Budget) Take(n int64) bool {
	for {
		have := b.taken.Load()
		if n > b.limit-have {
			return false
		}
		if b.taken.CompareAndSwap(have, have+n) {
			return true
		}
	}
}

// Give gives n bytes back.
func (b *Budget) Give(n int64) { b.taken.Add(-n) }

// Taken returns the bytes taken.
func (b *Budget) Taken() int64 { return b.taken.Load() }
