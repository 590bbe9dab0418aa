package versions

import (
	"errors"
	"strings"
	"testing"

	"dynamo/node/coordinator"
)

// TestUnknownBuiltin: who misspells a name is told the names.
func TestUnknownBuiltin(t *testing.T) {
	for want, names := range map[string][]string{"there are none": nil, "there are cart, max": {"cart", "max"}} {
		r := New(Settings{Builtins: func(string) ([]byte, bool) { return nil, false }, BuiltinNames: names})
		err := r.builtin(&coordinator.Upload{Builtin: "crat"})
		e, ok := errors.AsType[*coordinator.Error](err)
		if !ok || e.Code != coordinator.CodeResolverInvalid || !strings.Contains(e.Detail, `"crat": `+want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
