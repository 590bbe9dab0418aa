package memory

// wasmPageBytes is the unit in which memories grow.
const wasmPageBytes = 64 << 10

// MaxSpareBytes is how much memory a Linear keeps beyond its first size for the next time that it grows. More than
// that is given back.
const MaxSpareBytes = 4 << 20

// mappedBytes is the size from which on a memory is a mapping. It need not be copied to grow, takes no more than was
// written, and goes when it is freed: buffers of 64 MiB that wait for the garbage collector add up.
const mappedBytes = 1 << 20

// Linear is the linear memory of one instance. It is what wazero calls a LinearMemory, and for the
// goroutine that runs the instance. Free it.
//
// The engine can only grow a memory. But it takes what Reallocate returns for the memory, whatever it
// asked for; so resize lets it ask for a page more and hands out less.
type Linear struct {
	// buf is all there is. What lies beyond high is zero.
	buf []byte
	// mapped says that buf is a mapping of most bytes. What lies beyond touched was never written, or was discarded.
	mapped  bool
	touched uint64
	// high is the largest size that the engine had since the last Restore.
	high uint64
	// most is the largest size that the module may have, in bytes.
	most uint64
	// resizeTo is what the next Reallocate hands out in place of what it is asked for, if resizing.
	resizeTo uint64
	resizing bool
}

// Engine is the engine's side of a memory.
type Engine interface {
	// Size is in bytes.
	Size() uint32
	// Grow takes a number of wasm pages, and asks Reallocate for the new size.
	Grow(pages uint32) (previous uint32, ok bool)
}

// NewLinear returns a memory of at most so many bytes.
func NewLinear(mostBytes uint64) *Linear { return &Linear{most: mostBytes} }

// Reallocate returns the memory at another size, which the engine asks for, or nil if that is too large.
func (l *Linear) Reallocate(size uint64) []byte {
	if l.resizing {
		size = l.resizeTo
	}
	if size > l.most {
		return nil
	}
	if size > uint64(len(l.buf)) {
		l.enlarge(size)
	}
	l.touched = max(l.touched, size)
	l.high = max(l.high, size)
	return l.buf[:size:size]
}

// enlarge brings buf to a size at least.
func (l *Linear) enlarge(size uint64) {
	if size >= mappedBytes {
		if grown := reserve(l.most); grown != nil {
			copy(grown, l.buf)
			l.buf, l.mapped = grown, true
			return
		}
	}
	// By half of it more, so that a module which grows page by page is not copied each time.
	grown := make([]byte, max(size, min(l.most, uint64(len(l.buf))/2*3)))
	copy(grown, l.buf)
	l.buf = grown
}

// Free gives the memory back. What Reallocate returned must not be used any more.
func (l *Linear) Free() {
	if l.mapped {
		release(l.buf)
	}
	l.buf, l.mapped = nil, false
}

// Bytes is how much memory is held.
func (l *Linear) Bytes() int {
	if l.mapped {
		return int(l.touched)
	}
	return len(l.buf)
}

// Take copies what the engine has, of which the Extent is known.
func (l *Linear) Take(e Engine, now Extent) *Snapshot { return take(l.buf[:e.Size()], now) }

// Extent says where what the engine has is not zero.
func (l *Linear) Extent(e Engine) Extent { return extent(l.buf[:e.Size()]) }

// RestoreNew does what Restore does, in less time, with a memory whose Extent is known and which is not larger
// than when s was taken.
func (l *Linear) RestoreNew(e Engine, s *Snapshot, known Extent) bool {
	if !l.resize(e, uint32(s.size)) {
		return false
	}
	s.restoreNew(l.buf[:l.high], known)
	return true
}

// Restore makes the memory what it was when s was taken, in size and content, and reports whether that was possible:
// a memory at its declared maximum does not shrink.
func (l *Linear) Restore(e Engine, s *Snapshot) bool {
	if e.Size() > uint32(s.size) && l.Bytes() > s.size+MaxSpareBytes {
		l.shrink(uint64(s.size))
	}
	if !l.resize(e, uint32(s.size)) {
		return false
	}
	s.restore(l.buf[:l.high])
	l.high = uint64(s.size)
	return true
}

// shrink gives the memory beyond a size back.
func (l *Linear) shrink(size uint64) {
	switch {
	case !l.mapped:
		l.buf, l.high = make([]byte, size), 0
	case discard(l.buf[size:l.touched]):
		l.touched, l.high = size, min(l.high, size)
	}
}

func (l *Linear) resize(e Engine, size uint32) bool {
	if e.Size() < size {
		_, ok := e.Grow((size - e.Size()) / wasmPageBytes)
		return ok
	}
	if e.Size() > size {
		l.resizing, l.resizeTo = true, uint64(size)
		_, ok := e.Grow(1)
		l.resizing = false
		return ok && e.Size() == size
	}
	return true
}
