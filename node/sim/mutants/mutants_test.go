package mutants_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"dynamo/node/sim/drill"
	"dynamo/node/sim/mutants"
)

const root = "../../.."

// TestOverlay compiles all mutants: a row whose place has changed fails here, not a month later.
func TestOverlay(t *testing.T) {
	overlay, err := mutants.Overlay(root, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", overlay, "./node/...")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the mutants do not compile: %v\n%s", err, out)
	}
}

// TestTable asks that every row is told apart and does something only when it is switched on.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range mutants.All() {
		if seen[m.Name] {
			t.Errorf("%s is there twice", m.Name)
		}
		seen[m.Name] = true
		guarded := false
		for _, e := range m.Edits {
			guarded = guarded || strings.Contains(e.New, `mutant.On("`+m.Name+`")`)
		}
		if !guarded || m.Rule == "" || m.Promise == "" {
			t.Errorf("%s: no guard, no rule or no promise", m.Name)
		}
	}
	for name, situation := range mutants.Drills() {
		if !seen[name] {
			t.Errorf("%s is no mutant", name)
		}
		if !slices.ContainsFunc(drill.All(), func(d drill.Drill) bool { return d.Name == situation }) {
			t.Errorf("%s is no drill", situation)
		}
	}
	if len(seen) < 25 {
		t.Errorf("%d mutants are too few", len(seen))
	}
}
