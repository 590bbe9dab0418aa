package resolver

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dynamo/resolver/frame"
	"dynamo/resolver/wasi"
)

func testLimits() Limits {
	l := DefaultLimits()
	l.Timeout = 300 * time.Millisecond
	return l
}

func newRuntime(t testing.TB, l Limits) *Runtime {
	t.Helper()
	return newCachedRuntime(t, l, "")
}

func newCachedRuntime(t testing.TB, l Limits, dir string) *Runtime {
	t.Helper()
	r, err := New(Options{Limits: l, Now: time.Now, Logger: slog.New(slog.DiscardHandler), CacheDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

func mustCompile(t testing.TB, r *Runtime, module []byte) *Module {
	t.Helper()
	m, err := r.Load(t.Context(), module, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func twoSiblings() Request {
	return Request{Keyspace: "ks", Key: []byte("k"), Siblings: []Sibling{
		{Value: []byte("a"), ContentType: "text/a", TimeMs: 7},
		{Value: []byte("b"), ContentType: "text/b", TimeMs: 5},
	}}
}

// loopingStart loops in the start section, before the host has called anything.
func loopingStart() asm {
	a := resolverModule(nil, trapOp, fn{code: forever})
	a.start = 2
	return a
}

// memoryGrowth grows until it is refused, then answers status 1.
func memoryGrowth() asm {
	grow := slices.Concat(i32(16), ops(opMemoryGrow, 0), i32(-1), ops(0x47, opBrIf, 0))
	deleted := frame.AppendResponse(nil, Response{Status: StatusDeleted})
	return resolverModule(deleted, slices.Concat(ops(opLoop, 0x40), grow, ops(opEnd), i64(16<<32|int64(len(deleted)))))
}

func TestMemoryIsBounded(t *testing.T) {
	l := testLimits()
	l.MemoryBytes = 8 << 20
	r := newRuntime(t, l)
	m := mustCompile(t, r, memoryGrowth().build())
	got, outcome, err := m.Merge(t.Context(), twoSiblings(), 100)
	if err != nil || got.Status != StatusDeleted {
		t.Fatalf("got %+v, %v", got, err)
	}
	if outcome.MemoryBytes > l.MemoryBytes || outcome.MemoryBytes < l.MemoryBytes/2 {
		t.Fatalf("grew to %d bytes, limit %d", outcome.MemoryBytes, l.MemoryBytes)
	}
	a := memoryGrowth()
	a.memory = slices.Concat([]byte{0}, leb(200))
	if _, err := r.Load(t.Context(), a.build(), nil); CodeOf(err) != CodeMemory {
		t.Errorf("200 pages of 128: got %v", err)
	}
	req := twoSiblings()
	req.Siblings[0].Value = make([]byte, 9<<20)
	if _, _, err := m.Merge(t.Context(), req, 100); CodeOf(err) != CodeMemory {
		t.Errorf("request above memory: got %v", err)
	}
}

func TestAnswers(t *testing.T) {
	value := frame.AppendResponse(nil, Response{Payload: []byte("0123456789")})
	alloc := func(at int64) asm {
		a := resolverModule(value, nil)
		a.f[0].code = i32(at)
		return a
	}
	result := func(at, n uint32) asm { return resolverModule(value, i64(int64(uint64(at)<<32|uint64(n)))) }
	answer := func(r Response) asm { return resolverModule(frame.AppendResponse(nil, r), nil) }
	r := newRuntime(t, testLimits())
	for _, c := range []struct {
		name   string
		module asm
		want   Code
		resp   Response
	}{
		{"value", answer(Response{ContentType: "x/y", Payload: []byte("v")}), "", Response{ContentType: "x/y", Payload: []byte("v")}},
		{"value of the newest type", answer(Response{Payload: []byte("v")}), "", Response{ContentType: "text/a", Payload: []byte("v")}},
		{"empty value", answer(Response{}), "", Response{ContentType: "text/a", Payload: []byte{}}},
		{"deleted", answer(Response{Status: StatusDeleted}), "", Response{Status: StatusDeleted}},
		{"keep", answer(Response{Status: StatusKeep}), CodeKeep, Response{Status: StatusKeep}},
		{"error", answer(Response{Status: StatusError, Payload: []byte("no")}), CodeGuestError, Response{Status: StatusError, Payload: []byte("no")}},
		{"select", answer(Response{Status: StatusSelect, Index: 1}), "", Response{Status: StatusSelect, Index: 1}},
		{"select beyond", answer(Response{Status: StatusSelect, Index: 2}), CodeInvalidOutput, Response{}},
		{"unknown status", answer(Response{Status: 9}), CodeInvalidOutput, Response{}},
		{"oversize", answer(Response{Payload: make([]byte, 101)}), CodeOversize, Response{}},
		{"alloc gives 2^32-1", alloc(-1), CodeInvalidOutput, Response{}},
		{"alloc gives the last byte", alloc(pageBytes - 1), CodeInvalidOutput, Response{}},
		{"alloc gives the end", alloc(pageBytes), CodeInvalidOutput, Response{}},
		{"result beyond memory", result(pageBytes-4, 22), CodeInvalidOutput, Response{}},
		{"result that wraps around", result(1<<32-4, 22), CodeInvalidOutput, Response{}},
		{"result of 4 GiB", result(16, 1<<32-1), CodeOversize, Response{}},
		{"empty result", result(16, 0), CodeInvalidOutput, Response{}},
	} {
		m := mustCompile(t, r, c.module.build())
		got, _, err := m.Merge(t.Context(), twoSiblings(), 100)
		if CodeOf(err) != c.want {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		if got.Status != c.resp.Status || got.ContentType != c.resp.ContentType ||
			!bytes.Equal(got.Payload, c.resp.Payload) || got.Index != c.resp.Index {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.resp)
		}
	}
}

func TestAncestorIsNoChoice(t *testing.T) {
	r := newRuntime(t, testLimits())
	m := mustCompile(t, r, resolverModule(frame.AppendResponse(nil, Response{Status: StatusSelect}), nil).build())
	req := twoSiblings()
	req.Siblings[0].Ancestor = true
	if _, _, err := m.Merge(t.Context(), req, 100); CodeOf(err) != CodeInvalidOutput {
		t.Errorf("got %v", err)
	}
}

// counter answers with status n%2 at its n-th call, which it counts in a global
// and in memory: anything but "value" means that state survived.
func counter() asm {
	count := slices.Concat(ops(opGlobalGet, 0), i32(1), ops(0x6a, 0x24, 0)) // global 0 += 1
	store := slices.Concat(i32(16), ops(opGlobalGet, 0), i32(16), ops(0x28, 2, 0, 0x6a), i32(1), ops(0x6b, 0x36, 2, 0))
	value := frame.AppendResponse(nil, Response{Payload: []byte("v")})
	a := resolverModule(value, slices.Concat(count, store, i64(16<<32|int64(len(value)))))
	a.globals = vec(slices.Concat([]byte{0x7f, 1}, i32(0), []byte{opEnd}))
	return a
}

func TestNothingSurvivesAMerge(t *testing.T) {
	r := newRuntime(t, testLimits())
	m := mustCompile(t, r, counter().build())
	for range 3 {
		if got, _, err := m.Merge(t.Context(), twoSiblings(), 100); err != nil || got.Status != StatusValue {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
}

func TestConcurrentMerges(t *testing.T) {
	r := newRuntime(t, DefaultLimits())
	m := mustCompile(t, r, counter().build())
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				if _, _, err := m.Merge(t.Context(), twoSiblings(), 100); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestFailuresLeaveNothing(t *testing.T) {
	l := testLimits()
	l.Timeout = 5 * time.Millisecond
	r := newRuntime(t, l)
	bad := []*Module{
		mustCompile(t, r, resolverModule(nil, trapOp).build()),
		mustCompile(t, r, resolverModule(nil, slices.Concat(forever, i64(0))).build()),
		mustCompile(t, r, loopingStart().build()),
	}
	rounds := func(n int) {
		for i := range n {
			if _, _, err := bad[i%len(bad)].Merge(t.Context(), twoSiblings(), 100); err == nil {
				t.Fatal("a bad module succeeded")
			}
		}
	}
	rounds(30)
	memory, goroutines := heapBytes(), runtime.NumGoroutine()
	rounds(300)
	deadline := time.Now().Add(5 * time.Second)
	for heapBytes() > memory+2<<20 || runtime.NumGoroutine() > goroutines {
		if time.Now().After(deadline) {
			t.Fatalf("heap %d -> %d bytes, goroutines %d -> %d", memory, heapBytes(), goroutines, runtime.NumGoroutine())
		}
		runtime.Gosched()
	}
}

func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestCallerGivesUp(t *testing.T) {
	r := newRuntime(t, DefaultLimits())
	m := mustCompile(t, r, resolverModule(nil, slices.Concat(forever, i64(0))).build())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, _, err := m.Merge(ctx, twoSiblings(), 100)
	if CodeOf(err) != CodeCanceled || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestClosed(t *testing.T) {
	r := newRuntime(t, testLimits())
	module := resolverModule(frame.AppendResponse(nil, Response{}), nil).build()
	one, two := mustCompile(t, r, module), mustCompile(t, r, module)
	for range 2 {
		if err := one.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := one.Merge(t.Context(), twoSiblings(), 100); CodeOf(err) != CodeClosed {
		t.Errorf("closed module: got %v", err)
	}
	if _, _, err := two.Merge(t.Context(), twoSiblings(), 100); err != nil {
		t.Errorf("a second copy was closed too: %v", err)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := two.Merge(t.Context(), twoSiblings(), 100); CodeOf(err) != CodeClosed {
		t.Errorf("closed runtime: got %v", err)
	}
	if _, err := r.Load(t.Context(), module, nil); CodeOf(err) != CodeClosed {
		t.Errorf("compile on a closed runtime: got %v", err)
	}
}

func TestLogIsShort(t *testing.T) {
	var out bytes.Buffer
	r, err := New(Options{Limits: testLimits(), Logger: slog.New(slog.NewTextHandler(&out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	a := resolverModule(nil, nil)
	a.imports = []imp{{"dynamo", "log", "ii", ""}}
	a.exports = []exp{{"memory", 2, 0}, {"dynamo_alloc", 0, 1}, {"dynamo_resolve_v1", 0, 2}}
	a.f[1].code = slices.Concat(i32(16), i32(60_000), call0(0), i32(-1), i32(9), call0(0), trapOp)
	a.data = vec(slices.Concat([]byte{0}, i32(16), []byte{opEnd}, str(strings.Repeat("x", 9000))))
	m := mustCompile(t, r, a.build())
	if _, _, err := m.Merge(t.Context(), twoSiblings(), 100); CodeOf(err) != CodeTrap {
		t.Errorf("got %v", err)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n := strings.Count(out.String(), "x"); n < wasi.MaxLogBytes-200 || n > wasi.MaxLogBytes+200 {
		t.Errorf("%d bytes logged", n)
	}
}
