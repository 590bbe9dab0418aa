package resolver

import (
	"encoding/binary"
	"slices"
)

// asm assembles modules by hand: what no toolchain would emit is what the
// gate is for. Functions get the numbers imports..., then 0, 1, 2, ... in
// the order of f.
type asm struct {
	imports   []imp
	f         []fn
	exports   []exp
	memory    []byte // limits, default 1 page without a maximum
	tables    [][]byte
	globals   []byte // encoded, with count
	elements  []byte
	data      []byte
	dataCount []byte // encoded, if any
	start     int    // function number, or 0
}

type imp struct {
	module, name    string
	params, results string
}

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

func functype(params, results string) []byte {
	t := []byte{0x60}
	for _, list := range []string{params, results} {
		t = append(t, leb(uint64(len(list)))...)
		for _, v := range list {
			t = append(t, map[rune]byte{'i': 0x7f, 'I': 0x7e}[v])
		}
	}
	return t
}

func (a asm) build() []byte {
	var types, imports, functions, exports, bodies [][]byte
	for i, m := range a.imports {
		types = append(types, functype(m.params, m.results))
		imports = append(imports, slices.Concat(str(m.module), str(m.name), []byte{0}, leb(uint64(i))))
	}
	for i, f := range a.f {
		types = append(types, functype(f.params, f.results))
		functions = append(functions, leb(uint64(len(a.imports)+i)))
		locals := f.locals
		if locals == nil {
			locals = []byte{0}
		}
		body := slices.Concat(locals, f.code, []byte{opEnd})
		bodies = append(bodies, slices.Concat(leb(uint64(len(body))), body))
	}
	for _, e := range a.exports {
		exports = append(exports, slices.Concat(str(e.name), []byte{e.kind}, leb(uint64(e.index))))
	}
	memory := a.memory
	if memory == nil {
		memory = []byte{0, 1}
	}
	m := slices.Concat([]byte("\x00asm\x01\x00\x00\x00"), sec(1, vec(types...)), sec(2, vec(imports...)), sec(3, vec(functions...)))
	if len(a.tables) > 0 {
		m = append(m, sec(4, vec(a.tables...))...)
	}
	m = append(m, sec(5, vec(memory))...)
	if a.globals != nil {
		m = append(m, sec(6, a.globals)...)
	}
	m = append(m, sec(7, vec(exports...))...)
	if a.start != 0 {
		m = append(m, sec(8, leb(uint64(a.start)))...)
	}
	if a.elements != nil {
		m = append(m, sec(9, a.elements)...)
	}
	if a.dataCount != nil {
		m = append(m, sec(12, a.dataCount)...)
	}
	m = append(m, sec(10, vec(bodies...))...)
	if a.data != nil {
		m = append(m, sec(11, a.data)...)
	}
	return m
}

// Opcodes of WebAssembly 2.0, section 5.4.
const (
	opUnreachable  = 0x00
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opEnd          = 0x0b
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opCall         = 0x10
	opCallIndirect = 0x11
	opGlobalGet    = 0x23
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opRefNull      = 0xd0
	opRefFunc      = 0xd2
	opPrefixFC     = 0xfc
	opPrefixFD     = 0xfd
	opV128Const    = 12 // on the 0xFD page
)

// Instructions.
func i32(n int64) []byte   { return append([]byte{opI32Const}, sleb(n)...) }
func i64(n int64) []byte   { return append([]byte{opI64Const}, sleb(n)...) }
func call0(f int) []byte   { return append([]byte{opCall}, leb(uint64(f))...) }
func ops(b ...byte) []byte { return b }

var (
	trapOp  = ops(opUnreachable)
	forever = ops(opLoop, 0x40, 0x0c, 0, opEnd) // loop br 0 end
)

// heap is where the modules of resolverModule let the request be written.
const heap = 1024

// resolverModule is a module of the function form that answers with the bytes
// given, which lie at address 16, by the code given or else by returning them.
// Its function 0 is dynamo_alloc, 1 dynamo_resolve_v1; more may follow.
func resolverModule(answer, code []byte, more ...fn) asm {
	if code == nil {
		code = i64(16<<32 | int64(len(answer)))
	}
	a := asm{
		f: append([]fn{
			{params: "i", results: "i", code: i32(heap)},
			{params: "ii", results: "I", code: code},
		}, more...),
		exports: []exp{{"memory", 2, 0}, {"dynamo_alloc", 0, 0}, {"dynamo_resolve_v1", 0, 1}},
	}
	if answer != nil {
		a.data = vec(slices.Concat([]byte{0}, i32(16), []byte{opEnd}, str(string(answer))))
	}
	return a
}
