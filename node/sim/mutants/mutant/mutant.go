// Package mutant is the switch of the broken variants of the node. Only sources that package mutants has changed
// import it: the real node knows nothing of it.
package mutant

import "sync/atomic"

// chosen is nil in a node that is whole.
var chosen atomic.Pointer[string]

// Choose switches one variant on for the rest of the process; "" switches all off.
func Choose(name string) { chosen.Store(&name) }

// On reports whether the variant is switched on.
func On(name string) bool {
	p := chosen.Load()
	return p != nil && *p == name
}
