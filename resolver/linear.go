package resolver

import (
	"dynamo/resolver/snapshot"

	"github.com/tetratelabs/wazero/api"
)

// maxSpareBytes is how much memory an instance keeps beyond its first size for the next merge that
// grows. More than that is given back.
const maxSpareBytes = 4 << 20

// linear is the linear memory of one instance. It implements experimental.LinearMemory. It is for the
// goroutine that runs the instance.
//
// The engine can only grow a memory. But it takes what Reallocate returns for the memory, whatever it
// asked for; so resize lets it ask for a page more and hands out less.
type linear struct {
	// buf is all there is. What lies beyond the part that the engine has is zero.
	buf []byte
	// most is the largest size that the module may have, in bytes.
	most uint64
	// resizeTo is what the next Reallocate hands out in place of what it is asked for, if resizing.
	resizeTo uint64
	resizing bool
}

// Reallocate implements experimental.LinearMemory.
func (l *linear) Reallocate(size uint64) []byte {
	if l.resizing {
		size = l.resizeTo
	}
	if size > l.most {
		return nil
	}
	if size > uint64(len(l.buf)) {
		// By half of it more, so that a module which grows page by page is not copied each time.
		grown := make([]byte, max(size, min(l.most, uint64(len(l.buf))/2*3)))
		copy(grown, l.buf)
		l.buf = grown
	}
	return l.buf[:size:size]
}

// Free implements experimental.LinearMemory.
func (l *linear) Free() { l.buf = nil }

// resize makes the memory, as the engine and the module see it, size bytes long. It reports whether that was
// possible: a memory at its declared maximum does not shrink. The caller sees to what is in it.
func (l *linear) resize(memory api.Memory, size uint32) bool {
	if memory.Size() == size {
		return true
	}
	if memory.Size() < size {
		_, ok := memory.Grow((size - memory.Size()) / pageBytes)
		return ok
	}
	l.resizing, l.resizeTo = true, uint64(size)
	_, ok := memory.Grow(1)
	l.resizing = false
	return ok && memory.Size() == size
}

// reset makes the memory what it was when s was taken.
func (l *linear) reset(memory api.Memory, s *snapshot.Memory) bool {
	grown := memory.Size() > uint32(s.Size())
	if grown && len(l.buf) > s.Size()+maxSpareBytes {
		l.buf = make([]byte, s.Size())
	}
	if !l.resize(memory, uint32(s.Size())) {
		return false
	}
	s.Restore(l.buf)
	return true
}
