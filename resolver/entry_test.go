package resolver

import (
	"slices"
	"testing"

	"dynamo/resolver/frame"
)

// TestStacks demands that the engine's stacks are kept for the next merge, but not those that deep calls have made
// large, and that they count as memory. It fails when another version of the engine keeps them elsewhere.
func TestStacks(t *testing.T) {
	deleted := frame.AppendResponse(nil, Response{Status: StatusDeleted})
	// One level of calls for each byte of the request.
	deep := slices.Concat(ops(0x20, 1), call0(2), i64(16<<32|int64(len(deleted))))
	down := slices.Concat(ops(0x20, 0, opIf, 0x40, 0x20, 0), i32(1), ops(0x6b), call0(2), ops(opEnd))
	l := DefaultLimits()
	l.CallDepth = maxCallDepth
	m := mustCompile(t, newRuntime(t, l), resolverModule(deleted, deep, fn{params: "i", code: down}).build())
	merge := func(bytes int) *instance {
		t.Helper()
		req := twoSiblings()
		req.Siblings[0].Value = make([]byte, bytes)
		if _, _, err := m.Merge(t.Context(), req, 100); err != nil {
			t.Fatal(err)
		}
		return m.idle.list[0]
	}
	in := merge(1)
	kept := in.main.call
	if kept == nil || in.main.bytes() < 1<<10 || in.alloc.bytes() < 1<<10 {
		t.Fatalf("stacks of %d and %d bytes", in.alloc.bytes(), in.main.bytes())
	}
	if in.bytes() < instanceBytes+uint64(in.main.bytes()+in.alloc.bytes()) {
		t.Errorf("%d bytes do not count the stacks", in.bytes())
	}
	if in = merge(200); in.main.call != kept || in.main.bytes() <= 10<<10 {
		t.Errorf("the stack was not used again, or has not grown: %d bytes", in.main.bytes())
	}
	if in = merge(3500); in.main.call != nil || in.main.bytes() != 0 || in.alloc.call == nil {
		t.Errorf("a stack of %d bytes is kept", in.main.bytes())
	}
	if in = merge(1); in.main.call == nil || in.main.call == kept {
		t.Error("there is no new stack")
	}
}
