package resolver

import (
	"slices"
	"testing"

	"dynamo/resolver/frame"
)

// TestFuelIsAFunctionOfTheRequest, in new instances and in used ones, after failures too, and so is where it ends.
func TestFuelIsAFunctionOfTheRequest(t *testing.T) {
	deleted := frame.AppendResponse(nil, Response{Status: StatusDeleted})
	// One level of calls for each byte of the request.
	deep := slices.Concat(ops(0x20, 1), call0(2), i64(16<<32|int64(len(deleted))))
	down := slices.Concat(ops(0x20, 0, opIf, 0x40, 0x20, 0), i32(1), ops(0x6b), call0(2), ops(opEnd))
	module := resolverModule(deleted, deep, fn{params: "i", code: down}).build()
	l := testLimits()
	m := mustCompile(t, newRuntime(t, l), module)
	short, long := twoSiblings(), twoSiblings()
	long.Siblings[0].Value = make([]byte, 300)
	used := func(m *Module, req Request) uint64 {
		t.Helper()
		_, out, err := m.Merge(t.Context(), req, 100)
		if err != nil {
			t.Fatal(err)
		}
		return out.Fuel
	}
	first, more := used(m, short), used(m, long)
	if first == 0 || more <= first {
		t.Fatalf("fuel %d and %d", first, more)
	}
	tooDeep := twoSiblings()
	tooDeep.Siblings[0].Value = make([]byte, 2000)
	for range 3 {
		if _, _, err := m.Merge(t.Context(), tooDeep, 100); CodeOf(err) != CodeStack {
			t.Fatalf("got %v", err)
		}
		if a, b := used(m, short), used(m, long); a != first || b != more {
			t.Errorf("fuel %d and %d, before %d and %d", a, b, first, more)
		}
	}
	l.Fuel = more
	if got := used(mustCompile(t, newRuntime(t, l), module), long); got != more {
		t.Errorf("fuel %d with just enough, %d with plenty", got, more)
	}
	l.Fuel = more - 1
	_, out, err := mustCompile(t, newRuntime(t, l), module).Merge(t.Context(), long, 100)
	if CodeOf(err) != CodeFuel || out.Fuel != l.Fuel {
		t.Errorf("with one unit too little: used %d of %d, %v", out.Fuel, l.Fuel, err)
	}
}

// TestHostWorkIsPaidFor by its size.
func TestHostWorkIsPaidFor(t *testing.T) {
	fuelOf := func(bytes int64) uint64 {
		deleted := frame.AppendResponse(nil, Response{Status: StatusDeleted})
		a := resolverModule(deleted, nil)
		a.imports = []imp{{"wasi_snapshot_preview1", "random_get", "ii", "i"}}
		a.exports = []exp{{"memory", 2, 0}, {"dynamo_alloc", 0, 1}, {"dynamo_resolve_v1", 0, 2}}
		a.f[1].code = slices.Concat(i32(4096), i32(bytes), call0(0), ops(0x1a), i64(16<<32|int64(len(deleted))))
		_, out, err := mustCompile(t, newRuntime(t, testLimits()), a.build()).Merge(t.Context(), twoSiblings(), 100)
		if err != nil {
			t.Fatal(err)
		}
		return out.Fuel
	}
	if few, many := fuelOf(0), fuelOf(50_000); many-few != 50_000/bytesPerUnit {
		t.Errorf("fuel %d for nothing, %d for 50000 bytes", few, many)
	}
}

// TestOtherInstrumentationIsAnotherEntry: what was compiled, or failed to, counts only for the code as it is rewritten now.
func TestOtherInstrumentationIsAnotherEntry(t *testing.T) {
	old := appendEntry(nil, "a/b", []byte("code"))
	old[0]--
	if _, _, err := decodeEntry(old); err == nil {
		t.Error("an entry of an engine that is configured otherwise is used")
	}
	module := resolverModule(nil, slices.Concat(call0(2), i64(0)), fn{code: call0(2)}).build()
	names, failed := map[string]bool{}, map[[32]byte]bool{}
	for _, change := range []func(*Limits){func(*Limits) {}, func(l *Limits) { l.CallDepth = 7 }, func(l *Limits) { l.MemoryBytes /= 2 }} {
		l := DefaultLimits()
		change(&l)
		p, err := inspect(module, l)
		if err != nil {
			t.Fatal(err)
		}
		names[entryName(p.code, l.pages())] = true
		failed[newRuntime(t, l).failedKey(p.info.SHA256)] = true
	}
	if len(names) != 3 || len(failed) != 3 {
		t.Errorf("three sets of limits give %d entries and %d verdicts", len(names), len(failed))
	}
}
