// Package drill plays situations that a storm meets too seldom, one after the other on a small simulated cluster: each
// is made for one promise, and asks for it in the end. A seed decides which keys and so which nodes play which part.
package drill

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"dynamo/node/causal"
	"dynamo/node/config"
	"dynamo/node/coordinator"
	"dynamo/node/peer"
	"dynamo/node/sim"
	"dynamo/node/sim/history"
	"dynamo/node/store"
)

// Drill is one situation.
type Drill struct {
	// Name says what happens, Promise what must hold all the same.
	Name, Promise string
	nodes         int
	play          func(*stage, context.Context) error
}

// All lists the drills.
func All() []Drill {
	return []Drill{
		{"hint-holders-lose-power", history.NotLost, 5, hintHoldersLosePower},
		{"hint-grows-on-its-way", history.NotLost, 4, hintGrowsOnItsWay},
		{"wiped-disk-writes", history.NotLost, 5, wipedDiskWrites},
		{"write-is-handed-on", history.StaysAway, 5, writeIsHandedOn},
		{"strict-read-sees-strict-write", history.Strict, 3, strictReadSeesWrite},
		{"strict-read-beside-fallbacks", history.Strict, 5, strictReadBesideFallbacks},
		{"unsure-node-is-read", history.Strict, 3, unsureNodeIsRead},
		{"token-of-a-write", history.NotLost, 3, tokenOfAWrite},
		{"context-is-kept", history.NotLost, 3, contextIsKept},
		{"buffered-end-is-lost", history.NotLost, 5, bufferedEndIsLost},
		{"delete-while-one-is-away", history.StaysAway, 3, deleteWhileOneIsAway},
		{"drop-while-one-is-away", history.DropsAll, 3, dropWhileOneIsAway},
	}
}

// Options describe one play.
type Options struct {
	Seed        uint64
	Logger      *slog.Logger
	Now         func() time.Time
	ModuleCache string
}

const (
	// notes keeps siblings and syncs, quick does not sync.
	notes, quick = "notes", "quick"

	contextLifetime = 12 * time.Second
	settleAfter     = 18 * time.Second
	// heard is after how long every node knows who is up and who can be heard.
	heard = 3 * time.Second
	// patience is how long replicas may take to become equal.
	patience = 3 * time.Minute
)

// Run plays the drill on a cluster of its own, and says how its promise was broken, if it was. An error says that
// the drill could not be played to its end, which is no better.
func (d Drill) Run(ctx context.Context, o Options) (broken []string, err error) {
	keyspace := func(name string, d config.Durability) config.Keyspace {
		return config.Keyspace{Name: name, N: 3, R: 2, W: 2, Conflict: config.PolicySiblings, Durability: d, MaxValueBytes: 1 << 16}
	}
	c := sim.Config(d.nodes, 16, keyspace(notes, config.DurabilitySync), keyspace(quick, config.DurabilityBuffered))
	c.Limits.RequestTimeout, c.Limits.MaxTimeout = 2*time.Second, 5*time.Second
	c.Limits.ContextLifetime, c.Limits.SettleAfter = contextLifetime, settleAfter
	s := &stage{o: o, c: sim.New(sim.Options{
		Config: c, Seed: o.Seed, Logger: o.Logger, Now: o.Now, ModuleCache: o.ModuleCache, PauseNetworkOnly: true,
	})}
	for _, n := range c.Nodes {
		s.ids = append(s.ids, n.ID)
	}
	defer func() {
		if closing := s.c.Close(ctx); err == nil {
			err = closing
		}
	}()
	if err := s.c.StartAll(ctx); err != nil {
		return nil, err
	}
	err = d.play(s, ctx)
	return s.broken, err
}

// stage is where a drill is played.
type stage struct {
	o      Options
	c      *sim.Cluster
	ids    []string
	broken []string
}

func (s *stage) breaks(format string, args ...any) {
	s.broken = append(s.broken, fmt.Sprintf(format, args...))
}

// cast draws a key and returns the nodes in the order of its preference list: its primaries and then the fallbacks.
func (s *stage) cast(keyspace string, number int) (key string, nodes []string, err error) {
	key = fmt.Sprintf("k%d-%d", s.o.Seed, number)
	at, err := s.c.Node(s.ids[0]).Requests().Locate(keyspace, []byte(key))
	if err == nil && len(at.PreferenceList) < len(s.ids) {
		err = fmt.Errorf("drill: the list of %s has only %v", key, at.PreferenceList)
	}
	return key, at.PreferenceList, err
}

// call is one write or read via a node.
type call struct {
	via, keyspace, key string
	// value of a write, "" for a delete.
	value, token string
	coordinator.Options
}

func (s *stage) write(ctx context.Context, q call) (token string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	a, err := s.c.Node(q.via).Requests().Write(ctx, coordinator.WriteRequest{
		Keyspace: q.keyspace, Key: []byte(q.key), Options: q.Options, Token: q.token,
		Value: causal.Value{Bytes: []byte(q.value), ContentType: "text/plain", Deleted: q.value == ""},
	})
	if err != nil {
		return "", fmt.Errorf("drill: write of %q via %s: %w", q.value, q.via, err)
	}
	return a.Token, nil
}

func (s *stage) read(ctx context.Context, q call) (values []string, token string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	a, err := s.c.Node(q.via).Requests().Get(ctx, coordinator.ReadRequest{Keyspace: q.keyspace, Key: []byte(q.key), Options: q.Options})
	if err != nil {
		return nil, "", fmt.Errorf("drill: read via %s: %w", q.via, err)
	}
	for _, v := range a.Siblings {
		values = append(values, string(v.Bytes))
	}
	if a.Value != nil {
		values = append(values, string(a.Value.Bytes))
	}
	slices.Sort(values)
	return values, a.Token, nil
}

// expect asks, once all is well, that a key has these values and no others.
func (s *stage) expect(ctx context.Context, keyspace, key string, want ...string) error {
	if err := s.recover(ctx); err != nil {
		return err
	}
	for _, id := range s.ids {
		got, _, err := s.read(ctx, call{via: id, keyspace: keyspace, key: key, Options: coordinator.Options{R: coordinator.QuorumAll}})
		if err != nil {
			return err
		}
		if slices.Sort(want); !slices.Equal(got, want) {
			s.breaks("%s/%s via %s is %q and should be %q", keyspace, key, id, got, want)
			return nil
		}
	}
	return nil
}

// recover ends all that is wrong and waits until the replicas are equal, without hints.
func (s *stage) recover(ctx context.Context) error {
	s.c.Heal()
	s.c.Fair()
	if err := s.boot(ctx, s.ids...); err != nil {
		return err
	}
	return s.until(ctx, patience, "the replicas become equal", func() bool {
		type tree struct {
			partition uint32
			keyspace  string
		}
		first := map[tree]string{}
		for _, id := range s.ids {
			n := s.c.Node(id)
			if n.Unsure() || n.Hints() > 0 {
				return false
			}
			for _, p := range n.Partitions() {
				at, sum := tree{p.Partition, p.Keyspace}, fmt.Sprint(p.Sum, p.Count)
				if was, ok := first[at]; ok && was != sum || !p.Sound {
					return false
				}
				first[at] = sum
			}
		}
		return true
	})
}

// until waits for a condition.
func (s *stage) until(ctx context.Context, limit time.Duration, what string, met func() bool) error {
	for began := s.o.Now(); !met(); {
		if s.o.Now().Sub(began) > limit {
			return fmt.Errorf("drill: not after %v: %s", limit, what)
		}
		if err := s.wait(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (s *stage) wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// boot boots those that are down and waits until they take requests.
func (s *stage) boot(ctx context.Context, ids ...string) error {
	for _, id := range ids {
		if s.c.Node(id) == nil {
			if err := s.c.Boot(ctx, id); err != nil {
				return err
			}
		}
	}
	for _, id := range ids {
		select {
		case <-s.c.Node(id).Ready():
		case <-time.After(patience):
			return fmt.Errorf("drill: %s is not ready after %v", id, patience)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// powerCut takes the power from nodes in one moment: all that was not synced is gone. It comes back with boot.
func (s *stage) powerCut(ctx context.Context, ids ...string) error {
	left := map[string]*sim.Disk{}
	for _, id := range ids {
		left[id] = s.c.Snapshot(id)
	}
	for _, id := range slices.Sorted(maps.Keys(left)) {
		if err := s.c.Crash(ctx, id, 0); err != nil {
			return err
		}
		s.c.Restore(id, left[id])
	}
	return nil
}

// holds says whether a node's own copies or hints show a value.
func (s *stage) holds(id, key, value string) bool {
	found := false
	look := func(r store.Record) {
		for _, v := range r.Object.Versions {
			found = found || string(v.Bytes) == value
		}
	}
	d := s.c.Node(id).Disk()
	for _, t := range d.Trees() {
		_ = d.Scan(t.Partition, t.Keyspace, []byte(key), nil, func(_ []byte, r store.Record) bool { // an error: the node is stopping
			look(r)
			return !found
		})
	}
	return found
}

// slow makes messages between two nodes late.
func (s *stage) slow(a, b string, least, most time.Duration, twice float64) {
	f := peer.Faults{MinDelay: least, MaxDelay: most, Duplicate: twice}
	s.c.Network.SetLink(a, b, f)
	s.c.Network.SetLink(b, a, f)
}
