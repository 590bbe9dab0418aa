package coordinator

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"dynamo/node/peer"
	"dynamo/node/wire"
)

// A forwarded write that arrives twice is carried out once. The duplicate answers what the first does, or, if that
// has been said, that nobody can know: never that the write was refused.
func TestArrivesTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a arrivals
		a.init()
		id, runs, goOn := arrival{"n1", 7}, 0, make(chan struct{})
		failure := errors.New("not W replicas")
		work := func() (wire.Message, error) {
			runs++
			<-goOn
			return &wire.Ack{}, failure
		}
		answers := make(chan error, 3)
		var wg sync.WaitGroup
		defer wg.Wait()
		for range 3 {
			wg.Go(func() {
				_, err := a.once(t.Context(), id, work)
				answers <- err
			})
		}
		synctest.Wait()
		close(goOn)
		for range 3 {
			if err := <-answers; !errors.Is(err, failure) {
				t.Errorf("answered %v", err)
			}
		}
		_, err := a.once(t.Context(), id, work)
		if e, ok := errors.AsType[*peer.Error](err); !ok || !e.MaybeStored || runs != 1 {
			t.Errorf("a late duplicate is answered %v after %d runs", err, runs)
		}
		for i := range keptArrivals {
			_, _ = a.once(t.Context(), arrival{"n2", uint64(i)}, func() (wire.Message, error) { return &wire.Ack{}, nil })
		}
		if len(a.mu.known) != keptArrivals || len(a.mu.past) != keptArrivals {
			t.Errorf("%d writes are remembered", len(a.mu.known))
		}
	})
}

func TestDuplicateDoesNotWaitForEver(t *testing.T) {
	var a arrivals
	a.init()
	a.mu.known[arrival{"n1", 1}] = &carried{done: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := a.once(ctx, arrival{"n1", 1}, nil)
	if e, ok := errors.AsType[*peer.Error](err); !ok || !e.MaybeStored {
		t.Errorf("answered %v", err)
	}
}
