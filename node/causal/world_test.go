package causal

import (
	"bytes"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
)

// The model: the replicas of one key and two stand-ins in one goroutine, driven by a seed through
// writes, crashes, lost and doubled messages, hints, wiped disks, collapses and reaped tombstones. It
// calls the real Put, Join and Collapse; a rule that is switched off is a field of rules, and must make
// the judge object.

const (
	primaries = 3
	fallbacks = 2
	nodes     = primaries + fallbacks
	maxFlying = 96
)

// rules are the rules of the protocol that a variant switches off. The zero value has them all.
type rules struct {
	join     func(local, other Object) Object
	put      func(o Object, seen Basis, own Actor, v Value) (Object, Dot)
	collapse func(o Object, v Value) Object

	sameIncarnation  bool // a rolled-back disk goes on with its actors
	sameIdentity     bool // a wiped disk too
	sameActor        bool // a record that is gone leaves its actor to the next one
	reapLocally      bool // a replica drops a tombstone by itself
	entryAlone       bool // a coordinator sends the new version without the rest
	ackUnsynced      bool // a replica acknowledges what it has not synced
	dropGrownHint    bool // a delivered hint goes even if it has grown meanwhile
	settleWithHints  bool // the settle round does not ask for hints
	settleWithoutAge bool // the settle round does not wait for tokens to expire
	collapseAnywhere bool // any replica collapses at any time, as the cap makes them
	dotAtEveryMerger bool // a replica that receives siblings writes their merge under a new dot
	dotAtReader      bool // a read that finds siblings does
	tokenClaimsAll   bool // the answer to a write claims the coordinator's whole context
	unlawful         bool // merges differ from replica to replica
	lastWins         bool // policy lww
	cutContexts      int  // contexts are cut to so many actors
}

// ids is a set of write ids below 128. A value's bytes are the ids it stands for.
type ids [2]uint64

func (s ids) has(id int) bool { return s[id>>6]>>(id&63)&1 == 1 }
func (s ids) or(t ids) ids    { return ids{s[0] | t[0], s[1] | t[1]} }
func (s ids) with(id int) ids { s[id>>6] |= 1 << (id & 63); return s }

func (s ids) list() []int {
	var out []int
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			out = append(out, i*64+bits.TrailingZeros64(w))
		}
	}
	return out
}

func value(s ids) Value {
	var b []byte
	for _, id := range s.list() {
		b = append(b, byte(id))
	}
	return Value{Bytes: b}
}

// contents are the ids of all that an object shows, tombstones included.
func contents(o Object) (out ids) {
	for _, v := range o.Versions {
		for _, id := range v.Bytes {
			out = out.with(int(id))
		}
	}
	return out
}

// node is a disk. A primary holds the record at its own position; a stand-in holds a hint for each.
type node struct {
	id          NodeID
	incarnation uint32
	seq         uint64
	slots       [primaries]slot
}

// slot is a record as its node sees it, and as it would survive a crash.
type slot struct{ now, synced record }

type record struct {
	object Object
	own    Actor
}

// place is one record of the world: which node, for which position of the preference list.
type place struct{ node, pos int }

func (p place) isHint() bool { return p.node >= primaries }

// message carries a whole object. A hint on delivery has somewhere to be removed from.
type message struct {
	to     place
	object Object
	hint   place
	isHint bool
}

// holder is a client with a context and the ids of the values it has seen with it.
type holder struct {
	basis Basis
	seen  ids
}

// written is one write, as the judge knows it: by id, not by dot.
type written struct {
	id       int
	dot      Dot
	seen     ids // what its client had seen
	replaces ids // of that, what the write is bound to supersede
	sent     Context
	token    holder           // for the client, when W replicas have the write
	durable  [primaries]uint8 // for each position, the nodes that have it, as bits
	acked    bool
	settled  bool // proven to be everywhere, then reaped or pruned
	late     bool // its request is over, so that nobody gets its token any more
	deletion bool
}

type world struct {
	rng      *rand.Rand
	rules    rules
	nodes    [nodes]node
	flying   []message
	clients  []holder
	writes   []*written
	dots     map[Dot]int
	wiped    bool
	identity byte
	lossless bool
	minted   int     // merges under a dot of their own
	found    verdict // what the judge objects to already
	// verbose keeps the trace. It is off unless a seed failed and is played again.
	verbose    bool
	trace      []string
	bufA, bufB []byte
}

func newWorld(seed uint64, r rules) *world {
	if r.join == nil {
		r.join = Object.Join
	}
	if r.put == nil {
		r.put = Object.PutOver
	}
	if r.collapse == nil {
		r.collapse = func(o Object, v Value) Object {
			c, err := o.Collapse(v, Provenance{Epoch: 1})
			if err != nil {
				return o
			}
			return c
		}
	}
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), rules: r, dots: map[Dot]int{}, found: verdict{}}
	for i := range w.nodes {
		w.identity++
		w.nodes[i] = node{id: NodeID{w.identity}, incarnation: 1}
	}
	return w
}

func (w *world) log(format string, args ...any) {
	if w.verbose {
		w.trace = append(w.trace, fmt.Sprintf(format, args...))
	}
}

func (w *world) at(p place) *record { return &w.nodes[p.node].slots[p.pos].now }

func (w *world) equal(a, b Object) bool {
	w.bufA, w.bufB = AppendObject(w.bufA[:0], a), AppendObject(w.bufB[:0], b)
	return bytes.Equal(w.bufA, w.bufB)
}

// anyPlace is a primary, now and then a stand-in.
func (w *world) anyPlace(pos int) place {
	if w.rng.IntN(6) == 0 {
		return place{primaries + w.rng.IntN(fallbacks), pos}
	}
	return place{pos, pos}
}

// merged is the value a resolver makes of an object: all ids that stand in it.
func (w *world) merged(o Object, at int) Value {
	v := value(contents(o))
	v.Deleted = !slices.ContainsFunc(o.Versions, func(s Version) bool { return !s.Deleted })
	if w.rules.unlawful {
		v.ContentType = string(rune('a' + at))
	}
	return v
}

// store puts an object at a place, unsynced.
func (w *world) store(p place, o Object) {
	if n := w.rules.cutContexts; n > 0 && len(o.Context) > n {
		own := w.at(p).own // or it would name its dots twice, which is another fault
		o.Context = Context(slices.Clone(o.Context[len(o.Context)-n:])).Join(Context{{own, max(1, o.Context.Counter(own))}})
		o.Versions = slices.DeleteFunc(slices.Clone(o.Versions), func(v Version) bool { return !v.Label.SeenBy(o.Context) })
	}
	if w.rules.lastWins {
		o = o.Last()
	}
	w.at(p).object = o
}

func (w *world) actor(p place) Actor {
	n, own := &w.nodes[p.node], w.at(p).own
	if own.Node == n.id && own.Incarnation == n.incarnation && (!w.at(p).object.IsZero() || w.rules.sameActor) {
		return own
	}
	if w.rules.sameActor {
		return Actor{Node: n.id, Incarnation: n.incarnation, Seq: uint64(p.pos) + 1}
	}
	n.seq++ // durable before it is used: neither a crash nor a removed record takes it back
	return Actor{Node: n.id, Incarnation: n.incarnation, Seq: n.seq}
}

// remove forgets a record durably; its actor goes with it.
func (w *world) remove(p place) {
	s := &w.nodes[p.node].slots[p.pos]
	own := s.now.own
	*s = slot{}
	if w.rules.sameActor {
		s.now.own, s.synced.own = own, own
	}
}

func (w *world) send(m message) {
	if len(w.flying) < maxFlying {
		w.flying = append(w.flying, m)
	}
}

// write is a client's put or delete at a place.
func (w *world) write(p place, c holder, deletion bool) {
	id := len(w.writes) + 1
	v := value(ids{}.with(id))
	v.Deleted, v.TimeMs = deletion, uint64(w.rng.IntN(4))
	old, own, basis := w.at(p).object, w.actor(p), c.basis
	if w.rules.lastWins {
		basis.Context = basis.Context.Join(old.Context)
	}
	o, d := w.rules.put(old, basis, own, v)
	w.log("write %d at %v over %v (deletion %v): dot %v", id, p, c.seen.list(), deletion, d)
	if before, ok := w.dots[d]; ok {
		w.found["reused"] = fmt.Sprintf("dot %v names writes %d and %d", d, before, id)
	}
	w.dots[d] = id
	// What a client names by a single dot, and with it what that dot stands for, stays a sibling by
	// design where the dot has not arrived.
	var replaces ids
	for _, s := range c.seen.list() {
		if old.Known(c.basis) || c.basis.Context.Contains(w.writes[s-1].dot) {
			replaces = replaces.with(s)
		}
	}
	w.at(p).own = own
	w.store(p, o)
	token := basis.After(d, o)
	if w.rules.tokenClaimsAll {
		token = Basis{Context: o.Context}
	}
	sent := o
	if w.rules.entryAlone {
		k := slices.IndexFunc(o.Versions, func(v Version) bool { return v.Label.Contains(d) })
		sent = Object{Context: Context{Seen(d)}, Versions: []Version{o.Versions[k]}}
	}
	w.writes = append(w.writes, &written{
		id: id, dot: d, seen: c.seen, replaces: replaces, deletion: deletion,
		sent: sent.Context, token: holder{token, c.seen.with(id)},
	})
	if w.rules.ackUnsynced {
		w.count(p)
	}
	for pos := range primaries {
		if to := w.anyPlace(pos); pos != p.pos && to.node != p.node {
			w.send(message{to: to, object: sent})
		}
	}
}

// learn does what a coordinator does with a token that names a dot it has not seen: it reads and joins.
func (w *world) learn(p place, c holder) {
	if w.at(p).object.Known(c.basis) {
		return
	}
	for pos := range primaries {
		if w.rng.IntN(4) > 0 {
			w.store(p, w.rules.join(w.at(p).object, w.at(place{pos, pos}).object))
		}
	}
}

// sync makes node i durable and counts acknowledgements: W = 2, of two positions and two nodes.
func (w *world) sync(i int) {
	n := &w.nodes[i]
	for pos := range n.slots {
		n.slots[pos].synced = n.slots[pos].now
		w.count(place{i, pos})
	}
}

func (w *world) count(p place) {
	o := w.at(p).object
	if o.IsZero() {
		return
	}
	for _, wr := range w.writes {
		// Not the dot alone: a client's context may claim it where the object never came.
		if has := o.Context.Covers(wr.sent) || (w.rules.cutContexts > 0 && o.Context.Contains(wr.dot)); !has || wr.acked || w.dots[wr.dot] != wr.id {
			continue
		}
		wr.durable[p.pos] |= 1 << p.node
		for pos, by := range wr.durable {
			if pos != p.pos && by&^(1<<p.node) != 0 && !wr.acked {
				wr.acked = true
				if !wr.late {
					w.clients = append(w.clients, wr.token)
				}
				w.log("write %d acknowledged", wr.id)
			}
		}
	}
}

func (w *world) crash(i int) {
	w.log("crash %d", i)
	n := &w.nodes[i]
	for pos := range n.slots {
		n.slots[pos].now = n.slots[pos].synced
	}
	if !w.rules.sameIncarnation {
		n.incarnation++
	}
}

// wipe empties a disk, once in a schedule: fewer than W.
func (w *world) wipe(i int) {
	w.log("wipe %d", i)
	w.wiped = true
	old := w.nodes[i]
	w.identity++
	w.nodes[i] = node{id: NodeID{w.identity}, incarnation: 1}
	if w.rules.sameIdentity {
		w.nodes[i].id, w.nodes[i].incarnation = old.id, old.incarnation
	}
	for _, wr := range w.writes {
		for pos := range wr.durable {
			wr.durable[pos] &^= 1 << i
		}
	}
}

// deliver takes a message in flight, in any order; it may be lost or come twice.
func (w *world) deliver(k int) {
	m := w.flying[k]
	if w.lossless || w.rng.IntN(5) > 0 {
		w.flying = slices.Delete(w.flying, k, k+1)
	}
	if !w.lossless && w.rng.IntN(6) == 0 {
		return
	}
	w.log("deliver %v to %v", contents(m.object).list(), m.to)
	w.receive(m.to, m.object)
	if m.isHint {
		w.sync(m.to.node)
		if w.rules.dropGrownHint || w.equal(w.at(m.hint).object, m.object) {
			w.remove(m.hint)
			w.countCopies()
		}
	}
	if w.rules.ackUnsynced {
		w.count(m.to)
	}
}

func (w *world) receive(p place, o Object) {
	w.store(p, w.rules.join(w.at(p).object, o))
	if o := w.at(p).object; w.rules.dotAtEveryMerger && len(o.Versions) > 1 {
		w.mintMerge(p)
	}
}

// mintMerge writes the merge of what stands at p under a new dot, as rejected designs do.
func (w *world) mintMerge(p place) {
	o, own := w.at(p).object, w.actor(p)
	next, _ := o.Put(o.Context, own, w.merged(o, p.node))
	w.at(p).own = own
	w.store(p, next)
	w.minted++
	for pos := range primaries {
		if pos != p.node {
			w.send(message{to: place{pos, pos}, object: next})
		}
	}
}

// read joins two places, hands out a context and repairs both.
func (w *world) read(p, q place) {
	o := w.rules.join(w.at(p).object, w.at(q).object)
	if w.rules.dotAtReader && len(o.Versions) > 1 {
		w.store(p, o)
		w.mintMerge(p)
		o = w.at(p).object
	}
	if o.IsZero() {
		return
	}
	w.clients = append(w.clients, holder{Basis{Context: o.Context}, contents(o)})
	w.log("read %v and %v: %v", p, q, contents(o).list())
	for _, to := range []place{p, q} {
		if !to.isHint() {
			w.send(message{to: to, object: o})
		}
	}
}
