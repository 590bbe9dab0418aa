package resolver

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
)

// instrumented is a module as the engine gets it.
type instrumented struct {
	code []byte
	// pages is the largest memory it may grow to.
	pages uint32
	// globals are the names under which the code exports all its mutable globals.
	globals []string
	// restorable says that nothing else than the memory and these globals can change in an instance.
	restorable bool
}

// instrument makes of a module that was scanned what is compiled: armed with interruption points,
// bounded, and with its mutable globals exported.
func (s *scan) instrument() instrumented {
	in := instrumented{pages: s.memory.most, restorable: s.restorable}
	prefix := "dynamo.global."
	for slices.ContainsFunc(s.info.Exports, func(name string) bool { return strings.HasPrefix(name, prefix) }) {
		prefix += "." // a module has only so many names
	}
	var exports [][]byte
	for _, index := range s.mutable {
		name := prefix + strconv.Itoa(index)
		in.globals = append(in.globals, name)
		e := append(binary.AppendUvarint(nil, uint64(len(name))), name...)
		exports = append(exports, binary.AppendUvarint(append(e, kindGlobal), uint64(index)))
	}
	in.code = s.rewrite(exports)
	return in
}

// extendedExports is the export section with more entries.
func (s *scan) extendedExports(content []byte, more [][]byte) []byte {
	c := cursor{b: content, end: len(content)}
	n := c.u32()
	out := binary.AppendUvarint(nil, uint64(n)+uint64(len(more)))
	out = append(out, content[c.pos:]...)
	return append(out, slices.Concat(more...)...)
}
