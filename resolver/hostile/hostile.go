// Package hostile makes modules that attack whoever runs them: by time, stack, memory, size, shape, addresses,
// answers and the host's functions. It is for tests of all floors, and runs nothing.
package hostile

import "slices"

// Attack is a module and what is to come of it within the default limits.
type Attack struct {
	Name   string
	Module []byte
	// Config is given to the module, if any.
	Config []byte
	// Refused is the code with which the module, or its configuration, is refused; empty: it is not.
	Refused string
	// Fails is the code with which merges fail; empty: there is an answer, and always the same one.
	Fails string
	// Clock says that, with fuel without end, the time limit ends it.
	Clock bool
}

// Attacks returns all, each with a name of its own.
func Attacks() []Attack {
	return slices.Concat(Times(), Stacks(), Memories(), HostCalls(), Pointers(), Answers(), States(), Traps(), Shapes())
}

// over is an attack that uses up its fuel, or its time.
func over(name string, p parts) Attack {
	return Attack{Name: name, Module: p.build(), Fails: "fuel", Clock: true}
}

func fails(name, code string, p parts) Attack {
	return Attack{Name: name, Module: p.build(), Fails: code}
}

// merges is an attack that has no effect.
func merges(name string, p parts) Attack { return fails(name, "", p) }

func refused(name, code string, p parts) Attack {
	return Attack{Name: name, Module: p.build(), Refused: code}
}
