//go:build wasip1

package guest

import "unsafe"

// alloc makes room for a request of size bytes and says where.
//
//go:wasmexport dynamo_alloc
func alloc(size uint32) uint32 { return address(module.alloc(size)) }

// resolveV1 merges the request that now lies in that room. The result is the address of the answer in the
// upper half and its length in the lower.
//
//go:wasmexport dynamo_resolve_v1
func resolveV1(_, size uint32) uint64 {
	answer := module.resolve(size)
	return uint64(address(answer))<<32 | uint64(len(answer))
}

func address(b []byte) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }
