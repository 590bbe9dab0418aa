// Command go is the cart merge as a module of the function form, in Go:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags=-s -o cart.wasm .
package main

import (
	"dynamo/examples/cart-merge/cart"
	"dynamo/resolver/guest"
)

var _ = guest.Resolver(merge)

// Packages prepare themselves when they are first used: encoding/json does, and the memory allocator. In a guest that
// would be in every merge. What is done here, once, is part of the state that every merge begins with.
var _, _ = cart.Merge([][]byte{[]byte(`{"items":{"apple":1,"pear":2}}`)})

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
