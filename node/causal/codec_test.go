package causal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

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

// objects draws objects in canonical form, reachable or not.
func objects() *rapid.Generator[Object] {
	return rapid.Custom(func(t *rapid.T) Object {
		o := Object{}
		var free []Dot // every dot at most once
		for n := range rapid.IntRange(0, 4).Draw(t, "actors") {
			s := Seen{Actor{NodeID{byte(n + 1), 15: 9}, rapid.Uint32().Draw(t, "incarnation"), rapid.Uint64().Draw(t, "seq")}, rapid.Uint64Range(8, maxCounter).Draw(t, "counter")}
			o.Context = append(o.Context, s)
			for k := range uint64(8) {
				free = append(free, Dot{s.Actor, s.Counter - k})
			}
		}
		free = rapid.Permutation(free).Draw(t, "dots")
		for len(free) > 0 && rapid.IntRange(0, 3).Draw(t, "more") > 0 {
			n := rapid.IntRange(1, min(4, len(free))).Draw(t, "label")
			v := Version{Label: DotsOf(free[:n]...), Live: DotsOf(free[:rapid.IntRange(1, n).Draw(t, "live")]...)}
			free = free[n:]
			v.ContentType, v.TimeMs = rapid.String().Draw(t, "type"), rapid.Uint64().Draw(t, "time")
			if v.Deleted = rapid.Bool().Draw(t, "deleted"); !v.Deleted {
				v.Bytes = rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
			}
			if n > 1 {
				v.Resolver = Provenance{rapid.Uint64Min(1).Draw(t, "epoch"), [32]byte{rapid.Byte().Draw(t, "sha")}}
			}
			o.Versions = append(o.Versions, v)
		}
		slices.SortFunc(o.Versions, compareLabels)
		return o
	})
}

// TestRoundTrip: what is encoded decodes to the same, field by field, and damage never passes for
// another encoding of it.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		o := objects().Draw(t, "object")
		enc := AppendObject(nil, o)
		p, err := DecodeObject(enc)
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		if !p.Context.Equal(o.Context) || !slices.EqualFunc(p.Versions, o.Versions, sameVersion) {
			t.Fatalf("encoded %+v, decoded %+v", o, p)
		}
		if HashOf(enc) != p.Hash() && !o.IsZero() {
			t.Fatal("the hash is not that of the encoding")
		}
		d := bytes.Clone(enc)
		d[rapid.IntRange(0, len(d)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		checkDecode(t, d)
		ctx, rest, err := DecodeContext(append(AppendContext(nil, o.Context), 7))
		if err != nil || !ctx.Equal(o.Context) || !bytes.Equal(rest, []byte{7}) {
			t.Fatalf("context: %v, %v, %v", ctx, rest, err)
		}
	})
}

func sameVersion(v, w Version) bool {
	return v.Value.Compare(w.Value) == 0 && v.Label.Compare(w.Label) == 0 && v.Live.Compare(w.Live) == 0 && v.Resolver == w.Resolver
}

// TestDecodeRefuses: each of these says something that no replica can hold, or says it in a second way.
func TestDecodeRefuses(t *testing.T) {
	a, b := Actor{NodeID{1}, 1, 1}, Actor{NodeID{2}, 1, 1}
	version := func(label, live Dots) Version { return Version{Label: label, Live: live} }
	one := DotsOf(Dot{a, 1})
	for name, o := range map[string]Object{
		"actors out of order":   {Context: Context{{b, 1}, {a, 1}}},
		"an actor twice":        {Context: Context{{a, 1}, {a, 2}}},
		"a counter of zero":     {Context: Context{{a, 0}}},
		"a counter too large":   {Context: Context{{a, maxCounter + 1}}},
		"a dot nobody has seen": {Context: Context{{a, 1}}, Versions: []Version{version(DotsOf(Dot{a, 2}), DotsOf(Dot{a, 2}))}},
		"no label":              {Context: Context{{a, 1}}, Versions: []Version{version(nil, nil)}},
		"nothing live":          {Context: Context{{a, 1}}, Versions: []Version{version(one, nil)}},
		"live beyond the label": {Context: Context{{a, 2}}, Versions: []Version{version(one, DotsOf(Dot{a, 2}))}},
		"adjacent ranges":       {Context: Context{{a, 2}}, Versions: []Version{version(Dots{{a, 1, 1}, {a, 2, 2}}, one)}},
		"one label twice":       {Context: Context{{a, 1}}, Versions: []Version{version(one, one), version(one, one)}},
		"labels out of order":   {Context: Context{{a, 2}}, Versions: []Version{version(DotsOf(Dot{a, 2}), DotsOf(Dot{a, 2})), version(one, one)}},
	} {
		if p, err := DecodeObject(AppendObject(nil, o)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: decoded %+v, %v", name, p, err)
		}
	}
	resolved := AppendObject(nil, Object{Context: Context{{a, 1}}, Versions: []Version{{Label: one, Live: one, Resolver: Provenance{Epoch: 1}}}})
	copy(resolved[len(resolved)-33:], make([]byte, 33))
	for name, b := range map[string][]byte{
		"a resolver that is none": resolved,
		"nothing":                 {},
		"another version":         {2, 0, 0},
		"a varint of two ways":    {1, 0x80, 0, 0},
		"an incarnation beyond 32 bits": append(append([]byte{1, 1}, make([]byte, 16)...),
			0x80, 0x80, 0x80, 0x80, 0x10, 1, 1, 0),
	} {
		if p, err := DecodeObject(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: decoded %+v, %v", name, p, err)
		}
	}
	if _, _, err := DecodeActor(make([]byte, 17)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("half an actor: %v", err)
	}
	if got, rest, err := DecodeActor(AppendActor(nil, b)); err != nil || got != b || len(rest) != 0 {
		t.Errorf("actor: %v, %v, %v", got, rest, err)
	}
}
