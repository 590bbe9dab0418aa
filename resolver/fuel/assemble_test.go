package fuel_test

import (
	"encoding/binary"
	"slices"
)

// asm assembles modules by hand: what no toolchain would emit is what the
// rewriter has to withstand. Functions get the numbers imports..., then 0, 1,
// 2, ... in the order of f.
type asm struct {
	imports   []imp
	f         []fn
	exports   []exp
	memory    []byte // limits; none: no memory
	tables    [][]byte
	globals   [][]byte
	start     int // function number, or -1 and 0: none
	elements  [][]byte
	dataCount int // 0: no such section
	data      [][]byte
	custom    []byte // name and content
	types     [][]byte
}

type imp struct{ module, name, params, results string }

type fn struct {
	params, results string
	locals          []byte // encoded, default none
	code            []byte // without the last end
}

type exp struct {
	name  string
	kind  byte
	index int
}

func leb(n uint64) []byte { return binary.AppendUvarint(nil, n) }

// sleb is the signed encoding.
func sleb(n int64) []byte {
	var b []byte
	for n < -64 || n > 63 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n)&0x7f)
}

func vec(items ...[]byte) []byte {
	return append(leb(uint64(len(items))), slices.Concat(items...)...)
}

func str(s string) []byte { return append(leb(uint64(len(s))), s...) }

func sec(id byte, content []byte) []byte {
	return slices.Concat([]byte{id}, leb(uint64(len(content))), content)
}

func valtype(r rune) byte {
	return map[rune]byte{'i': 0x7f, 'I': 0x7e, 'f': 0x7d, 'F': 0x7c, 'v': 0x7b, 'r': 0x70, 'x': 0x6f}[r]
}

func functype(params, results string) []byte {
	t := []byte{0x60}
	for _, list := range []string{params, results} {
		t = append(t, leb(uint64(len(list)))...)
		for _, v := range list {
			t = append(t, valtype(v))
		}
	}
	return t
}

const header = "\x00asm\x01\x00\x00\x00"

func (a asm) build() []byte {
	var imports, functions, exports, bodies [][]byte
	types := slices.Clone(a.types)
	for _, m := range a.imports {
		imports = append(imports, slices.Concat(str(m.module), str(m.name), []byte{0}, leb(uint64(len(types)))))
		types = append(types, functype(m.params, m.results))
	}
	for _, f := range a.f {
		functions = append(functions, leb(uint64(len(types))))
		types = append(types, functype(f.params, f.results))
		locals := f.locals
		if locals == nil {
			locals = []byte{0}
		}
		body := slices.Concat(locals, f.code, []byte{0x0b})
		bodies = append(bodies, slices.Concat(leb(uint64(len(body))), body))
	}
	for _, e := range a.exports {
		exports = append(exports, slices.Concat(str(e.name), []byte{e.kind}, leb(uint64(e.index))))
	}
	m := []byte(header)
	add := func(id byte, items [][]byte) {
		if len(items) > 0 {
			m = append(m, sec(id, vec(items...))...)
		}
	}
	if a.custom != nil {
		m = append(m, sec(0, a.custom)...)
	}
	add(1, types)
	add(2, imports)
	add(3, functions)
	add(4, a.tables)
	if a.memory != nil {
		add(5, [][]byte{a.memory})
	}
	add(6, a.globals)
	add(7, exports)
	if a.start > 0 {
		m = append(m, sec(8, leb(uint64(a.start)))...)
	}
	add(9, a.elements)
	if a.dataCount > 0 {
		m = append(m, sec(12, leb(uint64(a.dataCount)))...)
	}
	add(10, bodies)
	add(11, a.data)
	return m
}

// Instructions.
func i32(n int64) []byte            { return append([]byte{0x41}, sleb(n)...) }
func i64(n int64) []byte            { return append([]byte{0x42}, sleb(n)...) }
func f64bits(bits uint64) []byte    { return binary.LittleEndian.AppendUint64([]byte{0x44}, bits) }
func call(f int) []byte             { return append([]byte{0x10}, leb(uint64(f))...) }
func get(l int) []byte              { return append([]byte{0x20}, leb(uint64(l))...) }
func set(l int) []byte              { return append([]byte{0x21}, leb(uint64(l))...) }
func tee(l int) []byte              { return append([]byte{0x22}, leb(uint64(l))...) }
func globalGet(g int) []byte        { return append([]byte{0x23}, leb(uint64(g))...) }
func globalSet(g int) []byte        { return append([]byte{0x24}, leb(uint64(g))...) }
func ops(b ...byte) []byte          { return b }
func seq(parts ...[]byte) []byte    { return slices.Concat(parts...) }
func block(body ...[]byte) []byte   { return seq(ops(0x02, 0x40), seq(body...), ops(0x0b)) }
func loop(body ...[]byte) []byte    { return seq(ops(0x03, 0x40), seq(body...), ops(0x0b)) }
func repeat(n int, b []byte) []byte { return slices.Concat(slices.Repeat([][]byte{b}, n)...) }

// global is a mutable one unless its name says otherwise.
func global(t rune, mutable byte, init []byte) []byte {
	return seq(ops(valtype(t), mutable), init, ops(0x0b))
}

var (
	pages1  = []byte{0, 1}
	forever = loop(ops(0x0c, 0))
)

// one is a module with one function, exported as "f", and a memory.
func one(params, results string, locals, code []byte) asm {
	return asm{
		f:      []fn{{params, results, locals, code}},
		memory: pages1, exports: []exp{{"f", 0, 0}, {"memory", 2, 0}},
	}
}

// with adds functions.
func (a asm) with(more ...fn) asm {
	a.f = append(a.f, more...)
	return a
}
