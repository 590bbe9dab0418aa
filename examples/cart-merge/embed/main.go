// Command embed puts sample values into a resolver module, as the custom section dynamo.samples. The
// store tests the merge laws on them when the module is uploaded.
//
//	embed MODULE.wasm SAMPLE...
package main

import (
	"fmt"
	"os"

	"dynamo/resolver/laws"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: embed MODULE.wasm SAMPLE...")
		os.Exit(2)
	}
	if err := embed(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "embed:", err)
		os.Exit(1)
	}
}

// embed gives the module these samples in place of those that it has.
func embed(module string, files []string) error {
	b, err := os.ReadFile(module)
	if err != nil {
		return err
	}
	var samples [][]byte
	for _, f := range files {
		s, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		samples = append(samples, s)
	}
	if b, err = laws.WithSamples(b, samples); err != nil {
		return err
	}
	return os.WriteFile(module, b, 0o644)
}
