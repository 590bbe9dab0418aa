package snapshot

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
			s.Restore(memory)
			if !bytes.Equal(memory[:len(want)], want) || !bytes.Equal(memory[len(want):], make([]byte, more)) {
				t.Fatal("restored to something else")
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
				s.Restore(memory)
			}
		})
	}
}
