package plugins_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"dynamo/plugins"
	"dynamo/resolver"
)

const mib = 1 << 20

// hostile are values that ask for much: memory, stack, time. Each has about size bytes.
func hostile(size int) map[string]string {
	var keys, same, descending strings.Builder
	for i := range size / 16 {
		fmt.Fprintf(&keys, `"%06x":1,`, i*7919%(size/16))
		fmt.Fprintf(&same, `"a":%d,`, i)
		fmt.Fprintf(&descending, `"%06x",`, size-i)
	}
	long := strings.Repeat("x", size/8)
	var prefixes strings.Builder
	for i := range 8 {
		fmt.Fprintf(&prefixes, `"%s%d":1,`, long, 8-i)
	}
	object := func(b *strings.Builder) string { return "{" + strings.TrimSuffix(b.String(), ",") + "}" }
	return map[string]string{
		"arrays that never end":     strings.Repeat("[", size),
		"objects that never end":    strings.Repeat(`{"a":`, size/5),
		"nested arrays":             strings.Repeat("[", size/2) + strings.Repeat("]", size/2),
		"many arrays":               "[" + strings.Repeat("[],", size/3) + "[]]",
		"many ones":                 "[" + strings.Repeat("1,", size/2) + "1]",
		"descending strings":        "[" + strings.TrimSuffix(descending.String(), ",") + "]",
		"a huge number":             strings.Repeat("9", size),
		"a tiny number":             "0." + strings.Repeat("0", size) + "1",
		"a number of zeros":         "0." + strings.Repeat("0", size),
		"a huge exponent":           "1e" + strings.Repeat("9", size),
		"many keys":                 object(&keys),
		"one key again and again":   object(&same),
		"keys with a common prefix": object(&prefixes),
		"a cart of many":            `{"items":` + object(&keys) + "}",
		"a counter of many":         `{"p":` + object(&keys) + `,"n":` + object(&keys) + "}",
		"a set of many":             `{"adds":` + strings.ReplaceAll(object(&keys), "1", `["1"]`) + "}",
		"a string without an end":   `"` + strings.Repeat("a", size),
		"a string of escapes":       `["` + strings.Repeat(`\u0001`, size/6) + `"]`,
		"invalid UTF-8":             `["` + strings.Repeat("a", size) + "\xff\"]",
		"cut UTF-8":                 "\"\xf0\x9f\x98",
		"spaces":                    strings.Repeat(" ", size),
		"zero bytes":                strings.Repeat("\x00", size),
		"binary":                    strings.Repeat("\xde\xad\xbe\xef", size/4),
	}
}

// TestHostileValues end as a refusal by the module or in JSON. They have more fuel than a merge by default, so that all
// of the code is reached; TestDefaultFuel tests that.
func TestHostileValues(t *testing.T) {
	limits := resolver.DefaultLimits()
	limits.Timeout = 10 * time.Second // for busy machines; a tenth of a second to half a second is usual
	limits.Fuel = 1 << 30
	r, err := resolver.New(resolver.Options{Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(t.Context()) //nolint:errcheck // the test is over
	large, small := hostile(mib), hostile(mib/32)
	for _, name := range plugins.Names() {
		m, valid := load(t, r, name), readVectors(t, name).Valid
		values := small
		if name == "set-union" { // all have one reader and one writer; it also sorts
			values = large
		}
		for what, value := range values {
			got, err := merge(m, valid, value)
			if err != nil && !refused(err) {
				t.Errorf("%s of %s: %v", name, what, err)
			}
			if err == nil && name != "lww" && !json.Valid([]byte(got)) {
				t.Errorf("%s of %s is no JSON: %.80q", name, what, got)
			}
		}
	}
}

// TestDefaultFuel: with the limits of a merge by default, values of the sizes that README.md names are merged, and hostile
// ones of 1 MiB end in JSON, a refusal or without fuel.
func TestDefaultFuel(t *testing.T) {
	r := newRuntime(t)
	var low, high strings.Builder
	for i := range 6900 {
		fmt.Fprintf(&low, `"sku-%07d":%d,`, 2*i, i)
		fmt.Fprintf(&high, `"sku-%07d":%d,`, 2*i+1, i)
	}
	shape := map[string]string{"cart": `{"items":{%s}}`, "pn-counter": `{"p":{%s}}`, "json-merge": `{%s}`}
	bad := hostile(mib)
	for _, name := range plugins.Names() {
		m, valid := load(t, r, name), readVectors(t, name).Valid
		if s := shape[name]; s != "" {
			a, b := fmt.Sprintf(s, strings.TrimSuffix(low.String(), ",")), fmt.Sprintf(s, strings.TrimSuffix(high.String(), ","))
			if _, err := merge(m, a, b); err != nil {
				t.Errorf("%s of %d and %d bytes: %v", name, len(a), len(b), err)
			}
		}
		if name != "json-merge" && name != "or-set" { // one reads every JSON object, the other has a reader of its own on top
			continue
		}
		for what, value := range bad {
			got, err := merge(m, valid, value)
			if err != nil && !refused(err) && resolver.CodeOf(err) != resolver.CodeFuel {
				t.Errorf("%s of %s: %v", name, what, err)
			}
			if err == nil && name != "lww" && !json.Valid([]byte(got)) {
				t.Errorf("%s of %s is no JSON: %.80q", name, what, got)
			}
		}
	}
}

// TestOutOfMemory: what does not fit is refused by the module, not trapped.
func TestOutOfMemory(t *testing.T) {
	limits := resolver.DefaultLimits()
	limits.Fuel = 1 << 40
	limits.MemoryBytes = 4 * mib
	r, err := resolver.New(resolver.Options{Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(t.Context()) //nolint:errcheck // the test is over
	for _, name := range []string{"set-union", "json-merge"} {
		value := map[string]string{"set-union": "[" + strings.Repeat("1,", mib/2) + "1]", "json-merge": `{"a":[` + strings.Repeat("1,", mib/2) + "1]}"}[name]
		if _, err := merge(load(t, r, name), value, value); !refused(err) || !strings.Contains(err.Error(), "out of memory") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzMerge holds the plugins against encoding/json: what they accept is JSON, what they answer is canonical.
func FuzzMerge(f *testing.F) {
	names := plugins.Names()
	for i, name := range names {
		v := readVectors(f, name)
		for _, m := range v.Merges {
			f.Add(uint8(i), []byte(m.In[0]), []byte(m.In[1]))
		}
		for _, bad := range v.Refused {
			if len(bad) < 100 {
				f.Add(uint8(i), []byte(v.Valid), []byte(bad))
			}
		}
	}
	r := newRuntime(f)
	modules := make([]*resolver.Module, len(names))
	for i, name := range names {
		modules[i] = load(f, r, name)
	}
	f.Fuzz(func(t *testing.T, which uint8, a, b []byte) {
		i := int(which) % len(names)
		m, name := modules[i], names[i]
		got, err := merge(m, string(a), string(b))
		if err != nil {
			if !refused(err) {
				t.Fatal(err)
			}
			return
		}
		if back, err := merge(m, string(b), string(a)); err != nil || back != got {
			t.Fatalf("%s of %q and %q is %q, and the other way round %q, %v", name, a, b, got, back, err)
		}
		if again, err := merge(m, got, string(a)); err != nil || again != got {
			t.Fatalf("%s of %q and %q is %q, and with the first once more %q, %v", name, a, b, got, again, err)
		}
		if name == "lww" {
			return
		}
		for _, in := range [][]byte{a, b, []byte(got)} {
			if !json.Valid(in) || !utf8.Valid(in) {
				t.Fatalf("%s takes or gives %q", name, in)
			}
		}
		checkMeaning(t, name, a, b, got)
	})
}

// checkMeaning computes a few results in another way.
func checkMeaning(t *testing.T, name string, a, b []byte, got string) {
	t.Helper()
	number := func(text []byte) *big.Rat {
		r, ok := new(big.Rat).SetString(string(bytes.TrimSpace(text)))
		if !ok {
			t.Fatalf("%q is no number", text)
		}
		return r
	}
	small := func(text []byte) bool { return !bytes.ContainsAny(text, "eE") || len(text) < 7 } // big.Rat writes exponents out
	switch name {
	case "max", "min":
		if !small(a) || !small(b) || !small([]byte(got)) {
			return
		}
		want := number(a)
		if o := number(b); o.Cmp(want) > 0 == (name == "max") {
			want = o
		}
		if number([]byte(got)).Cmp(want) != 0 {
			t.Fatalf("%s of %q and %q is %s", name, a, b, got)
		}
	case "set-union":
		var out []json.RawMessage
		if err := json.Unmarshal([]byte(got), &out); err != nil {
			t.Fatal(err)
		}
		if !slices.IsSortedFunc(out, func(x, y json.RawMessage) int { return bytes.Compare(x, y) }) {
			t.Fatalf("%s is not sorted", got)
		}
	}
}
