// The generator writes the sources of all mutants to a directory and prints the name of the file for go build -overlay.
// It runs at the root of the module.
package main

import (
	"fmt"
	"os"

	"dynamo/node/sim/mutants"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate DIR")
		os.Exit(2)
	}
	out, err := mutants.Overlay(".", os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(out)
}
