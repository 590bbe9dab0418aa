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
	// CallDepth is the deepest nesting of calls. It is not enforced yet: the
	// stack is bounded by its size.
	CallDepth int
	// Fuel is the number of instructions of a merge. It is not enforced yet:
	// Timeout is.
	Fuel uint64
}

// DefaultLimits returns what suits merges of values up to a few MiB.
func DefaultLimits() Limits {
	return Limits{
		MemoryBytes: 64 << 20,
		ModuleBytes: 16 << 20,
		OutputBytes: 16 << 20,
		Timeout:     2 * time.Second,
		CallDepth:   10_000,
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

// What a module may declare. The engine's decoder and compiler trust such
// numbers: without bounds, a few bytes ask for gigabytes, and some shapes of
// code for minutes. Large real guests (Go with encoding/json, Rust without
// optimisation) stay well below them.
const (
	maxTypes         = 10_000
	maxParams        = 64 // of parameters, and of results, of a function type
	maxImports       = 256
	maxFunctions     = 100_000
	maxTables        = 16
	maxTableEntries  = 1 << 20 // in all tables together, also after table.grow
	maxGlobals       = 10_000
	maxExports       = 1_000
	maxNameBytes     = 256
	maxDataSegments  = 1 << 18 // Go writes one for each run of bytes between zeros
	maxElemSegments  = 10_000
	maxElements      = 1 << 20
	maxLocals        = 10_000 // of a function
	maxLocalsTotal   = 1 << 20
	maxBodyBytes     = 4 << 20
	maxCodeBytes     = 8 << 20 // of all functions: about 1 µs each in the compiler
	maxNesting       = 4_000   // of blocks in a function
	maxBranchTargets = 100_000 // in all br_table of a function
	maxWeight        = 100_000 // of the blocks in a function
	maxFunctionNs    = 2e9     // estimated worst time to compile a function
	maxModuleNs      = 6e9     // the same for all functions; a Go guest has 1.5e9
)
