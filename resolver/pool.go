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

	// Invariants: modules are all with idle instances, and some that had one; count and bytes are the sums over
	// these. A timer runs if any is idle, unless closed. All merges come by here twice: the lock is held for some
	// ten nanoseconds, since waiting for it costs more than a merge.
	mu struct {
		sync.Mutex
		modules map[*Module]*idle
		count   int
		bytes   uint64
		sweeps  uint64
		timer   *time.Timer
		closed  bool
	}
	sweeping sync.WaitGroup // a timer that runs or was set
}

// idle are the idle instances of one module.
type idle struct {
	list []*instance // the one used last at the end; the pool's lock guards it
	// here has instances that were used last on the same processor, whose cache has their memory: fetching it from
	// another one's takes longer than a short merge. They may be in use again, or closed.
	here sync.Pool
}

func newPool(perModule int, maxBytes uint64, rest time.Duration) *pool {
	p := &pool{perModule: perModule, maxBytes: maxBytes, rest: rest}
	p.mu.modules = make(map[*Module]*idle)
	return p
}

// take returns an idle instance of the module, nil if there is none.
func (p *pool) take(m *Module) *instance {
	here, _ := m.idle.here.Get().(*instance)
	p.mu.Lock()
	defer p.mu.Unlock()
	i := len(m.idle.list) - 1
	if i < 0 {
		return nil
	}
	if at := slices.Index(m.idle.list, here); at >= 0 {
		i = at
	}
	return p.forget(&m.idle, i)
}

// forget takes the i-th instance of a module out. Callers hold mu.
func (p *pool) forget(from *idle, i int) *instance {
	in := from.list[i]
	p.mu.count--
	p.mu.bytes -= in.size
	from.list = slices.Delete(from.list, i, i+1)
	return in
}

// put keeps an instance, and closes those that were idle for the longest if there is no room. It
// reports false if the instance is to be closed itself.
func (p *pool) put(m *Module, in *instance) bool {
	in.size = in.bytes()
	p.mu.Lock()
	if p.mu.closed || in.size > p.maxBytes || len(m.idle.list) >= p.perModule {
		p.mu.Unlock()
		return false
	}
	var out []*instance
	for p.mu.bytes+in.size > p.maxBytes {
		out = append(out, p.evict())
	}
	in.sweep = p.mu.sweeps
	if len(m.idle.list) == 0 && p.mu.modules[m] == nil {
		p.mu.modules[m] = &m.idle
	}
	m.idle.list = append(m.idle.list, in)
	p.mu.count++
	p.mu.bytes += in.size
	if p.mu.timer == nil {
		p.arm()
	}
	p.mu.Unlock()
	m.idle.here.Put(in)
	closeAll(out)
	return true
}

// evict takes out one of the instances that rest since the earliest sweep. Callers hold mu, and have made
// sure that there is one.
func (p *pool) evict() *instance {
	var from *idle
	for _, of := range p.mu.modules {
		if len(of.list) > 0 && (from == nil || of.list[0].sweep < from.list[0].sweep) {
			from = of
		}
	}
	return p.forget(from, 0)
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
	for _, of := range p.mu.modules {
		// The list is in the order of use: what is too old is at its front.
		for len(of.list) > 0 && of.list[0].sweep < p.mu.sweeps {
			out = append(out, p.forget(of, 0))
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
	for len(m.idle.list) > 0 {
		out = append(out, p.forget(&m.idle, 0))
	}
	delete(p.mu.modules, m)
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
