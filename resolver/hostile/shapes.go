package hostile

import "bytes"

// Shapes are attacks on whoever reads or compiles the module.
func Shapes() []Attack {
	with := func(code []byte) parts { return runs(nil, function{code: code}) }
	locals := func(n uint64) parts {
		return runs(nil, function{locals: cat(ops(1), unsigned(n), ops(0x7f))})
	}
	nested := func(n int, op byte, before []byte) []byte {
		return cat(bytes.Repeat(cat(before, ops(op, blockNone)), n), bytes.Repeat(ops(opEnd), n))
	}
	table := cat(i32(0), ops(0x0e), unsigned(300_000), make([]byte, 300_001))
	tables, globals, elements, data := runs(nil), runs(nil), runs(nil).tabled(1), runs(nil)
	for range 17 {
		tables = tables.tabled(1)
	}
	for range 10_001 {
		globals.globals = append(globals.globals, cat(ops(0x7f, 1), i32(0), ops(opEnd)))
		elements.elements = append(elements.elements, entries())
	}
	for range 1<<18 + 1 {
		data.data = append(data.data, active(0, nil))
	}
	out := []Attack{
		refused("16 MiB of dense code", "too_complex", runs(nil, dense(4, 4*mib-200)...)),
		refused("more than 16 MiB", "too_large", runs(nil, dense(5, 4*mib-200)...)),
		refused("a function of 5 MiB", "too_complex", runs(nil, dense(1, 5*mib)...)),
		refused("100,001 functions", "too_complex", flock(100_001)),
		refused("10,001 locals", "too_complex", locals(10_001)),
		{Name: "2^32-1 locals in 33 bytes", Module: bomb(), Refused: "too_complex"},
		refused("2^32-1 locals in several runs", "too_complex", runs(nil, function{locals: cat(ops(3), unsigned(1<<31), ops(0x7e), unsigned(1<<31), ops(0x7e), unsigned(1<<31), ops(0x7b))})),
		refused("9,999 locals in each of 200 functions", "too_complex", runs(nil, many(200, function{locals: cat(ops(1), unsigned(9999), ops(0x7f))})...)),
		refused("blocks nested 100,000 deep", "too_complex", with(nested(100_000, 0x02, nil))),
		refused("loops nested 100,000 deep", "too_complex", with(nested(100_000, opLoop, nil))),
		refused("ifs nested 100,000 deep", "too_complex", with(nested(100_000, opIf, i32(1)))),
		refused("100,000 ifs", "too_complex", with(bytes.Repeat(cat(i32(1), ops(opIf, blockNone, opEnd)), 100_000))),
		refused("br_table of 300,001", "too_complex", with(table)),
		refused("table of 2^32-1 entries", "too_complex", runs(nil).tabled(1<<32-1)),
		refused("18 tables", "too_complex", tables.tabled(1)),
		refused("10,001 globals", "too_complex", globals),
		refused("10,001 element segments", "too_complex", elements),
		refused("262,145 data segments", "too_complex", data),
		refused("import that does not exist", "unknown_import", runs(nil).importing(function{name: "env.system", params: "i", results: "i"})),
		refused("import of another type", "unknown_import", runs(nil).importing(function{name: "dynamo.log", params: "I"})),
		refused("import of the host's own", "reserved", runs(nil).importing(function{name: "dynamo_host.yield"})),
		{Name: "not a module", Module: []byte("#!/bin/sh\nreboot\n"), Refused: "malformed"},
		{Name: "nothing but a header", Module: []byte(header), Refused: "missing_export"},
		refused("ill-typed code", "compile", with(ops(0x6a))),
		merges("100 functions of 4 KB", runs(nil, dense(100, 4000)...)),
		merges("5,000 functions", flock(5000)),
		merges("9,000 locals", locals(9000)),
		merges("blocks nested 3,000 deep", with(nested(3000, 0x02, nil))),
		merges("br_table of 10,001", with(cat(i32(0), ops(0x0e), unsigned(10_000), make([]byte, 10_001)))),
		merges("a table of 65,536", runs(nil).tabled(65536)),
		merges("8,000 globals", func() parts { p := globals; p.globals = p.globals[:8000]; return p }()),
		merges("15 MiB of data in 64 MiB of memory", func() parts {
			p := runs(nil).withPages(largest)
			p.data = append(p.data, active(heapAt, bytes.Repeat([]byte{1}, 15*mib)))
			return p
		}()),
	}
	return append(append(out, imported()...), lies()...)
}

// imported are modules that import what is no function.
func imported() []Attack {
	build := func(what []byte) []byte {
		return cat([]byte(header), section(1, list(typeOf(function{}))), section(2, list(cat(text("env"), text("it"), what))))
	}
	return []Attack{
		{Name: "imported memory", Module: build(ops(2, 0, 1)), Refused: "unsupported"},
		{Name: "imported table", Module: build(ops(1, funcRef, 0, 1)), Refused: "unsupported"},
		{Name: "imported global", Module: build(ops(3, 0x7f, 1)), Refused: "unsupported"},
	}
}

// lies are modules of a few bytes with sections that claim 2^32-1 entries, or bytes.
func lies() []Attack {
	var out []Attack
	most := unsigned(1<<32 - 1)
	for id, what := range []string{"types", "imports", "functions", "tables", "memories", "globals", "exports", "", "element segments", "function bodies", "data segments"} {
		if what == "" {
			continue
		}
		out = append(out, Attack{
			Name: "2^32-1 " + what + " in a few bytes", Refused: "too_complex",
			Module: cat([]byte(header), section(byte(id+1), cat(most, make([]byte, 10)))),
		})
	}
	return append(out, Attack{Name: "a section of 4 GiB", Module: cat([]byte(header), ops(1), most, ops(1)), Refused: "malformed"})
}

// bomb has 2^32-1 locals in one function.
func bomb() []byte {
	code := cat(ops(1), unsigned(1<<32-1), ops(0x7f, opEnd))
	return cat([]byte(header), section(1, list(ops(0x60, 0, 0))), section(3, list(ops(0))), section(10, list(text(string(code)))))
}

// dense makes functions of so many bytes of arithmetic, all of whose results are used.
func dense(functions, size int) []function {
	step := cat(i32(77), ops(0x6c), get(0), ops(0x6a, 0x22, 0)) // x = x*77 + local
	code := cat(get(0), bytes.Repeat(step, size/len(step)), ops(opDrop))
	return many(functions, function{params: "i", code: code})
}

func many(n int, f function) []function {
	out := make([]function, n)
	for i := range out {
		out[i] = f
	}
	return out
}

// flock is a module of many small functions with one type.
func flock(n int) parts { return runs(nil, many(n, function{})...) }
