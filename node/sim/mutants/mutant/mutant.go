// Package mutant is the switch of the broken variants of the node. Only sources that package mutants has changed
// import it: the real node knows nothing of it.
package mutant

import "sync/atomic"

// later is the last number of Later.
var later atomic.Uint64

// Later returns numbers that grow by a million, for boots that must be later than those of a disk that was wiped.
func Later() uint64 { return later.Add(1e6) }

// chosen is nil in a node that is whole.
var chosen atomic.Pointer[string]

// Choose switches one variant on for the rest of the process; "" switches all off.
func Choose(name string) { chosen.Store(&name) }

// On reports whether the variant is switched on.
func On(name string) bool {
	p := chosen.Load()
	return p != nil && *p == name
}
