package memory

// wasmPageBytes is the unit in which memories grow.
const wasmPageBytes = 64 << 10

// MaxSpareBytes is how much memory a Linear keeps beyond its first size for the next time that it grows. More than
// that is given back.
const MaxSpareBytes = 4 << 20

// Linear is the linear memory of one instance. It is what wazero calls a LinearMemory, and for the
// goroutine that runs the instance. Free it.
//
// It lies in one of three places:
//   - in a mapping as large as the memory may become. So it need not be copied to grow, takes no more than was written,
//     and goes when it is freed: buffers of 64 MiB that wait for the garbage collector add up.
//   - in such a mapping that begins with a home, from the first Restore on. What lies beyond the home is given back
//     by each Restore.
//   - on the heap, and copied to grow, where the kernel gives no mapping.
//
// The engine can only grow a memory. But it takes what Reallocate returns for the memory, whatever it
// asked for; so resize lets it ask for a page more and hands out less.
type Linear struct {
	// buf is all there is. What lies beyond high is zero.
	buf []byte
	// mapped says that buf is a mapping of most bytes. What lies beyond touched was never written, or was discarded.
	mapped  bool
	touched uint64
	// home is the first part of buf; nil before the first Restore, and if there is none.
	home *home
	// onHeap and homeless say that the kernel gave no mapping or no home, and is not asked again.
	onHeap, homeless bool
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
	if !l.onHeap {
		l.buf = reserve(l.most)
		l.mapped = l.buf != nil
		l.onHeap = !l.mapped
	}
	if l.onHeap {
		// By half of it more, so that a module which grows page by page is not copied each time.
		grown := make([]byte, max(size, min(l.most, uint64(len(l.buf))/2*3)))
		copy(grown, l.buf)
		l.buf = grown
	}
}

// Free gives the memory back. What Reallocate returned must not be used any more.
func (l *Linear) Free() {
	if l.home != nil {
		_ = l.home.free() // which fails for what is not open
	}
	if l.mapped {
		release(l.buf)
	}
	l.buf, l.home, l.mapped = nil, nil, false
}

// Bytes is how much memory is held.
func (l *Linear) Bytes() int {
	switch {
	case l.home != nil:
		return l.home.held() + max(int(l.high)-len(l.home.bytes), 0)
	case l.mapped:
		return int(l.touched)
	}
	return len(l.buf)
}

// Take copies what the engine has, unless that is more than so many bytes, not counting pages of zeros: then it
// returns nil. Close the Snapshot.
func (l *Linear) Take(e Engine, most int) *Snapshot {
	b := l.buf[:e.Size()]
	used := extent(b)
	if used.bytes() > most {
		return nil
	}
	return take(b, used, int(min(l.most, uint64(len(b))+MaxSpareBytes)))
}

// Restore makes the memory what it was when s was taken, in size and content, and reports whether that was possible:
// a memory at its declared maximum does not shrink, and what cannot be restored is to be freed. All calls are to be
// with the same s.
func (l *Linear) Restore(e Engine, s *Snapshot) bool {
	if l.mapped && l.home == nil && !l.homeless {
		if !l.moveIn(s) {
			return false
		}
	} else if !l.clean(e, s) {
		return false
	}
	if !l.resize(e, uint32(s.size)) {
		return false
	}
	l.high = uint64(s.size)
	return true
}

// moveIn makes a mapping what s was for the first time, whatever it is now: with a home, if there is one.
func (l *Linear) moveIn(s *Snapshot) bool {
	h, err := newHome(s, l.buf)
	if err != nil {
		// What lies there now is not known. Others may, by now: it is never released.
		l.buf, l.mapped = nil, false
		return false
	}
	from := 0
	if l.home = h; h != nil {
		from = len(h.bytes)
	} else {
		l.homeless = true
	}
	if !l.discard(from) {
		return false
	}
	if h == nil {
		s.write(l.buf)
		l.touched = max(l.touched, uint64(s.size))
	}
	return true
}

// clean makes all of the memory what s was.
func (l *Linear) clean(e Engine, s *Snapshot) bool {
	if h := l.home; h != nil {
		return h.restore(min(int(l.high), len(h.bytes))) == nil && l.discard(len(h.bytes))
	}
	switch {
	case e.Size() <= uint32(s.size) || l.Bytes() <= s.size+MaxSpareBytes:
	case !l.mapped:
		l.buf, l.high = make([]byte, s.size), 0
	case !l.discard(s.size):
		return false
	}
	if len(l.buf) < s.size {
		l.enlarge(uint64(s.size))
	}
	s.restore(l.buf[:max(int(l.high), s.size)])
	return true
}

// discard gives what a mapping has beyond a size back, which makes zeros of it.
func (l *Linear) discard(from int) bool {
	if int(l.touched) > from {
		if discard(l.buf[from:l.touched]) != nil {
			return false
		}
		l.touched = uint64(from)
	}
	l.high = min(l.high, uint64(from))
	return true
}

// resize makes the engine's memory the first size bytes of buf.
func (l *Linear) resize(e Engine, size uint32) bool {
	if e.Size() == size {
		return true
	}
	l.resizing, l.resizeTo = true, uint64(size)
	_, ok := e.Grow(1)
	l.resizing = false
	return ok && e.Size() == size
}
