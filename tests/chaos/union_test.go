package chaos

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"dynamo/resolver"
)

// elementBytes is the size of every element of a set: a set is its elements side by side, in ascending order of
// their bytes read as a little-endian number. The union module can be a few dozen instructions then.
const elementBytes = 8

func elementsOf(set []byte) []string {
	var out []string
	for c := range slices.Chunk(set, elementBytes) {
		out = append(out, string(c))
	}
	return out
}

func setOf(elements ...string) []byte {
	elements = slices.Clone(elements)
	slices.SortFunc(elements, func(a, b string) int {
		x, y := binary.LittleEndian.Uint64([]byte(a)), binary.LittleEndian.Uint64([]byte(b))
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	var out []byte
	for _, e := range slices.Compact(elements) {
		out = append(out, e...)
	}
	return out
}

// Local variables of the union's dynamo_resolve_v1; the parameters are 0 (ptr) and 1 (len).
const (
	vP, vN, vCur, vEnd, vOut, vO, vA, vV, vVEnd = 2, 3, 4, 5, 6, 7, 8, 9, 10 // i32
	vX, vY, vM                                  = 11, 12, 13                 // i64
)

const (
	bufferA, bufferB, requestAt = 0x10000, 0x80000, 0x100000
	unionPages                  = 128
	responseHeader              = 12
)

// unionModule assembles a resolver that unions sets: it folds the siblings into one of two buffers, back and forth.
func unionModule() []byte {
	var (
		get   = func(v byte) []byte { return []byte{0x20, v} }
		set   = func(v byte) []byte { return []byte{0x21, v} }
		num   = func(n int64) []byte { return append([]byte{0x41}, sleb(n)...) }
		num64 = func(n int64) []byte { return append([]byte{0x42}, sleb(n)...) }
		load  = []byte{0x28, 0, 0} // i32, no alignment promised
		cat   = func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	)
	const add, sub, shl, ltu, eq64, ltu64, sel, eqz = 0x6a, 0x6b, 0x74, 0x49, 0x51, 0x54, 0x1b, 0x45
	op := func(o ...byte) []byte { return o }
	// skip moves p behind a length and its bytes.
	skip := cat(get(vP), get(vP), load, op(add), num(4), op(add), set(vP))
	// next takes the number at a cursor, or the largest one at the end.
	next := func(cursor, end, into byte) []byte {
		return cat(get(cursor), op(0x29, 0, 0), num64(-1), get(cursor), get(end), op(ltu, sel), set(into))
	}
	// step moves a cursor if its number was taken.
	step := func(cursor, from byte) []byte {
		return cat(get(cursor), get(from), get(vM), op(eq64), num(3), op(shl, add), set(cursor))
	}
	merge := cat(
		op(0x02, 0x40, 0x03, 0x40), // block loop
		next(vA, vEnd, vX), next(vV, vVEnd, vY),
		get(vX), get(vY), get(vX), get(vY), op(ltu64, sel), set(vM),
		get(vM), num64(-1), op(eq64, 0x0d, 1), // both at the end
		get(vO), get(vM), op(0x37, 0, 0), // store
		step(vA, vX), step(vV, vY),
		get(vO), num(elementBytes), op(add), set(vO),
		op(0x0c, 0, 0x0b, 0x0b),
	)
	sibling := cat(
		get(vP), num(12), op(add), set(vP), skip, // flags and time, content type
		get(vP), num(4), op(add), set(vV),
		get(vV), get(vP), load, op(add), set(vVEnd), get(vVEnd), set(vP),
		num(bufferA+bufferB), get(vCur), op(sub), set(vOut),
		get(vOut), num(responseHeader), op(add), set(vO),
		get(vCur), num(responseHeader), op(add), set(vA),
		merge,
		get(vOut), set(vCur), get(vO), set(vEnd),
	)
	code := cat(
		get(0), num(8), op(add), set(vP), skip, skip, // magic and flags, keyspace, key
		get(vP), load, set(vN), get(vP), num(4), op(add), set(vP),
		num(bufferA), set(vCur), num(bufferA+responseHeader), set(vEnd),
		op(0x02, 0x40, 0x03, 0x40), get(vN), op(eqz, 0x0d, 1),
		sibling,
		get(vN), num(1), op(sub), set(vN), op(0x0c, 0, 0x0b, 0x0b),
		get(vCur), num64(0), op(0x37, 0, 0), // a value, no content type
		get(vCur), get(vEnd), get(vCur), op(sub), num(responseHeader), op(sub), op(0x36, 0, 8),
		get(vCur), op(0xad), num64(32), op(0x86), // cur << 32
		get(vEnd), get(vCur), op(sub), op(0xad), op(0x84), // | length
	)
	body := func(locals, code []byte) []byte {
		b := cat(locals, code, op(0x0b))
		return cat(uleb(len(b)), b)
	}
	var samples []byte
	for _, s := range [][]byte{setOf("aaaa0001"), setOf("aaaa0001", "bbbb0002"), setOf("cccc0003", "bbbb0002"), {}} {
		samples = append(binary.LittleEndian.AppendUint32(samples, uint32(len(s))), s...)
	}
	return cat(
		[]byte("\x00asm\x01\x00\x00\x00"),
		section(1, vector(op(0x60, 1, 0x7f, 1, 0x7f), op(0x60, 2, 0x7f, 0x7f, 1, 0x7e))),
		section(3, vector(op(0), op(1))),
		section(5, vector(cat(op(0), uleb(unionPages)))),
		section(7, vector(cat(text("memory"), op(2, 0)), cat(text("dynamo_alloc"), op(0, 0)), cat(text("dynamo_resolve_v1"), op(0, 1)))),
		section(10, vector(body(op(0), num(requestAt)), body(op(2, 9, 0x7f, 3, 0x7e), code))),
		section(0, cat(text("dynamo.samples"), samples)),
	)
}

func uleb(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }

// sleb is the signed encoding.
func sleb(n int64) []byte {
	var b []byte
	for n < -64 || n > 63 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n)&0x7f)
}

func vector(items ...[]byte) []byte { return append(uleb(len(items)), slices.Concat(items...)...) }

func text(s string) []byte { return append(uleb(len(s)), s...) }

func section(id byte, content []byte) []byte {
	return slices.Concat([]byte{id}, uleb(len(content)), content)
}

// TestUnionModule runs the module as a node does.
func TestUnionModule(t *testing.T) {
	r, err := resolver.New(resolver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(t.Context()) //nolint:errcheck // the test is over
	m, err := r.Load(t.Context(), unionModule(), nil)
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := setOf("aaaa0001", "bbbb0001"), setOf("bbbb0001", "aaaa0002", "zzzz9999"), setOf("qqqq0001")
	for _, siblings := range [][][]byte{{a, b}, {b, a}, {a, b, c}, {c, b, a}, {a, {}}, {{}, a}} {
		req := resolver.Request{Keyspace: "sets", Key: []byte("k")}
		for _, s := range siblings {
			req.Siblings = append(req.Siblings, resolver.Sibling{Value: s, ContentType: "text/plain"})
		}
		got, _, err := m.Merge(t.Context(), req, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if want := setOf(elementsOf(slices.Concat(siblings...))...); !bytes.Equal(got.Payload, want) {
			t.Errorf("union of %q is %q, want %q", siblings, got.Payload, want)
		}
	}
}
