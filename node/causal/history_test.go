package causal

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The slow, obvious model of put and join: causal histories as plain sets of write ids. Nothing in it
// knows of dots, counters or ranges.

type idSet map[int]bool

func (s idSet) plus(t idSet) idSet {
	out := maps.Clone(s)
	maps.Copy(out, t)
	return out
}

// history is what a replica has heard of, and which of that something has superseded.
type history struct{ known, gone idSet }

func (h history) standing() []int {
	var out []int
	for id := range h.known {
		if !h.gone[id] {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

func (h history) join(g history) history {
	return history{h.known.plus(g.known), h.gone.plus(g.gone)}
}

// client is a client's basis beside the ids that it may claim.
type client struct {
	basis  Basis
	claims idSet // by its context: all known to what it read, and what it wrote itself
	single idSet // by single dots
}

// cluster is some replicas, each as an object and as a history.
type cluster struct {
	t         *rapid.T
	objects   []Object
	histories []history
	clients   []client
	dots      []Dot // of write id
}

func newCluster(t *rapid.T) *cluster {
	n := rapid.IntRange(2, 4).Draw(t, "replicas")
	c := &cluster{t: t, objects: make([]Object, n), clients: []client{{claims: idSet{}, single: idSet{}}}}
	for range n {
		c.histories = append(c.histories, history{idSet{}, idSet{}})
	}
	return c
}

func (c *cluster) write(i int, by client) {
	id := len(c.dots)
	v := Value{Bytes: []byte{byte(id)}, Deleted: rapid.IntRange(0, 4).Draw(c.t, "delete") == 0}
	own := Actor{NodeID{byte(i + 1)}, 1, 1}
	o, d := c.objects[i].PutOver(by.basis, own, v)
	if slices.Contains(c.dots, d) {
		c.t.Fatalf("dot %v is minted twice", d)
	}
	c.dots = append(c.dots, d)
	old, me := c.histories[i], idSet{id: true}
	seen := by.claims.plus(nil)
	pending := idSet{}
	for s := range by.single { // superseded only where it has arrived
		if old.known[s] || by.claims[s] {
			seen[s] = true
		} else {
			pending[s] = true
		}
	}
	c.objects[i] = o
	c.histories[i] = history{old.known.plus(by.claims).plus(me), old.gone.plus(seen)}
	next := client{by.basis.After(d, o), by.claims, pending}
	if next.basis.Context.Contains(d) {
		next.claims = by.claims.plus(me)
	} else {
		next.single = pending.plus(me)
	}
	c.clients = append(c.clients, next)
}

func (c *cluster) read(i, j int) {
	o, h := c.objects[i].Join(c.objects[j]), c.histories[i].join(c.histories[j])
	c.clients = append(c.clients, client{Basis{Context: o.Context}, h.known, idSet{}})
}

func (c *cluster) exchange(from, to int) {
	c.objects[to] = c.objects[to].Join(c.objects[from])
	c.histories[to] = c.histories[to].join(c.histories[from])
}

// check compares an object with its history. A collapsed version shows more than what stands, never less.
func (c *cluster) check(o Object, h history, collapsed bool) {
	want, got := h.standing(), contents(o).list()
	for _, id := range want {
		if !slices.Contains(got, id) {
			c.t.Fatalf("write %d is gone: there are %v, by history %v", id, got, want)
		}
		if !o.Live().Contains(c.dots[id]) {
			c.t.Fatalf("write %d stands, and its dot %v is not live", id, c.dots[id])
		}
	}
	if n := o.Live().Count(); n != uint64(len(want)) {
		c.t.Fatalf("%d live dots, by history %v", n, want)
	}
	if !collapsed && (len(got) != len(want) || len(o.Versions) != len(want)) {
		c.t.Fatalf("there are %v in %d versions, by history %v", got, len(o.Versions), want)
	}
	for id, d := range c.dots {
		if o.Context.Contains(d) != h.known[id] {
			c.t.Fatalf("context has seen write %d: %v, by history %v", id, !h.known[id], h.known[id])
		}
	}
	if w := wider(o); w != "" {
		c.t.Fatalf("%s: %+v", w, o)
	}
	if p, err := DecodeObject(AppendObject(nil, o)); err != nil || !p.Equal(o) {
		c.t.Fatalf("%+v is not canonical: %v", o, err)
	}
}

func (c *cluster) checkClient(by client) {
	for id, d := range c.dots {
		if by.basis.Context.Contains(d) && !by.claims[id] {
			c.t.Fatalf("a token claims write %d, which its holder never saw", id)
		}
		if by.basis.Dots.Contains(d) != by.single[id] {
			c.t.Fatalf("a token names write %d singly: %v", id, !by.single[id])
		}
	}
}

// run plays up to limit steps; collapse is 0 for none, 1 for a lawful resolver, 2 for one whose bytes
// differ from replica to replica.
func (c *cluster) run(limit, collapse int) {
	n := len(c.objects)
	for range rapid.IntRange(1, limit).Draw(c.t, "steps") {
		i, j := rapid.IntRange(0, n-1).Draw(c.t, "at"), rapid.IntRange(0, n-1).Draw(c.t, "from")
		switch rapid.IntRange(0, 4+min(collapse, 1)).Draw(c.t, "step") {
		case 0, 1:
			by := c.clients[rapid.IntRange(0, len(c.clients)-1).Draw(c.t, "client")]
			c.write(i, by)
		case 2:
			c.read(i, j)
		case 3, 4:
			c.exchange(j, i)
		case 5:
			v := value(contents(c.objects[i]))
			by := Provenance{Epoch: 1}
			if collapse > 1 {
				v.ContentType, by.Epoch = string(rune('a'+i)), uint64(1+len(c.dots)%3)
			}
			if o, err := c.objects[i].Collapse(v, by); err == nil {
				c.objects[i] = o
			}
		}
	}
	for i := range c.objects {
		c.check(c.objects[i], c.histories[i], collapse > 0)
	}
	for _, by := range c.clients {
		c.checkClient(by)
		for i, o := range c.objects {
			c.checkCovers(by, o, c.histories[i])
		}
	}
}

// checkCovers compares what a token is said to know of an object with what it claims.
func (c *cluster) checkCovers(by client, o Object, h history) {
	covers := !slices.ContainsFunc(h.standing(), func(id int) bool { return !by.claims[id] && !by.single[id] })
	known := true
	for id := range by.single {
		known = known && h.known[id]
	}
	if by.basis.Covers(o) != covers || o.Known(by.basis) != known {
		c.t.Fatalf("%+v covers %+v: want %v; has arrived: want %v", by.basis, o, covers, known)
	}
}

// TestHistories compares put and join with causal histories as sets: the same siblings, to the id.
func TestHistories(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { newCluster(t).run(60, 0) })
}

// TestHistoriesWithCollapse: no write that stands by history is missing from a collapsed object, and
// exactly its dots are live.
func TestHistoriesWithCollapse(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { newCluster(t).run(60, 1+rapid.IntRange(0, 1).Draw(t, "unlawful")) })
}

// TestJoinLaws: join is a least upper bound on what replicas can hold, collapsed by resolvers that do
// not agree among it. Equal is equality of bytes.
func TestJoinLaws(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := newCluster(t)
		c.run(60, 2)
		pick := func(name string) (Object, history) {
			i := rapid.IntRange(0, len(c.objects)-1).Draw(t, name)
			return c.objects[i], c.histories[i]
		}
		x, hx := pick("a")
		y, hy := pick("b")
		z, _ := pick("c")
		before := AppendObject(AppendObject(nil, x), y)
		xy := x.Join(y)
		xy.Put(x.Context, Actor{NodeID{9}, 1, 1}, Value{})
		if !bytes.Equal(before, AppendObject(AppendObject(nil, x), y)) {
			t.Fatalf("join or put changed its operands:\n%+v\n%+v", x, y)
		}
		c.check(xy, hx.join(hy), true)
		switch {
		case !xy.Equal(y.Join(x)):
			t.Fatalf("not commutative:\n%+v\n%+v", x, y)
		case !xy.Join(z).Equal(x.Join(y.Join(z))):
			t.Fatalf("not associative:\n%+v\n%+v\n%+v", x, y, z)
		case !x.Join(x).Equal(x) || !xy.Join(y).Equal(xy) || !xy.Join(x).Equal(xy):
			t.Fatalf("not idempotent:\n%+v\n%+v", x, y)
		case !x.Join(Object{}).Equal(x) || !(Object{}).Join(x).Equal(x):
			t.Fatalf("the zero object is not neutral: %+v", x)
		case !xy.Context.Covers(x.Context) || !xy.Context.Covers(y.Context):
			t.Fatalf("no upper bound:\n%+v\n%+v", x, y)
		}
	})
}
