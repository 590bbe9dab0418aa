package rigged

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"dynamo/plugins"
	"dynamo/resolver"
)

// TestRigged: what is rigged fails for some requests as it should, and does what it did for the others.
func TestRigged(t *testing.T) {
	rt, err := resolver.New(resolver.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rt.Close(context.Background()) }()
	merge := func(module []byte, a, b string) string {
		t.Helper()
		m, err := rt.Load(t.Context(), module, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, _, err := m.Merge(t.Context(), resolver.Request{Keyspace: "k", Siblings: []resolver.Sibling{{Value: []byte(a)}, {Value: []byte(b)}}}, 1<<10)
		if err != nil {
			return string(resolver.CodeOf(err))
		}
		return string(res.Payload)
	}
	for _, name := range plugins.Names() {
		module, _ := plugins.Module(name)
		trapping, err := Trapping(Version(module, 7), 2)
		burning, err2 := Burning(module, 2)
		if err != nil || err2 != nil {
			t.Fatal(name, err, err2)
		}
		if name != "set-union" {
			continue
		}
		failed := 0
		for i := range 8 {
			a, b := `["a"]`, fmt.Sprintf("[%q]", "bcdefghi"[:i+1])
			want := merge(module, a, b)
			if got := merge(Version(module, 1), a, b); got != want {
				t.Errorf("another version: %s, not %s", got, want)
			}
			switch got := merge(trapping, a, b); got {
			case string(resolver.CodeTrap):
				failed++
				if got := merge(burning, a, b); got != string(resolver.CodeFuel) {
					t.Errorf("burning gives %s", got)
				}
			case want:
			default:
				t.Errorf("%s, not %s", got, want)
			}
		}
		if failed != 4 {
			t.Errorf("%d of 8 merges failed", failed)
		}
	}
	if _, err := rt.Check(Taking(1)); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", header, "no module", header + "\x0a\xff"} {
		if _, err := Trapping([]byte(bad), 2); err == nil {
			t.Errorf("%q is rigged", bad)
		}
	}
}

func FuzzRigged(f *testing.F) {
	module, _ := plugins.Module("set-union")
	f.Add(module)
	f.Add(Taking(1))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = Trapping(b, 2) // need not be one
	})
}
