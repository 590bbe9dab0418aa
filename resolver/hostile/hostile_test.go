package hostile_test

import (
	"bytes"
	"testing"

	"dynamo/resolver/hostile"
)

// TestAttacks: each is there once, and is the same each time.
func TestAttacks(t *testing.T) {
	names := map[string]bool{}
	again := hostile.Attacks()
	for i, a := range hostile.Attacks() {
		if names[a.Name] || len(a.Module) == 0 || a.Refused == "" && a.Clock && a.Fails != "fuel" {
			t.Errorf("%q is there twice, or makes no sense", a.Name)
		}
		names[a.Name] = true
		if !bytes.Equal(a.Module, again[i].Module) {
			t.Errorf("%q is another module each time", a.Name)
		}
	}
}
