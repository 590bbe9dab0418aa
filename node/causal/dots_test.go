package causal

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// dotGen draws dots of three actors with counters up to 12.
func dotGen() *rapid.Generator[Dot] {
	return rapid.Custom(func(t *rapid.T) Dot {
		return Dot{Actor{NodeID{byte(rapid.IntRange(1, 3).Draw(t, "node"))}, 1, 1}, uint64(rapid.IntRange(1, 12).Draw(t, "counter"))}
	})
}

func asSet(s Dots) map[Dot]bool {
	m := map[Dot]bool{}
	for _, d := range s.List(1000) {
		m[d] = true
	}
	return m
}

// TestDotsAgainstSets compares ranges with plain sets.
func TestDotsAgainstSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		xs, ys := rapid.SliceOf(dotGen()).Draw(t, "x"), rapid.SliceOf(dotGen()).Draw(t, "y")
		x, y := DotsOf(xs...), DotsOf(ys...)
		c := Context{}
		for _, d := range rapid.SliceOfN(dotGen(), 0, 3).Draw(t, "c") {
			c = c.With(d)
		}
		sx, sy := asSet(x), asSet(y)
		for name, op := range map[string]struct {
			got  Dots
			want func(d Dot) bool
		}{
			"union":     {x.Union(y), func(d Dot) bool { return sx[d] || sy[d] }},
			"intersect": {x.Intersect(y), func(d Dot) bool { return sx[d] && sy[d] }},
			"minus":     {x.minus(y), func(d Dot) bool { return sx[d] && !sy[d] }},
			"unseen":    {x.Unseen(c), func(d Dot) bool { return sx[d] && !c.Contains(d) }},
		} {
			if !op.got.valid() {
				t.Fatalf("%s: %v is not canonical", name, op.got)
			}
			got := asSet(op.got)
			for _, d := range append(slices.Clone(xs), ys...) {
				if got[d] != op.want(d) || op.got.Contains(d) != got[d] {
					t.Fatalf("%s: dot %v: %v of %v and %v", name, d, op.got, x, y)
				}
			}
			if uint64(len(got)) != op.got.Count() {
				t.Fatalf("%s: count", name)
			}
		}
		subset := true
		for d := range sx {
			subset = subset && sy[d]
		}
		if x.SubsetOf(y) != subset {
			t.Fatalf("%v part of %v: %v", x, y, !subset)
		}
	})
}

func contextGen() *rapid.Generator[Context] {
	return rapid.Custom(func(t *rapid.T) Context {
		var c Context
		for _, d := range rapid.SliceOfN(dotGen(), 0, 4).Draw(t, "seen") {
			c = c.With(d)
		}
		return c
	})
}

// TestContextsAgainstMaps compares version vectors with plain maps.
func TestContextsAgainstMaps(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c, o := contextGen().Draw(t, "c"), contextGen().Draw(t, "o")
		asMap := func(c Context) map[Actor]uint64 {
			m := map[Actor]uint64{}
			for _, s := range c {
				m[s.Actor] = s.Counter
			}
			return m
		}
		mc, mo := asMap(c), asMap(o)
		both, covers := asMap(c), true
		for a, n := range mo {
			both[a] = max(both[a], n)
			covers = covers && mc[a] >= n
		}
		j := c.Join(o)
		if !j.valid() || !maps.Equal(asMap(j), both) {
			t.Fatalf("join of %v and %v: %v", c, o, j)
		}
		if c.Covers(o) != covers || !j.Covers(c) || !j.Covers(o) {
			t.Fatalf("%v covers %v: %v", c, o, !covers)
		}
		if !j.Equal(o.Join(c)) || c.Equal(o) != maps.Equal(mc, mo) {
			t.Fatalf("equality of %v and %v", c, o)
		}
		d := dotGen().Draw(t, "d")
		if c.Contains(d) != (d.Counter <= mc[d.Actor]) || c.Counter(d.Actor) != mc[d.Actor] || !c.With(d).Contains(d) {
			t.Fatalf("%v contains %v", c, d)
		}
		s := DotsOf(rapid.SliceOf(dotGen()).Draw(t, "s")...)
		if s.SeenBy(c) != s.Unseen(c).Empty() {
			t.Fatalf("%v seen by %v", s, c)
		}
	})
}

func TestActorOrder(t *testing.T) {
	sorted := []Actor{
		{}, {NodeID{}, 0, 1}, {NodeID{}, 1, 0}, {NodeID{15: 1}, 0, 0}, {NodeID{1}, 1, 1}, {NodeID{1}, 1, 2}, {NodeID{1}, 2, 0}, {NodeID{2}, 0, 0},
	}
	for i, a := range sorted {
		for j, b := range sorted {
			if got, want := a.Compare(b), cmp.Compare(i, j); got != want {
				t.Errorf("%v to %v: %d, want %d", a, b, got, want)
			}
			if got, want := (Dot{a, 2}).Compare(Dot{b, 1}), cmp.Or(cmp.Compare(i, j), 1); got != want {
				t.Errorf("dots of %v and %v: %d, want %d", a, b, got, want)
			}
		}
		if a.IsZero() != (i == 0) {
			t.Errorf("%v is zero", a)
		}
	}
}

func TestStrings(t *testing.T) {
	a := Actor{NodeID{0xab, 0xcd, 0xef, 0x01, 0x23}, 2, 3}
	s := Dots{{a, 1, 2}, {a, 4, 40}}
	for got, want := range map[string]string{
		Dot{a, 7}.String():           "abcdef01.2.3:7",
		DotsOf(Dot{a, 1}).String():   "abcdef01.2.3:1",
		Dots(nil).String():           "",
		Dots{{a, 1, 2}}.String():     "abcdef01.2.3:1 abcdef01.2.3:2",
		fmt.Sprint(len(s.List(16))):  "16",
		fmt.Sprint(len(s.List(100))): "39",
		fmt.Sprint(s.Count()):        "39",
		fmt.Sprint(s.List(3)[2]):     "abcdef01.2.3:4",
		fmt.Sprint(len(s.List(0))):   "0",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestCanonicalDots: one set, one form.
func TestCanonicalDots(t *testing.T) {
	a, b := Actor{NodeID{1}, 1, 1}, Actor{NodeID{2}, 1, 1}
	for _, c := range []struct {
		dots []Dot
		want Dots
	}{
		{nil, nil},
		{[]Dot{{a, 1}}, Dots{{a, 1, 1}}},
		{[]Dot{{a, 2}, {a, 1}}, Dots{{a, 1, 2}}},
		{[]Dot{{a, 1}, {a, 1}}, Dots{{a, 1, 1}}},
		{[]Dot{{a, 3}, {a, 1}}, Dots{{a, 1, 1}, {a, 3, 3}}},
		{[]Dot{{b, 1}, {a, 3}, {a, 1}, {a, 2}}, Dots{{a, 1, 3}, {b, 1, 1}}},
		{[]Dot{{a, 1}, {b, 2}}, Dots{{a, 1, 1}, {b, 2, 2}}},
	} {
		got := DotsOf(c.dots...)
		if got.Compare(c.want) != 0 || !got.valid() {
			t.Errorf("%v: %v, want %v", c.dots, got, c.want)
		}
		if d, ok := got.Min(); ok != (len(c.dots) > 0) || (ok && d != slices.MinFunc(c.dots, Dot.Compare)) {
			t.Errorf("min of %v: %v, %v", c.dots, d, ok)
		}
	}
}
