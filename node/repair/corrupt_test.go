package repair

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dynamo/node/causal"
	"dynamo/node/replica"
	"dynamo/node/ring"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// others are the replicas that a mender asks. An entry without an object has nothing; no entry is a failure.
type others struct {
	mu struct {
		sync.Mutex
		down    map[string]bool
		objects map[string]causal.Object
		calls   int
	}
	replaced  map[string]causal.Object
	discarded []string
}

func (o *others) Call(_ context.Context, node string, m wire.Message) (wire.Message, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.calls++
	r, ok := m.(*wire.Read)
	obj, has := o.mu.objects[node]
	if !ok || !r.WantObject || !has {
		return nil, errors.New("failed")
	}
	if obj.IsZero() {
		return &wire.ReadReply{}, nil
	}
	return &wire.ReadReply{Hash: obj.Hash(), Object: causal.AppendObject(nil, obj)}, nil
}

func (o *others) set(objects map[string]causal.Object, down ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mu.objects, o.mu.down = objects, make(map[string]bool)
	for _, id := range down {
		o.mu.down[id] = true
	}
}

func startMender(t *testing.T, o *others, pending int) *Mender {
	t.Helper()
	o.replaced = make(map[string]causal.Object)
	m := StartMender(MenderOptions{
		Self: "n1", Transport: o, Flights: replica.NewFlights(1),
		Reachable:    func(id string) bool { o.mu.Lock(); defer o.mu.Unlock(); return !o.mu.down[id] },
		KeyspaceName: func(id uint64) (string, bool) { return "notes", id == 1 },
		Replicas: func(ring.Partition, uint64) ([]string, []string) {
			return []string{"n1", "n2", "n3"}, []string{"n4"}
		},
		Replace: func(_ context.Context, ref store.Ref, obj causal.Object) (bool, error) {
			o.replaced[ref.String()] = obj
			return true, nil
		},
		Discard:    func(ref store.Ref) (bool, error) { o.discarded = append(o.discarded, ref.String()); return true, nil },
		RetryEvery: time.Second, CallTimeout: time.Second, Pending: pending, Logger: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(m.Close)
	return m
}

func written(n byte) causal.Object {
	o, _ := causal.Object{}.Put(causal.Context{}, causal.Actor{Node: causal.NodeID{n}, Incarnation: 1, Seq: 1}, causal.Value{Bytes: []byte{n}})
	return o
}

func TestMenderJoinsWhatTheOthersHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &others{}
		m := startMender(t, o, 10)
		defer m.Close()
		ref := store.Ref{Keyspace: 1, Key: []byte("k")}

		o.set(nil, "n2", "n3", "n4") // nobody is there
		for range 3 {
			m.Corrupt(ref)
		}
		synctest.Wait()
		if st := m.Stats(); st.Pending != 1 || st.Failed != 1 || len(o.replaced)+len(o.discarded) != 0 {
			t.Fatalf("%+v", st)
		}
		o.set(map[string]causal.Object{"n2": written(2)}) // n3 is there and fails: it may know more
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if st := m.Stats(); st.Pending != 1 || len(o.replaced) != 0 {
			t.Fatalf("%+v", st)
		}
		o.set(map[string]causal.Object{"n2": written(2), "n3": {}, "n4": written(4)})
		time.Sleep(time.Second)
		synctest.Wait()
		want := written(2).Join(written(4))
		if st := m.Stats(); st.Pending != 0 || st.Mended != 1 || o.replaced[ref.String()].Hash() != want.Hash() {
			t.Errorf("%+v, %v", st, o.replaced)
		}
	})
}

func TestMenderKeepsWhatOthersMayHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &others{}
		m := startMender(t, o, 10)
		defer m.Close()
		o.set(map[string]causal.Object{"n2": {}, "n4": {}}, "n3")
		m.Corrupt(store.Ref{Keyspace: 1, Key: []byte("k")})
		synctest.Wait()
		if st := m.Stats(); st.Pending != 1 || len(o.discarded) != 0 {
			t.Errorf("%+v", st)
		}
		o.set(map[string]causal.Object{"n2": {}, "n3": {}, "n4": {}})
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if st := m.Stats(); st.Pending != 0 || st.Discarded != 1 || len(o.replaced) != 0 {
			t.Errorf("with nobody left who has it: %+v", st)
		}
	})
}

func TestMenderDiscardsHintsAndIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &others{}
		o.set(nil, "n2", "n3", "n4")
		m := startMender(t, o, 2)
		defer m.Close()
		m.Corrupt(store.Ref{Keyspace: 1, Key: []byte("h"), HintFor: "n2"})
		m.Corrupt(store.Ref{Keyspace: 9, Key: []byte("of a dropped keyspace")})
		synctest.Wait()
		if st := m.Stats(); st.Discarded != 2 || st.Pending != 0 || o.mu.calls != 0 {
			t.Errorf("%+v", st)
		}
		for i := range 5 {
			m.Corrupt(store.Ref{Keyspace: 1, Key: fmt.Append(nil, i)})
			synctest.Wait()
		}
		if st := m.Stats(); st.Pending != 2 || st.Dropped != 3 {
			t.Errorf("%+v", st)
		}
	})
}
