package resolver

import (
	"bytes"
	"context"
	"encoding/binary"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dynamo/resolver/frame"
	"dynamo/resolver/memory"
)

// What a hoarder is told to do by the first byte of its key. It changes its state in these ways and
// answers with all of it.
const (
	hoardGlobal = 1 << iota
	hoardMemory
	hoardGrow
	hoardTable
	hoardTrap
	hoardError
)

// hoarder hides state wherever a module can: in globals of all number types, in memory, in memory it grows, and, if
// tables is set, in a table. Its key tells which.
func hoarder(tables bool) asm {
	const (
		cell   = 512                      // counts in memory
		answer = 64                       // payload, at 12 after the frame's beginning
		key    = heap + 4 + 4 + 4 + 2 + 4 // after magic, flags, "ks" and a length
		size   = 5 * 4
	)
	wanted := func(bit int64, then ...[]byte) []byte {
		return slices.Concat(i32(key), ops(0x2d, 0, 0), i32(bit), ops(0x71, opIf, 0x40), slices.Concat(then...), ops(opEnd))
	}
	put := func(at int64, value ...byte) []byte {
		return slices.Concat(i32(answer+at), value, ops(0x36, 2, 0))
	}
	last := slices.Concat(ops(0x3f, 0), i32(16), ops(0x74), i32(1), ops(0x6b)) // memory.size << 16 - 1
	code := slices.Concat(
		wanted(hoardGlobal,
			ops(opGlobalGet, 0), i32(1), ops(0x6a, 0x24, 0),
			ops(opGlobalGet, 1), i64(1), ops(0x7c, 0x24, 1),
			ops(opGlobalGet, 2, opGlobalGet, 2, 0xa0, 0x24, 2)),
		wanted(hoardMemory, i32(cell), i32(cell), ops(0x28, 2, 0), i32(1), ops(0x6a, 0x36, 2, 0)),
		wanted(hoardGrow,
			i32(3), ops(opMemoryGrow, 0, 0x1a),
			// The grown byte counts too: it is seen if it was not zero.
			last, last, ops(0x2d, 0, 0), i32(1), ops(0x6a, 0x3a, 0, 0)),
		put(0, opGlobalGet, 0),
		put(4, slices.Concat(ops(opGlobalGet, 1, 0xa7), ops(opGlobalGet, 2, 0xaa, 0x6a))...),
		put(8, slices.Concat(i32(cell), ops(0x28, 2, 0))...),
		put(12, slices.Concat(ops(0x3f, 0), i32(8), ops(0x74), last, ops(0x2d, 0, 0, 0x6a))...),
	)
	if tables {
		code = slices.Concat(code,
			wanted(hoardTable, i32(0), ops(opRefFunc, 0, 0x26, 0)), // table.set
			put(16, slices.Concat(i32(0), ops(0x25, 0, 0xd1))...))  // table.get, ref.is_null
	}
	code = slices.Concat(code,
		wanted(hoardTrap, trapOp),
		wanted(hoardError, i32(answer-12), i32(int64(StatusError)), ops(0x36, 2, 0)),
		i64((answer-12)<<32|(12+size)))
	a := resolverModule(nil, code)
	a.globals = vec(
		slices.Concat(ops(0x7f, 1), i32(5), ops(opEnd)), slices.Concat(ops(0x7e, 1), i64(1<<40), ops(opEnd)),
		slices.Concat(ops(0x7c, 1, opF64Const, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, opEnd)), slices.Concat(ops(0x7f, 0), i32(5), ops(opEnd)))
	a.tables = [][]byte{{0x70, 0, 1}}
	if tables { // ref.func 0 must be declared somewhere
		a.elements = vec(slices.Concat(ops(3, 0), vec(leb(0))))
	}
	head := binary.LittleEndian.AppendUint32(make([]byte, 8), size)
	a.data = vec(slices.Concat([]byte{0}, i32(answer-12), []byte{opEnd}, str(string(head))))
	return a
}

type merged struct {
	resp   Response
	code   Code
	memory uint64
}

func mergeKey(m *Module, key byte) merged {
	req := twoSiblings()
	req.Key = []byte{key}
	resp, outcome, err := m.Merge(context.Background(), req, 100)
	return merged{resp, CodeOf(err), outcome.MemoryBytes}
}

// TestHistoryIsForgotten merges any sequence on instances that are used again and finds what new instances
// give, byte for byte.
func TestHistoryIsForgotten(t *testing.T) {
	for _, tables := range []bool{false, true} {
		r := newRuntime(t, DefaultLimits())
		again, fresh := mustCompile(t, r, hoarder(tables).build()), mustCompile(t, r, hoarder(tables).build())
		if again.restorable == tables {
			t.Fatalf("tables %v: restorable %v", tables, again.restorable)
		}
		fresh.restorable = false // every merge boots an instance of its own
		distinct := map[string]bool{}
		rapid.Check(t, func(t *rapid.T) {
			for _, key := range rapid.SliceOfN(rapid.ByteRange(0, 63), 1, 20).Draw(t, "keys") {
				got, want := mergeKey(again, key), mergeKey(fresh, key)
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("key %b: got %+v, want %+v", key, got, want)
				}
				distinct[string(want.resp.Payload)] = true
			}
		})
		if least := map[bool]int{false: 8, true: 16}[tables]; len(distinct) < least {
			t.Errorf("tables %v: only %d different answers: the guest hides nothing", tables, len(distinct))
		}
		mergeKey(again, 0) // the last one may have trapped
		if n, _ := r.Idle(); (n == 0) != tables {
			t.Errorf("tables %v: %d idle instances", tables, n)
		}
	}
}

// TestWhatCannotBeRestored: such a module gets an instance of its own for each merge.
func TestWhatCannotBeRestored(t *testing.T) {
	null := ops(opRefNull, 0x70)
	three := slices.Concat(i32(0), i32(0), i32(0))
	for name, c := range map[string]struct {
		code []byte
		want bool
	}{
		"memory.fill": {slices.Concat(three, ops(0xfc, 11, 0)), true},
		"memory.copy": {slices.Concat(three, ops(0xfc, 10, 0, 0)), true},
		"table.get":   {slices.Concat(i32(0), ops(0x25, 0, 0x1a)), true},
		"table.size":  {ops(0xfc, 16, 0, 0x1a), true},
		"table.set":   {slices.Concat(i32(0), null, ops(0x26, 0)), false},
		"elem.drop":   {ops(0xfc, 13, 0), false},
		"table.init":  {slices.Concat(three, ops(0xfc, 12, 0, 0)), false},
		"table.copy":  {slices.Concat(three, ops(0xfc, 14, 0, 0)), false},
		"table.grow":  {slices.Concat(null, i32(0), ops(0xfc, 15, 0, 0x1a)), false},
		"table.fill":  {slices.Concat(i32(0), null, i32(0), ops(0xfc, 17, 0)), false},
		"data.drop":   {ops(0xfc, 9, 0), false},
	} {
		r := newRuntime(t, DefaultLimits())
		a := resolverModule(frame.AppendResponse(nil, Response{}), slices.Concat(c.code, i64(16<<32|12)))
		a.tables = [][]byte{{0x70, 0, 1}}
		a.elements = vec(slices.Concat(ops(1, 0), vec(leb(0)))) // passive
		if name == "data.drop" {
			a.dataCount = leb(1)
		}
		m := mustCompile(t, r, a.build())
		if got := mergeKey(m, 0); got.code != "" {
			t.Errorf("%s: %+v", name, got)
		}
		if n, _ := r.Idle(); m.restorable != c.want || (n == 1) != c.want {
			t.Errorf("%s: restorable %v, %d idle", name, m.restorable, n)
		}
	}
	for name, global := range map[string][]byte{
		"vector":    slices.Concat(ops(0x7b, 1, opPrefixFD, opV128Const), make([]byte, 16), ops(opEnd)),
		"reference": ops(0x70, 1, opRefNull, 0x70, opEnd),
	} {
		a := resolverModule(frame.AppendResponse(nil, Response{}), nil)
		a.globals = vec(global)
		if m := mustCompile(t, newRuntime(t, DefaultLimits()), a.build()); m.restorable || mergeKey(m, 0).code != "" {
			t.Errorf("a global %s is restorable", name)
		}
	}
}

func TestConcurrentHistories(t *testing.T) {
	r := newRuntime(t, DefaultLimits())
	m := mustCompile(t, r, hoarder(false).build())
	want := map[byte]merged{}
	for key := range byte(64) {
		want[key] = mergeKey(m, key)
	}
	var wg sync.WaitGroup
	for g := range byte(8) {
		wg.Go(func() {
			for i := range byte(100) {
				key := (i*7 + g*11) % 64
				if got := mergeKey(m, key); !reflect.DeepEqual(got, want[key]) {
					t.Errorf("key %b: got %+v, want %+v", key, got, want[key])
				}
			}
		})
	}
	wg.Wait()
}

// TestGivingUpSpoilsNothing lets callers go at any moment: the engine then closes the instance, and it must not be
// one that another merge has taken over.
func TestGivingUpSpoilsNothing(t *testing.T) {
	r := newRuntime(t, DefaultLimits())
	m := mustCompile(t, r, hoarder(false).build())
	want := mergeKey(m, hoardGlobal)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 200 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i%40)*time.Microsecond)
				req := twoSiblings()
				req.Key = []byte{hoardMemory}
				if _, _, err := m.Merge(ctx, req, 100); err != nil && CodeOf(err) != CodeCanceled {
					t.Error(err)
				}
				cancel()
				if got := mergeKey(m, hoardGlobal); !reflect.DeepEqual(got, want) {
					t.Errorf("got %+v, want %+v", got, want)
				}
			}
		})
	}
	wg.Wait()
}

func TestGrownMemoryIsGivenBack(t *testing.T) {
	grow := func(pages int64) asm {
		return resolverModule(frame.AppendResponse(nil, Response{Status: StatusDeleted}),
			slices.Concat(i32(pages), ops(opMemoryGrow, 0, 0x1a), i64(16<<32|12)))
	}
	r := newRuntime(t, DefaultLimits())
	for _, c := range []struct {
		name string
		a    asm
		idle int
		most uint64
	}{
		{"a little", grow(2), 1, memory.MaxSpareBytes},
		{"much", grow(500), 1, 2 * pageBytes},
		{"to the limit", grow(1023), 0, 0},
	} {
		m := mustCompile(t, r, c.a.build())
		for range 3 {
			if _, o, err := m.Merge(t.Context(), twoSiblings(), 100); err != nil || o.MemoryBytes <= pageBytes {
				t.Fatalf("%s: %+v, %v", c.name, o, err)
			}
		}
		if n, b := r.Idle(); n != c.idle || b > c.most {
			t.Errorf("%s: %d instances of %d bytes", c.name, n, b)
		}
		if err := m.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if n, b := r.Idle(); n != 0 || b != 0 {
			t.Errorf("%s: %d instances of %d bytes after closing", c.name, n, b)
		}
	}
}

func TestIdleInstancesAreBounded(t *testing.T) {
	one := newRuntime(t, DefaultLimits())
	mergeKey(mustCompile(t, one, hoarder(false).build()), 0)
	_, size := one.Idle()
	if size < instanceBytes {
		t.Fatalf("an instance counts %d bytes", size)
	}
	most := 3*size + size/2
	r, err := New(Options{IdleBytes: most, IdleTime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		m := mustCompile(t, r, hoarder(false).build())
		mergeKey(m, 0)
		if n, b := r.Idle(); n != min(i+1, 3) || b > most {
			t.Errorf("after %d modules: %d idle, %d bytes", i+1, n, b)
		}
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if n, b := r.Idle(); n != 0 || b != 0 {
		t.Errorf("%d instances of %d bytes after closing", n, b)
	}
}

func TestIdleInstancesGoInTime(t *testing.T) {
	r, err := New(Options{IdleTime: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	m := mustCompile(t, r, hoarder(false).build())
	for range 2 {
		want := mergeKey(m, hoardMemory)
		waitFor(t, "no idle instance", func() bool { n, _ := r.Idle(); return n == 0 })
		if got := mergeKey(m, hoardMemory); !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func waitFor(t *testing.T, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !met(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 5 s", what)
		}
	}
}

// TestSwapsLeakNothing loads, uses and closes many versions, as keyspaces do that change their resolver.
func TestSwapsLeakNothing(t *testing.T) {
	r := newRuntime(t, DefaultLimits())
	swap := func(n int) {
		for i := range n {
			a := hoarder(i%2 == 0)
			a.exports = append(a.exports, exp{"version", 0, 0})
			m := mustCompile(t, r, a.build())
			mergeKey(m, hoardGrow)
			mergeKey(m, hoardTrap)
			mergeKey(m, 0)
			if err := m.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	swap(10)
	heap0, goroutines, mappings := heapBytes(), runtime.NumGoroutine(), executableMappings(t)
	swap(100)
	// The engine gives machine code back when the garbage collector has found it, which heapBytes runs.
	waitFor(t, "heap, goroutines and pieces of machine code are as before", func() bool {
		return heapBytes() < heap0+1<<20 && runtime.NumGoroutine() <= goroutines && executableMappings(t) <= mappings+2
	})
}

func TestClosedModuleOfARunningMerge(t *testing.T) {
	r := newRuntime(t, DefaultLimits())
	var wg sync.WaitGroup
	for range 10 {
		m := mustCompile(t, r, hoarder(false).build())
		for range 4 {
			wg.Go(func() {
				for range 20 {
					if got := mergeKey(m, 0); got.code != "" && got.code != CodeClosed {
						t.Errorf("%+v", got)
					}
				}
			})
		}
		if err := m.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if n, b := r.Idle(); n != 0 || b != 0 {
		t.Errorf("%d instances of %d bytes", n, b)
	}
}

// configurable answers with the first four bytes of its configuration, which it refuses if they are zero, after
// counting in them how often it was configured.
func configurable() asm {
	const at = 52
	a := resolverModule(nil, i64(at<<32|(12+4)),
		fn{params: "ii", results: "i", code: slices.Concat(
			i32(at+12), i32(at+12), ops(0x28, 2, 0, 0x20, 0, 0x28, 2, 0, 0x6a, 0x36, 2, 0),
			ops(0x20, 0, 0x28, 2, 0, 0x45))})
	a.exports = append(a.exports, exp{exportConfigure, 0, 2})
	head := binary.LittleEndian.AppendUint32(make([]byte, 8), 4)
	a.data = vec(slices.Concat([]byte{0}, i32(at), []byte{opEnd}, str(string(head))))
	return a
}

func TestConfiguration(t *testing.T) {
	r := newRuntime(t, DefaultLimits())
	module := configurable().build()
	for _, config := range []string{"abcd", "wxyz", ""} {
		m, err := r.Load(t.Context(), module, []byte(config))
		if err != nil {
			t.Fatal(err)
		}
		if m.SHA256() != Identity(module, []byte(config)) {
			t.Error("another identity")
		}
		want := append([]byte(config), make([]byte, 4-len(config))...)
		for range 3 {
			if got := mergeKey(m, 0); got.code != "" || !bytes.Equal(got.resp.Payload, want) {
				t.Errorf("configured with %q: %+v", config, got)
			}
		}
	}
	for _, c := range []struct {
		module []byte
		config string
		want   Code
	}{
		{module, "\x00\x00\x00\x00", CodeConfig},
		{hoarder(false).build(), "abcd", CodeMissingExport},
		{printing("{}").build(), "abcd", CodeMissingExport},
		{module, string(make([]byte, 17<<20)), CodeTooLarge},
		{module, string(make([]byte, 1<<20)), CodeInvalidOutput}, // the module gives no room for it
	} {
		if _, err := r.Load(t.Context(), c.module, []byte(c.config)); CodeOf(err) != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}
