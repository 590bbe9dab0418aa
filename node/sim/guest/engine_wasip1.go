package main

import (
	"unsafe"

	"dynamo/node/sim/merger"
	"dynamo/resolver"
)

// engine is the one of the host.
func engine() resolver.Engine { return merger.Engine{Call: call} }

// hostCall hands the bytes at p over and returns how long the answer is, which hostAnswer then puts to p.
//
//go:wasmimport dynamo_simulator call
func hostCall(p unsafe.Pointer, n uint32) uint32

//go:wasmimport dynamo_simulator answer
func hostAnswer(p unsafe.Pointer, n uint32)

func call(b []byte) []byte {
	n := hostCall(unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b)))
	out := make([]byte, n)
	if n > 0 {
		hostAnswer(unsafe.Pointer(unsafe.SliceData(out)), n)
	}
	return out
}
