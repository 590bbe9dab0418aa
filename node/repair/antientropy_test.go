package repair

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dynamo/node/causal"
	"dynamo/node/cluster"
	"dynamo/node/config"
	"dynamo/node/merkle"
	"dynamo/node/replica"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// fakeDisk holds the copies of one tree in memory.
type fakeDisk struct {
	replica.Store
	id      store.TreeID
	objects map[string]causal.Object
	tree    merkle.Tree
	sorted  []store.Entry
}

func (d *fakeDisk) Get(ref store.Ref) (store.Record, error) {
	return store.Record{Object: d.objects[string(ref.Key)]}, nil
}

func (d *fakeDisk) Flush(context.Context) error { return nil }

func (d *fakeDisk) Update(_ context.Context, ref store.Ref, _ store.Durability, fn func(store.Record) (store.Record, error)) (store.Record, error) {
	r, err := fn(store.Record{Object: d.objects[string(ref.Key)]})
	if err == nil {
		d.put(string(ref.Key), r.Object)
	}
	return r, err
}

func (d *fakeDisk) put(key string, o causal.Object) {
	b := merkle.PositionOf([]byte(key)).Branch()
	was := d.objects[key]
	d.tree.SetBranch(b, d.tree.Branch(b).Sub(merkle.Item([]byte(key), was.Hash())).Add(merkle.Item([]byte(key), o.Hash())))
	d.objects[key] = o
	e := store.Entry{Key: []byte(key), Hash: o.Hash()}
	i, there := slices.BinarySearchFunc(d.sorted, e, compareEntries)
	if there {
		d.sorted[i] = e
	} else {
		d.sorted = slices.Insert(d.sorted, i, e)
	}
}

func (d *fakeDisk) Trees() []store.TreeID { return []store.TreeID{d.id} }

func (d *fakeDisk) TreeRoot(id store.TreeID) (merkle.Digest, bool) {
	if id != d.id {
		return merkle.Digest{}, true
	}
	return d.tree.Root(), true
}

func (d *fakeDisk) TreeBranches(store.TreeID) []merkle.Digest {
	out := make([]merkle.Digest, merkle.Branches)
	for i := range out {
		out[i] = d.tree.Branch(i)
	}
	return out
}

func (d *fakeDisk) TreeLeaves(id store.TreeID, branch int) ([]merkle.Digest, error) {
	out := make([]merkle.Digest, merkle.Leaves)
	from := merkle.Position(branch * merkle.Leaves)
	return out, d.Entries(id, from, from+merkle.Leaves, nil, func(e store.Entry) bool {
		leaf := int(e.Position() - from)
		out[leaf] = out[leaf].Add(merkle.Item(e.Key, e.Hash))
		return true
	})
}

func compareEntries(a, b store.Entry) int {
	if a.Position() != b.Position() {
		return int(a.Position()) - int(b.Position())
	}
	return strings.Compare(string(a.Key), string(b.Key))
}

func (d *fakeDisk) Entry(store.Ref) (store.Entry, bool, error) { return store.Entry{}, false, nil }

func (d *fakeDisk) Entries(_ store.TreeID, from, to merkle.Position, after []byte, fn func(store.Entry) bool) error {
	i, _ := slices.BinarySearchFunc(d.sorted, from, func(e store.Entry, p merkle.Position) int { return int(e.Position()) - int(p) })
	for ; i < len(d.sorted) && d.sorted[i].Position() < to; i++ {
		if e := d.sorted[i]; after != nil && compareEntries(e, store.Entry{Key: after}) <= 0 {
			continue
		} else if !fn(e) {
			return nil
		}
	}
	return nil
}

// pair is two replicas of one keyspace, and what goes between them.
type pair struct {
	*Repairer
	disks    [2]*fakeDisk
	replicas [2]*replica.Replica
	bytes    int
}

func (p *pair) Call(ctx context.Context, _ string, m wire.Message) (wire.Message, error) {
	p.bytes += len(m.AppendTo(nil))
	back, err := wire.Decode(m.Kind(), m.AppendTo(nil))
	if err != nil {
		return nil, err
	}
	reply, ok, err := p.replicas[1].Handle(ctx, "n1", back)
	if err != nil || !ok {
		return nil, fmt.Errorf("%t %w", ok, err)
	}
	p.bytes += len(reply.AppendTo(nil))
	return wire.Decode(reply.Kind(), reply.AppendTo(nil))
}

type fataler interface {
	Helper()
	Fatal(args ...any)
}

// view is the metadata of a cluster with keyspace "notes".
func view(t testing.TB) *cluster.View {
	t.Helper()
	file := config.Builtin(t.TempDir())
	file.Partitions = 16
	ks := file.NewKeyspace("notes")
	ks.Conflict = config.PolicySiblings
	file.Keyspaces = append(file.Keyspaces, ks)
	s, err := cluster.Open(cluster.Options{
		Self: "n1", File: file, Now: time.Now, Rand: rand.Reader, Logger: slog.New(slog.DiscardHandler),
		Load: func() ([]byte, bool, error) { return nil, false, nil }, Save: func([]byte) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	v := s.View()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return v
}

func newPair(t fataler, v *cluster.View) *pair {
	t.Helper()
	ks, ok := v.Keyspace("notes")
	if !ok {
		t.Fatal("no keyspace")
	}
	p := &pair{}
	for i := range p.disks {
		p.disks[i] = &fakeDisk{id: store.TreeID{Partition: 3, Keyspace: ks.ID()}, objects: make(map[string]causal.Object)}
		p.replicas[i] = replica.New(replica.Options{
			Self: fmt.Sprint("n", i+1), Store: p.disks[i], Trees: p.disks[i], Flights: replica.NewFlights(1), View: func() *cluster.View { return v },
			Limits: config.DefaultLimits(), Now: time.Now, Logger: slog.New(slog.DiscardHandler),
		})
	}
	p.Repairer = newRepairer(Options{
		Self: "n1", Transport: p, Flights: replica.NewFlights(1), Trees: p.disks[0], Copies: p.replicas[0], QueueLength: 1,
		Throttle: ThrottleOptions{Most: 1e12, Least: 1e12, Goal: time.Second, Every: time.Second, Now: time.Now}, Now: time.Now,
		Logger: slog.New(slog.DiscardHandler),
	})
	return p
}

func object(actor byte, values ...string) (o causal.Object) {
	for i, v := range values {
		o, _ = o.Put(nil, causal.Actor{Node: causal.NodeID{actor}, Incarnation: 1, Seq: uint64(i + 1)}, causal.Value{Bytes: []byte(v)})
	}
	return o
}

func (p *pair) meet() error { return p.compareWith("n2", p.disks[0].Trees()) }

// What an exchange costs: nothing for equal partitions, little for one key among a million.
func TestCostOfAnExchange(t *testing.T) {
	const keys = 1_000_000
	p := newPair(t, view(t))
	h := object(1, "v").Hash()
	var leaves [merkle.Positions][]store.Entry
	for i := range keys {
		key := fmt.Appendf(nil, "customer:%08d", i)
		at := merkle.PositionOf(key)
		leaves[at] = append(leaves[at], store.Entry{Key: key, Hash: h})
		p.disks[0].tree.SetBranch(at.Branch(), p.disks[0].tree.Branch(at.Branch()).Add(merkle.Item(key, h)))
	}
	p.disks[0].sorted = slices.Concat(leaves[:]...)
	p.disks[0].objects["customer:00424242"] = object(1, "v") // the only one that is read
	p.disks[1].tree, p.disks[1].sorted, p.disks[1].objects = p.disks[0].tree, slices.Clone(p.disks[0].sorted), maps.Clone(p.disks[0].objects)
	if err := p.meet(); err != nil || p.bytes >= 1<<10 {
		t.Fatalf("equal partitions of %d keys: %d bytes, %v", keys, p.bytes, err)
	}
	t.Logf("equal: %d bytes", p.bytes)
	p.bytes = 0
	p.disks[1].put("customer:00424242", object(2, "w"))
	p.disks[0].put("customer:00424242", object(1, "v", "x"))
	if err := p.meet(); err != nil || p.bytes >= 64<<10 {
		t.Fatalf("one key of %d differs: %d bytes, %v", keys, p.bytes, err)
	}
	t.Logf("one key differs: %d bytes", p.bytes)
	if p.disks[0].tree != p.disks[1].tree || len(p.disks[0].objects["customer:00424242"].Versions) != 3 {
		t.Fatal("the two replicas are not equal")
	}
}

// Whatever two replicas hold, after an exchange both hold the join.
func TestExchangeJoins(t *testing.T) {
	v := view(t)
	rapid.Check(t, func(t *rapid.T) {
		p := newPair(t, v)
		want := make(map[string]causal.Object)
		wide := rapid.SampledFrom([]int{1, 40, 5000}).Draw(t, "keys")
		for i := range rapid.IntRange(0, wide).Draw(t, "n") {
			key := fmt.Sprint("k", i)
			for side := range p.disks {
				if n := rapid.IntRange(0, 2).Draw(t, "versions"); n > 0 {
					o := object(byte(1+side), slices.Repeat([]string{"v"}, n)...)
					if rapid.Bool().Draw(t, "same") {
						o = object(9, "same")
					}
					p.disks[side].put(key, o)
					want[key] = want[key].Join(o)
				}
			}
		}
		if err := p.meet(); err != nil {
			t.Fatal(err)
		}
		for side, d := range p.disks {
			if len(d.objects) != len(want) {
				t.Fatalf("side %d holds %d keys of %d", side, len(d.objects), len(want))
			}
			for k, o := range want {
				if !d.objects[k].Equal(o) {
					t.Fatalf("side %d, key %s: %v, want %v", side, k, d.objects[k], o)
				}
			}
		}
		if p.disks[0].tree != p.disks[1].tree {
			t.Fatal("equal copies, different trees")
		}
	})
}

func TestThrottleGivesWay(t *testing.T) {
	now := time.Unix(1, 0)
	th := NewThrottle(ThrottleOptions{Most: 1000, Least: 100, Goal: 50 * time.Millisecond, Every: time.Second, Now: func() time.Time { return now }})
	second := func(latency time.Duration, n int) float64 {
		for range n {
			th.Observe(latency)
		}
		now = now.Add(time.Second)
		rate, _ := th.Rate()
		return rate
	}
	if r := second(time.Millisecond, 100); r != 1000 {
		t.Fatalf("fast foreground: rate %v", r)
	}
	for range 10 {
		second(time.Second, 100)
	}
	if r := second(time.Second, 100); r != 100 {
		t.Fatalf("slow foreground: rate %v", r)
	}
	if r := second(time.Second, 3); r != 150 {
		t.Fatalf("three slow requests say nothing: rate %v", r)
	}
	for range 10 {
		second(time.Millisecond, 10_000)
	}
	if r := second(time.Millisecond, 1); r != 1000 {
		t.Fatalf("recovered: rate %v", r)
	}
	// At 1000 bytes per second, 10 times 500 bytes take about 5 s.
	var waited time.Duration
	for range 10 {
		d := max(0, th.take(500))
		now, waited = now.Add(d), waited+d
	}
	if waited < 4*time.Second || waited > 5*time.Second {
		t.Fatalf("5000 bytes took %v", waited)
	}
}
