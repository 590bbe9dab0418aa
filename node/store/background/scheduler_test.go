package background

import (
	"errors"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
)

// database is what a scheduler sees of one.
type database struct {
	mu struct {
		sync.Mutex
		allowed, waiting int
		begun            chan pebble.CompactionGrantHandle
	}
}

func (d *database) GetAllowedWithoutPermission() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.allowed
}

func (d *database) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.waiting > 0, pebble.WaitingCompaction{}
}

func (d *database) Schedule(h pebble.CompactionGrantHandle) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.waiting == 0 {
		return false
	}
	d.mu.waiting--
	d.mu.begun <- h
	return true
}

func (d *database) set(allowed, waiting int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.allowed, d.mu.waiting = allowed, waiting
}

func scheduler(failed func() error) (*Scheduler, *database) {
	d := &database{}
	d.mu.begun = make(chan pebble.CompactionGrantHandle, 9)
	s := NewScheduler(failed)
	s.Register(1, d)
	return s, d
}

func healthy() error { return nil }

func (d *database) wantBegun(t *testing.T, n int) {
	t.Helper()
	if len(d.mu.begun) != n {
		t.Errorf("%d compactions that waited have begun, want %d", len(d.mu.begun), n)
	}
}

func TestWaitingCompactionsBegin(t *testing.T) {
	s, d := scheduler(healthy)
	d.set(1, 0)
	ok, handle := s.TrySchedule()
	if !ok {
		t.Fatal("the first may not run")
	}
	if ok, _ := s.TrySchedule(); ok {
		t.Fatal("two run where one may")
	}
	d.set(1, 3)
	s.UpdateGetAllowedWithoutPermission()
	s.grants.Wait()
	d.wantBegun(t, 0)
	handle.Done()
	d.wantBegun(t, 1)
	d.set(2, 2)
	s.UpdateGetAllowedWithoutPermission()
	s.grants.Wait()
	d.wantBegun(t, 2)
	(<-d.mu.begun).Done()
	d.wantBegun(t, 2) // the one that ended made room for the last
	s.Unregister()
	d.set(9, 9)
	if ok, _ := s.TrySchedule(); ok {
		t.Error("a compaction may begin when the database is closed")
	}
	(<-d.mu.begun).Done()
	s.UpdateGetAllowedWithoutPermission()
	s.grants.Wait()
	d.wantBegun(t, 1)
}

func TestNoneBeginsAfterFailure(t *testing.T) {
	var err error
	s, d := scheduler(func() error { return err })
	d.set(1, 0)
	_, handle := s.TrySchedule()
	err = errors.New("bad table")
	d.set(9, 9)
	handle.Done()
	s.UpdateGetAllowedWithoutPermission()
	s.grants.Wait()
	d.wantBegun(t, 0)
	if ok, _ := s.TrySchedule(); ok {
		t.Error("a compaction may begin after the failure")
	}
}
