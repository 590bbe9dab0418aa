package repair

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"dynamo/node/causal"
	"dynamo/node/replica"
	"dynamo/node/ring"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// MenderOptions configure a Mender. All fields are required.
type MenderOptions struct {
	Self      string
	Transport Transport
	// Flights counts the objects that are in hand here.
	Flights   *replica.Flights
	Reachable func(id string) bool
	// KeyspaceName finds the name of a keyspace by its id; false for one that was dropped.
	KeyspaceName func(id uint64) (string, bool)
	// Replicas returns the primaries of a key, and the fallbacks behind them.
	Replicas func(p ring.Partition, keyspace uint64) (primaries, fallbacks []string)
	// Replace puts what other replicas have in the place of a corrupt record; false if it is sound again.
	Replace func(ctx context.Context, ref store.Ref, o causal.Object) (bool, error)
	// Discard removes a record that is corrupt.
	Discard func(ref store.Ref) (bool, error)
	// RetryEvery is the pause before a record that could not be mended is tried again.
	RetryEvery time.Duration
	// CallTimeout bounds one message.
	CallTimeout time.Duration
	// Pending bounds the records that wait; a read that meets a further one after that names it again.
	Pending int
	Logger  *slog.Logger
}

// Mender refills corrupt records from the other replicas. A record that cannot be filled stays as it is, a
// failed replica, and is tried again: one that is gone would be taken for one that was never written.
type Mender struct {
	o      MenderOptions
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	wake   chan struct{}
	// mu.pending holds each record once, by its name; true once it was tried in vain.
	mu struct {
		sync.Mutex
		pending map[string]*corrupt
	}
	stats struct{ mended, discarded, failed, dropped atomic.Uint64 }
}

type corrupt struct {
	ref   store.Ref
	tried bool
}

// MenderStats are counted since the start, but for Pending.
type MenderStats struct {
	// Mended and Discarded count records, Failed attempts, Dropped records that found no room to wait.
	Mended, Discarded, Failed, Dropped uint64
	Pending                            int
}

// StartMender starts the worker; Close it.
func StartMender(o MenderOptions) *Mender {
	m := &Mender{o: o, wake: make(chan struct{}, 1)}
	m.mu.pending = make(map[string]*corrupt)
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.wg.Go(m.run)
	return m
}

// Close stops the worker and waits for it.
func (m *Mender) Close() {
	m.cancel()
	m.wg.Wait()
}

// Stats returns the counters.
func (m *Mender) Stats() MenderStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return MenderStats{
		Mended: m.stats.mended.Load(), Discarded: m.stats.discarded.Load(), Failed: m.stats.failed.Load(),
		Dropped: m.stats.dropped.Load(), Pending: len(m.mu.pending),
	}
}

// Corrupt takes note of a record. It never blocks. The ref is the mender's to keep.
func (m *Mender) Corrupt(ref store.Ref) {
	name := ref.String()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.pending[name] != nil {
		return
	}
	if len(m.mu.pending) >= m.o.Pending {
		m.stats.dropped.Add(1)
		return
	}
	m.mu.pending[name] = &corrupt{ref: ref}
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *Mender) run() {
	t := time.NewTicker(m.o.RetryEvery)
	defer t.Stop()
	for {
		again := false
		select {
		case <-m.ctx.Done():
			return
		case <-m.wake:
		case <-t.C:
			again = true
		}
		for name, ref := range m.due(again) {
			if m.ctx.Err() != nil {
				return
			}
			m.attempt(name, ref)
		}
	}
}

// due returns what is to be tried now: what is new, and with again all the rest.
func (m *Mender) due(again bool) map[string]store.Ref {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string]store.Ref)
	for name, c := range m.mu.pending {
		if again || !c.tried {
			c.tried = true
			out[name] = c.ref
		}
	}
	return out
}

func (m *Mender) attempt(name string, ref store.Ref) {
	if err := m.mend(ref); err != nil {
		m.stats.failed.Add(1)
		m.o.Logger.Warn("a corrupt record cannot be refilled yet", "record", name, "err", err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.mu.pending, name)
}

// mend brings one record back, or ends with the reason why it cannot be.
func (m *Mender) mend(ref store.Ref) error {
	defer m.o.Flights.End(m.o.Flights.Begin())
	name, known := m.o.KeyspaceName(ref.Keyspace)
	if ref.HintFor != "" || !known {
		// A hint is one of several copies; its primary has, or gets, the others.
		return m.discard(ref)
	}
	o, everybody, err := m.gather(ref, wire.Target{Keyspace: name, KeyspaceID: ref.Keyspace, Key: ref.Key})
	if err != nil {
		return err
	}
	if o.IsZero() {
		if !everybody {
			return errors.New("the replicas that answer have nothing of the key, and some do not answer")
		}
		// It never was anywhere else. Kept, it would fail the reads of this replica for ever.
		m.o.Logger.Error("a corrupt record that no other replica has is lost", "record", ref.String())
		return m.discard(ref)
	}
	ctx, cancel := context.WithTimeout(m.ctx, m.o.CallTimeout)
	defer cancel()
	done, err := m.o.Replace(ctx, ref, o)
	if err == nil && done {
		m.stats.mended.Add(1)
	}
	return err
}

func (m *Mender) discard(ref store.Ref) error {
	done, err := m.o.Discard(ref)
	if err == nil && done {
		m.stats.discarded.Add(1)
	}
	return err
}

// gather joins what the other replicas have: every primary that can be reached must answer, and at least
// one. everybody says that none of the others was left out.
func (m *Mender) gather(ref store.Ref, t wire.Target) (joined causal.Object, everybody bool, err error) {
	primaries, fallbacks := m.o.Replicas(ref.Partition, ref.Keyspace)
	heard := 0
	everybody = true
	for _, id := range primaries {
		if id == m.o.Self {
			continue
		}
		if !m.o.Reachable(id) {
			everybody = false
			continue
		}
		o, err := m.read(id, &wire.Read{Target: t, WantObject: true})
		if err != nil {
			return causal.Object{}, false, fmt.Errorf("replica %s: %w", id, err)
		}
		heard++
		joined = joined.Join(o)
	}
	if heard == 0 {
		return causal.Object{}, false, errors.New("no other replica can be reached")
	}
	for _, id := range fallbacks {
		if id == m.o.Self {
			continue
		}
		o, err := causal.Object{}, error(nil)
		if m.o.Reachable(id) {
			o, err = m.read(id, &wire.Read{Target: t, WantObject: true, Hints: true})
		}
		if err != nil || !m.o.Reachable(id) {
			everybody = false
			continue
		}
		joined = joined.Join(o)
	}
	return joined, everybody, nil
}

func (m *Mender) read(node string, r *wire.Read) (causal.Object, error) {
	ctx, cancel := context.WithTimeout(m.ctx, m.o.CallTimeout)
	defer cancel()
	reply, err := m.o.Transport.Call(ctx, node, r)
	if err != nil {
		return causal.Object{}, err
	}
	rr, ok := reply.(*wire.ReadReply)
	if !ok {
		return causal.Object{}, errors.New("answered by another kind of message")
	}
	if len(rr.Object) == 0 {
		return causal.Object{}, nil
	}
	return causal.DecodeObject(rr.Object)
}
