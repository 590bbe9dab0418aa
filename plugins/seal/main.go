// Command seal finishes compiled plugins: it puts their samples into the modules, on which the store tests the merge
// laws, and with -sums records the SHA-256 of all sources and modules, so that a source which was changed and not
// compiled shows on machines without the compiler too.
//
//	seal [-sums] PLUGINS MODULES
package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"dynamo/resolver/laws"
)

// sumsFile lists what sums returns, in the directory of the plugins.
const sumsFile = "SHA256SUMS"

func main() {
	write := flag.Bool("sums", false, "write "+sumsFile)
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: seal [-sums] PLUGINS MODULES")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), flag.Arg(1), *write); err != nil {
		fmt.Fprintln(os.Stderr, "seal:", err)
		os.Exit(1)
	}
}

func run(dir, modules string, write bool) error {
	names, err := filepath.Glob(filepath.Join(modules, "*.wasm"))
	if err == nil && len(names) == 0 {
		err = errors.New("there are no modules")
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		plugin := strings.TrimSuffix(filepath.Base(name), ".wasm")
		if err := embed(name, filepath.Join(dir, "samples", plugin+".txt")); err != nil {
			return err
		}
	}
	if !write {
		return nil
	}
	b, err := sums(dir)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, sumsFile), b, 0o644)
}

// embed gives a module the samples of a file, one a line, in place of those that it has.
func embed(module, samples string) error {
	b, err := os.ReadFile(module)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(samples)
	if err != nil {
		return err
	}
	if b, err = laws.WithSamples(b, bytes.Split(bytes.TrimSpace(text), []byte("\n"))); err != nil {
		return err
	}
	return os.WriteFile(module, b, 0o644)
}

// sums is the SHA-256 of each file that a module depends on, and of the modules, in the format of sha256sum.
func sums(dir string) ([]byte, error) {
	files := []string{"COMPILER", "build.sh"}
	for _, pattern := range []string{"lib/*", "src/*", "samples/*", "wasm/*"} {
		more, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		for _, f := range more {
			files = append(files, filepath.ToSlash(strings.TrimPrefix(f, filepath.Clean(dir)+string(filepath.Separator))))
		}
	}
	slices.Sort(files)
	var out bytes.Buffer
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&out, "%x  %s\n", sha256.Sum256(b), f)
	}
	return out.Bytes(), nil
}
