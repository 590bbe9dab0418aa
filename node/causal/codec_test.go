package causal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// golden is an object with every feature of the encoding.
func golden() Object {
	a := Actor{NodeID{1, 2, 3}, 1, 7}
	b := Actor{NodeID{9}, 2, 300}
	return Object{
		Context: Context{{a, 5}, {b, 2}},
		Versions: []Version{
			{Value: Value{Bytes: []byte("merged"), ContentType: "text/plain", TimeMs: 1700000000000}, Label: Dots{{a, 1, 3}, {b, 1, 1}}, Live: Dots{{a, 2, 3}}, Resolver: Provenance{4, [32]byte{0xaa}}},
			{Value: Value{TimeMs: 1700000000001, Deleted: true}, Label: DotsOf(Dot{a, 5}), Live: DotsOf(Dot{a, 5})},
		},
	}
}

const goldenHex = "010201020300000000000000000000000000010705090000000000000000000000000000000" +
	"2ac02020202020001020101000100020180d095ffbc310a746578742f706c61696e066d657267656404aa" +
	"00000000000000000000000000000000000000000000000000000000000000" +
	"050100050081d095ffbc310000"

func TestGoldenObject(t *testing.T) {
	enc := AppendObject(nil, golden())
	if got := hex.EncodeToString(enc); got != goldenHex {
		t.Fatalf("the encoding of version 1 changed:\ngot  %s\nwant %s", got, goldenHex)
	}
	o, err := DecodeObject(enc)
	if err != nil || !bytes.Equal(AppendObject(nil, o), enc) {
		t.Fatalf("%+v, %v", o, err)
	}
}

// checkDecode: whatever decodes is canonical.
func checkDecode(t interface{ Fatalf(string, ...any) }, b []byte) {
	o, err := DecodeObject(b)
	if err != nil {
		if !errors.Is(err, ErrCorrupt) {
			t.Fatalf("error of another kind: %v", err)
		}
		return
	}
	if again := AppendObject(nil, o); !bytes.Equal(again, b) {
		t.Fatalf("decoded %x, encodes as %x", b, again)
	}
}

func TestDecodeDamaged(t *testing.T) {
	enc := AppendObject(nil, golden())
	for i := range enc {
		checkDecode(t, enc[:i])
		for bit := range 8 {
			d := bytes.Clone(enc)
			d[i] ^= 1 << bit
			checkDecode(t, d)
		}
	}
	checkDecode(t, append(bytes.Clone(enc), 0))
}

func FuzzDecodeObject(f *testing.F) {
	f.Add(AppendObject(nil, golden()))
	f.Add(AppendObject(nil, Object{}))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) { checkDecode(t, b) })
}

func TestToken(t *testing.T) {
	k := NewTokenKey("c", "secret")
	a := Actor{NodeID{1}, 1, 1}
	seen := Basis{Context: Context{{a, 3}}, Dots: DotsOf(Dot{a, 5})}
	now := time.UnixMilli(1_700_000_000_000)
	tok := k.Seal("ks", []byte("key"), seen, now)
	got, err := k.Open(tok, "ks", []byte("key"), now.Add(time.Hour), time.Hour)
	if err != nil || !got.Context.Equal(seen.Context) || got.Dots.Compare(seen.Dots) != 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	const want = "AQAAAYvP5WgA7S0PAzl7bJUBAQAAAAAAAAAAAAAAAAAAAAEBAwEBAAAAAAAAAAAAAAAAAAAAAQEFAB1HhxJkd-loRNmEA0E2IT0"
	if tok != want {
		t.Errorf("the token of version 1 changed: %s", tok)
	}
	for name, c := range map[string]struct {
		token, ks, key string
		at             time.Time
		key2           TokenKey
		err            error
	}{
		"another key":      {tok, "ks", "other", now, k, ErrTokenScope},
		"another keyspace": {tok, "k", "skey", now, k, ErrTokenScope},
		"expired":          {tok, "ks", "key", now.Add(time.Hour + time.Millisecond), k, ErrTokenExpired},
		"another secret":   {tok, "ks", "key", now, NewTokenKey("c", "guess"), ErrTokenForged},
		"another cluster":  {tok, "ks", "key", now, NewTokenKey("d", "secret"), ErrTokenForged},
		"truncated":        {tok[:len(tok)-4], "ks", "key", now, k, ErrTokenForged},
		"nearly nothing":   {tok[:10], "ks", "key", now, k, ErrTokenMalformed},
		"no base64":        {"!" + tok, "ks", "key", now, k, ErrTokenMalformed},
		"too long":         {string(bytes.Repeat([]byte("A"), MaxTokenBytes+1)), "ks", "key", now, k, ErrTokenMalformed},
	} {
		if _, err := c.key2.Open(c.token, c.ks, []byte(c.key), c.at, time.Hour); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
	}
	for i := range len(tok) {
		b := []byte(tok)
		b[i] ^= 1
		if _, err := k.Open(string(b), "ks", []byte("key"), now, time.Hour); err == nil {
			t.Errorf("flipped character %d of the token is taken", i)
		}
	}
}

func FuzzTokenOpen(f *testing.F) {
	k := NewTokenKey("c", "secret")
	f.Add(k.Seal("ks", []byte("key"), Basis{Context: golden().Context}, time.UnixMilli(1)))
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := k.Open(s, "ks", []byte("key"), time.UnixMilli(1), time.Hour); err == nil && s != k.Seal("ks", []byte("key"), Basis{Context: golden().Context}, time.UnixMilli(1)) {
			t.Fatalf("a token that was never sealed is taken: %q", s)
		}
	})
}

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

// reachable draws objects that replicas can hold: those of a random schedule, collapses by resolvers
// that do not agree among them.
func reachable(t *rapid.T) []Object {
	w := newWorld(rapid.Uint64().Draw(t, "seed"), rules{collapseAnywhere: true, unlawful: true})
	var out []Object
	for range rapid.IntRange(5, 80).Draw(t, "steps") {
		w.step()
	}
	for _, d := range w.disks {
		out = append(out, d.now.object)
	}
	return out
}

// TestJoinLaws: join is a least upper bound on what replicas can hold.
func TestJoinLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := reachable(t)
		a, b, c := o[0], o[1], o[2]
		if !a.Join(b).Equal(b.Join(a)) {
			t.Fatalf("not commutative:\n%+v\n%+v", a, b)
		}
		if !a.Join(b).Join(c).Equal(a.Join(b.Join(c))) {
			t.Fatalf("not associative:\n%+v\n%+v\n%+v", a, b, c)
		}
		if !a.Join(a).Equal(a) || !a.Join(b).Join(b).Equal(a.Join(b)) {
			t.Fatalf("not idempotent:\n%+v\n%+v", a, b)
		}
		for _, x := range []Object{a, b, c, a.Join(b)} {
			if y, err := DecodeObject(AppendObject(nil, x)); err != nil || !y.Equal(x) {
				t.Fatalf("%+v does not survive its encoding: %v", x, err)
			}
		}
	})
}

func TestLastKeepsTheLargest(t *testing.T) {
	var o Object
	for i, v := range []string{"b", "c", "a"} {
		o, _ = o.Put(nil, Actor{NodeID{byte(i + 1)}, 1, 1}, Value{Bytes: []byte(v), TimeMs: uint64(min(i, 1))})
	}
	last := o.Last()
	if len(last.Versions) != 1 || string(last.Versions[0].Bytes) != "c" || !last.Context.Equal(o.Context) {
		t.Fatalf("%+v", last)
	}
	if j := last.Join(o); !j.Equal(last) {
		t.Fatal("what was dropped comes back")
	}
}

func TestCollapseIsBounded(t *testing.T) {
	var o Object
	if _, err := o.Collapse(Value{}, Provenance{}); !errors.Is(err, ErrNothingToCollapse) {
		t.Fatal(err)
	}
	for i := range 60 {
		o, _ = o.Put(nil, Actor{NodeID{byte(i + 1)}, 1, 1}, Value{})
	}
	if _, err := o.Collapse(Value{}, Provenance{Epoch: 1}); !errors.Is(err, ErrLabelTooLong) {
		t.Fatal(err)
	}
}

func BenchmarkJoinSame(b *testing.B) {
	o := golden()
	b.ReportAllocs()
	for b.Loop() {
		_ = o.Join(o)
	}
}

func BenchmarkPut(b *testing.B) {
	o := golden()
	own := o.Context[0].Actor
	b.ReportAllocs()
	for b.Loop() {
		o.Put(o.Context, own, Value{})
	}
}

func BenchmarkEncode(b *testing.B) {
	o := golden()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendObject(buf[:0], o)
	}
}

func BenchmarkDecode(b *testing.B) {
	enc := AppendObject(nil, golden())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeObject(enc); err != nil {
			b.Fatal(err)
		}
	}
}
