// Package memory is the linear memory of a module's instance, which can be put back to what it was. It knows bytes
// and, on Linux, the kernel, but no engine.
//
// Few pages change in a merge, so comparing each with the snapshot and copying those that differ runs
// at memory speed. Where the kernel tells which pages were ever written, only those are compared: see home. Dropping
// written pages after each merge would be slower: every first write to a page is a fault.
package memory

import (
	"bytes"
	"slices"
	"sync/atomic"
)

// pageBytes is the unit of comparison: small enough that a changed byte costs little, large enough
// that comparing runs at full speed.
const pageBytes = 4 << 10

// Snapshot is a copy of a linear memory. Runs of pages that are all zero are not kept. It is immutable, and safe for
// concurrent use. Close it.
type Snapshot struct {
	size  int
	runs  []run  // in ascending order, none next to another, of whole pages but for the last
	zeros []byte // a page
	// image holds the runs, and is what homes map; nil where the kernel gives none, and the runs are on the heap.
	image *image
	// broken is set once the image could not be mapped.
	broken atomic.Bool
}

// run is bytes at an address that is a multiple of pageBytes.
type run struct {
	at    int
	bytes []byte
}

// pages says where a memory is not zero.
type pages []struct{ at, end int }

// bytes is how many bytes these pages have.
func (p pages) bytes() int {
	n := 0
	for _, r := range p {
		n += r.end - r.at
	}
	return n
}

// extent looks where a memory is not zero.
func extent(memory []byte) pages {
	var out pages
	var zeros [pageBytes]byte
	for at := 0; at < len(memory); at += pageBytes {
		end := min(at+pageBytes, len(memory))
		if bytes.Equal(memory[at:end], zeros[:end-at]) {
			continue
		}
		if last := len(out) - 1; last >= 0 && out[last].end == at {
			out[last].end = end
			continue
		}
		out = append(out, struct{ at, end int }{at, end})
	}
	return out
}

// take copies a memory of which it is known where it is not zero. Homes are to have so many bytes.
func take(memory []byte, used pages, homeBytes int) *Snapshot {
	s := &Snapshot{size: len(memory), zeros: make([]byte, pageBytes)}
	for _, r := range used {
		s.runs = append(s.runs, run{r.at, memory[r.at:r.end]})
	}
	if i, err := newImage(s.runs, homeBytes); err == nil {
		s.image = i
	}
	for i, r := range s.runs {
		if s.image == nil {
			s.runs[i].bytes = bytes.Clone(r.bytes)
		} else {
			s.runs[i].bytes = s.image.bytes[r.at:][:len(r.bytes)]
		}
	}
	return s
}

// Size is how many bytes the memory had.
func (s *Snapshot) Size() int { return s.size }

// Bytes is how many bytes the snapshot keeps.
func (s *Snapshot) Bytes() int {
	n := 0
	for _, r := range s.runs {
		n += len(r.bytes)
	}
	return n
}

// Close gives back what the kernel keeps for the snapshot. No Linear is restored to it any more.
func (s *Snapshot) Close() error {
	i := s.image
	if s.image = nil; i == nil {
		return nil
	}
	s.runs = nil // which are its pieces
	return i.close()
}

// restoreRange is restore for some of the pages, and counts those that differed.
func (s *Snapshot) restoreRange(memory []byte, from, to int) (changed int) {
	i, _ := slices.BinarySearchFunc(s.runs, from, func(r run, from int) int { return r.at + len(r.bytes) - from - 1 })
	for ; from < to; from += pageBytes {
		page := memory[from:min(from+pageBytes, to)]
		for i < len(s.runs) && s.runs[i].at+len(s.runs[i].bytes) <= from {
			i++
		}
		want := s.zeros
		if i < len(s.runs) && s.runs[i].at <= from {
			want = s.runs[i].bytes[from-s.runs[i].at:]
		}
		if n := min(len(want), len(page)); !bytes.Equal(page[:n], want[:n]) {
			copy(page, want)
			changed++
		}
	}
	return changed
}

// restore makes memory, which must have at least Size bytes, equal to the one that was copied; what it
// has beyond is set to zero. It writes only pages that differ.
func (s *Snapshot) restore(memory []byte) {
	at := 0
	for _, r := range s.runs {
		zero(memory[at:r.at])
		at = r.at + len(r.bytes)
		restoreRun(memory[r.at:at], r.bytes)
	}
	zero(memory[at:])
}

// write does so with a memory that is all zero.
func (s *Snapshot) write(memory []byte) {
	for _, r := range s.runs {
		copy(memory[r.at:], r.bytes)
	}
}

func restoreRun(memory, want []byte) {
	for len(want) > 0 {
		n := min(pageBytes, len(want))
		if !bytes.Equal(memory[:n], want[:n]) {
			copy(memory, want[:n])
		}
		memory, want = memory[n:], want[n:]
	}
}

// zero sets memory to zero and writes only pages that are not, so that those which were never touched
// stay without a frame of the machine's memory.
func zero(memory []byte) {
	var zeros [pageBytes]byte
	for len(memory) > 0 {
		n := min(pageBytes, len(memory))
		if !bytes.Equal(memory[:n], zeros[:n]) {
			clear(memory[:n])
		}
		memory = memory[n:]
	}
}
