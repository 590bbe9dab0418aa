// Package memory is the linear memory of a module's instance, which can be put back to what it was. It is
// pure: it knows bytes, no engine.
//
// Few pages change in a merge, so comparing each with the snapshot and copying those that differ runs
// at memory speed. Copy-on-write mappings were slower: every first write to a page is a fault, and
// dropping the pages is a system call.
package memory

import "bytes"

// pageBytes is the unit of comparison: small enough that a changed byte costs little, large enough
// that comparing runs at full speed.
const pageBytes = 4 << 10

// Snapshot is a copy of a linear memory. Runs of pages that are all zero are not kept. It is immutable.
type Snapshot struct {
	size int
	runs []run // in ascending order, none next to another, of whole pages but for the last
}

// run is bytes at an address that is a multiple of pageBytes.
type run struct {
	at    int
	bytes []byte
}

// Extent says where a memory was not zero, by pages.
type Extent []struct{ at, end int }

// Bytes is how many bytes these pages have.
func (e Extent) Bytes() int {
	n := 0
	for _, r := range e {
		n += r.end - r.at
	}
	return n
}

// extent looks where a memory is not zero.
func extent(memory []byte) Extent {
	var out Extent
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

// Take copies a memory.
func Take(memory []byte) *Snapshot { return take(memory, extent(memory)) }

func take(memory []byte, e Extent) *Snapshot {
	s := &Snapshot{size: len(memory)}
	for _, r := range e {
		s.runs = append(s.runs, run{r.at, bytes.Clone(memory[r.at:r.end])})
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

// restoreNew does so with a memory that is zero but for e.
func (s *Snapshot) restoreNew(memory []byte, e Extent) {
	for _, r := range e {
		clear(memory[r.at:r.end])
	}
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
