// Package mutants checks the simulator: it holds deliberately broken variants of the node, of which the simulator has
// to catch every one. A checker that has never been seen to fail proves nothing.
//
// The sources of the node have no hooks for this. Overlay writes changed copies of them and a file for the -overlay flag
// of the go command; all variants are then in one binary, and package mutant says which of them is on.
package mutants

import (
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Mutant is one broken variant.
type Mutant struct {
	// Name switches it on.
	Name string
	// Rule is what it breaks, Promise what should fall because of it.
	Rule, Promise string
	// Edits make it; each is guarded by mutant.On(Name).
	Edits []Edit
}

// Edit replaces text that is exactly once in a file of this module.
type Edit struct {
	// File is relative to the root of the module.
	File     string
	Old, New string
}

// All returns the table.
func All() []Mutant {
	return slices.Concat(causality(), writing(), quorums(), repairs(), disks(), unclean(), settling())
}

// Drills says which drill finds a mutant that needs a situation that hardly ever comes up in a storm. The others are found
// by storms.
func Drills() map[string]string {
	return map[string]string{
		"strict-read-counts-fallbacks": "strict-read-beside-fallbacks",
		"hint-not-stored":              "hint-holders-lose-power",
		"hint-not-durable":             "hint-holders-lose-power",
		"hint-removed-grown":           "hint-grows-on-its-way",
		"identity-kept":                "wiped-disk-writes",
		"write-not-claimed":            "write-is-handed-on",
		"read-needs-one-less":          "strict-read-sees-strict-write",
		"unsure-counts":                "unsure-node-is-read",
		"token-claims-all":             "token-of-a-write",
		"writers-pruned":               "context-is-kept",
		"incarnation-kept":             "buffered-end-is-lost",
		"reaped-without-absent":        "delete-while-one-is-away",
		"drop-not-heard-of":            "drop-while-one-is-away",
	}
}

// chooser lets the guest choose by its environment; a test chooses by itself.
func chooser() Edit {
	return Edit{
		File: "node/sim/guest/main.go",
		Old:  "func main() {\n",
		New:  "func main() {\n\tmutant.Choose(os.Getenv(Variable))\n",
	}
}

// Variable is the environment variable that names the variant of a guest with all of them.
const Variable = "DYNAMO_MUTANT"

// Overlay writes changed copies of the sources under root to dir, and returns the file for go build -overlay.
func Overlay(root, dir string) (string, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	guest := chooser()
	guest.New = strings.ReplaceAll(guest.New, "Variable", fmt.Sprintf("%q", Variable))
	sources := map[string]string{}
	for _, m := range append(All(), Mutant{Name: "the choice", Edits: []Edit{guest}}) {
		for _, e := range m.Edits {
			if err := e.apply(root, sources); err != nil {
				return "", fmt.Errorf("mutant %s: %w", m.Name, err)
			}
		}
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for file, text := range sources {
		text, err := imported(text)
		if err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
		copied := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
			return "", err
		}
		overlay.Replace[filepath.Join(root, file)] = copied
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	out := filepath.Join(dir, "overlay.json")
	return out, os.WriteFile(out, b, 0o600)
}

// imported imports the switch, on the line of the package clause, if the text uses it.
func imported(text string) (string, error) {
	if !strings.Contains(text, "mutant.") {
		return text, nil
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "", text, parser.PackageClauseOnly)
	if err != nil {
		return "", err
	}
	at := fset.Position(f.Name.End()).Offset
	return text[:at] + `; import "dynamo/node/sim/mutants/mutant"` + text[at:], nil
}

// apply makes one edit on what earlier edits have left of its file.
func (e Edit) apply(root string, sources map[string]string) error {
	text, ok := sources[e.File]
	if !ok {
		b, err := os.ReadFile(filepath.Join(root, e.File))
		if err != nil {
			return err
		}
		text = string(b)
	}
	if n := strings.Count(text, e.Old); n != 1 {
		return fmt.Errorf("%s holds %d times, not once:\n%s", e.File, n, e.Old)
	}
	sources[e.File] = strings.Replace(text, e.Old, e.New, 1)
	return nil
}
