package host

import (
	"sync"

	"github.com/tetratelabs/wazero/experimental"
)

// memories lends linear memories to runs. A memory that grows by being copied costs more than many runs do, and so does
// one that the collector has to find and the kernel to hand out again.
type memories struct {
	// mu guards free, the memories that no run uses; they are all zero.
	mu struct {
		sync.Mutex
		free [][]byte
	}
}

// Allocate implements experimental.MemoryAllocator.
func (m *memories) Allocate(_, _ uint64) experimental.LinearMemory {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := &lent{from: m}
	if last := len(m.mu.free) - 1; last >= 0 {
		l.bytes, m.mu.free = m.mu.free[last], m.mu.free[:last]
	}
	return l
}

// lent is the memory of one run. It belongs to that run.
type lent struct {
	from  *memories
	bytes []byte
}

// memoryStep is by how much a memory grows at least.
const memoryStep = 256 << 20

// Reallocate implements experimental.LinearMemory.
func (l *lent) Reallocate(size uint64) []byte {
	if room := uint64(cap(l.bytes)); size > room {
		larger := make([]byte, len(l.bytes), max(size, 2*room, memoryStep)) // which takes no memory before it is touched
		copy(larger, l.bytes)
		l.bytes = larger
	}
	l.bytes = l.bytes[:size]
	return l.bytes
}

// Free implements experimental.LinearMemory.
func (l *lent) Free() {
	clear(l.bytes)
	l.from.mu.Lock()
	defer l.from.mu.Unlock()
	l.from.mu.free = append(l.from.mu.free, l.bytes[:0])
}
