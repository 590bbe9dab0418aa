package hostile

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"dynamo/resolver/frame"
)

// parts are a module in the making. Functions are numbered: imports, then bodies in their order.
type parts struct {
	imports  []function // name is "module.name"
	bodies   []function
	exports  []export
	pages    uint64
	tables   [][]byte
	globals  [][]byte
	start    int // number of a function, or 0
	elements [][]byte
	data     [][]byte
	passive  bool // there are passive data segments: their number is announced
}

// function is the declaration of a function: i = i32, I = i64, v = v128.
type function struct {
	name            string
	params, results string
	locals          []byte // encoded; nil: none
	code            []byte // without the last end
}

type export struct {
	name  string
	kind  byte
	index int
}

func cat(b ...[]byte) []byte { return slices.Concat(b...) }

func unsigned(n uint64) []byte { return binary.AppendUvarint(nil, n) }

func signed(n int64) []byte {
	var b []byte
	for n < -64 || n > 63 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n)&0x7f)
}

func list(items ...[]byte) []byte { return append(unsigned(uint64(len(items))), cat(items...)...) }

func text(s string) []byte { return append(unsigned(uint64(len(s))), s...) }

func section(id byte, content []byte) []byte {
	return cat([]byte{id}, unsigned(uint64(len(content))), content)
}

func typeOf(f function) []byte {
	t := []byte{0x60}
	for _, types := range []string{f.params, f.results} {
		t = append(t, unsigned(uint64(len(types)))...)
		t = append(t, strings.NewReplacer("i", "\x7f", "I", "\x7e", "v", "\x7b").Replace(types)...)
	}
	return t
}

const header = "\x00asm\x01\x00\x00\x00"

// ownTypes is how many functions have a type of their own, with their own number; the rest share them.
const ownTypes = 1000

// build encodes the module.
func (p parts) build() []byte {
	var types, imports, functions, exports, bodies [][]byte
	for i, f := range p.imports {
		from, name, _ := strings.Cut(f.name, ".")
		types = append(types, typeOf(f))
		imports = append(imports, cat(text(from), text(name), []byte{0}, unsigned(uint64(i))))
	}
	for i, f := range p.bodies {
		typ := slices.IndexFunc(types, func(t []byte) bool { return bytes.Equal(t, typeOf(f)) })
		if typ < 0 || i < ownTypes {
			typ = len(types)
			types = append(types, typeOf(f))
		}
		functions = append(functions, unsigned(uint64(typ)))
		bodies = append(bodies, body(f))
	}
	for _, e := range p.exports {
		exports = append(exports, cat(text(e.name), []byte{e.kind}, unsigned(uint64(e.index))))
	}
	out := cat([]byte(header), section(1, list(types...)), section(2, list(imports...)), section(3, list(functions...)))
	if len(p.tables) > 0 {
		out = append(out, section(4, list(p.tables...))...)
	}
	out = append(out, section(5, list(cat([]byte{0}, unsigned(p.pages))))...)
	if len(p.globals) > 0 {
		out = append(out, section(6, list(p.globals...))...)
	}
	out = append(out, section(7, list(exports...))...)
	if p.start != 0 {
		out = append(out, section(8, unsigned(uint64(p.start)))...)
	}
	if len(p.elements) > 0 {
		out = append(out, section(9, list(p.elements...))...)
	}
	if p.passive {
		out = append(out, section(12, unsigned(uint64(len(p.data))))...)
	}
	out = append(out, section(10, list(bodies...))...)
	if len(p.data) > 0 {
		out = append(out, section(11, list(p.data...))...)
	}
	return out
}

func body(f function) []byte {
	locals := f.locals
	if locals == nil {
		locals = []byte{0}
	}
	return text(string(cat(locals, f.code, []byte{opEnd})))
}

// Opcodes.
const (
	opLoop    = 0x03
	opIf      = 0x04
	opEnd     = 0x0b
	opBr      = 0x0c
	opBrIf    = 0x0d
	opDrop    = 0x1a
	blockNone = 0x40
	funcRef   = 0x70
	kindFunc  = 0
	kindMem   = 2
)

// Instructions.
func ops(b ...byte) []byte       { return b }
func i32(n int64) []byte         { return append([]byte{0x41}, signed(n)...) }
func i64(n int64) []byte         { return append([]byte{0x42}, signed(n)...) }
func call(f int) []byte          { return append([]byte{0x10}, unsigned(uint64(f))...) }
func get(local int) []byte       { return append([]byte{0x20}, unsigned(uint64(local))...) }
func loop(code ...[]byte) []byte { return cat(ops(opLoop, blockNone), cat(code...), ops(opEnd)) }

// forever repeats code.
func forever(code ...[]byte) []byte { return loop(cat(code...), ops(opBr, 0)) }

// indirect calls function number entry of table 0, which has the type of that number.
func indirect(entry int64, typ int) []byte {
	return cat(i32(entry), ops(0x11), unsigned(uint64(typ)), ops(0))
}

// active is a data segment.
func active(at int64, content []byte) []byte {
	return cat(ops(0), i32(at), ops(opEnd), text(string(content)))
}

// entries is an element segment at the beginning of table 0.
func entries(functions ...int) []byte {
	var numbers [][]byte
	for _, f := range functions {
		numbers = append(numbers, unsigned(uint64(f)))
	}
	return cat(ops(0), i32(0), ops(opEnd), list(numbers...))
}

// answerAt is where the answers of modules lie; heapAt, where they take requests.
const (
	answerAt = 16
	heapAt   = 1024
)

// alloc and resolve are the numbers of these functions in a module without imports.
const (
	alloc   = 0
	resolve = 1
	extra   = 2
)

// answers is a module that runs code, which leaves nothing on the stack, and then answers with r. More functions
// follow from number extra on, if it has no imports.
func answers(r frame.Response, code []byte, more ...function) parts {
	raw := frame.AppendResponse(nil, r)
	return answersRaw(raw, code, more...)
}

func answersRaw(raw, code []byte, more ...function) parts {
	p := parts{pages: 1, data: [][]byte{active(answerAt, raw)}}
	p.bodies = append([]function{
		{params: "i", results: "i", code: i32(heapAt)},
		{params: "ii", results: "I", code: cat(code, i64(answerAt<<32|int64(len(raw))))},
	}, more...)
	p.exports = []export{{"memory", kindMem, 0}, {"dynamo_alloc", kindFunc, alloc}, {"dynamo_resolve_v1", kindFunc, resolve}}
	return p
}

// runs is a module that answers "merged" after its code.
func runs(code []byte, more ...function) parts {
	return answers(frame.Response{Payload: []byte("merged")}, code, more...)
}

// importing gives a module imports, which its code calls by number from 0 on.
func (p parts) importing(names ...function) parts {
	p.imports = names
	for i := range p.exports {
		if p.exports[i].kind == kindFunc {
			p.exports[i].index += len(names)
		}
	}
	return p
}

func wasi(name, params string) function {
	return function{name: "wasi_snapshot_preview1." + name, params: params, results: "i"}
}

func (p parts) withPages(n uint64) parts {
	p.pages = n
	return p
}

// exporting adds an exported function to a module without imports.
func (p parts) exporting(name string, f function) parts {
	p.bodies = append(p.bodies, f)
	p.exports = append(p.exports, export{name, kindFunc, len(p.bodies) - 1})
	return p
}

// tabled gives a module a table of so many entries.
func (p parts) tabled(n uint64, functions ...int) parts {
	p.tables = append(p.tables, cat(ops(funcRef, 0), unsigned(n)))
	if len(functions) > 0 {
		p.elements = append(p.elements, entries(functions...))
	}
	return p
}
