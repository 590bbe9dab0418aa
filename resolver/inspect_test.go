package resolver

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"dynamo/resolver/frame"
	"dynamo/resolver/hostile"
)

// localsBomb is the shortest module with 2^32 - 1 locals: 33 bytes that end the
// process inside the engine's compiler.
func localsBomb() []byte {
	body := slices.Concat([]byte{1}, leb(1<<32-1), []byte{0x7f, opEnd})
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"), sec(1, vec(functype("", ""))), sec(3, vec([]byte{0})),
		sec(10, vec(slices.Concat(leb(uint64(len(body))), body))))
}

// withBody is a good module with one more function of that code.
func withBody(code []byte) asm { return resolverModule(nil, trapOp, fn{code: code}) }

func withLocals(n uint64, code []byte) asm {
	a := withBody(code)
	a.f[2].locals = slices.Concat([]byte{1}, leb(n), []byte{0x7f})
	a.f = append(a.f, fn{params: "i"}) // for "alive" to call
	return a
}

func rep(b []byte, n int) []byte { return bytes.Repeat(b, n) }

func TestCheckRefuses(t *testing.T) {
	good := resolverModule(frame.AppendResponse(nil, Response{}), nil)
	change := func(f func(*asm)) []byte {
		a := resolverModule(frame.AppendResponse(nil, Response{}), nil)
		f(&a)
		return a.build()
	}
	imports := func(module, name, params, results string) []byte {
		return change(func(a *asm) {
			a.imports = []imp{{module, name, params, results}}
			a.exports = []exp{{"memory", 2, 0}, {"dynamo_alloc", 0, 1}, {"dynamo_resolve_v1", 0, 2}}
		})
	}
	nested := slices.Concat(rep(ops(opBlock, 0x40), 100_000), rep(ops(opEnd), 100_000))
	tables := rep(slices.Concat(i32(0), ops(opIf, 0x40), i32(0), ops(opBrTable, 0, 0, opEnd)), 30_000)
	for _, c := range []struct {
		name   string
		module []byte
		want   Code
	}{
		{"nothing", nil, CodeMalformed},
		{"garbage", []byte("garbage, not WebAssembly"), CodeMalformed},
		{"header alone", good.build()[:8], CodeMissingExport},
		{"cut off", good.build()[:60], CodeMalformed},
		{"component", []byte("\x00asm\x0d\x00\x01\x00"), CodeMalformed},
		{"33 bytes with 2^32-1 locals", localsBomb(), CodeTooComplex},
		{"300 KB of nested blocks", withBody(nested).build(), CodeTooComplex},
		{"300 KB of if and br_table", withBody(tables).build(), CodeTooComplex},
		{"300 KB of if", withBody(rep(slices.Concat(i32(0), ops(opIf, 0x40, opEnd)), 60_000)).build(), CodeTooComplex},
		{"bulk instructions", withBody(rep(slices.Concat(i32(0), i32(0), i32(0), ops(0xfc, 11, 0)), 20_000)).build(), CodeTooComplex},
		{"5000 locals alive across calls", withLocals(5000, alive(5000, 1)).build(), CodeTooComplex},
		{"1000 locals alive across loops", withLocals(1000, alive(1000, 1000)).build(), CodeTooComplex},
		{"no exports", change(func(a *asm) { a.exports = nil }), CodeMissingExport},
		{"no memory", change(func(a *asm) { a.exports[0].name = "mem" }), CodeMissingExport},
		{"memory is a function", change(func(a *asm) { a.exports[0].kind = 0 }), CodeMissingExport},
		{"no alloc", change(func(a *asm) { a.exports = a.exports[:1] }), CodeMissingExport},
		{"alloc of another type", change(func(a *asm) { a.f[0].results = "I" }), CodeMissingExport},
		{"export of an unknown function", change(func(a *asm) { a.exports[1].index = 99 }), CodeMalformed},
		{"export twice", change(func(a *asm) { a.exports = append(a.exports, a.exports[0]) }), CodeMalformed},
		{"unknown module", imports("env", "log", "ii", ""), CodeUnknownImport},
		{"unknown function", imports("dynamo", "exec", "ii", ""), CodeUnknownImport},
		{"import of another type", imports("dynamo", "log", "i", ""), CodeUnknownImport},
		{"two memories", change(func(a *asm) { a.memory = []byte{0, 1, 0, 1} }), CodeMalformed},
		{"shared memory", change(func(a *asm) { a.memory = []byte{3, 1, 1} }), CodeUnsupported},
		{"64-bit memory", change(func(a *asm) { a.memory = []byte{4, 1} }), CodeUnsupported},
		{"large memory", change(func(a *asm) { a.memory = slices.Concat([]byte{0}, leb(65536)) }), CodeMemory},
		{"large table", change(func(a *asm) { a.tables = [][]byte{slices.Concat([]byte{0x70, 0}, leb(1<<31))} }), CodeTooComplex},
		{"atomics", withBody(ops(0xfe, 0, 0, 0)).build(), CodeUnsupported},
		// The engine reads one byte after 0xFD: what it takes for instructions must not be hidden in a longer number.
		{"vector opcode of two bytes", withBody(ops(opPrefixFD, 0x8c, 0, 0x0b)).build(), CodeUnsupported},
		{"tail call", withBody(ops(0x12, 0)).build(), CodeUnsupported},
		{"start with parameters", change(func(a *asm) { a.start = 1 }), CodeMalformed},
		{"too large", make([]byte, 17<<20), CodeTooLarge},
		{"section twice", append(good.build(), sec(1, vec())...), CodeMalformed},
		{"long name", change(func(a *asm) { a.exports[0].name = strings.Repeat("m", 300) }), CodeTooComplex},
	} {
		begin := time.Now()
		if _, err := Check(c.module, DefaultLimits()); CodeOf(err) != c.want {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("%s: took %v", c.name, took)
		}
	}
	if n := len(localsBomb()); n > 33 {
		t.Errorf("the bomb has %d bytes", n)
	}
}

func TestCheckAccepts(t *testing.T) {
	a := resolverModule(nil, trapOp, fn{}, fn{params: "ii", results: "i", code: i32(0)})
	a.exports = append(a.exports, exp{"_initialize", 0, 2}, exp{"dynamo_wants_deleted", 0, 2}, exp{"dynamo_configure_v1", 0, 3})
	module := append(a.build(), sec(0, str("anything"))...)
	info, err := Check(module, DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if info.ABI != ABIFunction || !info.WantsDeleted || info.Size != len(module) || len(info.Exports) != 6 {
		t.Errorf("info %+v", info)
	}
	b := resolverModule(nil, trapOp, fn{})
	b.exports = []exp{{"memory", 2, 0}, {"_start", 0, 2}}
	if info, err = Check(b.build(), DefaultLimits()); err != nil || info.ABI != ABICommand {
		t.Errorf("command form: %+v, %v", info, err)
	}
}

// TestAcceptedCompilesSoon takes functions that are as bad as Check lets
// through.
func TestAcceptedCompilesSoon(t *testing.T) {
	t.Parallel()
	part := 1
	if underRace {
		part = 8
	}
	const aliveLocals = 500
	worst := map[string][]byte{
		"blocks": slices.Concat(rep(ops(opBlock, 0x40), 3900/part), rep(ops(opEnd), 3900/part)),
		"loops":  slices.Concat(rep(ops(opLoop, 0x40), 3900/part), rep(ops(opEnd), 3900/part)),
		"ifs":    rep(slices.Concat(i32(0), ops(opIf, 0x40, opEnd)), 10_000/part),
		"br_if":  slices.Concat(ops(opBlock, 0x40), rep(slices.Concat(i32(0), ops(opBrIf, 0)), 10_000/part), ops(opEnd)),
		"tables": rep(slices.Concat(ops(opBlock, 0x40), i32(0), ops(opBrTable, 2, 0, 0, 0, opEnd)), 7000/part),
		"bulk":   rep(slices.Concat(i32(0), i32(0), i32(0), ops(0xfc, 11, 0)), 2300/part),
		"alive":  alive(aliveLocals, 300/part),
	}
	for name, code := range worst {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := withBody(code)
			if name == "alive" {
				a = withLocals(aliveLocals, code)
			}
			r := newRuntime(t, DefaultLimits()) // each compiles one at a time
			begin := time.Now()
			mustCompile(t, r, a.build())
			took := time.Since(begin)
			t.Logf("compiled for %v", took)
			if took > 8*time.Second { // about 1.5 s on an idle machine
				t.Errorf("compiled for %v", took)
			}
		})
	}
}

// alive loads locals, passes some loops with a call, and uses the locals at last.
func alive(locals, loops int) []byte {
	var code []byte
	for i := range locals {
		code = slices.Concat(code, i32(0), ops(0x28, 2, 0, 0x21), leb(uint64(i)))
	}
	code = append(code, rep(slices.Concat(ops(opLoop, 0x40), i32(0), call0(3), i32(0), ops(opBrIf, 0, opEnd)), loops)...)
	for i := range locals {
		code = slices.Concat(code, ops(0x20), leb(uint64(i)), call0(3))
	}
	return code
}

func TestIllTypedIsRefusedByTheCompiler(t *testing.T) {
	r := newRuntime(t, DefaultLimits())
	if _, err := r.Load(t.Context(), withBody(ops(0x6a)).build(), nil); CodeOf(err) != CodeCompile {
		t.Errorf("got %v", err)
	}
}

// TestEveryOpcodeIsReadAsTheEngineReadsIt: an instruction whose end is seen
// elsewhere would get code inserted into its middle.
func TestEveryOpcodeIsReadAsTheEngineReadsIt(t *testing.T) {
	r := newRuntime(t, DefaultLimits())
	for _, c := range [][]byte{
		i64(-1 << 63), i32(-1 << 31), ops(opF32Const, 1, 2, 3, 4), ops(opF64Const, 1, 2, 3, 4, 5, 6, 7, 8),
		ops(opRefNull, 0x6f), ops(opRefFunc, 0), ops(0x3f, 0), slices.Concat(i32(0), ops(0x28, 2, 0x80, 1)),
		slices.Concat(i32(1), i32(1), i32(0), ops(0x1c, 1, 0x7f)), slices.Concat(i32(0), ops(0x2d, 0, 7)),
		slices.Concat(ops(opPrefixFD, 12), rep(ops(opEnd), 16)),
		slices.Concat(i32(0), ops(opPrefixFD, 0, 4, 0)), slices.Concat(i32(0), ops(opPrefixFD, 92, 2, 0)),
		slices.Concat(i32(0), ops(opPrefixFD, 15, opPrefixFD, 21, 11)),
		slices.Concat(i32(0), i32(0), ops(opPrefixFD, 15, opPrefixFD, 84, 0, 0, 11)),
		slices.Concat(ops(opF32Const, 0, 0, 0, 0), ops(opPrefixFC, 0)), ops(opPrefixFC, 16, 0),
		slices.Concat(i32(0), ops(opCallIndirect, 2, 0), i32(0)),
	} {
		// The value is dropped, a bulk instruction follows: its point must be
		// in the right place for the module to compile.
		code := slices.Concat(c, ops(0x1a), i32(0), i32(0), i32(0), ops(0xfc, 11, 0))
		a := withBody(code)
		a.tables = [][]byte{{0x70, 0, 1}}
		a.elements = vec(slices.Concat([]byte{0}, i32(0), []byte{opEnd}, vec(leb(0))))
		m, err := r.Load(t.Context(), a.build(), nil)
		if err != nil {
			t.Errorf("% x: %v", c, err)
			continue
		}
		if err := m.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestEndlessRecursionMeetsTheDepthLimit(t *testing.T) {
	l := DefaultLimits()
	l.Timeout = 20 * time.Second
	r := newRuntime(t, l)
	m := mustCompile(t, r, resolverModule(nil, slices.Concat(call0(2), i64(0)), fn{code: call0(2)}).build())
	begin := time.Now()
	if _, _, err := m.Merge(t.Context(), twoSiblings(), 100); CodeOf(err) != CodeStack {
		t.Errorf("got %v after %v", err, time.Since(begin))
	}
	t.Logf("took %v", time.Since(begin))
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte("\x00asm\x01\x00\x00\x00"))
	f.Add(localsBomb())
	for _, a := range slices.Concat(hostile.Times(), hostile.Stacks(), hostile.States()) {
		if len(a.Module) < 1000 {
			f.Add(a.Module)
		}
	}
	l := DefaultLimits()
	l.Timeout = 5 * time.Millisecond
	f.Fuzz(func(t *testing.T, module []byte) {
		p, err := inspect(module, l)
		if err != nil {
			if CodeOf(err) == "" {
				t.Fatalf("error without a code: %v", err)
			}
			return
		}
		// What is added has names of the host, so that nothing is rewritten twice.
		if _, err := inspect(p.code, l); CodeOf(err) != CodeReserved && CodeOf(err) != CodeTooComplex && CodeOf(err) != CodeTooLarge {
			t.Fatalf("the rewritten module: %v", err)
		}
		r := newRuntime(t, l)
		if m, err := r.Load(context.Background(), module, nil); err == nil {
			_, _, _ = m.Merge(context.Background(), twoSiblings(), 100)
		} else if CodeOf(err) == CodeInternal {
			t.Fatal(err)
		}
	})
}
