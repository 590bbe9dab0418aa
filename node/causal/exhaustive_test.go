package causal

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
)

// Worlds small enough to visit every state of, breadth first. Objects and clients are interned by their
// bytes, so that a state is a handful of numbers and a join of two objects is computed once.

// bound is what a small world may do.
type bound struct {
	replicas, writes, clients int
	crashes                   bool // a replica loses what it has not synced, and takes a new incarnation
	mail                      bool // an object is sent before it is synced, and arrives late, once or often
	collapses                 bool // any replica collapses at any time
	depth, atLeast, atMost    int
}

// mask is a set of writes. The bit of a write follows from its dot: replica, incarnation, counter.
type mask uint32

const (
	bitsPerIncarnation = 4
	incarnations       = 2
)

func bitOf(d Dot) int {
	return (int(d.Actor.Node[0]-1)*incarnations+int(d.Actor.Incarnation-1))*bitsPerIncarnation + int(d.Counter-1)
}

func dotOf(bit int) Dot {
	k := bit / bitsPerIncarnation
	return Dot{Actor{NodeID{byte(k/incarnations + 1)}, uint32(k%incarnations + 1), 1}, uint64(bit%bitsPerIncarnation + 1)}
}

// held is an object beside its causal history: the writes it has heard of, and those superseded.
type held struct {
	object      Object
	known, gone mask
}

// asked is a client: its basis beside the writes that it may claim by context, and singly.
type asked struct {
	basis          Basis
	claims, single mask
}

// state is a small world: indices of held and asked, -1 for none.
type state struct {
	now, synced [3]int32
	clients     [2]int32
	mail        int32
	boots       [3]uint8
	writes      uint8
}

type explorer struct {
	bound
	t       *testing.T
	objects []held
	asked   []asked
	index   map[string]int32
	joins   map[[2]int32]int32
	puts    map[[4]int32][2]int32
	buf     []byte
}

func (e *explorer) object(h held) int32 {
	e.buf = AppendObject(append(e.buf[:0], 'o'), h.object)
	e.buf = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(e.buf, uint32(h.known)), uint32(h.gone))
	i, ok := e.index[string(e.buf)]
	if !ok {
		i = int32(len(e.objects))
		e.index[string(e.buf)] = i
		e.objects = append(e.objects, h)
		e.check(h)
		if e.join(i, i) != i {
			e.t.Fatalf("not idempotent: %+v", h.object)
		}
	}
	return i
}

func (e *explorer) client(a asked) int32 {
	e.buf = AppendContext(append(e.buf[:0], 'c'), a.basis.Context)
	e.buf = appendLooseDots(e.buf, a.basis.Dots)
	e.buf = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(e.buf, uint32(a.claims)), uint32(a.single))
	i, ok := e.index[string(e.buf)]
	if !ok {
		i = int32(len(e.asked))
		e.index[string(e.buf)] = i
		e.asked = append(e.asked, a)
		for bit := range 32 {
			d := dotOf(bit)
			if a.basis.Context.Contains(d) && a.claims>>bit&1 == 0 || a.basis.Dots.Contains(d) != (a.single>>bit&1 == 1) {
				e.t.Fatalf("the token %+v claims %v; its holder saw %b and %b", a.basis, d, a.claims, a.single)
			}
		}
	}
	return i
}

// join is Object.Join and the union of histories, memoised.
func (e *explorer) join(i, j int32) int32 {
	if k, ok := e.joins[[2]int32{i, j}]; ok {
		return k
	}
	a, b := e.objects[i], e.objects[j]
	k := e.object(held{a.object.Join(b.object), a.known | b.known, a.gone | b.gone})
	e.joins[[2]int32{i, j}] = k
	return k
}

// check compares an object with its history: exactly what stands is live, and shown.
func (e *explorer) check(h held) {
	var shown, live, seen mask
	for _, v := range h.object.Versions {
		for _, bit := range v.Bytes {
			shown |= 1 << bit
		}
		for _, d := range v.Live.List(32) {
			live |= 1 << bitOf(d)
		}
	}
	for bit := range 32 {
		if h.object.Context.Contains(dotOf(bit)) {
			seen |= 1 << bit
		}
	}
	want := h.known &^ h.gone
	if live != want || seen != h.known || shown&want != want || (!e.collapses && shown != want) {
		e.t.Fatalf("live %b, seen %b, shown %b; by history %b stand of %b\n%+v", live, seen, shown, want, h.known, h.object)
	}
	if w := wider(h.object); w != "" {
		e.t.Fatalf("%s: %+v", w, h.object)
	}
	if p, err := DecodeObject(AppendObject(nil, h.object)); err != nil || !p.Equal(h.object) {
		e.t.Fatalf("%+v is not canonical: %v", h.object, err)
	}
}

// put is a write of client c (-1 for a blind one) at a replica; it returns the object and the client.
func (e *explorer) put(replica, boots, at, c int32) (object, client int32) {
	k := [4]int32{replica, boots, at, c}
	if r, ok := e.puts[k]; ok {
		return r[0], r[1]
	}
	old, by := e.objects[at], asked{}
	if c >= 0 {
		by = e.asked[c]
	}
	own := Actor{NodeID{byte(replica + 1)}, uint32(boots + 1), 1}
	next := Dot{own, old.object.Context.Join(by.basis.Context).Counter(own) + 1}
	bit := mask(1) << bitOf(next)
	o, d := old.object.PutOver(by.basis, own, Value{Bytes: []byte{byte(bitOf(next))}})
	if d != next || (old.known|by.claims)&bit != 0 {
		e.t.Fatalf("put minted %v, want %v, of those known %b", d, next, old.known|by.claims)
	}
	arrived := by.single & (old.known | by.claims)
	object = e.object(held{o, old.known | by.claims | bit, old.gone | by.claims | arrived})
	after := asked{by.basis.After(d, o), by.claims, by.single &^ arrived}
	if after.basis.Context.Contains(d) {
		after.claims |= bit
	} else {
		after.single |= bit
	}
	client = e.client(after)
	e.puts[k] = [2]int32{object, client}
	return object, client
}

// next calls fn with every state one step from s.
func (e *explorer) next(s state, fn func(state)) {
	for i := range e.replicas {
		n := s
		if e.crashes && s.synced[i] != s.now[i] {
			n.synced[i] = s.now[i]
			fn(n)
			if s.boots[i] < incarnations-1 {
				n = s
				n.now[i] = s.synced[i]
				n.boots[i]++
				fn(n)
			}
		}
		for c := -1; c < e.clients && s.writes < uint8(e.writes); c++ {
			if c >= 0 && s.clients[c] < 0 {
				continue
			}
			by := int32(-1)
			if c >= 0 {
				by = s.clients[c]
			}
			n = s
			var token int32
			n.now[i], token = e.put(int32(i), int32(s.boots[i]), s.now[i], by)
			n.writes++
			e.handOut(n, c, token, fn)
		}
		for j := range e.replicas {
			if k := e.join(s.now[i], s.now[j]); i != j && k != s.now[i] {
				n = s
				n.now[i] = k
				fn(n)
			}
		}
		if o := e.objects[s.now[i]]; o.known != 0 {
			e.handOut(s, -1, e.client(asked{basis: Basis{Context: o.object.Context}, claims: o.known}), fn)
		}
		if e.mail {
			n = s
			n.mail = s.now[i]
			fn(n)
			n = s
			n.now[i] = e.join(s.now[i], s.mail)
			fn(n)
		}
		if e.collapses {
			n = s
			n.now[i] = e.collapse(i, s.now[i])
			fn(n)
		}
	}
}

// handOut gives a client a token: the client it came from, or any that has room for it.
func (e *explorer) handOut(s state, c int, token int32, fn func(state)) {
	for k := range e.clients {
		if c < 0 || c == k {
			n := s
			n.clients[k] = token
			slices.Sort(n.clients[:])
			fn(n)
		}
	}
	if c < 0 && s.writes > 0 {
		fn(s) // the answer got lost
	}
}

// collapse merges what stands at a replica, by a resolver that differs from replica to replica.
func (e *explorer) collapse(i int, at int32) int32 {
	h := e.objects[at]
	if len(h.object.Versions) < 2 {
		return at
	}
	v := Value{ContentType: string(rune('a' + i))}
	for _, w := range h.object.Versions {
		v.Bytes = append(v.Bytes, w.Bytes...)
	}
	slices.Sort(v.Bytes)
	o, err := h.object.Collapse(v, Provenance{Epoch: 1})
	if err != nil {
		e.t.Fatal(err)
	}
	return e.object(held{o, h.known, h.gone})
}

// laws checks the laws of join on the replicas of a state, and so that they converge in any order.
func (e *explorer) laws(s state) {
	a, b, c := s.now[0], s.now[1], s.now[2]
	ab := e.join(a, b)
	if ab != e.join(b, a) {
		e.t.Fatalf("not commutative:\n%+v\n%+v", e.objects[a], e.objects[b])
	}
	if e.join(ab, b) != ab || e.join(a, ab) != ab {
		e.t.Fatalf("not idempotent:\n%+v\n%+v", e.objects[a], e.objects[b])
	}
	if e.replicas < 3 {
		c = s.mail
	}
	if e.join(ab, c) != e.join(a, e.join(b, c)) || e.join(ab, c) != e.join(e.join(a, c), b) {
		e.t.Fatalf("not associative:\n%+v\n%+v\n%+v", e.objects[a], e.objects[b], e.objects[c])
	}
}

func (e *explorer) run() (states int, depth int) {
	e.index, e.joins, e.puts = map[string]int32{}, map[[2]int32]int32{}, map[[4]int32][2]int32{}
	e.object(held{}) // is 0: nothing
	start := state{clients: [2]int32{-1, -1}}
	visited := map[state]bool{start: true}
	level := []state{start}
	for depth = 0; depth < e.depth && len(level) > 0; depth++ {
		var deeper []state
		for _, s := range level {
			e.next(s, func(n state) {
				if len(visited) < e.atMost && !visited[n] {
					visited[n] = true
					e.laws(n)
					deeper = append(deeper, n)
				}
			})
		}
		level = deeper
	}
	return len(visited), depth
}

// TestExhaustive visits every state of small worlds up to a depth: at each, what replicas hold is what
// causal histories say, tokens claim what their holders have seen, and join keeps its laws.
func TestExhaustive(t *testing.T) {
	for _, b := range []bound{
		{replicas: 2, writes: 4, clients: 2, mail: true, depth: 10, atLeast: 60_000},
		{replicas: 3, writes: 4, clients: 1, depth: 8, atLeast: 60_000},
		{replicas: 2, writes: 3, clients: 1, crashes: true, mail: true, depth: 9, atLeast: 60_000},
		{replicas: 3, writes: 3, clients: 1, collapses: true, depth: 8, atLeast: 60_000},
	} {
		b.atMost = scale(600_000)
		t.Run(fmt.Sprintf("%d replicas, %d writes, crashes %v, collapses %v", b.replicas, b.writes, b.crashes, b.collapses), func(t *testing.T) {
			t.Parallel()
			e := &explorer{bound: b, t: t}
			states, depth := e.run()
			t.Logf("%d states of %d objects to depth %d", states, len(e.objects), depth)
			if states < b.atLeast {
				t.Fatalf("only %d states, want %d", states, b.atLeast)
			}
		})
	}
}
