package repair

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dynamo/node/causal"
	"dynamo/node/cluster"
	"dynamo/node/merkle"
	"dynamo/node/peer"
	"dynamo/node/ring"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// Trees is the part of the disk that exchanges work on.
type Trees interface {
	Trees() []store.TreeID
	TreeRoot(id store.TreeID) (root merkle.Digest, sound bool)
	TreeBranches(id store.TreeID) []merkle.Digest
	TreeLeaves(id store.TreeID, branch int) ([]merkle.Digest, error)
	Entries(id store.TreeID, from, to merkle.Position, after []byte, fn func(store.Entry) bool) error
}

// Copies is this node's replica, as exchanges need it.
type Copies interface {
	Objects(m *wire.ObjectsGet) (*wire.ObjectsReply, error)
	ApplyAll(ctx context.Context, keyspace uint64, entries []wire.ListEntry) error
}

const (
	// sweepEvery is the pause between two comparisons with all other replicas.
	sweepEvery = 5 * time.Second
	// rootsAtOnce is how many roots go into one message.
	rootsAtOnce = 256
	// keysAtOnce is how many objects are asked for in one message; the answer is bounded by bytes as well.
	keysAtOnce = 256
	// wholeBranch is the number of keys below which a branch is compared key by key at once: a level less
	// to descend is worth more than the few keys it saves.
	wholeBranch = 512
	// exchangeTimeout bounds one message of an exchange.
	exchangeTimeout = 10 * time.Second
)

// exchangeStats count what anti-entropy did.
type exchangeStats struct {
	mu struct {
		sync.Mutex
		ExchangeStats
	}
}

// ExchangeStats are the counters of anti-entropy since the start.
type ExchangeStats struct {
	// Compared counts trees that were compared with another replica's, Differed those that were not equal,
	// Unready those that one of the two could not tell about yet.
	Compared, Differed, Unready uint64
	// Keys differed, Sent and Received are the objects that were moved because of it.
	Keys, Sent, Received uint64
	// Failed counts exchanges that broke off.
	Failed uint64
	// Clean is when every tree was last found equal to, or made equal with, those of all other replicas
	// that could be reached; zero for never.
	Clean time.Time
}

func (s *exchangeStats) add(f func(*ExchangeStats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.mu.ExchangeStats)
}

func (s *exchangeStats) get() ExchangeStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.ExchangeStats
}

// runAntiEntropy compares this node's copies with those of the other replicas, for ever (Dynamo paper,
// section 4.7). Each pair of replicas is compared from both ends, so that a node which is down, or has
// just returned, does not have to wait for the other to begin.
func (r *Repairer) runAntiEntropy() {
	defer r.antiEntropy.Store(int32(Done))
	t := time.NewTimer(r.pause(r.jitter(sweepEvery)))
	defer t.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-t.C:
		}
		r.antiEntropy.Store(int32(Busy))
		v := r.o.View()
		r.sweep(v)
		r.doubt.judge(v, r)
		r.antiEntropy.Store(int32(Idle))
		t.Reset(r.pause(sweepEvery/2 + r.jitter(sweepEvery)))
	}
}

// pause is d, longer with very many trees, and short for a node that has to be sure of itself soon.
func (r *Repairer) pause(d time.Duration) time.Duration {
	if r.doubt.unsure.Load() {
		return unsureEvery
	}
	return d * time.Duration(1+len(r.o.Trees.Trees())/manyTrees)
}

// manyTrees is how many trees a sweep may compare at its usual pace: each is 36 bytes for each peer.
const manyTrees = 20_000

const (
	// unsureEvery is the pause between comparisons after an unclean stop.
	unsureEvery = 100 * time.Millisecond
	// awayAfter is when a member that has not been heard is not waited for any longer, unsureMost when
	// nobody is.
	awayAfter  = 5 * time.Second
	unsureMost = time.Minute
)

// doubt is whether this node's silence counts. After an unclean stop the end of the log may be missing
// without an error (cockroachdb/pebble#4560), so the node first compares itself with every other that it
// can reach.
type doubt struct {
	unsure atomic.Bool
	// since and met belong to the goroutine of anti-entropy.
	since time.Time
	met   map[string]bool
}

// judge ends the doubt once there is nobody left to meet.
func (d *doubt) judge(v *cluster.View, r *Repairer) {
	if !d.unsure.Load() {
		return
	}
	waited := r.o.Now().Sub(d.since)
	for _, m := range v.Members {
		met := m.ID == r.o.Self || d.met[m.ID]
		if !met && waited < unsureMost && (waited < awayAfter || r.o.Reachable(m.ID)) {
			return
		}
	}
	d.unsure.Store(false)
	r.o.Logger.Info("compared with the other replicas after an unclean stop", "met", len(d.met), "took", waited)
}

// Unsure reports whether this node may lack what it acknowledged before an unclean stop.
func (r *Repairer) Unsure() bool { return r.doubt.unsure.Load() }

// jitter keeps nodes that start together from meeting in every sweep.
func (r *Repairer) jitter(d time.Duration) time.Duration { return time.Duration(r.o.Draw(uint64(d))) }

// sweep compares all trees once with every replica that can be reached.
func (r *Repairer) sweep(v *cluster.View) {
	whole := true
	for _, m := range v.Members {
		if m.ID == r.o.Self || r.ctx.Err() != nil {
			continue
		}
		if !r.o.Reachable(m.ID) {
			whole = false
			continue
		}
		err := r.compareWith(m.ID, r.shared(v, m.ID))
		if err == nil {
			r.doubt.met[m.ID] = true
		} else {
			whole = false
			if r.ctx.Err() == nil {
				r.exchanges.add(func(s *ExchangeStats) { s.Failed++ })
				r.o.Logger.Debug("exchange broke off", "with", m.ID, "err", err)
			}
		}
	}
	if whole {
		now := r.o.Now()
		r.exchanges.add(func(s *ExchangeStats) { s.Clean = now })
	}
}

// shared returns the trees that this node and another should hold alike, and that have keys here: the side
// which has something begins, but for a node that is unsure of what it lacks. A node that holds copies which
// are not its own - the ring has changed, or another node saw it otherwise - offers them to all primaries.
func (r *Repairer) shared(v *cluster.View, other string) []store.TreeID {
	var out []store.TreeID
	for _, ks := range v.Keyspaces() {
		for p := range v.Ring.Q() {
			list := v.Ring.PreferenceList(ring.Partition(p))
			primaries := list[:min(ks.N, len(list))]
			id := store.TreeID{Partition: ring.Partition(p), Keyspace: ks.ID()}
			if !slices.Contains(primaries, other) {
				continue
			}
			root, sound := r.o.Trees.TreeRoot(id)
			if !root.IsZero() || (slices.Contains(primaries, r.o.Self) && (!sound || r.Unsure())) {
				out = append(out, id)
			}
		}
	}
	return out
}

// compareWith compares trees with those of another node, and makes equal what differs.
func (r *Repairer) compareWith(node string, ids []store.TreeID) error {
	var first error
	for chunk := range slices.Chunk(ids, rootsAtOnce) {
		m := &wire.TreeCompare{}
		for _, id := range chunk {
			if root, sound := r.o.Trees.TreeRoot(id); sound {
				m.Roots = append(m.Roots, wire.TreeRoot{Tree: wire.Tree{Partition: id.Partition, KeyspaceID: id.Keyspace}, Digest: root})
			}
		}
		unready := len(chunk) - len(m.Roots)
		if err := r.throttle.Wait(r.ctx, len(m.Roots)*40); err != nil {
			return err
		}
		reply, err := call[*wire.TreeCompareReply](r, node, m)
		if err != nil {
			return err
		}
		if len(reply.Verdicts) != len(m.Roots) {
			return fmt.Errorf("repair: %d verdicts on %d trees", len(reply.Verdicts), len(m.Roots))
		}
		var differ []wire.Tree
		for i, verdict := range reply.Verdicts {
			switch verdict {
			case wire.TreeDiffers:
				differ = append(differ, m.Roots[i].Tree)
			case wire.TreeUnready:
				unready++
			}
		}
		r.exchanges.add(func(s *ExchangeStats) {
			s.Compared += uint64(len(m.Roots))
			s.Differed += uint64(len(differ))
			s.Unready += uint64(unready)
		})
		for _, t := range differ {
			// What is wrong with one tree does not keep the others from being repaired.
			if err := r.exchange(node, t); err != nil {
				if _, answered := errors.AsType[*peer.Error](err); r.ctx.Err() != nil || !answered && !errors.Is(err, errOneTree) {
					return err
				}
				first = errors.Join(first, err)
			}
		}
		if unready > 0 {
			first = errors.Join(first, errUnready)
		}
	}
	return first
}

// errOneTree is wrapped by errors that concern one tree and not the other node.
var errOneTree = errors.New("repair: this tree cannot be exchanged")

var errUnready = errors.New("repair: trees are still being made")

// call sends a message of an exchange and returns its answer.
func call[T wire.Message](r *Repairer, node string, m wire.Message) (T, error) {
	var none T
	ctx, cancel := context.WithTimeout(r.ctx, exchangeTimeout)
	defer cancel()
	reply, err := r.o.Transport.Call(ctx, node, m)
	if err != nil {
		return none, err
	}
	t, ok := reply.(T)
	if !ok {
		return none, fmt.Errorf("repair: node %s answered with %s", node, reply.Kind())
	}
	return t, nil
}

// exchange makes one tree equal on this node and another: from the root to the branches that differ, the
// leaves, the keys, and at last the objects, which are joined on both sides.
func (r *Repairer) exchange(node string, t wire.Tree) error {
	id := store.TreeID{Partition: t.Partition, Keyspace: t.KeyspaceID}
	reply, err := call[*wire.TreeDigestsReply](r, node, &wire.TreeDigests{Tree: t, Branch: -1})
	if err != nil {
		return err
	}
	ours := r.o.Trees.TreeBranches(id)
	for _, b := range merkle.Differ(ours, reply.Digests) {
		if b >= merkle.Branches {
			return errors.New("repair: more branches than a tree has")
		}
		theirs := merkle.Digest{}
		if b < len(reply.Digests) {
			theirs = reply.Digests[b]
		}
		if err := r.exchangeBranch(node, t, b, max(ours[b].Count, theirs.Count)); err != nil {
			return err
		}
	}
	return nil
}

func (r *Repairer) exchangeBranch(node string, t wire.Tree, branch int, keys uint64) error {
	from := merkle.Position(branch * merkle.Leaves)
	if keys <= wholeBranch {
		return r.exchangeLeaves(node, t, from, from+merkle.Leaves)
	}
	reply, err := call[*wire.TreeDigestsReply](r, node, &wire.TreeDigests{Tree: t, Branch: branch})
	if err != nil {
		return err
	}
	ours, err := r.o.Trees.TreeLeaves(store.TreeID{Partition: t.Partition, Keyspace: t.KeyspaceID}, branch)
	if err != nil {
		return err
	}
	for _, leaf := range merkle.Differ(ours, reply.Digests) {
		if leaf >= merkle.Leaves {
			return errors.New("repair: more leaves than a branch has")
		}
		if err := r.exchangeLeaves(node, t, from+merkle.Position(leaf), from+merkle.Position(leaf)+1); err != nil {
			return err
		}
	}
	return nil
}

// exchangeLeaves compares the keys of the leaves in [from, to), page by page.
func (r *Repairer) exchangeLeaves(node string, t wire.Tree, from, to merkle.Position) error {
	m := &wire.TreeKeys{Tree: t, From: from, To: to}
	for {
		reply, err := call[*wire.TreeKeysReply](r, node, m)
		if err != nil {
			return err
		}
		end, more := to, reply.More
		if more && len(reply.Keys) == 0 {
			return errors.New("repair: an empty page that is not the last")
		}
		if more {
			end = merkle.PositionOf(reply.Keys[len(reply.Keys)-1].Key)
			if end < m.From || end >= to {
				return errors.New("repair: keys of other leaves")
			}
		}
		if err := r.exchangePage(node, m, reply, end); err != nil || !more {
			return err
		}
		m = &wire.TreeKeys{Tree: t, From: end, To: to, After: reply.Keys[len(reply.Keys)-1].Key}
	}
}

// difference is a key that two nodes hold different objects of; a zero hash is none.
type difference struct {
	key          []byte
	ours, theirs causal.Hash
}

// exchangePage compares one page of the other node's keys with what this node has in the same range: up
// to the last key of the page, or to the end of the leaves if it is the last page.
func (r *Repairer) exchangePage(node string, m *wire.TreeKeys, page *wire.TreeKeysReply, end merkle.Position) error {
	theirs := make(map[string]causal.Hash, len(page.Keys))
	for _, k := range page.Keys {
		theirs[string(k.Key)] = k.Hash
	}
	last := []byte(nil)
	to := end
	if page.More {
		last = page.Keys[len(page.Keys)-1].Key
		to = end + 1
	}
	var differ []difference
	id := store.TreeID{Partition: m.Partition, Keyspace: m.KeyspaceID}
	err := r.o.Trees.Entries(id, m.From, to, m.After, func(e store.Entry) bool {
		if page.More && e.Position() == end && string(e.Key) > string(last) {
			return false
		}
		h, there := theirs[string(e.Key)]
		delete(theirs, string(e.Key))
		if !there || h != e.Hash {
			differ = append(differ, difference{key: e.Key, ours: e.Hash, theirs: h})
		}
		return true
	})
	if err != nil {
		return err
	}
	for key, h := range theirs {
		differ = append(differ, difference{key: []byte(key), theirs: h})
	}
	for chunk := range slices.Chunk(differ, keysAtOnce) {
		if err := r.level(node, m.KeyspaceID, chunk); err != nil {
			return err
		}
	}
	return nil
}

// level makes the objects of some keys equal: what the other has is joined here, and what it lacks of the
// result is joined there.
func (r *Repairer) level(node string, keyspace uint64, differ []difference) error {
	flight := r.o.Flights.Begin()
	defer r.o.Flights.End(flight)
	var fetch, have [][]byte
	for _, d := range differ {
		if d.theirs != (causal.Hash{}) {
			fetch = append(fetch, d.key)
		}
		if d.ours != (causal.Hash{}) {
			have = append(have, d.key)
		}
	}
	r.exchanges.add(func(s *ExchangeStats) { s.Keys += uint64(len(differ)) })
	if err := r.fetch(node, keyspace, fetch); err != nil {
		return err
	}
	theirs := make(map[string]causal.Hash, len(differ))
	for _, d := range differ {
		theirs[string(d.key)] = d.theirs
	}
	return r.push(node, keyspace, flight, have, theirs)
}

// fetch joins the other node's objects into this one's.
func (r *Repairer) fetch(node string, keyspace uint64, keys [][]byte) error {
	for len(keys) > 0 {
		reply, err := call[*wire.ObjectsReply](r, node, &wire.ObjectsGet{KeyspaceID: keyspace, Keys: keys})
		if err != nil {
			return err
		}
		if len(reply.Entries) == 0 || len(reply.Entries) > len(keys) {
			return fmt.Errorf("%w: node %s cannot show its copy of key %q", errOneTree, node, keys[0])
		}
		size := 0
		entries := make([]wire.ListEntry, 0, len(reply.Entries))
		for _, e := range reply.Entries {
			size += len(e.Object)
			if len(e.Object) > 0 {
				entries = append(entries, e)
			}
		}
		if err := r.throttle.Wait(r.ctx, size); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(r.ctx, exchangeTimeout)
		err = r.o.Copies.ApplyAll(ctx, keyspace, entries)
		cancel()
		if err != nil {
			return fmt.Errorf("%w: %w", errOneTree, err)
		}
		r.exchanges.add(func(s *ExchangeStats) { s.Received += uint64(len(entries)) })
		keys = keys[len(reply.Entries):]
	}
	return nil
}

// push sends this node's objects, unless they are by now what the other had.
func (r *Repairer) push(node string, keyspace, flight uint64, keys [][]byte, theirs map[string]causal.Hash) error {
	for len(keys) > 0 {
		reply, err := r.o.Copies.Objects(&wire.ObjectsGet{KeyspaceID: keyspace, Keys: keys})
		if err != nil {
			return err
		}
		if len(reply.Entries) == 0 {
			return fmt.Errorf("%w: key %q cannot be read", errOneTree, keys[0])
		}
		keys = keys[len(reply.Entries):]
		m := &wire.ObjectsPut{KeyspaceID: keyspace, Generation: flight}
		size := 0
		for _, e := range reply.Entries {
			if len(e.Object) == 0 || causal.HashOf(e.Object) == theirs[string(e.Key)] {
				continue
			}
			m.Entries = append(m.Entries, e)
			size += len(e.Object) + len(e.Key)
		}
		if len(m.Entries) == 0 {
			continue
		}
		if err := r.throttle.Wait(r.ctx, size); err != nil {
			return err
		}
		if _, err := call[*wire.Ack](r, node, m); err != nil {
			return err
		}
		r.exchanges.add(func(s *ExchangeStats) { s.Sent += uint64(len(m.Entries)) })
	}
	return nil
}
