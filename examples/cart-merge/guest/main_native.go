//go:build !wasip1

package main

import (
	"fmt"
	"os"

	"dynamo/examples/cart-merge/cart"
)

// main, outside of WebAssembly, merges carts in files, so that the rules can be
// tried without a store: go run ./examples/cart-merge/guest a.json b.json
func main() {
	if err := mergeFiles(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cart-merge:", err)
		os.Exit(1)
	}
}

func mergeFiles(names []string) error {
	var carts [][]byte
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		carts = append(carts, text)
	}
	merged, err := cart.Merge(carts)
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s\n", merged)
	return err
}
