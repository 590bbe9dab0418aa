package memory

import (
	"bytes"
	"fmt"
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
		s := Take(memory)
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
		e.b = e.l.Reallocate(uint64(least) * wasmPageBytes)
		scribble(t, e.b)
		want := bytes.Clone(e.b)
		s := e.l.Take(e)
		defer func() {
			e.l.Free()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
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

func TestZeroPagesAreNotKept(t *testing.T) {
	b := make([]byte, 100*pageBytes)
	b[7*pageBytes+5], b[8*pageBytes] = 1, 1
	s := Take(b)
	if s.Bytes() != 2*pageBytes || len(s.runs) != 1 {
		t.Errorf("kept %d bytes in %d runs", s.Bytes(), len(s.runs))
	}
}

func BenchmarkRestore(b *testing.B) {
	for _, size := range []int{64 << 10, 1 << 20, 4 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			memory := make([]byte, size)
			for i := range size / 2 {
				memory[i] = byte(i)
			}
			s := Take(memory)
			b.SetBytes(int64(size))
			for b.Loop() {
				memory[100]++
				memory[size-1]++
				s.restore(memory)
			}
		})
	}
}
