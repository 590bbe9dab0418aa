package replica

import (
	"context"
	"fmt"
	"sync"
)

// Flights counts what a node has in hand: objects that were taken from somewhere and are not yet given
// up or on a disk. The settle round must know that nothing older than itself is still on its way, or a
// deleted value could come back after its tombstone is gone.
//
// It works as the grace period of read-copy-update does: each flight belongs to the generation in which
// it began, and a barrier begins a new one and waits for the older to run dry.
type Flights struct {
	// Invariant: open holds the generations that have flights, none of them above generation; drained is
	// closed, and replaced, whenever one of them runs dry.
	mu struct {
		sync.Mutex
		generation uint64
		open       map[uint64]int
		drained    chan struct{}
	}
}

// NewFlights counts from a generation above all that an earlier life of this node may have used, as the
// time in microseconds is, unless the clock was set back: then peers tell, see [Fenced].
func NewFlights(first uint64) *Flights {
	f := &Flights{}
	f.mu.generation = max(first, 1)
	f.mu.open = make(map[uint64]int)
	f.mu.drained = make(chan struct{})
	return f
}

// Begin starts a flight, before anything is taken in hand. It returns its generation, to be given to End.
func (f *Flights) Begin() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.open[f.mu.generation]++
	return f.mu.generation
}

// Join starts a flight that takes over what an open one has in hand, whichever that is: it counts as old
// as the oldest.
func (f *Flights) Join() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	oldest := f.mu.generation
	for g := range f.mu.open {
		oldest = min(oldest, g)
	}
	f.mu.open[oldest]++
	return oldest
}

// End ends a flight.
func (f *Flights) End(generation uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.open[generation]--; f.mu.open[generation] > 0 {
		return
	}
	delete(f.mu.open, generation)
	close(f.mu.drained)
	f.mu.drained = make(chan struct{})
}

// Barrier waits until every flight that began before it has ended, and returns the generation of those
// that began after it.
func (f *Flights) Barrier(ctx context.Context) (uint64, error) {
	f.mu.Lock()
	f.mu.generation++
	next := f.mu.generation
	f.mu.Unlock()
	for {
		old, drained := f.older(next)
		if !old {
			return next, nil
		}
		select {
		case <-drained:
		case <-ctx.Done():
			return 0, fmt.Errorf("replica: requests from before are still under way: %w", context.Cause(ctx))
		}
	}
}

func (f *Flights) older(next uint64) (bool, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for g := range f.mu.open {
		if g < next {
			return true, f.mu.drained
		}
	}
	return false, nil
}

// Raise makes the generation of new flights at least g: a peer has seen a later one of this node. Those under way stay as
// they are.
func (f *Flights) Raise(g uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.generation = max(f.mu.generation, g)
}

// fence is what this node refuses of others: objects of generations that had ended when a settle round
// began.
type fence struct {
	mu struct {
		sync.Mutex
		least map[string]uint64
	}
}

func (f *fence) raise(node string, g uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.least == nil {
		f.mu.least = make(map[string]uint64)
	}
	f.mu.least[node] = max(f.mu.least[node], g)
}

// passes returns the least generation that a node must show, and whether g is one.
func (f *fence) passes(node string, g uint64) (uint64, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	least := f.mu.least[node]
	return least, g >= least
}
