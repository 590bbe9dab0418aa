package coordinator

import (
	"errors"
	"strings"
	"testing"
)

// TestUnknownBuiltin: who misspells a name is told the names.
func TestUnknownBuiltin(t *testing.T) {
	for want, names := range map[string][]string{"there are none": nil, "there are cart, max": {"cart", "max"}} {
		r := NewResolvers(ResolverSettings{Builtins: func(string) ([]byte, bool) { return nil, false }, BuiltinNames: names})
		_, err := r.UploadBuiltin(t.Context(), "ks", "crat", CheckStrict)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Code != CodeResolverInvalid || !strings.Contains(e.Detail, `"crat": `+want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
