// Command go-parser is the cart merge as a module of the function form, in Go with a parser of its own:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags=-s -o cart.wasm .
package main

import (
	"dynamo/examples/guests/parse"
	"dynamo/resolver/guest"
)

var _ = guest.Resolver(merge)

func merge(siblings []guest.Sibling) (guest.Result, error) {
	values := make([][]byte, 0, len(siblings))
	for _, s := range siblings {
		values = append(values, s.Value)
	}
	merged, err := parse.Merge(values)
	return guest.Value("application/json", merged), err
}

// main is not called in a module of this kind, but Go wants one.
func main() {}
