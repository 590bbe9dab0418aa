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

// embed replaces the module by one with samples; it refuses one that has some.
func embed(module string, files []string) error {
	b, err := os.ReadFile(module)
	if err != nil {
		return err
	}
	if have, err := laws.Samples(b); err != nil || len(have) > 0 {
		return fmt.Errorf("%s has %d samples already (%v)", module, len(have), err)
	}
	var samples [][]byte
	for _, f := range files {
		s, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		samples = append(samples, s)
	}
	return os.WriteFile(module, laws.WithSamples(b, samples), 0o644)
}
