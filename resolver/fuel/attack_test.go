package fuel_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"dynamo/resolver/fuel"
)

// exponential is a chain of functions that each call the next one twice: 2^40
// calls and not a single loop.
func exponential() asm {
	a := one("", "", nil, call(1))
	for i := range 40 {
		a.f = append(a.f, fn{code: seq(call(i+2), call(i+2))})
	}
	return a.with(fn{})
}

// exponentialIndirect does so through a table.
func exponentialIndirect() asm {
	a := one("", "", nil, call(1))
	a.tables = [][]byte{{0x70, 0, 50}}
	list := [][]byte{}
	for i := range 41 {
		list = append(list, leb(uint64(i+1)))
		if i == 40 {
			break
		}
		next := seq(i32(int64(i+1)), ops(0x11), leb(0), ops(0))
		a.f = append(a.f, fn{code: seq(next, next)})
	}
	a.elements = [][]byte{seq(ops(0), i32(0), ops(0x0b), vec(list...))}
	return a.with(fn{code: repeat(smallNops, ops(0x01))})
}

const smallNops = 10

func endless(body ...[]byte) asm {
	a := one("", "", nil, loop(seq(body...), ops(0x0c, 0)))
	a.memory = seq([]byte{0}, leb(1024))
	a.tables = [][]byte{{0x70, 0, 100}}
	return a
}

func attacks() map[string]asm {
	fill := seq(i32(0), i32(0), i32(64<<20), ops(0xfc, 11, 0))
	straightFills := one("", "", nil, repeat(1000, fill))
	straightFills.memory = seq([]byte{0}, leb(1024))
	calls := one("", "", nil, loop(repeat(60_000, call(1)), ops(0x0c, 0))).with(fn{code: repeat(8, seq(i32(1), ops(0x1a)))})
	table := endless(i32(0), i32(16), ops(0x70), seq(ops(0x0e), vec(leb(0), leb(1)), leb(0)))
	table.f[0].code = block(loop(block(block(i32(1), ops(0x0e), vec(leb(0), leb(1)), leb(0)), ops(0x0c, 1)), ops(0x0c, 0)))
	return map[string]asm{
		"endless loop":         endless(),
		"exponential calls":    exponential(),
		"indirect calls":       exponentialIndirect(),
		"endless dispatch":     table,
		"memory.fill in loop":  endless(fill),
		"memory.copy in loop":  endless(i32(0), i32(32<<20), i32(32<<20), ops(0xfc, 10, 0, 0)),
		"memory.fill in line":  straightFills,
		"memory.grow in loop":  endless(i32(0), ops(0x40, 0, 0x1a)),
		"memory.grow too much": endless(i32(-1), ops(0x40, 0, 0x1a)),
		"table.fill in loop":   endless(i32(0), ops(0xd0, 0x70), i32(100), ops(0xfc, 17, 0)),
		"table.grow in loop":   endless(ops(0xd0, 0x70), i32(1), ops(0xfc, 15, 0, 0x1a)),
		"table.copy in loop":   endless(i32(0), i32(1), i32(99), ops(0xfc, 14, 0, 0)),
		"calls in line":        calls,
		"loop in start":        {f: []fn{{}, {code: forever}}, start: 1, exports: []exp{{"f", 0, 0}}},
	}
}

// TestAttacksRunOutOfFuel bounds what a unit can cost in time.
func TestAttacksRunOutOfFuel(t *testing.T) {
	const units = 20_000_000
	m := newMachine(t, false, "")
	for name, a := range attacks() {
		t.Run(name, func(t *testing.T) {
			res := mustRewrite(t, a.build(), fuel.Options{})
			compiled := m.compile(res.Module)
			start := time.Now()
			r, err := m.instantiate(compiled, units, 0)
			if err == nil {
				_, err = r.call("f")
			}
			took := time.Since(start)
			if !errors.Is(err, fuel.ErrExhausted) {
				t.Fatalf("got %v", err)
			}
			t.Logf("%v, %.2f ns each", took, float64(took.Nanoseconds())/units)
			if limit := slow * 300 * time.Millisecond; took > limit {
				t.Errorf("%d units took %v, more than %v", units, took, limit)
			}
		})
	}
}

func TestDepthIsBounded(t *testing.T) {
	m := newMachine(t, false, "")
	// Values that live across the call make the frame large.
	wide := []byte{}
	for i := range 3000 {
		wide = append(wide, seq(get(0), i64(int64(i)), ops(0x7c))...)
	}
	wide = seq(wide, get(0), call(0), repeat(3000, ops(0x85)))
	many := []byte{}
	for i := range 9000 {
		many = append(many, seq(get(0), i64(int64(i)), ops(0x7c), set(i+1))...)
	}
	many = append(many, seq(get(0), call(0))...)
	for i := range 9000 {
		many = append(many, seq(get(i+1), ops(0x85))...)
	}
	vectors := []byte{}
	for i := range 3000 {
		vectors = append(vectors, seq(get(0), i64(int64(i)), ops(0x7c, 0xfd, 0x12))...)
	}
	vectors = seq(vectors, get(0), call(0), ops(0xfd, 0x12), repeat(3000, ops(0xfd, 0x51)), ops(0xfd, 0x1d, 0))
	for _, c := range []struct {
		name string
		a    asm
	}{
		{"small", one("I", "I", nil, seq(get(0), call(0)))},
		{"mutual", one("I", "I", nil, seq(get(0), call(1))).with(fn{"I", "I", nil, seq(get(0), call(0))})},
		{"wide", one("I", "I", nil, wide)},
		{"locals", one("I", "I", seq(leb(1), leb(9000), ops(0x7e)), many)},
		{"vectors", one("I", "I", nil, vectors)},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, depth := range []int{0, 1 << 30} {
				res := mustRewrite(t, c.a.build(), fuel.Options{Depth: depth})
				r := m.mustInstantiate(m.compile(res.Module), plenty, 0)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				_, err := r.call("f", 1)
				runtime.ReadMemStats(&after)
				if !errors.Is(err, errDeep) || strings.Contains(err.Error(), "overflow") {
					t.Errorf("got %.200v", err)
				}
				t.Logf("depth %d: %d KB allocated", depth, (after.TotalAlloc-before.TotalAlloc)>>10)
				if grown := after.TotalAlloc - before.TotalAlloc; depth == 0 && grown > 100<<20 {
					t.Errorf("the stack took %d MB", grown>>20)
				}
			}
		})
	}
}
