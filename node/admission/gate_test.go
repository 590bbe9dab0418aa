package admission

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestOverload: ten times what the gate can serve. What is served waits for no longer than the patience, the
// work at a time stays bounded, and the gate serves as much as it can.
func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Options{Work: 10, Queue: 50, Patience: 100 * time.Millisecond})
		var mu sync.Mutex
		served, full, late, most := 0, 0, 0, 0
		var wg sync.WaitGroup
		// 10 places of 10 ms are 1000 a second; 10,000 a second come.
		for range 10_000 {
			wg.Go(func() {
				start := time.Now()
				err := g.Enter(t.Context())
				waited := time.Since(start)
				mu.Lock()
				switch {
				case err == nil:
					served++
				case errors.Is(err, ErrFull):
					full++
				case errors.Is(err, ErrLate):
					late++
				}
				work, _ := g.Load()
				most = max(most, work)
				mu.Unlock()
				if waited > 100*time.Millisecond {
					t.Errorf("waited %v", waited)
				}
				if err == nil {
					<-time.After(10 * time.Millisecond)
					g.Leave()
				}
			})
			<-time.After(100 * time.Microsecond)
		}
		wg.Wait()
		if served < 950 || most > 10 || full == 0 {
			t.Errorf("served %d, turned away %d, late %d, at most %d at work", served, full, late, most)
		}
		if work, waiting := g.Load(); work != 0 || waiting != 0 {
			t.Errorf("%d at work and %d waiting at the end", work, waiting)
		}
	})
}

// TestDeadlineInTheQueue: what waited past its deadline is not executed.
func TestDeadlineInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Options{Work: 1, Queue: 2, Patience: time.Second})
		if err := g.Enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		start := time.Now()
		if err := g.Enter(ctx); !errors.Is(err, ErrLate) || time.Since(start) != 50*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if err := g.Enter(t.Context()); !errors.Is(err, ErrLate) {
			t.Errorf("patience: %v", err)
		}
		g.Leave()
		if err := g.Enter(ctx); !errors.Is(err, ErrLate) {
			t.Errorf("a free place for a request past its deadline: %v", err)
		}
		if err := g.Enter(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestNoQueue(t *testing.T) {
	g := New(Options{Work: 1})
	if err := g.Enter(t.Context()); err != nil || !g.Full() {
		t.Fatal(err)
	}
	if err := g.Enter(t.Context()); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	g.Leave()
	if g.Full() {
		t.Error("full after the last one has left")
	}
}

func TestBudget(t *testing.T) {
	b := NewBudget(100)
	if !b.Take(60) || b.Take(41) || !b.Take(40) || b.Take(1) || !b.Take(0) {
		t.Errorf("%d taken", b.Taken())
	}
	b.Give(100)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if b.Take(30) {
					if b.Taken() > 100 {
						t.Error("over the limit")
					}
					b.Give(30)
				}
			}
		})
	}
	wg.Wait()
	if b.Taken() != 0 {
		t.Errorf("%d left", b.Taken())
	}
}
