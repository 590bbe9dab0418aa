// Package plugins holds the ready-made resolvers, named builtin:NAME in a cluster file: WebAssembly modules that were
// compiled from the C sources beside it (make plugins) and are part of the binary. README.md describes each.
package plugins

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed wasm/*.wasm
var modules embed.FS

const (
	dir = "wasm"
	ext = ".wasm"
)

// Module returns a copy of a module, and whether there is one of this name.
func Module(name string) ([]byte, bool) {
	b, err := modules.ReadFile(dir + "/" + name + ext)
	return b, err == nil
}

// Names lists the modules, sorted.
func Names() []string {
	entries, err := modules.ReadDir(dir)
	if err != nil {
		panic(fmt.Sprintf("plugins: the binary was built without modules: %v", err)) // go:embed refuses to
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), ext)
	}
	return names
}
