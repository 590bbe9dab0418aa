package resolver

import (
	"errors"
	"math"
	"time"
)

const pageBytes = 64 << 10

// Limits bound one module and one merge. Use DefaultLimits and change fields.
type Limits struct {
	// MemoryBytes is the most linear memory of an instance, rounded down to
	// 64 KiB. Under 4 MiB Go guests do not start.
	MemoryBytes uint64
	// ModuleBytes is the largest module. A Go guest takes 2 to 4 MB.
	ModuleBytes int
	// OutputBytes is the largest merged value, whatever the caller of Merge allows.
	OutputBytes int
	// Timeout is the wall-clock guard of a merge. When it is too short, a busy
	// machine fails merges which another would do.
	Timeout time.Duration
	// CallDepth is the deepest nesting of calls, at most 4000. Large frames count several times.
	CallDepth int
	// Fuel is the number of instructions of a merge, and of what a module does when it starts. It is counted
	// alike on all nodes, so that all of them give up at the same point.
	Fuel uint64
}

// DefaultLimits returns what suits merges of values up to a few MiB.
func DefaultLimits() Limits {
	return Limits{
		MemoryBytes: 64 << 20,
		ModuleBytes: 16 << 20,
		OutputBytes: 16 << 20,
		Timeout:     2 * time.Second,
		CallDepth:   1000,
		Fuel:        50_000_000,
	}
}

func (l Limits) validate() error {
	switch {
	case l.MemoryBytes < pageBytes || l.MemoryBytes > math.MaxInt32:
		return errors.New("limit MemoryBytes must be from 64 KiB to 2 GiB")
	case l.ModuleBytes <= 0 || l.ModuleBytes > math.MaxInt32:
		return errors.New("limit ModuleBytes must be from 1 to 2 GiB")
	case l.OutputBytes <= 0 || l.OutputBytes > math.MaxInt32:
		return errors.New("limit OutputBytes must be from 1 to 2 GiB")
	case l.Timeout <= 0:
		return errors.New("limit Timeout must be positive")
	}
	return nil
}

func (l Limits) pages() uint32 { return uint32(l.MemoryBytes / pageBytes) }
