package storm

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	"dynamo/node"
	"dynamo/node/causal"
	"dynamo/node/cluster"
	"dynamo/node/config"
	"dynamo/node/merkle"
	"dynamo/node/sim/admin"
	"dynamo/node/store"
)

// watchEvery is how often the disks of all nodes are looked at, on the cluster's clock.
const watchEvery = 500 * time.Millisecond

// A watcher looks at what all nodes hold, again and again, and asks what must be true of it at every moment. It reads
// disks and sends nothing, so that it changes nothing. It belongs to one goroutine at a time.
type watcher struct {
	*run
	wg    sync.WaitGroup
	stop  context.CancelFunc
	seed  maphash.Seed
	nodes map[string]*watched
	// values is what a dot stood for when it was first seen anywhere, collapsed the same for labels of several dots.
	values    map[causal.Dot]written
	collapsed map[string]uint64
	// states are the live dots that a context of a key went with, by the bytes of the context.
	states map[keyID]map[string]uint64
	// actors are the identities that disks have had so far.
	actors map[store.Identity]bool
	// past is all that was seen of keys, in order.
	past map[keyID][]sighting
	// names are keyspaces by their number on disk.
	names map[uint64]name
}

// keyID is a key on disk.
type keyID struct {
	keyspace uint64
	key      string
}

// written is what a dot stands for.
type written struct {
	key keyID
	sum uint64
}

// watched is what was seen of one node since it booted, and before if it is the same disk after a clean stop.
type watched struct {
	node  *node.Node
	disk  store.Identity
	roots map[store.TreeID]merkle.Digest
	held  map[store.TreeID]map[string]*held
	// looked is when a look at it was complete.
	looked time.Duration
}

// held is a copy as it was seen last.
type held struct {
	object causal.Object
	own    causal.Actor
	// changed is when it was surely as it was before: it may have changed right after that.
	changed time.Duration
	// seen has all dots that this node's copies of the key have seen, buried by a clean-up or not.
	seen causal.Context
	gone bool
}

// sighting is a change of a copy or hint.
type sighting struct {
	at            time.Duration
	node, hintFor string
	object        causal.Object
}

// String is a line of a story; the time stands first.
func (s sighting) String() string {
	out := fmt.Sprintf("%8.3fs %s is seen to hold", s.at.Seconds(), s.node)
	if s.hintFor != "" {
		out += " as a hint for " + s.hintFor
	}
	if s.object.IsZero() {
		return out + " nothing"
	}
	for _, v := range s.object.Versions {
		what := fmt.Sprintf("%.24q", v.Bytes)
		if v.Deleted {
			what = "a delete"
		}
		out += fmt.Sprintf(" %s=%s", v.Live, what)
	}
	var context []string
	for _, c := range s.object.Context {
		context = append(context, fmt.Sprintf("%s:%d", c.Actor, c.Counter))
	}
	return out + " having seen " + strings.Join(context, " ")
}

func (r *run) newWatcher() *watcher {
	w := &watcher{
		run: r, seed: maphash.MakeSeed(), nodes: map[string]*watched{}, values: map[causal.Dot]written{}, collapsed: map[string]uint64{},
		states: map[keyID]map[string]uint64{}, past: map[keyID][]sighting{}, actors: map[store.Identity]bool{}, names: map[uint64]name{},
	}
	for _, l := range r.workloads {
		for g := range uint64(3) {
			w.names[cluster.KeyspaceID(l.keyspace, g)] = name{keyspace: l.keyspace}
		}
	}
	return w
}

// start looks until end.
func (w *watcher) start(ctx context.Context) {
	ctx, w.stop = context.WithCancel(ctx)
	w.wg.Go(func() {
		for admin.Wait(ctx, watchEvery) {
			w.look()
		}
	})
}

// end waits until nobody looks any more.
func (w *watcher) end() {
	w.stop()
	w.wg.Wait()
}

// name is how violations call a key.
func (w *watcher) name(id keyID) name { return name{w.names[id.keyspace].keyspace, id.key} }

// look takes one look at every node that runs.
func (w *watcher) look() {
	w.report.Watched.Looks++
	for _, id := range w.ids() {
		n := w.c.Node(id)
		if n == nil {
			continue
		}
		d := n.Disk()
		now := w.nodes[id]
		disk := store.Identity{Node: d.Identity().Node, Incarnation: d.Identity().Incarnation}
		w.actors[disk] = true
		if now == nil || now.node != n {
			// After anything but a clean stop a node may have lost what was never acknowledged. A boot that was over before
			// anybody looked has left another incarnation behind.
			if now == nil || !d.CleanBoot() || now.disk != disk {
				now = &watched{looked: -settleAfter, roots: map[store.TreeID]merkle.Digest{}, held: map[store.TreeID]map[string]*held{}}
			}
			now.node, now.disk = n, disk
			w.nodes[id] = now
		}
		w.lookAtCopies(id, now, d)
		w.lookAtHints(id, d)
	}
}

func (w *watcher) lookAtCopies(id string, now *watched, d node.Disk) {
	clean := true
	defer func() {
		if clean {
			now.looked = w.since()
		}
	}()
	trees := d.Trees()
	for tree := range now.held {
		if w.names[tree.Keyspace].keyspace == fleeting && !slices.Contains(trees, tree) {
			delete(now.held, tree) // dropped, and the node has booted since
			delete(now.roots, tree)
		}
	}
	for _, tree := range trees {
		root, _ := d.TreeRoot(tree)
		if now.roots[tree] == root {
			continue
		}
		copies := now.held[tree]
		if copies == nil {
			copies = map[string]*held{}
			now.held[tree] = copies
		}
		there := map[string]bool{}
		err := d.Scan(tree.Partition, tree.Keyspace, nil, nil, func(key []byte, r store.Record) bool {
			there[string(key)] = true
			h := copies[string(key)]
			if h == nil {
				h = &held{gone: true}
				copies[string(key)] = h
			}
			w.copy(id, keyID{tree.Keyspace, string(key)}, h, r, now.looked)
			return true
		})
		if err != nil {
			clean = false
			continue // the node is stopping, or says itself that something is corrupt
		}
		now.roots[tree] = root
		for key, h := range copies {
			if !there[key] && !h.gone {
				if h.gone = true; deleted(h.object) {
					h.object = causal.Object{} // it was forgotten; anything else may be a copy that was corrupt
				}
				h.changed = now.looked
				w.keep(id, "", keyID{tree.Keyspace, key}, causal.Object{})
			}
		}
	}
}

// deleted says whether nothing but tombstones stands for the key.
func deleted(o causal.Object) bool {
	return !slices.ContainsFunc(o.Versions, func(v causal.Version) bool { return !v.Deleted })
}

// keep remembers a sighting, without the values' bytes beyond their beginning.
func (w *watcher) keep(id, hintFor string, k keyID, o causal.Object) {
	small := causal.Object{Context: o.Context, Versions: slices.Clone(o.Versions)}
	for i, v := range small.Versions {
		small.Versions[i].Bytes = slices.Clone(v.Bytes[:min(len(v.Bytes), 24)])
	}
	w.past[k] = append(w.past[k], sighting{w.since(), id, hintFor, small})
}

// copy compares an own copy with how it was seen before; looked is when that was, or earlier.
func (w *watcher) copy(id string, k keyID, h *held, r store.Record, looked time.Duration) {
	o := r.Object
	if !h.gone && same(o, h.object) {
		h.own = r.Own
		return
	}
	w.object(id, k, o)
	for _, v := range o.Versions {
		// A dot that this disk has seen is live now only if it was live all along.
		for _, d := range v.Live.List(maxDots) {
			if h.seen.Contains(d) && !h.object.Live().Contains(d) {
				w.violation("what was superseded does not come back", w.name(k).String(), "%s holds %v again", id, d)
			}
		}
	}
	quiet := w.since()-h.changed+w.plan.Skew() >= settleAfter-2*watchEvery-clockSlack
	for _, s := range h.object.Context {
		switch n := o.Context.Counter(s.Actor); {
		case n == 0 && quiet: // forgotten by a settle round
		case n < s.Counter:
			w.violation("a context keeps what it has seen", w.name(k).String(), "%s had seen %v:%d, and now :%d", id, s.Actor, s.Counter, n)
		}
	}
	h.object, h.own, h.gone, h.changed, h.seen = o, r.Own, false, looked, h.seen.Join(o.Context)
	w.keep(id, "", k, o)
}

// maxDots bounds what is looked at of one version.
const maxDots = 256

// same says whether two objects have seen the same and have the same versions.
func same(a, b causal.Object) bool {
	return a.Context.Equal(b.Context) && slices.EqualFunc(a.Versions, b.Versions, func(v, w causal.Version) bool {
		return v.Label.Compare(w.Label) == 0 && v.Live.Compare(w.Live) == 0 && v.Resolver == w.Resolver
	})
}

func (w *watcher) lookAtHints(id string, d node.Disk) {
	var count, bytes int64
	for _, h := range d.HintStats() {
		count, bytes = count+h.Count, bytes+h.Bytes
	}
	m := &w.report.Watched
	m.Hints = max(m.Hints, int(count))
	if limit := w.limits.HintMaxBytes; bytes > limit {
		w.violation("hints are bounded", "", "%s holds %d bytes of hints, more than %d", id, bytes, limit)
	}
	if count == 0 || m.Looks%4 != 0 {
		return
	}
	_ = d.ScanHints("", func(h store.Hint) bool { // an error says that the node is stopping
		k := keyID{h.Ref.Keyspace, string(h.Ref.Key)}
		w.object(id, k, h.Record.Object)
		w.keep(id, h.Ref.HintFor, k, h.Record.Object)
		return true
	})
}

// object asks what is true of every object wherever it lies.
func (w *watcher) object(id string, k keyID, o causal.Object) {
	m := &w.report.Watched
	m.Objects++
	m.Siblings, m.Context = max(m.Siblings, len(o.Versions)), max(m.Context, len(o.Context))
	at := w.name(k)
	// Each of the nodes that were apart may have let in as many.
	if most := siblingRefusal * w.plan.Nodes; len(o.Versions) > most {
		w.violation("siblings are bounded", at.String(), "%s holds %d, more than %d", id, len(o.Versions), most)
	}
	// Each identity writes a key as itself, and a few times more in the place of others.
	if most := 3 * max(len(w.actors), w.plan.Nodes); len(o.Context) > most {
		w.violation("contexts are bounded", at.String(), "%s holds one of %d actors, more than %d", id, len(o.Context), most)
	}
	for _, v := range o.Versions {
		w.version(id, k, v)
	}
	if w.workload(at.keyspace).policy == config.PolicyLWW {
		return // a replica may drop what is older at any time
	}
	all := w.states[k]
	if all == nil {
		all = map[string]uint64{}
		w.states[k] = all
	}
	context := string(causal.AppendContext(nil, o.Context))
	live := maphash.Bytes(w.seed, dotBytes(o.Live()))
	if was, ok := all[context]; ok && was != live {
		w.violation("equal contexts go with equal versions", at.String(), "%s has seen what another had seen, but holds %v", id, o.Live())
	}
	all[context] = live
}

func dotBytes(dots causal.Dots) (b []byte) {
	for _, r := range dots {
		b = causal.AppendActor(b, r.Actor)
		b = binary.AppendUvarint(b, r.From)
		b = binary.AppendUvarint(b, r.To)
	}
	return b
}

// version asks that a dot is never used again, by whomever, for anything else.
func (w *watcher) version(id string, k keyID, v causal.Version) {
	b := binary.AppendUvarint(slices.Clone(v.Bytes), v.TimeMs)
	b = binary.AppendUvarint(append(b, v.Resolver.SHA256[:]...), v.Resolver.Epoch)
	if v.Deleted {
		b = append(b, 0)
	}
	sum := maphash.Bytes(w.seed, append(b, v.ContentType...))
	if v.Label.Count() > 1 {
		label := string(dotBytes(v.Label)) + string(v.Resolver.SHA256[:])
		if was, ok := w.collapsed[label]; ok && was != sum {
			w.violation("equal labels stand for equal bytes", w.name(k).String(), "%s holds other bytes of %v", id, v.Label)
		}
		w.collapsed[label] = sum
		return
	}
	d, _ := v.Label.Min()
	now := written{k, sum}
	if was, ok := w.values[d]; ok && was != now {
		w.violation("a dot stands for one value", w.name(k).String(), "%s holds %v as %.40q; it was first seen in %v with another hash", id, d, v.Bytes, w.name(was.key))
		return
	}
	w.values[d] = now
}

// of returns what was seen of a key, all generations of its keyspace together.
func (w *watcher) of(k name) (out []string) {
	for g := range uint64(3) {
		for _, s := range w.past[keyID{cluster.KeyspaceID(k.keyspace, g), k.key}] {
			out = append(out, s.String())
		}
	}
	return out
}
