package memory

// wasmPageBytes is the unit in which memories grow.
const wasmPageBytes = 64 << 10

// MaxSpareBytes is how much memory a Linear keeps beyond its first size for the next time that it grows. More than
// that is given back.
const MaxSpareBytes = 4 << 20

// Linear is the linear memory of one instance. It is what wazero calls a LinearMemory, and for the
// goroutine that runs the instance.
//
// The engine can only grow a memory. But it takes what Reallocate returns for the memory, whatever it
// asked for; so resize lets it ask for a page more and hands out less.
type Linear struct {
	// buf is all there is. What lies beyond high is zero. It is home's, or of the heap if the module has grown
	// beyond that or home is nil.
	buf []byte
	// home is nil before the first Restore, and if there is none.
	home     *home
	homeless bool
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
		// By half of it more, so that a module which grows page by page is not copied each time.
		grown := make([]byte, max(size, min(l.most, uint64(len(l.buf))/2*3)))
		copy(grown, l.buf)
		l.buf = grown
	}
	l.high = max(l.high, size)
	return l.buf[:size:size]
}

// Free gives the memory back. Nothing may use it any more.
func (l *Linear) Free() {
	l.buf = nil
	l.leave()
}

// leave does without a home, from now on.
func (l *Linear) leave() {
	if l.home != nil {
		_ = l.home.free() // which fails for what is not open or mapped
	}
	l.home, l.homeless = nil, true
}

// Bytes is how much memory is held.
func (l *Linear) Bytes() int {
	if l.atHome() {
		return l.home.held(int(l.high))
	}
	return len(l.buf)
}

func (l *Linear) atHome() bool {
	return l.home != nil && len(l.buf) > 0 && &l.buf[0] == &l.home.bytes[0]
}

// Take copies what the engine has.
func (l *Linear) Take(e Engine) *Snapshot {
	s := Take(l.buf[:e.Size()])
	s.home = int(min(l.most, uint64(s.size)+MaxSpareBytes))
	return s
}

// Restore makes the memory what it was when s was taken, in size and content, and reports whether that was possible:
// a memory at its declared maximum does not shrink. All calls are to be with the same s.
func (l *Linear) Restore(e Engine, s *Snapshot) bool {
	if l.atHome() {
		if err := l.home.restore(int(l.high)); err != nil || !l.resize(e, uint32(s.size), false) {
			return false
		}
		l.high = uint64(s.size)
		return true
	}
	if l.moveHome(e, s) {
		return true
	}
	if e.Size() > uint32(s.size) && len(l.buf) > s.size+MaxSpareBytes {
		l.buf, l.high = make([]byte, s.size), 0
	}
	if !l.resize(e, uint32(s.size), false) {
		return false
	}
	s.restore(l.buf[:l.high])
	l.high = uint64(s.size)
	return true
}

// moveHome is Restore for a memory that is on the heap. If it fails, the memory is as it was and stays there.
func (l *Linear) moveHome(e Engine, s *Snapshot) bool {
	if l.homeless || s.size == 0 {
		return false
	}
	if l.home == nil {
		l.home = s.newHome()
	}
	if l.home == nil || l.home.forget() != nil {
		l.leave()
		return false
	}
	buf := l.buf
	l.buf = l.home.bytes
	if !l.resize(e, uint32(s.size), true) {
		l.buf = buf
		l.leave()
		return false
	}
	l.high = uint64(s.size)
	return true
}

// resize makes the engine's memory the first size bytes of buf. If buf is another than before, moved is set.
func (l *Linear) resize(e Engine, size uint32, moved bool) bool {
	if e.Size() == size && !moved {
		return true
	}
	l.resizing, l.resizeTo = true, uint64(size)
	_, ok := e.Grow(1)
	l.resizing = false
	return ok && e.Size() == size
}
