package plugins_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"dynamo/plugins"
	"dynamo/resolver"
)

// Values collide often: few keys, few numbers, several spellings of the same.
var (
	keys    = []string{`"a"`, `"b"`, `"\u0061b"`, `"ab"`, `""`, `"é"`, `"\ud83d\ude00"`, `"\n"`}
	numbers = []string{"0", "-0", "1", "1.0", "10e-1", "2", "10", "9", "-1", "-2.5", "0.25", "25e-2", "1e30", "9007199254740993", "9007199254740992", "1e-7"}
	spaces  = []string{"", "", " ", "\n\t"}
)

// draw makes JSON texts.
type draw struct{ *rapid.T }

func (d draw) of(list []string) string { return rapid.SampledFrom(list).Draw(d.T, "of") }
func (d draw) upTo(n int) int          { return rapid.IntRange(0, n).Draw(d.T, "n") }
func (d draw) count() string           { return fmt.Sprint(d.upTo(12)) }
func (d draw) array(most int, element func() string) string {
	var parts []string
	for range d.upTo(most) {
		parts = append(parts, d.of(spaces)+element())
	}
	return "[" + strings.Join(parts, ",") + d.of(spaces) + "]"
}

func (d draw) object(value func() string) string {
	var parts []string
	for _, k := range keys {
		if k != `"ab"` && d.upTo(2) == 0 { // "ab" has two spellings
			parts = append(parts, d.of(spaces)+k+d.of(spaces)+":"+value())
		}
	}
	return "{" + strings.Join(rapid.Permutation(parts).Draw(d.T, "order"), ",") + "}"
}

func (d draw) value(depth int) string {
	kinds := 6
	if depth == 0 {
		kinds = 4
	}
	switch d.upTo(kinds - 1) {
	case 0:
		return d.of([]string{"null", "true", "false"})
	case 1, 2:
		return d.of(numbers)
	case 3:
		return d.of(keys)
	case 4:
		return d.array(3, func() string { return d.value(depth - 1) })
	default:
		return d.object(func() string { return d.value(depth - 1) })
	}
}

// state is a random value that the plugin accepts.
func (d draw) state(name string) string {
	tags := func() string { return d.array(3, func() string { return fmt.Sprintf(`"t%d"`, d.upTo(5)) }) }
	return d.of(spaces) + map[string]func() string{
		"lww":        func() string { return d.value(0) },
		"max":        func() string { return d.of(numbers) },
		"min":        func() string { return d.of(numbers) },
		"set-union":  func() string { return d.array(4, func() string { return d.value(2) }) },
		"cart":       func() string { return `{"items":` + d.object(d.count) + "}" },
		"pn-counter": func() string { return `{"p":` + d.object(d.count) + `,"n":` + d.object(d.count) + "}" },
		"or-set":     func() string { return `{"removes":` + tags() + `,"adds":` + d.object(tags) + "}" },
		"json-merge": func() string { return d.object(func() string { return d.value(2) }) },
	}[name]() + d.of(spaces)
}

// TestLawsOnRandomStates merges the same states in random orders, groups and overlaps, always to the same bytes.
func TestLawsOnRandomStates(t *testing.T) {
	r := newRuntime(t)
	for _, name := range plugins.Names() {
		m := load(t, r, name)
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			d := draw{t}
			states := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return draw{t}.state(name) }), 2, 5).Draw(t, "states")
			want := must(t, m, states...)
			for range 3 {
				parts := rapid.Permutation(states).Draw(t, "order")
				for len(parts) > 1 {
					i := 2 + d.upTo(len(parts)-2)
					merged := must(t, m, parts[:i]...)
					keep := parts[i:]
					if d.upTo(1) == 0 && len(keep) > 0 {
						keep = append([]string{d.of(states)}, keep...) // an overlap; it does not end the loop, a last pair does
						if len(keep) >= len(parts) {
							keep = keep[1:]
						}
					}
					parts = append([]string{merged}, keep...)
				}
				if parts[0] != want {
					t.Fatalf("%s of %q is %s, and in another order %s", name, states, want, parts[0])
				}
			}
			for _, s := range states {
				if again := must(t, m, want, s); again != want {
					t.Fatalf("%s of %s and its part %s is %s", name, want, s, again)
				}
			}
			if again := must(t, m, want, want); again != want {
				t.Fatalf("%s of %s with itself is %s", name, want, again)
			}
			if !json.Valid([]byte(want)) {
				t.Fatalf("%s: the result %q is no JSON", name, want)
			}
		}))
	}
}

func must(t *rapid.T, m *resolver.Module, values ...string) string {
	if len(values) == 1 {
		return values[0]
	}
	got, err := merge(m, values...)
	if err != nil {
		t.Fatalf("%q: %v", values, err)
	}
	return got
}
