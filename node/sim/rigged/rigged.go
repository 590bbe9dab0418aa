// Package rigged makes resolver modules of other ones for simulations: further versions of the same meaning, and versions
// that fail or break the laws.
package rigged

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// The sections of a WebAssembly module that are looked at, and the opcodes that are written.
const (
	customSection   = 0
	typeSection     = 1
	importSection   = 2
	functionSection = 3
	memorySection   = 5
	exportSection   = 7
	codeSection     = 10
	dataSection     = 11

	opUnreachable = 0x00
	opLoop        = 0x03
	opIf          = 0x04
	opEnd         = 0x0b
	opBranch      = 0x0c
	opCall        = 0x10
	opLocalGet    = 0x20
	opI32Const    = 0x41
	opI64Const    = 0x42
	opI32Eqz      = 0x45
	opI32RemU     = 0x70
	noResult      = 0x40
)

const (
	header = "\x00asm\x01\x00\x00\x00"
	merge  = "dynamo_resolve_v1"
)

// Version returns a module of another hash that does the same: it has a custom section more.
func Version(module []byte, n int) []byte {
	return append(slices.Clone(module), encode(customSection, named("rigged", binary.AppendUvarint(nil, uint64(n))))...)
}

// Trapping returns the module with merges that trap where the length of the request is a multiple of every.
func Trapping(module []byte, every byte) ([]byte, error) {
	return guarded(module, every, opUnreachable)
}

// Burning is Trapping with merges that use up all their fuel.
func Burning(module []byte, every byte) ([]byte, error) {
	return guarded(module, every, opLoop, noResult, opBranch, 0, opEnd)
}

// Taking returns a module whose every merge takes the sibling of the given index: a result that depends on their order.
func Taking(index byte) []byte {
	response := []byte{4, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, index, 0, 0, 0}
	return slices.Concat([]byte(header),
		encode(typeSection, []byte{2, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 2, 0x7f, 0x7f, 1, 0x7e}),
		encode(functionSection, []byte{2, 0, 1}),
		encode(memorySection, []byte{1, 0, 1}),
		encode(exportSection, slices.Concat([]byte{3}, named("memory", []byte{2, 0}), named("dynamo_alloc", []byte{0, 0}), named(merge, []byte{0, 1}))),
		// The request goes to 64; the response lies at 0.
		encode(codeSection, []byte{2, 5, 0, opI32Const, 0xc0, 0, opEnd, 4, 0, opI64Const, 16, opEnd}),
		encode(dataSection, slices.Concat([]byte{1, 0, opI32Const, 0, opEnd, byte(len(response))}, response)),
	)
}

type section struct {
	id   byte
	body []byte
}

func encode(id byte, body []byte) []byte {
	return append(binary.AppendUvarint([]byte{id}, uint64(len(body))), body...)
}

func named(name string, rest []byte) []byte {
	return slices.Concat([]byte{byte(len(name))}, []byte(name), rest)
}

var errMalformed = errors.New("rigged: not a module that can be changed")

// guarded puts a function before the module's merge, which does code where the length of the request is a multiple of every,
// less than 64.
func guarded(module []byte, every byte, code ...byte) ([]byte, error) {
	sections, err := parse(module)
	if err != nil {
		return nil, err
	}
	inner, err := findMerge(sections)
	if err != nil {
		return nil, err
	}
	var functions uint64
	out := []byte(header)
	for _, s := range sections {
		r := reader{b: s.body}
		switch s.id {
		case functionSection: // before the exports
			functions = r.uint()
			all, kind := r.b, uint64(0)
			for range inner + 1 {
				kind = r.uint()
			}
			s.body = binary.AppendUvarint(append(binary.AppendUvarint(nil, functions+1), all...), kind)
		case exportSection:
			n := r.uint()
			s.body = binary.AppendUvarint(nil, n)
			for i := uint64(0); i < n && !r.bad; i++ {
				name, kind, index := string(r.take(r.uint())), r.take(1), r.uint()
				if name == merge {
					index = functions
				}
				s.body = binary.AppendUvarint(append(s.body, named(name, kind)...), index)
			}
		case codeSection:
			n := r.uint()
			f := slices.Concat([]byte{0, opLocalGet, 1, opI32Const, every, opI32RemU, opI32Eqz, opIf, noResult}, code, []byte{opEnd, opLocalGet, 0, opLocalGet, 1, opCall})
			f = append(binary.AppendUvarint(f, inner), opEnd)
			s.body = slices.Concat(binary.AppendUvarint(nil, n+1), r.b, binary.AppendUvarint(nil, uint64(len(f))), f)
		}
		if r.bad {
			return nil, errMalformed
		}
		out = append(out, encode(s.id, s.body)...)
	}
	return out, nil
}

// findMerge returns the index of the function that merges. Imports would come before all functions of the module's own.
func findMerge(sections []section) (uint64, error) {
	for _, s := range sections {
		switch s.id {
		case importSection:
			return 0, fmt.Errorf("%w: it has imports", errMalformed)
		case exportSection:
			r := reader{b: s.body}
			n := r.uint()
			for i := uint64(0); i < n && !r.bad; i++ {
				if name, kind, index := string(r.take(r.uint())), r.take(1), r.uint(); name == merge && !r.bad && kind[0] == 0 && index < maxFunctions {
					return index, nil
				}
			}
		}
	}
	return 0, fmt.Errorf("%w: it does not export %s", errMalformed, merge)
}

// maxFunctions bounds what is looked at.
const maxFunctions = 1 << 16

func parse(module []byte) (out []section, err error) {
	if len(module) < len(header) || string(module[:len(header)]) != header {
		return nil, errMalformed
	}
	for r := (reader{b: module[len(header):]}); len(r.b) > 0; {
		id := r.take(1)
		body := r.take(r.uint())
		if r.bad {
			return nil, errMalformed
		}
		out = append(out, section{id[0], body})
	}
	return out, nil
}

// reader takes a section apart. What it gives after something was bad is nothing.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}
