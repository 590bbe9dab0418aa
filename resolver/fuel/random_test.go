package fuel_test

import (
	"math/rand/v2"
	"testing"

	"dynamo/resolver/fuel"
)

// author writes random functions that always end. Of each it writes two: one
// that counts, before each instruction, its price in global 0, and one that
// does not. The count is the judge of the fuel.
type author struct {
	*rand.Rand
	plain, counted []byte
	depth          int
	callees        []int // functions that may be called
	budget         int   // instructions still to be written
	loops          int   // locals in use as counters
}

// Locals of a random function: its parameter, which is also its state, and counters.
const (
	localState    = 0
	localCounters = 1
	maxLoops      = 3
)

// put writes an instruction that costs so much.
func (a *author) put(price int64, code ...[]byte) {
	if price > 0 {
		a.counted = append(a.counted, seq(globalGet(0), i64(price), ops(0x7c), globalSet(0))...)
	}
	for _, c := range code {
		a.plain, a.counted = append(a.plain, c...), append(a.counted, c...)
	}
	a.budget--
}

// step changes the state: x = x*1664525 + k.
func (a *author) step() {
	a.put(1, get(localState))
	a.put(1, i32(1664525))
	a.put(1, ops(0x6c))
	a.put(1, i32(int64(a.IntN(1000))))
	a.put(1, ops(0x6a))
	a.put(1, set(localState))
}

// store makes the state visible in memory.
func (a *author) store() {
	a.put(1, get(localState))
	a.put(1, i32(0xfff8))
	a.put(1, ops(0x71))
	a.put(1, get(localState))
	a.put(1, ops(0x36, 2, 0))
}

// bits pushes a few bits of the state.
func (a *author) bits(mask int64) {
	a.put(1, get(localState))
	a.put(1, i32(int64(a.IntN(24)+4)))
	a.put(1, ops(0x76))
	a.put(1, i32(mask))
	a.put(1, ops(0x71))
}

// body writes a few statements. Label 0 is a block that they may leave.
func (a *author) body() {
	for range 1 + a.IntN(5) {
		if a.budget < 0 || a.depth > 12 {
			break
		}
		switch a.IntN(13) {
		case 0, 1:
			a.step()
		case 2:
			for range a.IntN(20) {
				a.step()
			}
		case 3:
			a.store()
		case 4:
			a.nested(ops(0x02, 0x40), 0, nil)
		case 5:
			a.bits(1)
			a.nested(ops(0x04, 0x40), 1, nil)
		case 6:
			a.bits(1)
			a.nested(ops(0x04, 0x40), 1, a.body)
		case 7:
			a.loop()
		case 8:
			a.table()
		case 9:
			a.machine()
		case 10: // leave
			a.bits(3)
			a.put(1, ops(0x0d, 0))
		case 11:
			a.bits(7)
			a.put(1, ops(0x45)) // i32.eqz
			a.put(1, ops(0x04, 0x40))
			a.step()
			a.put(1, get(localState))
			a.put(1, ops(0x0f))
			a.put(0, ops(0x0b))
		case 12:
			if len(a.callees) > 0 && a.loops == 0 {
				a.put(1, get(localState))
				a.put(4, call(a.callees[a.IntN(len(a.callees))]))
				a.put(1, set(localState))
			}
		}
	}
}

func (a *author) nested(open []byte, price int64, otherwise func()) {
	a.put(price, open)
	a.depth++
	a.block(a.body)
	if otherwise != nil {
		a.put(0, ops(0x05))
		a.block(otherwise)
	}
	a.depth--
	a.put(0, ops(0x0b))
}

// block runs f between the bounds of a block of its own, so that label 0 is no loop.
func (a *author) block(f func()) {
	a.put(0, ops(0x02, 0x40))
	f()
	a.put(0, ops(0x0b))
}

// loop runs its body up to four times.
func (a *author) loop() {
	if a.loops >= maxLoops {
		return
	}
	counter := localCounters + a.loops
	a.loops++
	a.bits(3)
	a.put(1, set(counter))
	a.put(0, ops(0x03, 0x40))
	a.depth++
	a.block(a.body)
	a.put(1, get(counter))
	a.put(1, i32(-1))
	a.put(1, ops(0x6a))
	a.put(1, tee(counter))
	a.put(1, i32(0))
	a.put(1, ops(0x4a)) // gt_s
	a.put(1, ops(0x0d, 0))
	a.depth--
	a.put(0, ops(0x0b))
	a.loops--
}

// table is a switch whose arms fall through or leave.
func (a *author) table() {
	a.put(0, ops(0x02, 0x40, 0x02, 0x40, 0x02, 0x40, 0x02, 0x40))
	a.bits(3)
	a.put(2, ops(0x0e), vec(leb(0), leb(2), leb(1)), leb(0))
	a.put(0, ops(0x0b))
	a.depth += 4
	for range 3 {
		a.block(a.body)
		if a.IntN(2) == 0 {
			a.bits(1)
			a.put(1, ops(0x0d, 0))
		}
		a.put(0, ops(0x0b))
	}
	a.depth -= 4
}

// machine is a loop that goes from state to state, as Go's compiler writes
// functions: all jumps go through one br_table at the head.
func (a *author) machine() {
	if a.loops >= maxLoops {
		return
	}
	counter := localCounters + a.loops
	a.loops++
	a.put(1, i32(0))
	a.put(1, set(counter))
	a.put(0, ops(0x02, 0x40, 0x03, 0x40, 0x02, 0x40, 0x02, 0x40, 0x02, 0x40))
	a.put(1, get(counter))
	a.put(2, ops(0x0e), vec(leb(0), leb(1)), leb(2))
	a.put(0, ops(0x0b))
	a.depth += 5
	for i := range 3 {
		a.block(a.body)
		if i == 2 {
			a.put(1, ops(0x0c, 1)) // leave
			break
		}
		a.bits(1)
		a.put(1, ops(0x04, 0x40)) // jump ahead by way of the head
		a.put(1, i32(int64(i+1)))
		a.put(1, set(counter))
		a.put(1, ops(0x0c), leb(uint64(3-i)))
		a.put(0, ops(0x0b))
		a.put(0, ops(0x0b))
	}
	a.depth -= 5
	a.put(0, ops(0x0b, 0x0b))
	a.loops--
}

// program is a module with functions that call later ones.
func program(r *rand.Rand) (plain, counted asm) {
	const functions = 4
	plain, counted = one("i", "i", nil, nil), one("i", "i", nil, nil)
	plain.f, counted.f = nil, nil
	for i := range functions {
		a := author{Rand: r, budget: 300}
		for j := i + 1; j < functions; j++ {
			a.callees = append(a.callees, j)
		}
		for a.budget > 0 {
			a.block(a.body)
			a.step()
		}
		a.put(1, get(localState))
		locals := seq(leb(1), leb(maxLoops), ops(0x7f))
		plain.f = append(plain.f, fn{"i", "i", locals, a.plain})
		counted.f = append(counted.f, fn{"i", "i", locals, a.counted})
	}
	zero := [][]byte{global('I', 1, i64(0))}
	plain.globals, counted.globals = zero, zero
	counted.exports = append(counted.exports, exp{"count", 3, 0})
	return plain, counted
}

// TestFuelCoversWhatIsExecuted compares the fuel of random programs with a
// count of every single instruction: never less, and not much more.
func TestFuelCoversWhatIsExecuted(t *testing.T) {
	t.Parallel()
	var counts, units uint64
	for seed := range uint64(30) {
		plain, counted := program(rand.New(rand.NewPCG(seed, 1)))
		m := newMachine(t, false, "")
		res := mustRewrite(t, plain.build(), fuel.Options{})
		before, after := m.compile(counted.build()), m.compile(res.Module)
		for arg := range uint64(6) {
			a, b := m.mustInstantiate(before, 0, 0), m.mustInstantiate(after, plenty, 0)
			same(t, a, b, "f", arg*0x9e3779b9%(1<<32))
			count := a.ExportedGlobal("count").Get()
			if b.used() < count {
				t.Errorf("seed %d: %d units for %d instructions", seed, b.used(), count)
			}
			counts, units = counts+count, units+b.used()
		}
	}
	t.Logf("%d instructions, %d units: %.3f", counts, units, float64(units)/float64(counts))
	if units > counts*3/2 {
		t.Errorf("%d units for %d instructions", units, counts)
	}
}
