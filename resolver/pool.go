package resolver

import (
	"context"
	"slices"
	"sync"
	"time"
)

// pool keeps instances in their module's first state for the next merge. It is safe for concurrent use.
type pool struct {
	perModule int
	maxBytes  uint64
	rest      time.Duration // how long an instance is kept at least, and at most twice as long

	// Invariants: count and bytes are the sums over all idle instances. A timer runs if any is idle, unless closed.
	mu struct {
		sync.Mutex
		idle   map[*Module][]*instance // the one used last at the end; a list stays when it is empty, until drop
		count  int
		bytes  uint64
		sweeps uint64
		timer  *time.Timer
		closed bool
	}
	sweeping sync.WaitGroup // a timer that runs or was set
}

func newPool(perModule int, maxBytes uint64, rest time.Duration) *pool {
	p := &pool{perModule: perModule, maxBytes: maxBytes, rest: rest}
	p.mu.idle = make(map[*Module][]*instance)
	return p
}

// take returns an idle instance of the module, nil if there is none.
func (p *pool) take(m *Module) *instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.mu.idle[m]
	if len(list) == 0 {
		return nil
	}
	in := list[len(list)-1]
	p.forget(m, len(list)-1)
	return in
}

// forget takes the i-th instance of a module out. Callers hold mu.
func (p *pool) forget(m *Module, i int) {
	p.mu.count--
	p.mu.bytes -= p.mu.idle[m][i].bytes()
	p.mu.idle[m] = slices.Delete(p.mu.idle[m], i, i+1)
}

// put keeps an instance, and closes those that were idle for the longest if there is no room. It
// reports false if the instance is to be closed itself.
func (p *pool) put(m *Module, in *instance) bool {
	p.mu.Lock()
	size := in.bytes()
	if p.mu.closed || size > p.maxBytes || len(p.mu.idle[m]) >= p.perModule {
		p.mu.Unlock()
		return false
	}
	var out []*instance
	for p.mu.bytes+size > p.maxBytes {
		out = append(out, p.evict())
	}
	in.sweep = p.mu.sweeps
	p.mu.idle[m] = append(p.mu.idle[m], in)
	p.mu.count++
	p.mu.bytes += size
	p.arm()
	p.mu.Unlock()
	closeAll(out)
	return true
}

// evict takes out one of the instances that rest since the earliest sweep. Callers hold mu, and have made
// sure that there is one.
func (p *pool) evict() *instance {
	var from *Module
	for m, list := range p.mu.idle {
		if len(list) > 0 && (from == nil || list[0].sweep < p.mu.idle[from][0].sweep) {
			from = m
		}
	}
	in := p.mu.idle[from][0]
	p.forget(from, 0)
	return in
}

// arm sees to it that a sweep comes. Callers hold mu.
func (p *pool) arm() {
	if p.mu.timer == nil && p.mu.count > 0 && !p.mu.closed {
		p.sweeping.Add(1)
		p.mu.timer = time.AfterFunc(p.rest, p.sweep)
	}
}

// sweep closes what has been idle since before the last sweep.
func (p *pool) sweep() {
	defer p.sweeping.Done()
	p.mu.Lock()
	p.mu.timer = nil
	var out []*instance
	for m, list := range p.mu.idle {
		// The list is in the order of use: what is too old is at its front.
		for len(list) > 0 && list[0].sweep < p.mu.sweeps {
			out = append(out, list[0])
			p.forget(m, 0)
			list = p.mu.idle[m]
		}
	}
	p.mu.sweeps++
	p.arm()
	p.mu.Unlock()
	closeAll(out)
}

// drop closes the idle instances of a module.
func (p *pool) drop(m *Module) {
	p.mu.Lock()
	var out []*instance
	for len(p.mu.idle[m]) > 0 {
		out = append(out, p.mu.idle[m][0])
		p.forget(m, 0)
	}
	delete(p.mu.idle, m)
	p.mu.Unlock()
	closeAll(out)
}

// close ends the sweeping. Instances go with their modules.
func (p *pool) close() {
	p.mu.Lock()
	p.mu.closed = true
	if t := p.mu.timer; t != nil && t.Stop() {
		p.sweeping.Done()
	}
	p.mu.Unlock()
	p.sweeping.Wait()
}

// stats counts idle instances and their bytes.
func (p *pool) stats() (instances int, bytes uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.count, p.mu.bytes
}

func closeAll(instances []*instance) {
	for _, in := range instances {
		in.close(context.Background())
	}
}
