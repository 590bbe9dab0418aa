package causal

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// The model: replicas of one key in one goroutine, driven by a seed through writes, crashes, lost and
// doubled messages, wiped disks, collapses and reaped tombstones. It calls the real Put, Join and
// Collapse; a rule that is switched off is a field of rules, and must make the judge object.

const (
	replicas = 3
	needW    = 2
)

// rules are the rules of the protocol that a variant switches off. The zero value has them all.
type rules struct {
	join     func(local, other Object) Object
	put      func(o Object, seen Basis, own Actor, v Value) (Object, Dot)
	collapse func(o Object, v Value) Object

	sameIncarnation  bool // a rolled-back disk goes on with its actors
	sameIdentity     bool // a wiped disk too
	reapLocally      bool // a replica drops a tombstone by itself and goes on with its actor
	entryAlone       bool // a coordinator sends the new version without the rest
	settleWithoutAge bool // the settle round does not wait for tokens to expire
	collapseAnywhere bool // any replica collapses at any time
	dotAtEveryMerger bool // a replica that receives siblings writes their merge under a new dot
	dotAtReader      bool // a read that finds siblings does
	tokenClaimsAll   bool // the answer to a write claims the coordinator's whole context
	unlawful         bool // merges differ from replica to replica
	cutContexts      int  // contexts are cut to so many actors
}

// disk is what a replica holds: what it sees, and what would survive a crash.
type disk struct {
	node        NodeID
	incarnation uint32
	seq         uint64
	now, synced record
}

type record struct {
	object Object
	own    Actor
}

type message struct {
	to     int
	object Object
}

// holder is a client with a context and the ids of the values it has seen with it.
type holder struct {
	basis Basis
	seen  []int
}

// written is one write, as the judge knows it: by id, not by dot.
type written struct {
	id       int
	dot      Dot
	seen     []int // ids that its client had seen
	replaces []int // those of them that the write is bound to supersede
	durable  map[int]bool
	acked    bool
	deletion bool
}

type world struct {
	rng     *rand.Rand
	rules   rules
	disks   [replicas]disk
	flying  []message
	clients []holder
	writes  []*written
	dots    map[Dot]int
	wiped   bool
	nodes   byte
	// capped notes that a collapse happened outside the settle round: then removed content may come back.
	capped bool
	trace  []string
	fault  string
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
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), rules: r, dots: map[Dot]int{}}
	for i := range w.disks {
		w.disks[i] = w.freshDisk()
	}
	return w
}

func (w *world) freshDisk() disk {
	w.nodes++
	return disk{node: NodeID{w.nodes}, incarnation: 1}
}

func (w *world) log(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf(format, args...))
}

// value encodes the ids it stands for.
func value(ids ...int) Value {
	s := make([]string, len(ids))
	for i, id := range ids {
		s[i] = strconv.Itoa(id)
	}
	return Value{Bytes: []byte(strings.Join(s, ","))}
}

func idsOf(v Value) []int {
	var out []int
	for s := range strings.SplitSeq(string(v.Bytes), ",") {
		if n, err := strconv.Atoi(s); err == nil {
			out = append(out, n)
		}
	}
	return out
}

func contents(o Object) []int {
	set := map[int]bool{}
	for _, v := range o.Versions {
		for _, id := range idsOf(v.Value) {
			set[id] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// merged is the value a resolver makes of an object: the union of ids of what is not deleted.
func (w *world) merged(o Object, at int) Value {
	set := map[int]bool{}
	live := false
	for _, v := range o.Versions {
		live = live || !v.Deleted
	}
	for _, v := range o.Versions {
		if v.Deleted && live {
			continue
		}
		for _, id := range idsOf(v.Value) {
			set[id] = true
		}
	}
	v := value(slices.Sorted(maps.Keys(set))...)
	v.Deleted = !live
	if w.rules.unlawful {
		v.ContentType = strconv.Itoa(at)
	}
	return v
}

// store puts an object on a replica's disk, unsynced.
func (w *world) store(i int, o Object) {
	if n := w.rules.cutContexts; n > 0 && len(o.Context) > n {
		o.Context = slices.Clone(o.Context[len(o.Context)-n:])
		o.Versions = slices.DeleteFunc(slices.Clone(o.Versions), func(v Version) bool { return !v.Live.SeenBy(o.Context) })
	}
	w.disks[i].now.object = o
}

func (w *world) actor(i int) Actor {
	d := &w.disks[i]
	own := d.now.own
	if !own.IsZero() && own.Node == d.node && own.Incarnation == d.incarnation && (!d.now.object.IsZero() || w.rules.reapLocally) {
		return own
	}
	d.seq++
	return Actor{Node: d.node, Incarnation: d.incarnation, Seq: d.seq}
}

// write is a client's put or delete through replica i.
func (w *world) write(i int, c holder, deletion bool) {
	id := len(w.writes) + 1
	v := value(id)
	v.Deleted = deletion
	old := w.disks[i].now.object
	own := w.actor(i)
	o, d := w.rules.put(old, c.basis, own, v)
	w.log("write %d at %d over %v (deletion %v): dot %v", id, i, c.seen, deletion, d)
	if before, ok := w.dots[d]; ok {
		w.fault = fmt.Sprintf("dot %v names writes %d and %d", d, before, id)
	}
	w.dots[d] = id
	// What the client names by a single dot, and with it what that dot stands for, stays a sibling by
	// design where the dot has not arrived.
	replaces := slices.DeleteFunc(slices.Clone(c.seen), func(id int) bool {
		return !old.Known(c.basis) && !c.basis.Context.Contains(w.writes[id-1].dot)
	})
	w.writes = append(w.writes, &written{id: id, dot: d, seen: c.seen, replaces: replaces, durable: map[int]bool{}, deletion: deletion})
	w.disks[i].now.own = own
	w.store(i, o)
	token := c.basis.After(d, o)
	if w.rules.tokenClaimsAll {
		token = Basis{Context: o.Context}
	}
	w.clients = append(w.clients, holder{token, append(slices.Clone(c.seen), id)})
	send := o
	if w.rules.entryAlone {
		k := slices.IndexFunc(o.Versions, func(v Version) bool { return v.Label.Contains(d) })
		send = Object{Context: Context{Seen(d)}, Versions: []Version{o.Versions[k]}}
	}
	for j := range w.disks {
		if j != i {
			w.flying = append(w.flying, message{j, send})
		}
	}
}

// learn does what a coordinator does with a token that names a dot it has not seen: it reads and joins.
func (w *world) learn(i int, c holder) {
	if w.disks[i].now.object.Known(c.basis) {
		return
	}
	for j := range w.disks {
		if w.rng.IntN(4) > 0 {
			w.store(i, w.rules.join(w.disks[i].now.object, w.disks[j].now.object))
		}
	}
}

// sync makes replica i durable, and acknowledges what W replicas have.
func (w *world) sync(i int) {
	d := &w.disks[i]
	d.synced = d.now
	for _, wr := range w.writes {
		if d.now.object.Context.Contains(wr.dot) && w.dots[wr.dot] == wr.id {
			wr.durable[i] = true
		}
		wr.acked = wr.acked || len(wr.durable) >= needW
	}
}

func (w *world) crash(i int) {
	w.log("crash %d", i)
	d := &w.disks[i]
	d.now = d.synced
	if !w.rules.sameIncarnation {
		d.incarnation++
	}
}

func (w *world) wipe(i int) {
	w.log("wipe %d", i)
	w.wiped = true
	old := w.disks[i]
	w.disks[i] = w.freshDisk()
	if w.rules.sameIdentity {
		w.disks[i].node, w.disks[i].incarnation = old.node, old.incarnation
	}
	for _, wr := range w.writes {
		delete(wr.durable, i)
	}
}

func (w *world) deliver(k int) {
	m := w.flying[k]
	if w.rng.IntN(5) > 0 { // else it comes again
		w.flying = slices.Delete(w.flying, k, k+1)
	}
	if w.rng.IntN(6) == 0 {
		return // lost
	}
	o := w.rules.join(w.disks[m.to].now.object, m.object)
	w.store(m.to, o)
	w.mergeAtReceiver(m.to)
}

func (w *world) mergeAtReceiver(i int) {
	o := w.disks[i].now.object
	if w.rules.dotAtEveryMerger && len(o.Versions) > 1 {
		w.mintMerge(i, o)
	}
}

// mintMerge writes the merge of o at i under a new dot, as rejected designs do.
func (w *world) mintMerge(i int, o Object) {
	own := w.actor(i)
	next, _ := o.Put(o.Context, own, w.merged(o, i))
	w.disks[i].now.own = own
	w.store(i, next)
	for j := range w.disks {
		if j != i {
			w.flying = append(w.flying, message{j, next})
		}
	}
}

// read joins two replicas, hands out a context and repairs both.
func (w *world) read(i, j int) {
	o := w.rules.join(w.disks[i].now.object, w.disks[j].now.object)
	if w.rules.dotAtReader && len(o.Versions) > 1 {
		w.store(i, o)
		w.mintMerge(i, o)
		o = w.disks[i].now.object
	}
	w.clients = append(w.clients, holder{Basis{Context: o.Context}, contents(o)})
	w.log("read %d and %d: %v", i, j, contents(o))
	w.flying = append(w.flying, message{i, o}, message{j, o})
}

func (w *world) collapseAt(i int) {
	o := w.disks[i].now.object
	if len(o.Versions) > 1 {
		w.capped = true
		w.log("collapse at %d: %v", i, contents(o))
		w.store(i, w.rules.collapse(o, w.merged(o, i)))
	}
}

// reap drops a tombstone that is all a replica holds, without asking anybody.
func (w *world) reap(i int) {
	o := w.disks[i].now.object
	if len(o.Versions) == 1 && o.Versions[0].Deleted {
		w.log("reap locally at %d", i)
		w.disks[i].now.object = Object{}
		w.disks[i].synced = w.disks[i].now
	}
}

// settle is the one gate for clean-ups: all replicas equal and durable, nothing on its way, and older
// than every token.
func (w *world) settle() {
	if len(w.flying) > 0 {
		return
	}
	for i := range w.disks {
		if !w.disks[i].now.object.Equal(w.disks[0].now.object) {
			return
		}
	}
	if !w.rules.settleWithoutAge {
		w.clients = nil // expired
	}
	for i := range w.disks {
		w.sync(i)
	}
	o := w.disks[0].now.object
	switch {
	case len(o.Versions) == 1 && o.Versions[0].Deleted:
		w.log("settle: reap")
		for i := range w.disks {
			w.disks[i].now, w.disks[i].synced = record{}, record{}
		}
	case len(o.Versions) > 1:
		w.log("settle: collapse %v", contents(o))
		for i := range w.disks {
			w.store(i, w.rules.collapse(o, w.merged(o, i)))
			w.sync(i)
		}
	}
}

func (w *world) client() holder {
	if len(w.clients) == 0 || w.rng.IntN(4) == 0 {
		return holder{}
	}
	return w.clients[w.rng.IntN(len(w.clients))]
}

// step does one random thing.
func (w *world) step() {
	i, j := w.rng.IntN(replicas), w.rng.IntN(replicas)
	switch n := w.rng.IntN(100); {
	case n < 16:
		c := w.client()
		w.learn(i, c)
		w.write(i, c, w.rng.IntN(5) == 0)
	case n < 46 && len(w.flying) > 0:
		w.deliver(w.rng.IntN(len(w.flying)))
	case n < 66:
		w.sync(i)
	case n < 80:
		w.read(i, j)
	case n < 85:
		w.crash(i)
	case n < 86 && !w.wiped:
		w.wipe(i)
	case n < 92:
		w.exchangeAll()
		w.settle()
	case n < 96 && w.rules.collapseAnywhere:
		w.collapseAt(i)
	case w.rules.reapLocally:
		w.reap(i)
	}
}

// exchangeAll lets everything arrive and all replicas exchange what they hold.
func (w *world) exchangeAll() {
	for len(w.flying) > 0 && len(w.flying) < 64 {
		w.deliver(0)
	}
	for range replicas {
		for i := range w.disks {
			for j := range w.disks {
				w.store(i, w.rules.join(w.disks[i].now.object, w.disks[j].now.object))
			}
		}
	}
}

// run plays a schedule and returns what the judge objects to: "" or lost, back, diverged, reused.
func run(seed uint64, r rules) (kind, detail string, w *world) {
	w = newWorld(seed, r)
	for range 30 + w.rng.IntN(60) {
		w.step()
	}
	if w.fault != "" {
		return "reused", w.fault, w
	}
	for range 8 {
		w.exchangeAll()
	}
	kind, detail = w.judge()
	return kind, detail, w
}

func (w *world) judge() (kind, detail string) {
	for i := range w.disks {
		if !w.disks[i].now.object.Equal(w.disks[0].now.object) || len(w.flying) > 0 {
			return "diverged", fmt.Sprintf("%+v\n%+v", w.disks[0].now.object, w.disks[i].now.object)
		}
	}
	there := map[int]bool{}
	for _, id := range contents(w.disks[0].now.object) {
		there[id] = true
	}
	replaced := map[int]bool{}   // by any write, acknowledged or not
	replacedBy := map[int]bool{} // by an acknowledged one
	for _, wr := range w.writes {
		for _, id := range wr.seen {
			replaced[id] = true
		}
		for _, id := range wr.replaces {
			replacedBy[id] = replacedBy[id] || wr.acked
		}
	}
	for _, wr := range w.writes {
		switch {
		case wr.acked && !there[wr.id] && !replaced[wr.id] && !wr.deletion:
			return "lost", fmt.Sprintf("write %d was acknowledged; there are %v", wr.id, slices.Sorted(maps.Keys(there)))
		case there[wr.id] && replacedBy[wr.id]:
			return "back", fmt.Sprintf("write %d was replaced, and is there", wr.id)
		}
	}
	return "", ""
}
