//go:build !wasip1

package main

import (
	"fmt"
	"os"
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
	var carts []cart
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		c, err := parseCart(text)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		carts = append(carts, c)
	}
	merged, err := mergeCarts(carts).encode()
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s\n", merged)
	return err
}
