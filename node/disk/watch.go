package disk

import (
	"sync"
	"time"
)

// SyncWatch sees whether waits for a disk come to an end. The zero value has none.
type SyncWatch struct {
	// since is when the last wait ended, or when the first of those under way began.
	mu struct {
		sync.Mutex
		waiting int
		since   time.Time
	}
}

// Begin counts a wait in.
func (w *SyncWatch) Begin(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.waiting == 0 {
		w.mu.since = now
	}
	w.mu.waiting++
}

// End counts a wait out.
func (w *SyncWatch) End(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.waiting--
	w.mu.since = now
}

// Stalled reports whether somebody waits and nobody has got through for so long.
func (w *SyncWatch) Stalled(now time.Time, after time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.waiting > 0 && now.Sub(w.mu.since) > after
}
