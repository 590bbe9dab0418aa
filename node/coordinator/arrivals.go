package coordinator

import (
	"context"
	"sync"

	"dynamo/node/peer"
	"dynamo/node/wire"
)

// arrivals see to it that a forwarded write which arrives twice is carried out and answered once. Claims alone keep it from
// being minted twice, but not from a second answer that comes first: the duplicate is refused its claim, or fails the
// write's precondition because it sees this very write in place, while the write itself still waits for its replicas.
type arrivals struct {
	// Invariant: known holds the writes at work, and nil for those in past, which are done.
	mu struct {
		sync.Mutex
		known map[arrival]*carried
		past  []arrival
	}
}

// arrival names a forwarded write.
type arrival struct {
	from  string
	claim uint64
}

// carried is a write at work; reply and err are set before done is closed.
type carried struct {
	done  chan struct{}
	reply wire.Message
	err   error
}

// keptArrivals is how many writes are remembered after they are done: a duplicate is late by little.
const keptArrivals = 1024

func (a *arrivals) init() { a.mu.known = make(map[arrival]*carried) }

// once carries a write out, or answers as the same write is or was answered.
func (a *arrivals) once(ctx context.Context, id arrival, work func() (wire.Message, error)) (wire.Message, error) {
	a.mu.Lock()
	w, twice := a.mu.known[id]
	if !twice {
		w = &carried{done: make(chan struct{})}
		a.mu.known[id] = w
	}
	a.mu.Unlock()
	late := &peer.Error{Code: string(CodeQuorumUnmet), Detail: "the write arrived twice, and was answered", Retryable: true, MaybeStored: true}
	switch {
	case !twice:
		w.reply, w.err = work()
		a.end(id)
		close(w.done)
	case w == nil:
		return nil, late
	default:
		select {
		case <-w.done:
		case <-ctx.Done():
			return nil, late
		}
	}
	return w.reply, w.err
}

func (a *arrivals) end(id arrival) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.known[id] = nil
	if a.mu.past = append(a.mu.past, id); len(a.mu.past) > keptArrivals {
		delete(a.mu.known, a.mu.past[0])
		a.mu.past = a.mu.past[1:]
	}
}
