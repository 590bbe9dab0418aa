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
	"sync"
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
	home  int    // how large a home is

	mu struct {
		sync.Mutex
		image  *image // nil until it is first needed
		broken bool   // there is none
	}
}

// run is bytes at an address that is a multiple of pageBytes.
type run struct {
	at    int
	bytes []byte
}

// Take copies a memory.
func Take(memory []byte) *Snapshot {
	zeros := make([]byte, pageBytes)
	s := &Snapshot{size: len(memory), zeros: zeros}
	for at := 0; at < len(memory); {
		end := at
		for end < len(memory) {
			next := min(end+pageBytes, len(memory))
			if bytes.Equal(memory[end:next], zeros[:next-end]) {
				break
			}
			end = next
		}
		if end > at {
			s.runs = append(s.runs, run{at, bytes.Clone(memory[at:end])})
		}
		at = min(end+pageBytes, len(memory)) // the page at end, if any, is zero
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

// newHome returns a memory that equals the snapshot, nil where that is not possible.
func (s *Snapshot) newHome() *home {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.image == nil && !s.mu.broken {
		i, err := newImage(s, s.home)
		s.mu.image, s.mu.broken = i, err != nil
	}
	if s.mu.broken {
		return nil
	}
	h, err := newHome(s.mu.image, s)
	if err != nil {
		return nil // for want of memory, perhaps: the next instance may have one
	}
	return h
}

// Close gives back what the kernel keeps for the snapshot. No Linear is restored to it any more.
func (s *Snapshot) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.mu.image
	s.mu.image, s.mu.broken = nil, true
	if i == nil {
		return nil
	}
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
