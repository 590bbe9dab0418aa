//go:build wasip1

// Cart-merge is a resolver: a WebAssembly module that the store calls when a key has several concurrent
// versions. This file is all that ties it to the store; package cart is the merge itself. Build with
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o cart.wasm ./guest
package main

import (
	"dynamo/examples/cart-merge/cart"
	"dynamo/resolver/guest"
)

var _ = guest.Resolver(merge)

// Packages prepare themselves when they are first used: encoding/json does, and the memory allocator. What is done here,
// once, is part of the state that every merge begins with.
var _, _ = cart.Merge([][]byte{[]byte(`{"items":{"apple":1,"pear":2}}`)})

// merge does without the version before the conflict, which tells nothing that a maximum needs.
func merge(siblings []guest.Sibling) (guest.Result, error) {
	values := make([][]byte, 0, len(siblings))
	for _, s := range siblings {
		values = append(values, s.Value)
	}
	merged, err := cart.Merge(values)
	return guest.Value(cart.ContentType, merged), err
}

// main is not called in a module of this kind, but Go wants one.
func main() {}
