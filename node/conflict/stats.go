package conflict

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"dynamo/resolver"
)

// stats count what this node merged.
type stats struct {
	paths     [paths]atomic.Uint64
	collapsed atomic.Uint64
	// mu guards byModule.
	mu struct {
		sync.Mutex
		byModule map[[32]byte]*ModuleStats
	}
}

// ModuleStats are one resolver version's merges on this node since it started.
type ModuleStats struct {
	Calls, Failures uint64
	// Errors counts failures by reason code.
	Errors map[string]uint64
	// Total and Max are merge times.
	Total, Max time.Duration
	// Fuel and MaxFuel are what they used.
	Fuel, MaxFuel uint64
}

func (s *stats) merged(sha [32]byte, out resolver.Outcome, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.byModule == nil {
		s.mu.byModule = make(map[[32]byte]*ModuleStats)
	}
	m := s.mu.byModule[sha]
	if m == nil {
		m = &ModuleStats{Errors: make(map[string]uint64)}
		s.mu.byModule[sha] = m
	}
	m.Calls++
	m.Total += out.Duration
	m.Max = max(m.Max, out.Duration)
	m.Fuel += out.Fuel
	m.MaxFuel = max(m.MaxFuel, out.Fuel)
	if code != "" {
		m.Failures++
		m.Errors[code]++
	}
}

// Quarantines returns the versions that this node does not call, by keyspace.
func (s *Settler) Quarantines() map[string]Quarantine {
	s.wards.mu.Lock()
	defer s.wards.mu.Unlock()
	out := make(map[string]Quarantine)
	for keyspace, d := range s.wards.mu.byKeyspace {
		if d.held != nil {
			out[keyspace] = *d.held
		}
	}
	return out
}

// Module returns the counters of one resolver version.
func (s *Settler) Module(sha [32]byte) ModuleStats {
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	m := s.stats.mu.byModule[sha]
	if m == nil {
		return ModuleStats{}
	}
	out := *m
	out.Errors = make(map[string]uint64, len(m.Errors))
	maps.Copy(out.Errors, m.Errors)
	return out
}

// Totals are the counters of all resolver versions together.
type Totals struct {
	Paths             map[string]uint64
	Calls, Failures   uint64
	Collapsed         uint64
	ViewBytes         int
	MergeTime         time.Duration
	FailuresByErrCode map[string]uint64
}

// Totals returns what the metrics show.
func (s *Settler) Totals() Totals {
	t := Totals{
		Paths: make(map[string]uint64), Collapsed: s.stats.collapsed.Load(), ViewBytes: s.views.bytes(),
		FailuresByErrCode: make(map[string]uint64),
	}
	for p := range paths {
		t.Paths[p.String()] = s.stats.paths[p].Load()
	}
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	for _, m := range s.stats.mu.byModule {
		t.Calls += m.Calls
		t.Failures += m.Failures
		t.MergeTime += m.Total
		for c, n := range m.Errors {
			t.FailuresByErrCode[c] += n
		}
	}
	return t
}
