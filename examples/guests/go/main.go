// Command go is the cart merge as a module of the function form, in Go:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags=-s -o cart.wasm .
package main

import (
	"dynamo/examples/cart-merge/cart"
	"dynamo/resolver/guest"
)

var _ = guest.Resolver(merge)

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
