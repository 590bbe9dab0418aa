package resolver

import (
	"errors"
	"math"
	"time"
)

const (
	pageBytes = 64 << 10
	// maxCallDepth is what package fuel allows.
	maxCallDepth = 4000
)

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
	// CallDepth is the deepest nesting of calls, at most 4000. A very large frame counts several times.
	CallDepth int
	// Fuel is the most fuel of a merge, in units of about one instruction: see package fuel. It is counted
	// alike on all machines, and Timeout is to stay far above the time that it lasts.
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
	case l.CallDepth <= 0 || l.CallDepth > maxCallDepth:
		return errors.New("limit CallDepth must be from 1 to 4000")
	case l.Fuel == 0:
		return errors.New("limit Fuel must be positive")
	}
	return nil
}

func (l Limits) pages() uint32 { return uint32(l.MemoryBytes / pageBytes) }
