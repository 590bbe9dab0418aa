package fuel

import "math"

// Names that the rewritten module has in common with its host.
const (
	// ImportModule and ImportYield name the function without parameters and
	// results that is called when GlobalFuel is below zero, and between pieces of long work.
	ImportModule = "dynamo_host"
	ImportYield  = "yield"
	// ReservedPrefix begins the names of all exports added. A module that
	// exports such a name is refused.
	ReservedPrefix = "dynamo."
	// GlobalFuel is a mutable i64: the fuel left of the slice. It starts at 0,
	// and is to be set to 0 again before a run with a new Meter.
	GlobalFuel = ReservedPrefix + "fuel"
	// GlobalDepth is a mutable i32: how much deeper calls may go. It starts at
	// Options.Depth. After a trap it has to be set again.
	GlobalDepth = ReservedPrefix + "depth"
	// globalPrefix and the index make the name of a mutable global of the module's own.
	globalPrefix = ReservedPrefix + "global."
)

// Version is that of prices, limits and inserted code. Nodes of another version
// may count another fuel for the same run.
const Version = 2

// Options of Rewrite. The zero value of a field means its default.
type Options struct {
	// ModuleBytes is the largest module; default 16 MiB.
	ModuleBytes int
	// MemoryPages is the most memory in pages of 64 KiB; default 1024. A module
	// that starts with more is refused, memory.grow beyond it fails.
	MemoryPages uint32
	// Depth is the deepest nesting of calls; default 1000, at most 4000. All frames take about 40 MB
	// of stack at worst: a frame of more than frameUnit slots counts several times.
	Depth int
}

func (o Options) withDefaults() Options {
	if o.ModuleBytes <= 0 || o.ModuleBytes > math.MaxInt32 {
		o.ModuleBytes = 16 << 20
	}
	if o.MemoryPages == 0 {
		o.MemoryPages = 1024
	}
	if o.Depth <= 0 {
		o.Depth = 1000
	}
	o.MemoryPages = min(o.MemoryPages, 65535) // so that no piece of work ends at the last address: see split.go
	o.Depth = min(o.Depth, maxDepth)
	return o
}

// What a module may declare. Decoders and compilers trust such numbers:
// without bounds, a few bytes ask for gigabytes, and some shapes of code for
// minutes. Large real guests (Go with encoding/json, Rust without
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
	maxCustom        = 1_000
	maxDataSegments  = 1 << 18 // Go writes one for each run of bytes between zeros
	maxElemSegments  = 10_000
	maxElements      = 1 << 20
	maxLocals        = 10_000 // of a function
	maxLocalsTotal   = 1 << 20
	maxBodyBytes     = 4 << 20
	maxCodeBytes     = 8 << 20  // of all functions: about 1 µs each in the compiler
	maxRewritten     = 12 << 20 // bytes of all functions after the rewriting
	maxNesting       = 4_000    // of blocks in a function
	maxBranchTargets = 100_000  // in all br_table of a function
	maxNodes         = 500_000  // instructions of a function that the rewriter looks at
	maxWeight        = 100_000  // of the blocks in a function
	maxFunctionNs    = 2e9      // estimated worst time to compile a function
	maxModuleNs      = 6e9      // the same for all functions; a Go guest has 1.5e9
	maxDepth         = 4_000
)

// Prices, in units of fuel. A unit is about one simple instruction, which
// takes from a third of a nanosecond to one.
const (
	priceCall     = 4
	priceIndirect = 8
	priceHost     = 100 // call of an imported function
	priceDivide   = 8
	priceBulk     = 40   // memory.fill and its like, without its size
	priceGrow     = 1000 // memory.grow, without its size
	bytesShift    = 4    // memory.fill and its like: 16 bytes for a unit
	pageShift     = 12   // memory.grow: 4096 units for a page
	entryShift    = 1    // table.fill and its like: 2 units for an entry
)

// Thresholds of the charges.
const (
	// splitUnits is how much longer one way has to be than the other to pay for itself.
	splitUnits = 32
	// smallUnits is the longest way through a function that its callers pay for.
	smallUnits = 24
	// frameUnit is how many values of a function count as one level of depth.
	// A value takes up to 16 bytes of stack.
	frameUnit = 512
	// allUnits is about how many values all frames have together at worst, at any depth: 40 MB of stack. What frameUnit leaves of
	// it for one level is how many values that come to be where ways meet count as another level: few of them are
	// alive across calls, but compilers do not let them share a place.
	allUnits = 2560 * 1000
)
