package fuel_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"dynamo/resolver/fuel"
)

// everyIndex uses each kind of index that the rewriting shifts or must keep.
func everyIndex() asm {
	a := asm{
		imports: []imp{{"dynamo", "log", "ii", ""}},
		memory:  pages1,
		tables:  [][]byte{{0x70, 0, 4}},
		globals: [][]byte{global('i', 1, i32(7)), global('I', 0, i64(1)), global('r', 0, ops(0xd2, 2)), global('F', 1, f64bits(0))},
		exports: []exp{{"f", 0, 1}, {"memory", 2, 0}, {"log", 0, 0}, {"kept", 3, 0}, {"t", 1, 0}},
		start:   3,
		elements: [][]byte{
			seq(ops(0), i32(0), ops(0x0b), vec(leb(1), leb(2))),
			seq(ops(5, 0x70), vec(ops(0xd2, 2, 0x0b), ops(0xd0, 0x70, 0x0b))),
		},
		dataCount: 1,
		data:      [][]byte{seq(ops(0), i32(8), ops(0x0b), str("data"))},
		custom:    seq(str("dynamo.samples"), []byte("abc")),
	}
	return a.with(
		fn{"i", "ii", nil, seq(i32(0), i32(4), call(0), get(0), i32(1), ops(0x11, 1, 0), ops(0x0f))},
		fn{"i", "ii", nil, seq(ops(0xd2, 2, 0x1a), get(0), globalGet(0))},
		fn{"", "", nil, seq(i32(9), globalSet(0))},
	)
}

func TestEveryIndexIsKept(t *testing.T) {
	m := newMachine(t, false, "")
	a := everyIndex()
	a.types = nil
	a.f[0].code = seq(i32(0), i32(4), call(0), get(0), i32(1), ops(0x11, 2, 0), ops(0x0f))
	res := mustRewrite(t, a.build(), fuel.Options{Depth: 77})
	r := m.mustInstantiate(m.compile(res.Module), plenty, 0)
	got, err := r.call("f", 5)
	if err != nil || got[0] != 5 || got[1] != 9 {
		t.Fatalf("got %v, %v", got, err)
	}
	info := res.Info
	if len(info.Imports) != 1 || info.Imports[0].Name != "log" || info.Imports[0].Type.String() != "(i32, i32) -> ()" {
		t.Errorf("imports %v", info.Imports)
	}
	if len(info.Exports) != 5 || info.Exports[0].Type.String() != "(i32) -> (i32, i32)" || info.Exports[3].Value != fuel.I32 {
		t.Errorf("exports %v", info.Exports)
	}
	if len(info.Globals) != 2 || info.Globals[1] != (fuel.Global{Name: "dynamo.global.3", Index: 3, Type: fuel.F64}) {
		t.Errorf("globals %v", info.Globals)
	}
	if len(info.Customs) != 1 || string(a.build()[info.Customs[0].Start:info.Customs[0].End]) != "abc" {
		t.Errorf("custom sections %v", info.Customs)
	}
	if !info.Start || !info.Restorable || info.Memory != (fuel.Memory{Present: true, Least: 1, Most: 1024}) {
		t.Errorf("info %+v", info)
	}
	if d := r.ExportedGlobal(fuel.GlobalDepth).(api.MutableGlobal).Get(); d != 77 {
		t.Errorf("depth %d after the call", d)
	}
}

// TestGolden pins what the rewriting writes: machine code in caches and fuel
// in records depend on it.
func TestGolden(t *testing.T) {
	// (func (export "f") (param i32) (loop (br_if 0 (local.get 0)))) (memory 1)
	a := one("i", "", nil, loop(get(0), ops(0x0d, 0)))
	want := header +
		"\x01\x08\x02\x60\x01\x7f\x00\x60\x00\x00" + // types: f's and the host's
		"\x02\x15\x01\x0bdynamo_host\x05yield\x00\x01" +
		"\x03\x02\x01\x00" +
		"\x05\x05\x01\x01\x01\x80\x08" + // memory with a maximum
		"\x06\x0c\x02\x7e\x01\x42\x00\x0b\x7f\x01\x41\xe8\x07\x0b" + // fuel and depth
		"\x07\x2b\x04\x01f\x00\x01\x06memory\x02\x00\x0bdynamo.fuel\x03\x00\x0cdynamo.depth\x03\x01" +
		"\x0a\x3f\x01\x3d\x01\x01\x7e" + // one local more
		"\x02\x40" + // block that holds the body
		"\x23\x00\x21\x01" + // fuel to local
		"\x03\x40\x20\x01\x42\x00\x53\x04\x40\x10\x00\x23\x00\x21\x01\x0b" + // outer loop looks at it
		"\x03\x40\x20\x01\x42\x00\x53\x0d\x01" + // inner loop leads there
		"\x20\x01\x42\x02\x7d\x22\x01\x24\x00" + // takes 2
		"\x20\x00\x0d\x00\x0b\x0b\x0b" +
		"\x23\x00\x42\x00\x53\x04\x40\x10\x00\x0b\x0b"
	res := mustRewrite(t, a.build(), fuel.Options{})
	if got := string(res.Module); got != want {
		t.Errorf("got\n%s\nwant\n%s", hex.Dump([]byte(got)), hex.Dump([]byte(want)))
	}
}

func TestRefusals(t *testing.T) {
	nested := bytes.Repeat(ops(0x02, 0x40), 5000)
	for name, c := range map[string]struct {
		module []byte
		code   fuel.Code
		text   string
	}{
		"nothing":          {nil, fuel.CodeMalformed, "binary module"},
		"many locals":      {one("", "", seq(leb(1), leb(1<<32-1), ops(0x7f)), nil).build(), fuel.CodeTooComplex, "locals"},
		"nesting":          {one("", "", nil, seq(nested, bytes.Repeat(ops(0x0b), 5000))).build(), fuel.CodeTooComplex, "nested deeper"},
		"many blocks":      {one("", "", nil, bytes.Repeat(seq(i32(0), ops(0x04, 0x40, 0x0b)), 60_000)).build(), fuel.CodeTooComplex, "too many blocks"},
		"many NaNs":        {manyNaNs().build(), fuel.CodeTooComplex, "canonical NaNs"},
		"large memory":     {asm{memory: seq(ops(0), leb(2000))}.build(), fuel.CodeMemory, "2000 pages"},
		"two memories":     {seq([]byte(header), sec(5, vec(pages1, pages1))), fuel.CodeUnsupported, "several memories"},
		"threads":          {asm{memory: ops(3, 1, 1)}.build(), fuel.CodeUnsupported, "shared"},
		"tail call":        {one("", "", nil, ops(0x12, 0)).build(), fuel.CodeUnsupported, "0x12"},
		"atomic":           {one("", "", nil, ops(0xfe, 3, 0)).build(), fuel.CodeUnsupported, "0xfe"},
		"unknown function": {one("", "", nil, call(1)).build(), fuel.CodeMalformed, "unknown function 1"},
		"unknown global":   {one("", "", nil, seq(globalGet(0), ops(0x1a))).build(), fuel.CodeMalformed, "unknown global 0"},
		"unknown local":    {one("i", "", nil, seq(get(1), ops(0x1a))).build(), fuel.CodeMalformed, "unknown local 1"},
		"unknown label":    {one("", "", nil, ops(0x0c, 1)).build(), fuel.CodeMalformed, "unknown label 1"},
		"unknown type":     {one("", "", nil, ops(0x02, 5, 0x0b)).build(), fuel.CodeMalformed, "type of block"},
		"reserved export":  {asm{memory: pages1, exports: []exp{{"dynamo.fuel", 2, 0}}}.build(), fuel.CodeReserved, "dynamo.fuel"},
		"reserved import":  {asm{imports: []imp{{"dynamo_host", "yield", "", ""}}}.build(), fuel.CodeReserved, "host's own"},
		"export of none":   {asm{exports: []exp{{"f", 0, 0}}}.build(), fuel.CodeMalformed, "unknown function"},
		"imported memory":  {seq([]byte(header), sec(2, vec(seq(str("a"), str("b"), ops(2, 0, 1))))), fuel.CodeUnsupported, "only functions"},
		"no end":           {one("", "", nil, ops(0x02, 0x40)).build(), fuel.CodeMalformed, "unexpected end"},
		"code after end":   {one("", "", nil, ops(0x0b, 0x01)).build(), fuel.CodeMalformed, "after the end"},
		// A compiler reads the first as i16x8.shl and 17 instructions, the second as a nop and another.
		"long opcode":   {one("", "", nil, seq(ops(0xfd, 0x8c, 0), make([]byte, 16))).build(), fuel.CodeUnsupported, "unusual encoding"},
		"longer opcode": {one("", "", nil, ops(0xfd, 0xe4, 0x81, 0)).build(), fuel.CodeUnsupported, "unusual encoding"},
		"long number":   {one("", "", nil, ops(0x41, 0xff, 0xff, 0xff, 0xff, 0x4f, 0x1a)).build(), fuel.CodeMalformed, "32 bits"},
	} {
		_, err := fuel.Rewrite(c.module, fuel.Options{})
		var e *fuel.Error
		if !errors.As(err, &e) || e.Code != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: got %v, want %s ... %s", name, err, c.code, c.text)
		}
	}
	_, err := fuel.Rewrite(make([]byte, 100), fuel.Options{ModuleBytes: 99})
	if e, ok := errors.AsType[*fuel.Error](err); !ok || e.Code != fuel.CodeTooLarge {
		t.Errorf("got %v", err)
	}
}

// manyNaNs grows by a factor of ten.
func manyNaNs() asm {
	a := one("", "", nil, nil)
	for range 6 {
		a.f = append(a.f, fn{code: seq(f64bits(0), bytes.Repeat(ops(0x9f, 0x9a), 150_000), ops(0x1a))})
	}
	return a
}

func TestRestorable(t *testing.T) {
	for name, c := range map[string]struct {
		code []byte
		want bool
	}{
		"nothing":     {nil, true},
		"memory.init": {seq(i32(0), i32(0), i32(0), ops(0xfc, 8, 0, 0)), true},
		"data.drop":   {ops(0xfc, 9, 0), false},
		"table.set":   {seq(i32(0), ops(0xd0, 0x70, 0x26, 0)), false},
		"table.grow":  {seq(ops(0xd0, 0x70), i32(0), ops(0xfc, 15, 0, 0x1a)), false},
		"table.size":  {ops(0xfc, 16, 0, 0x1a), true},
		"table.fill":  {seq(i32(0), ops(0xd0, 0x70), i32(0), ops(0xfc, 17, 0)), false},
		"elem.drop":   {ops(0xfc, 13, 0), false},
		"table.init":  {seq(i32(0), i32(0), i32(0), ops(0xfc, 12, 0, 0)), false},
	} {
		a := one("", "", nil, c.code)
		a.tables, a.elements = [][]byte{{0x70, 0, 1}}, [][]byte{seq(ops(1, 0), vec())}
		a.dataCount, a.data = 1, [][]byte{seq(ops(1), str(""))}
		res := mustRewrite(t, a.build(), fuel.Options{})
		if res.Info.Restorable != c.want {
			t.Errorf("%s: %v", name, res.Info.Restorable)
		}
	}
	a := one("", "", nil, nil)
	a.globals = [][]byte{global('r', 1, ops(0xd0, 0x70))}
	if mustRewrite(t, a.build(), fuel.Options{}).Info.Restorable {
		t.Error("a reference cannot be restored")
	}
}

func TestMeter(t *testing.T) {
	if m := fuel.NewMeter(20, 30); m.First() != 20 || m.First() != 0 || m.Used(20) != 0 || m.Used(-3) != 20 {
		t.Error("the first grant is not what there is")
	}
	if m := fuel.NewMeter(100, 30); m.First() != 60 || m.First() != 40 {
		t.Error("the first grant is not two slices")
	}
	early := fuel.NewMeter(100, 30)
	if left, err := early.Charge(early.First(), 35); err != nil || left != 25 || early.Used(left) != 35 {
		t.Errorf("after a slice in advance: %d, %v", left, err)
	}
	m := fuel.NewMeter(100, 30)
	left, err := m.Yield(-5)
	if err != nil || left != 25 || m.Used(left) != 5 {
		t.Errorf("%d, %v, used %d", left, err, m.Used(left))
	}
	if left, err = m.Charge(left, 90); err != nil || m.Used(left) != 95 {
		t.Errorf("%d, %v, used %d", left, err, m.Used(left))
	}
	if left, err = m.Charge(left, 6); !errors.Is(err, fuel.ErrExhausted) || m.Used(left) != 100 {
		t.Errorf("%d, %v, used %d", left, err, m.Used(left))
	}
}

// FuzzRewrite: any bytes, no panic, memory and output in proportion; and the
// rewritten module is valid exactly if the original is.
func FuzzRewrite(f *testing.F) {
	for _, a := range attacks() {
		if b := a.build(); len(b) < 10_000 {
			f.Add(b)
		}
	}
	for seed := range uint64(4) {
		plain, _ := program(rand.New(rand.NewPCG(seed, 2)))
		f.Add(plain.build())
	}
	f.Add(everyIndex().build())
	f.Add(guest(f, "clang.wasm"))
	f.Add(script(f))
	f.Add(one("I", "ii", seq(leb(1), leb(2), ops(0x7c)), seq(f64bits(1), ops(0x9f), set(1), i32(1), i32(2), ops(0x0f))).build())
	f.Add(one("", "i", nil, seq(i32(1), ops(0x03, 0), ops(0x0b))).build())
	f.Fuzz(func(t *testing.T, module []byte) {
		o := fuel.Options{ModuleBytes: 64 << 10, MemoryPages: 16}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		res, err := fuel.Rewrite(module, o)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20+uint64(len(module))*2000 {
			t.Errorf("%d bytes for a module of %d", used, len(module))
		}
		if err != nil {
			if e, ok := errors.AsType[*fuel.Error](err); !ok || e.Offset > len(module) {
				t.Errorf("got %v", err)
			}
			return
		}
		again, err := fuel.Rewrite(module, o)
		if err != nil || !bytes.Equal(again.Module, res.Module) {
			t.Error("not deterministic")
		}
		if len(module) > 4<<10 || res.Info.CompileNs > 50e6 {
			return
		}
		m := newMachine(t, false, "")
		_, want := m.tryCompile(module)
		_, got := m.tryCompile(res.Module)
		if (want == nil) != (got == nil) {
			t.Errorf("before: %v\nafter: %v\n%x", want, got, res.Module)
		}
	})
}
