// Package background is what a store asks of pebble for the work that it does by itself, and when that fails.
package background

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// Scheduler says when pebble compacts: whenever it may by its own limits, as with the scheduler that it has, until the store
// fails. Pebble tries a compaction that failed again at once and for ever, so a table that cannot be read would take a
// core from the machine for as long as the process is there. It is safe for concurrent use.
type Scheduler struct {
	failed func() error
	// db is set before any other call.
	db pebble.DBForCompaction
	// turn is held by the one that grants: what pebble is told of its turn is true until it has taken it.
	turn sync.Mutex
	// grants are the goroutines that grant. None begins once closed is set.
	grants sync.WaitGroup
	mu     struct {
		sync.Mutex
		running int
		closed  bool
	}
}

// NewScheduler returns the scheduler of one database. The function reports why its store failed, nil while it has not.
func NewScheduler(failed func() error) *Scheduler { return &Scheduler{failed: failed} }

// Register implements pebble.CompactionScheduler.
func (s *Scheduler) Register(_ int, db pebble.DBForCompaction) { s.db = db }

// Unregister implements pebble.CompactionScheduler.
func (s *Scheduler) Unregister() {
	s.mu.Lock()
	s.mu.closed = true
	s.mu.Unlock()
	s.grants.Wait()
	s.turn.Lock() // who grants at the end of a compaction has ended with it
	defer s.turn.Unlock()
}

// TrySchedule implements pebble.CompactionScheduler.
func (s *Scheduler) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.allowed() {
		return false, nil
	}
	s.mu.running++
	return true, s
}

// allowed reports whether one more may run. Its caller holds mu.
func (s *Scheduler) allowed() bool {
	return !s.mu.closed && s.failed() == nil && s.db.GetAllowedWithoutPermission() > s.mu.running
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler. Pebble holds its locks meanwhile.
func (s *Scheduler) UpdateGetAllowedWithoutPermission() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.allowed() {
		s.grants.Go(s.grant)
	}
}

// grant lets pebble begin the compactions that wait. It takes no room before one has begun: a compaction that finds none
// meanwhile would wait for an end that never comes.
func (s *Scheduler) grant() {
	s.turn.Lock()
	defer s.turn.Unlock()
	for {
		s.mu.Lock()
		allowed := s.allowed()
		s.mu.Unlock()
		if !allowed {
			return
		}
		if waiting, _ := s.db.GetWaitingCompaction(); !waiting || !s.db.Schedule(s) {
			return
		}
		s.count(1)
	}
}

func (s *Scheduler) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.running += n
}

// Done implements pebble.CompactionGrantHandle.
func (s *Scheduler) Done() {
	s.count(-1)
	s.grant()
}

// Started implements pebble.CompactionGrantHandle.
func (*Scheduler) Started() {}

// MeasureCPU implements pebble.CompactionGrantHandle.
func (*Scheduler) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats implements pebble.CompactionGrantHandle.
func (*Scheduler) CumulativeStats(pebble.CompactionGrantHandleStats) {}
