package memory

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"testing"

	"pgregory.net/rapid"
)

// memories are mostly zero, with some pages written, of a size that need not be whole pages.
func memories(t *rapid.T) []byte {
	b := make([]byte, rapid.IntRange(0, 9*pageBytes).Draw(t, "size"))
	scribble(t, b)
	return b
}

func scribble(t *rapid.T, b []byte) {
	if len(b) == 0 {
		return
	}
	for range rapid.IntRange(0, 6).Draw(t, "writes") {
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		n := rapid.SampledFrom([]int{1, 100, pageBytes, 2 * pageBytes}).Draw(t, "n")
		v := rapid.Byte().Draw(t, "v")
		for i := at; i < min(at+n, len(b)); i++ {
			b[i] = v
		}
	}
}

func TestRestore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		memory := memories(t)
		want := bytes.Clone(memory)
		s := take(memory, extent(memory), 0)
		if s.Size() != len(want) || s.Bytes() > len(want) {
			t.Fatalf("size %d, kept %d of %d bytes", s.Size(), s.Bytes(), len(want))
		}
		more := rapid.SampledFrom([]int{0, 1, 3 * pageBytes}).Draw(t, "more")
		memory = append(memory, make([]byte, more)...)
		for range 3 {
			scribble(t, memory)
			s.restore(memory)
			if !bytes.Equal(memory[:len(want)], want) || !bytes.Equal(memory[len(want):], make([]byte, more)) {
				t.Fatal("restored to something else")
			}
		}
	})
}

// engine does with a Linear what wazero does.
type engine struct {
	l    *Linear
	most uint32 // pages
	b    []byte
}

func (e *engine) Size() uint32 { return uint32(len(e.b)) }

func (e *engine) Grow(pages uint32) (uint32, bool) {
	before := e.Size() / wasmPageBytes
	if before+pages > e.most {
		return 0, false
	}
	b := e.l.Reallocate(uint64(before+pages) * wasmPageBytes)
	if b == nil {
		return 0, false
	}
	e.b = b
	return before, true
}

func TestLinear(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		least := rapid.Uint32Range(0, 3).Draw(t, "least")
		most := least + rapid.Uint32Range(1, 100).Draw(t, "more")
		e := &engine{l: NewLinear(uint64(most) * wasmPageBytes), most: most}
		// As where the kernel gives no mappings, or does not tell.
		e.l.onHeap, e.l.homeless = rapid.Bool().Draw(t, "heap"), rapid.Bool().Draw(t, "homeless")
		e.b = e.l.Reallocate(uint64(least) * wasmPageBytes)
		scribble(t, e.b)
		want := bytes.Clone(e.b)
		s := e.l.Take(e, 1<<30)
		defer done(t, s, e.l)
		for range 5 {
			for range rapid.IntRange(0, 3).Draw(t, "growths") {
				before := e.Size()
				if e.Grow(rapid.Uint32Range(1, 50).Draw(t, "pages")); e.Size() > before && !bytes.Equal(e.b[before:], make([]byte, e.Size()-before)) {
					t.Fatal("grown memory is not zero")
				}
				scribble(t, e.b)
			}
			full := e.Size() == most*wasmPageBytes
			if e.l.Restore(e, s) == full {
				t.Fatalf("restored %v at %d of %d pages", !full, e.Size()/wasmPageBytes, most)
			}
			if full {
				return
			}
			if !bytes.Equal(e.b, want) || e.l.Bytes() > len(want)+MaxSpareBytes*3/2 {
				t.Fatalf("restored to something else, or %d bytes held for %d", e.l.Bytes(), len(want))
			}
		}
	})
}

// fataler is testing.TB and rapid.T.
type fataler interface {
	Helper()
	Fatal(args ...any)
}

func done(t fataler, s *Snapshot, memories ...*Linear) {
	t.Helper()
	for _, l := range memories {
		l.Free()
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRestoreNew: a memory of another size and content becomes what the other was when the snapshot was taken.
func TestRestoreNew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const most = 40
		one, other := &engine{l: NewLinear(wasmPageBytes * most), most: most}, &engine{l: NewLinear(wasmPageBytes * most), most: most}
		for _, e := range []*engine{one, other} {
			e.l.onHeap, e.l.homeless = rapid.Bool().Draw(t, "heap"), rapid.Bool().Draw(t, "homeless")
			e.b = e.l.Reallocate(wasmPageBytes * rapid.Uint64Range(0, most-1).Draw(t, "pages"))
			scribble(t, e.b)
		}
		want := bytes.Clone(one.b)
		s := one.l.Take(one, 1<<30)
		defer done(t, s, one.l, other.l)
		for _, e := range []*engine{other, one, other} {
			if !e.l.Restore(e, s) || !bytes.Equal(e.b, want) {
				t.Fatal("restored to something else")
			}
			scribble(t, e.b)
		}
	})
}

// TestTakeIsBounded counts what is not zero only.
func TestTakeIsBounded(t *testing.T) {
	e := &engine{l: NewLinear(wasmPageBytes * 40), most: 40}
	e.b = e.l.Reallocate(wasmPageBytes * 40)
	e.b[0], e.b[wasmPageBytes] = 1, 1
	if e.l.Take(e, 2*pageBytes-1) != nil {
		t.Error("more was taken than allowed")
	}
	s := e.l.Take(e, 2*pageBytes)
	if s == nil {
		t.Fatal("not taken")
	}
	done(t, s, e.l)
}

func TestZeroPagesAreNotKept(t *testing.T) {
	b := make([]byte, 100*pageBytes)
	b[7*pageBytes+5], b[8*pageBytes] = 1, 1
	s := take(b, extent(b), 0)
	if s.Bytes() != 2*pageBytes || len(s.runs) != 1 {
		t.Errorf("kept %d bytes in %d runs", s.Bytes(), len(s.runs))
	}
}

// BenchmarkHome is BenchmarkRestore where the kernel tells which pages were written.
func BenchmarkHome(b *testing.B) {
	for _, size := range []int{64 << 10, 1 << 20, 4 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			e, s, _ := homely(b, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				e.b[100]++
				e.b[size-1]++
				e.l.Restore(e, s)
			}
		})
	}
}

func BenchmarkRestore(b *testing.B) {
	for _, size := range []int{64 << 10, 1 << 20, 4 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			memory := make([]byte, size)
			for i := range size / 2 {
				memory[i] = byte(i)
			}
			s := take(memory, extent(memory), 0)
			b.SetBytes(int64(size))
			for b.Loop() {
				memory[100]++
				memory[size-1]++
				s.restore(memory)
			}
		})
	}
}

// homely is a memory of so many bytes, half of them not zero, that has been restored once.
func homely(t testing.TB, size int) (*engine, *Snapshot, []byte) {
	t.Helper()
	e := &engine{l: NewLinear(64 << 20), most: 1024}
	e.b = e.l.Reallocate(uint64(size))
	for i := range size / 2 {
		e.b[i] = byte(i*7 + 1)
	}
	want := bytes.Clone(e.b)
	s := e.l.Take(e, size)
	t.Cleanup(func() { done(t, s, e.l) })
	if !e.l.Restore(e, s) {
		t.Fatal("not restored")
	}
	return e, s, want
}

// TestHome demands that the kernel is asked where it can tell, that written pages alone count as held, and that what
// one merge wrote is not held for ever.
func TestHome(t *testing.T) {
	const size = 40 * wasmPageBytes
	e, s, want := homely(t, size)
	if _, err := os.Stat("/proc/self/pagemap"); (err == nil) != (e.l.home != nil) && runtime.GOOS == "linux" {
		t.Fatalf("at home: %v, pagemap: %v", (e.l.home != nil), err)
	}
	if e.l.home == nil {
		return
	}
	write := func(pages int) {
		for i := range pages {
			e.b[(i*size/pages+i)%size] ^= 0xff
		}
		if !e.l.Restore(e, s) || !bytes.Equal(e.b, want) {
			t.Fatalf("restored to something else after %d pages were written", pages)
		}
	}
	page := os.Getpagesize()
	for range 3 {
		if write(5); e.l.Bytes() == 0 || e.l.Bytes() > 5*page {
			t.Fatalf("%d bytes held", e.l.Bytes())
		}
	}
	if write(100); e.l.Bytes() < 100*pageBytes {
		t.Fatalf("%d bytes held", e.l.Bytes())
	}
	for range 2 * maxIdle {
		write(1)
	}
	if e.l.Bytes() > 5*page {
		t.Errorf("%d bytes are held still", e.l.Bytes())
	}
}

// TestBeyondHome grows beyond the home, stays where it is, and gives what it took there back.
func TestBeyondHome(t *testing.T) {
	const size = 2 * wasmPageBytes
	e, s, want := homely(t, size)
	for range 3 {
		e.b[7]++
		at := &e.b[0]
		if _, ok := e.Grow((MaxSpareBytes + size) / wasmPageBytes); !ok {
			t.Fatal("not grown")
		}
		if e.l.mapped && at != &e.b[0] || e.b[7] == want[7] {
			t.Fatal("the grown memory is another")
		}
		clear(e.b[size:])
		e.b[len(e.b)-1], e.b[size] = 1, 1
		if !e.l.Restore(e, s) || !bytes.Equal(e.b, want) {
			t.Fatal("restored to something else")
		}
		if n := e.l.Bytes(); n > size+MaxSpareBytes {
			t.Fatalf("%d bytes are held", n)
		}
		if before, ok := e.Grow(1); !ok || before != 2 || !bytes.Equal(e.b[size:], make([]byte, wasmPageBytes)) {
			t.Fatal("grown memory is not zero")
		}
		e.b[size]++
	}
}

// TestInstancesShareNothing restores two memories to one snapshot.
func TestInstancesShareNothing(t *testing.T) {
	e, s, want := homely(t, wasmPageBytes)
	other := &engine{l: NewLinear(64 << 20), most: 1024}
	other.b = other.l.Reallocate(wasmPageBytes)
	defer other.l.Free()
	if !other.l.Restore(other, s) {
		t.Fatal("not restored")
	}
	e.b[3]++
	if !bytes.Equal(other.b, want) {
		t.Error("what one writes the other sees")
	}
}
