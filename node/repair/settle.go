package repair

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"dynamo/node/causal"
	"dynamo/node/cluster"
	"dynamo/node/config"
	"dynamo/node/conflict"
	"dynamo/node/merkle"
	"dynamo/node/replica"
	"dynamo/node/ring"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// The settle round is the one gate through which anything that replicas have agreed on is forgotten:
// tombstones, actors in contexts that write no more, and siblings that a lawful resolver has merged. No
// clean-up goes by age alone: that is how deleted data comes back elsewhere, from a replica, a hint or a
// message that was away for longer.
//
// The first primary of a partition holds it, and only while every member of the cluster answers:
//
//  1. barrier: every member finishes what it has in hand, and begins a new generation;
//  2. fence: every member refuses objects of older generations from now on, wherever they have been
//     waiting, and names the partitions that it keeps hints for, which are left alone;
//  3. check: all N primaries hold the same object, durably, and it has not changed for settle_after, which
//     is longer than any context token lives;
//  4. apply: each primary replaces the object if it is still that one.
//
// So nothing older than the object is left anywhere when it goes. Where step 4 reaches only some of the
// primaries, anti-entropy brings the object back to them, tombstone and all, and a later round repeats.

// Merger merges siblings for good.
type Merger interface {
	Collapse(ctx context.Context, p conflict.Policy, key []byte, o causal.Object) (causal.Object, bool)
}

const (
	// settleKeys bounds the keys of one round, settleAtOnce those of one message.
	settleKeys   = 4096
	settleAtOnce = 256
	// Rounds are a tenth of settle_after apart, within these bounds.
	settleLeast, settleMost = time.Second, 10 * time.Minute
)

// SettleStats count what settle rounds did since the start.
type SettleStats struct {
	// Rounds were begun; Aborted did not get through barrier and fence, as when a member is away.
	Rounds, Aborted uint64
	// Reaped tombstones, Collapsed siblings and Pruned contexts are counted by key; Refused are keys on which
	// the primaries did not agree, or had moved on.
	Reaped, Collapsed, Pruned, Refused uint64
}

type settleStats struct {
	mu struct {
		sync.Mutex
		SettleStats
	}
}

func (s *settleStats) add(f func(*SettleStats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.mu.SettleStats)
}

func (s *settleStats) get() SettleStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.SettleStats
}

func (r *Repairer) runSettle() {
	defer r.settle.Store(int32(Done))
	pause := min(max(r.o.SettleAfter/10, settleLeast), settleMost)
	t := time.NewTimer(pause + r.jitter(pause))
	defer t.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-t.C:
		}
		r.settle.Store(int32(Busy))
		r.settleRound(r.o.View())
		r.settle.Store(int32(Idle))
		t.Reset(pause/2 + r.jitter(pause))
	}
}

// candidate is a key that may have something to forget.
type candidate struct {
	id   store.TreeID
	key  []byte
	hash causal.Hash
}

func (r *Repairer) settleRound(v *cluster.View) {
	all := r.candidates(v)
	if len(all) == 0 {
		return
	}
	r.settled.add(func(s *SettleStats) { s.Rounds++ })
	hinted, err := r.fence(v)
	if err != nil {
		r.settled.add(func(s *SettleStats) { s.Aborted++ })
		r.o.Logger.Debug("settle round put off", "err", err)
		return
	}
	for len(all) > 0 {
		n := 1
		for n < len(all) && n < settleAtOnce && all[n].id == all[0].id {
			n++
		}
		if !hinted[all[0].id.Partition] {
			if err := r.settleKeys(v, all[:n]); err != nil {
				r.o.Logger.Debug("keys not settled", "partition", all[0].id.Partition, "err", err)
			}
		}
		all = all[n:]
	}
}

// candidates looks through the index of the partitions that this node is the first primary of.
func (r *Repairer) candidates(v *cluster.View) []candidate {
	var out []candidate
	before := r.o.Now().Add(-r.o.SettleAfter)
	for _, ks := range v.Keyspaces() {
		wanted := store.EntryDeleted | store.EntryCrowded
		if replica.PolicyOf(v, ks).Lawful {
			wanted |= store.EntrySiblings
		}
		for p := range v.Ring.Q() {
			id := store.TreeID{Partition: ring.Partition(p), Keyspace: ks.ID()}
			if list := v.Ring.PreferenceList(id.Partition); list[0] != r.o.Self || r.ctx.Err() != nil {
				continue
			}
			err := r.o.Trees.Entries(id, 0, merkle.Positions, nil, func(e store.Entry) bool {
				if e.Flags&wanted != 0 && e.Changed.Before(before) {
					out = append(out, candidate{id, e.Key, e.Hash})
				}
				return len(out) < settleKeys
			})
			if err != nil {
				r.o.Logger.Warn("the index cannot be read", "partition", p, "err", err)
			}
			if len(out) >= settleKeys {
				return out
			}
		}
	}
	return out
}

// fence is steps 1 and 2; it returns the partitions that somebody keeps hints for.
func (r *Repairer) fence(v *cluster.View) (map[ring.Partition]bool, error) {
	members := make([]string, len(v.Members))
	for i, m := range v.Members {
		if members[i] = m.ID; m.ID != r.o.Self && !r.o.Reachable(m.ID) {
			return nil, fmt.Errorf("repair: member %s is away", m.ID)
		}
	}
	barriers, err := callAll[*wire.SettleBarrierReply](r, members, &wire.SettleBarrier{})
	if err != nil {
		return nil, err
	}
	m := &wire.SettleFence{}
	for i, b := range barriers {
		m.Generations = append(m.Generations, wire.NodeGeneration{Node: members[i], Generation: b.Generation})
	}
	fences, err := callAll[*wire.SettleFenceReply](r, members, m)
	if err != nil {
		return nil, err
	}
	hinted := make(map[ring.Partition]bool)
	for _, f := range fences {
		for _, p := range f.Hinted {
			hinted[p] = true
		}
	}
	return hinted, nil
}

// callAll sends one message to several nodes; all have to answer.
func callAll[T wire.Message](r *Repairer, nodes []string, m wire.Message) ([]T, error) {
	out := make([]T, len(nodes))
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, node := range nodes {
		wg.Go(func() { out[i], errs[i] = call[T](r, node, m) })
	}
	wg.Wait()
	return out, cmp.Or(errs...)
}

// settleKeys is steps 3 and 4 for keys of one tree.
func (r *Repairer) settleKeys(v *cluster.View, keys []candidate) error {
	ks, ok := v.KeyspaceByID(keys[0].id.Keyspace)
	if !ok {
		return nil
	}
	list := v.Ring.PreferenceList(keys[0].id.Partition)
	primaries := list[:min(ks.N, len(list))]
	m := &wire.SettleCheck{KeyspaceID: ks.ID()}
	for _, c := range keys {
		m.Keys = append(m.Keys, c.key)
	}
	checks, err := callAll[*wire.SettleCheckReply](r, primaries, m)
	if err != nil {
		return err
	}
	apply := &wire.SettleApply{KeyspaceID: ks.ID()}
	for i, c := range keys {
		if next, change := r.agreed(v, ks, c, i, checks); change {
			apply.Items = append(apply.Items, wire.SettleItem{Key: c.key, Agreed: c.hash, Object: next})
		}
	}
	if len(apply.Items) == 0 {
		return nil
	}
	done, err := callAll[*wire.SettleApplyReply](r, primaries, apply)
	for _, d := range done {
		if d != nil && d.Done < uint64(len(apply.Items)) {
			r.settled.add(func(s *SettleStats) { s.Refused += uint64(len(apply.Items)) - d.Done })
		}
	}
	return err
}

// agreed returns what takes the place of a key's object, nil for nothing; false if it stays.
func (r *Repairer) agreed(v *cluster.View, ks cluster.Keyspace, c candidate, i int, checks []*wire.SettleCheckReply) ([]byte, bool) {
	var owns []causal.Actor
	for _, check := range checks {
		if i >= len(check.Copies) || check.Copies[i].Hash != c.hash || time.Duration(check.Copies[i].QuietMs)*time.Millisecond < r.o.SettleAfter {
			r.settled.add(func(s *SettleStats) { s.Refused++ })
			return nil, false
		}
		owns = append(owns, check.Copies[i].Own)
	}
	reply, err := r.o.Copies.Objects(&wire.ObjectsGet{KeyspaceID: ks.ID(), Keys: [][]byte{c.key}})
	if err != nil || len(reply.Entries) != 1 || causal.HashOf(reply.Entries[0].Object) != c.hash {
		return nil, false
	}
	o, err := causal.DecodeObject(reply.Entries[0].Object)
	if err != nil {
		r.o.Logger.Error("own object cannot be decoded", "err", err)
		return nil, false
	}
	if !slices.ContainsFunc(o.Versions, func(v causal.Version) bool { return !v.Deleted }) {
		r.settled.add(func(s *SettleStats) { s.Reaped++ })
		return nil, true
	}
	next := o
	if p := replica.PolicyOf(v, ks); p.Lawful && p.Conflict == config.PolicyResolver && len(o.Versions) > 1 {
		if merged, ok := r.o.Merger.Collapse(r.ctx, p, c.key, o); ok {
			next = merged
			r.settled.add(func(s *SettleStats) { s.Collapsed++ })
		}
	}
	if pruned := next.Prune(owns); len(pruned.Context) < len(next.Context) {
		next = pruned
		r.settled.add(func(s *SettleStats) { s.Pruned++ })
	}
	if next.Hash() == c.hash {
		return nil, false
	}
	return causal.AppendObject(nil, next), true
}
