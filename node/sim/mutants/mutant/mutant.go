// Package mutant is the switch of the broken variants of the node. Only sources that package mutants has changed
// import it: the real node knows nothing of it.
package mutant

import "sync/atomic"

// chosen has the name of the variant, nil in a node that is whole, and the last number of Later.
var chosen struct {
	name  atomic.Pointer[string]
	later atomic.Uint64
}

// Later returns numbers that grow by a million, for boots that must be later than those of a disk that was wiped.
func Later() uint64 { return chosen.later.Add(1e6) }

// Choose switches one variant on for the rest of the process; "" switches all off.
func Choose(name string) { chosen.name.Store(&name) }

// On reports whether the variant is switched on.
func On(name string) bool {
	p := chosen.name.Load()
	return p != nil && *p == name
}
