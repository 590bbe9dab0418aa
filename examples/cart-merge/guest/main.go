//go:build wasip1

// Cart-merge is a resolver: a WebAssembly module that the store calls when a
// key has several concurrent versions. This file is all that ties it to the
// store; cart.go is the merge itself, frame.go the bytes in between. Build with
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o cart.wasm ./guest
package main

import "unsafe"

// The store writes the request into memory of ours and reads the answer from
// there. Go's garbage collector must not reclaim either meanwhile, so we hold
// on to them here. Every merge runs in a fresh copy of the module, hence
// nothing piles up and nothing of one key can be seen by another.
var held struct{ request, answer []byte }

// alloc makes room for a request of size bytes and says where.
//
//go:wasmexport dynamo_alloc
func alloc(size int32) int32 {
	held.request = make([]byte, max(size, 1))
	return int32(uintptr(unsafe.Pointer(&held.request[0])))
}

// resolveV1 merges the request that now lies in that room. The result is the
// address of the answer in the upper half and its length in the lower.
//
//go:wasmexport dynamo_resolve_v1
func resolveV1(_, size int32) int64 {
	held.answer = resolve(held.request[:size])
	return int64(uintptr(unsafe.Pointer(&held.answer[0])))<<32 | int64(len(held.answer))
}

// main is not called in a module of this kind, but Go wants one.
func main() {}
