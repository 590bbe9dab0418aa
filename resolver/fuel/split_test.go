package fuel_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"dynamo/resolver/fuel"
)

// long exports fill and copy, each alone and at the end of a loop without calls, in which fuel is kept in a local.
func long(pages uint64) asm {
	args := seq(get(0), get(1), get(2))
	fill, copies := ops(0xfc, 11, 0), ops(0xfc, 10, 0, 0)
	looped := func(work []byte) []byte {
		return loop(args, work, get(3), i32(1), ops(0x6a), tee(3), i32(3), ops(0x49, 0x0d, 0))
	}
	a := asm{f: []fn{
		{"iii", "", nil, seq(args, fill)},
		{"iii", "", nil, seq(args, copies)},
		{"iii", "", seq(leb(1), leb(1), ops(0x7f)), looped(fill)},
	}}
	a.exports = []exp{{"memory", 2, 0}, {"fill", 0, 0}, {"copy", 0, 1}, {"fill3", 0, 2}}
	a.memory = seq([]byte{0}, leb(pages))
	return a
}

// TestLongWorkIsDoneInPieces, which have the effect of the whole, whichever way they overlap.
func TestLongWorkIsDoneInPieces(t *testing.T) {
	const pages, size = 80, 80 << 16
	m := newMachine(t, false, "")
	r := m.mustInstantiate(m.compile(mustRewrite(t, long(pages).build(), fuel.Options{}).Module), plenty, 0)
	rng := rand.New(rand.NewPCG(1, 2))
	memory, _ := r.Memory().Read(0, size)
	for i := range memory {
		memory[i] = byte(rng.Uint32())
	}
	want := bytes.Clone(memory)
	const piece = 1 << 20
	sizes := []int{0, 1, piece - 1, piece, piece + 1, 2 * piece, 2*piece + 7, 3 * piece, 4*piece - 1}
	for i := range 60 {
		n := sizes[i%len(sizes)]
		if i >= 3*len(sizes) {
			n = rng.IntN(size)
		}
		to, from := rng.IntN(size-n+1), rng.IntN(size-n+1)
		switch i % 4 {
		case 1: // close by
			from = min(to+1, size-n)
		case 2:
			from = max(to-1, 0)
		}
		name, value := "copy", uint64(from)
		if i%5 == 4 {
			name, value = "fill", uint64(i)
			copy(want[to:], bytes.Repeat([]byte{byte(i)}, n))
		} else {
			copy(want[to:to+n], want[from:from+n])
		}
		before := r.used()
		if _, err := r.call(name, uint64(to), value, uint64(n)); err != nil {
			t.Fatal(err)
		}
		if used, least := r.used()-before, uint64(n/16); used < least || used > least+100 {
			t.Errorf("%s of %d bytes used %d units", name, n, used)
		}
		if !bytes.Equal(memory, want) {
			t.Fatalf("%s of %d bytes from %d to %d gives something else", name, n, from, to)
		}
	}
	before := r.used()
	if _, err := r.call("fill3", 0, 7, 2*piece); err != nil {
		t.Fatal(err)
	}
	if used := r.used() - before; used < 3*2*piece/16 || used > 3*2*piece/16+200 {
		t.Errorf("three fills of 2 MiB used %d units", used)
	}
}

// TestLongWorkTraps where the whole would.
func TestLongWorkTraps(t *testing.T) {
	const pages, size = 48, 48 << 16
	const piece, end = 1 << 20, 1 << 32
	m := newMachine(t, false, "")
	c := m.compile(mustRewrite(t, long(pages).build(), fuel.Options{}).Module)
	for _, args := range [][3]uint64{
		{0, 0, size + 1},
		{1, 0, size},
		{0, 1, size},
		{size - piece, 0, piece + 1},
		{0, size - piece, piece + 1},
		{size + 1, 0, 2 * piece},
		{0, size + 1, 2 * piece},
		{end - piece, 0, 2 * piece},
		{0, end - piece, 2 * piece},
		{end - 2*piece, 0, 3 * piece},
		{end - 1, 0, 2*piece + 1},
		{end - piece, end - piece, 2 * piece},
		{end - piece - 5, end - 2*piece, 3 * piece},
		{0, 0, end - 1},
		{end - 1, end - 1, end - 1},
		{size - 1, 0, end - 1},
	} {
		for _, name := range []string{"fill", "copy"} {
			if name == "fill" && args[0]+args[2] <= size {
				continue
			}
			t.Run(fmt.Sprint(name, args), func(t *testing.T) {
				r := m.mustInstantiate(c, plenty, 0)
				if _, err := r.call(name, args[0], args[1], args[2]); err == nil || !strings.Contains(err.Error(), "out of bounds") {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}
