package hostile

import (
	"bytes"
	"strings"
)

// largest is the memory by default, in pages.
const largest = 1024

const mib = 1 << 20

// Times are attacks by computing.
func Times() []Attack {
	tree := func(next func(i int) []byte) []function {
		var chain []function
		for i := range 40 {
			chain = append(chain, function{code: cat(next(extra+i+1), next(extra+i+1))})
		}
		return append(chain, function{})
	}
	var all []int
	for i := range 41 {
		all = append(all, extra+i)
	}
	later := func(entry int) []byte { return indirect(int64(entry-extra), extra) }
	dispatch := cat(ops(opLoop, blockNone, 0x02, blockNone), i32(7), ops(0x0e, 1, 0, 1, opEnd, opBr, 0, opEnd))
	short := function{code: bytes.Repeat(cat(i32(1), ops(opDrop)), 8)}
	start := runs(nil, function{code: forever()})
	start.start = extra
	init := runs(nil).exporting("_initialize", function{code: forever()})
	configured := runs(nil).exporting("dynamo_configure_v1", function{params: "ii", results: "i", code: cat(forever(), i32(0))})
	allocs := runs(nil)
	allocs.bodies[alloc].code = cat(forever(), i32(heapAt))
	slowBoot := runs(nil).exporting("_initialize", function{locals: []byte{1, 1, 0x7f}, code: countdown(1_000_000)})
	out := []Attack{
		over("endless loop", runs(forever())),
		over("endless loop of br_table", runs(dispatch)),
		over("endless loop of calls", runs(forever(call(extra)), short)),
		over("endless loop of long straight code", runs(forever(bytes.Repeat(cat(i32(1), ops(opDrop)), 50_000)))),
		over("endless loop of divisions", runs(forever(bytes.Repeat(cat(i64(-1), i64(3), ops(0x7f, opDrop)), 1000)))),
		over("exponential tree of calls", runs(call(extra), tree(call)...)),
		over("exponential tree of call_indirect", runs(later(extra), tree(later)...).tabled(41, all...)),
		over("start function that loops", start),
		over("_initialize that loops", init),
		over("dynamo_alloc that loops", allocs),
		merges("_initialize that takes long", slowBoot),
	}
	refusedBoot := over("dynamo_configure_v1 that loops", configured)
	refusedBoot.Refused, refusedBoot.Config = refusedBoot.Fails, []byte("{}")
	return append(append(out, refusedBoot), bulks()...)
}

// countdown goes so many times through a loop of five instructions: local 0 counts.
func countdown(n int64) []byte {
	return cat(i32(n), ops(0x21, 0), loop(get(0), i32(1), ops(0x6b, 0x22, 0, opBrIf, 0)))
}

// bulks spend their time in single instructions.
func bulks() []Attack {
	const n = 64 * mib
	fill := cat(i32(0), i32(7), i32(n), ops(0xfc, 11, 0))
	copies := func(to, from, size int64) []byte { return cat(i32(to), i32(from), i32(size), ops(0xfc, 10, 0, 0)) }
	big := func(code ...[]byte) parts { return runs(cat(code...)).withPages(largest) }
	tables := func(code ...[]byte) parts { return runs(forever(cat(code...))).tabled(65536) }
	segment := big(forever(i32(heapAt), i32(0), i32(4*mib), ops(0xfc, 8, 1, 0)))
	segment.data = append(segment.data, cat(ops(1), text(string(make([]byte, 4*mib)))))
	segment.passive = true
	elements := tables(i32(0), i32(0), i32(10_000), ops(0xfc, 12, 0, 0))
	elements.elements = [][]byte{cat(ops(1, 0), unsigned(10_000), make([]byte, 10_000))}
	return []Attack{
		over("memory.fill of 64 MiB in a loop", big(forever(fill))),
		over("memory.fill of 64 MiB in a line", big(bytes.Repeat(fill, 1000))),
		over("memory.fill of 1 MiB in a loop", big(forever(i32(0), i32(7), i32(mib), ops(0xfc, 11, 0)))),
		over("memory.fill of 1 byte in a loop", big(forever(i32(0), i32(7), i32(1), ops(0xfc, 11, 0)))),
		over("memory.copy of 32 MiB in a loop", big(forever(copies(0, n/2, n/2)))),
		over("memory.copy that overlaps forward", big(forever(copies(1, 0, n-1)))),
		over("memory.copy that overlaps backward", big(forever(copies(0, 1, n-1)))),
		over("memory.copy upon itself", big(forever(copies(0, 0, n)))),
		over("memory.init of 4 MiB in a loop", segment),
		fails("memory.fill of 4 GiB", "trap", big(i32(0), i32(7), i32(-1), ops(0xfc, 11, 0))),
		fails("memory.fill beyond the end", "trap", big(i32(n-1), i32(7), i32(2), ops(0xfc, 11, 0))),
		fails("memory.copy of 4 GiB", "trap", big(copies(0, 0, -1))),
		fails("memory.copy from beyond the end", "trap", big(copies(0, n/2, n/2+1))),
		over("table.fill in a loop", tables(i32(0), ops(0xd0, funcRef), i32(65536), ops(0xfc, 17, 0))),
		over("table.copy in a loop", tables(i32(0), i32(1), i32(65535), ops(0xfc, 14, 0, 0))),
		over("table.init in a loop", elements),
		over("table.grow in a loop", runs(forever(ops(0xd0, funcRef), i32(1000), ops(0xfc, 15, 0, opDrop))).tabled(1)),
	}
}

// Stacks are attacks by recursion.
func Stacks() []Attack {
	self := function{code: call(extra)}
	table := function{code: indirect(0, extra)}
	deep := func(name string, p parts) Attack { return fails(name, "stack", p) }
	// The values live across the call, so that they take their place in each frame.
	wide := func(values int, locals []byte, with func(i int) []byte, sum byte) function {
		var code []byte
		for i := range values {
			code = append(code, cat(get(0), with(i))...)
		}
		code = cat(code, get(0), call(extra), bytes.Repeat(ops(sum), values))
		return function{params: "I", results: "I", locals: locals, code: code}
	}
	many := wide(3000, nil, func(i int) []byte { return cat(i64(int64(i)), ops(0x7c)) }, 0x85)
	// Vectors of 16 bytes; only the sum over them is a number again.
	var vectors []byte
	for i := range 3000 {
		vectors = append(vectors, cat(get(0), i64(int64(i)), ops(0x7c, 0xfd, 0x12))...)
	}
	vectors = cat(vectors, get(0), call(extra), ops(0xfd, 0x12), bytes.Repeat(ops(0xfd, 0x51), 3000), ops(0xfd, 0x1d, 0))
	results := runs(call(extra), resultsFrame()...)
	results.globals = [][]byte{cat(ops(0x7e, 1), i64(0), ops(opEnd))}
	into := cat(i64(1), call(extra), ops(opDrop))
	recursive := runs(nil)
	recursive.bodies[alloc].code = cat(i32(0), call(alloc))
	start := runs(nil, self)
	start.start = extra
	// 500 values are just below what counts as another level.
	dense := wide(480, nil, func(i int) []byte { return cat(i64(int64(i)), ops(0x7c)) }, 0x85)
	return []Attack{
		deep("endless recursion", runs(call(extra), self)),
		deep("mutual recursion", runs(call(extra), function{code: call(extra + 1)}, self)),
		deep("recursion through call_indirect", runs(call(extra), table).tabled(1, extra)),
		deep("mutual recursion through call_indirect", runs(call(extra), function{code: indirect(1, extra+1)}, function{code: indirect(0, extra)}).tabled(2, extra, extra+1)),
		deep("recursion of wide frames", runs(into, many)),
		deep("recursion of frames that just count once", runs(into, dense)),
		deep("recursion of frames of vectors", runs(into, function{params: "I", results: "I", code: vectors})),
		deep("recursion of frames of results", results),
		deep("recursion of frames of loops", runs(call(extra), loopsFrame(60, 300))),
		deep("recursion in dynamo_alloc", recursive),
		fails("recursion in the start function", "trap", start), // there is no instance to ask how deep it was
		deep("recursion in _initialize", runs(nil).exporting("_initialize", function{code: call(extra)})),
		over("recursion to the limit again and again", againAndAgain()),
	}
}

// resultsFrame has few instructions and many values: each call gives 64 vectors, and each takes as many.
func resultsFrame() []function {
	const calls = 200
	many := strings.Repeat("v", 64)
	vector := cat(ops(0x23, 0), ops(0xfd, 0x12)) // of a global, so that nobody knows what it is
	return []function{
		{code: cat(bytes.Repeat(call(extra+1), calls), call(extra), bytes.Repeat(call(extra+2), calls))},
		{results: many, code: bytes.Repeat(vector, 64)},
		{params: many, code: cat(get(0), ops(0xfd, 0x1d, 0, 0x24, 0))},
	}
}

// loopsFrame has nested loops with a call each, in the innermost of which all locals change: so each loop has values of its
// own for each of them.
func loopsFrame(loops, locals int) function {
	var code []byte
	for i := range locals {
		code = append(code, cat(i32(int64(i)), ops(0x28, 2, 0, 0x21), unsigned(uint64(i)))...)
	}
	for range loops {
		code = append(code, cat(ops(opLoop, blockNone), call(extra))...)
	}
	for i := range locals {
		code = append(code, cat(get((i+1)%locals), get(i), ops(0x6a, 0x21), unsigned(uint64(i)))...)
	}
	for i := range loops {
		code = append(code, cat(get(i), ops(opBrIf, 0, opEnd))...)
	}
	for i := range locals {
		code = append(code, cat(i32(int64(4*i)), get(i), ops(0x36, 2, 0))...)
	}
	return function{locals: cat(ops(1), unsigned(uint64(locals)), ops(0x7f)), code: code}
}

// againAndAgain goes 900 calls deep and back, without end.
func againAndAgain() parts {
	down := function{params: "i", code: cat(get(0), ops(opIf, blockNone), get(0), i32(1), ops(0x6b), call(extra), ops(opEnd))}
	return runs(forever(i32(900), call(extra)), down)
}

// Memories are attacks by memory.
func Memories() []Attack {
	grow := func(pages int64) []byte { return cat(i32(pages), ops(0x40, 0)) }
	// Grows until it is refused, and writes to each page.
	touching := loop(ops(0x3f, 0), i32(1), ops(0x6b), i32(16), ops(0x74), i32(1), ops(0x36, 2, 0), grow(1), i32(-1), ops(0x47, opBrIf, 0))
	dirty := cat(i32(heapAt), i32(1), i32(64*mib-heapAt), ops(0xfc, 11, 0))
	third := cat(i32(heapAt), i32(1), i32(20*mib), ops(0xfc, 11, 0))
	allocGrows := runs(nil)
	allocGrows.bodies[alloc].code = cat(grow(1), i32(16), ops(0x74)) // the new page
	allocAll := runs(nil)
	allocAll.bodies[alloc].code = cat(grow(largest-1), ops(opDrop), i32(heapAt))
	tables := runs(nil)
	for i := range 16 {
		tables.tables = append(tables.tables, cat(ops(funcRef, 0), unsigned(1)))
		tables.bodies[resolve].code = cat(ops(0xd0, funcRef), i32(65535), ops(0xfc, 15, byte(i), opDrop), tables.bodies[resolve].code)
	}
	return []Attack{
		merges("memory.grow at once", runs(cat(grow(largest-1), ops(opDrop), dirty))),
		merges("memory.grow bit by bit", runs(touching)),
		merges("memory.grow beyond the limit", runs(cat(grow(largest), ops(opDrop), grow(-1), ops(opDrop)))),
		over("memory.grow in a loop", runs(forever(grow(1), ops(opDrop)))),
		over("memory.grow by nothing in a loop", runs(forever(grow(0), ops(opDrop)))),
		over("memory.grow by 4 GiB in a loop", runs(forever(grow(65536), ops(opDrop)))),
		merges("dynamo_alloc that grows the memory", allocGrows),
		merges("dynamo_alloc that grows the memory to the limit", allocAll),
		merges("all of the memory from the beginning", runs(dirty).withPages(largest)),
		merges("all tables grown to the limit", tables),
		merges("_initialize that fills the memory", runs(nil).withPages(largest).exporting("_initialize", function{code: dirty})),
		merges("_initialize that fills a third of the memory", runs(nil).withPages(largest).exporting("_initialize", function{code: third})),
		refused("4 GiB of memory", "memory", runs(nil).withPages(65536)),
		refused("a page too much", "memory", runs(nil).withPages(largest+1)),
	}
}
