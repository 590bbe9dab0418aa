package plugins_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"dynamo/examples/cart-merge/cart"
)

// against compares a plugin with a model of it in Go, on random states.
func against(t *testing.T, name string, model func(t *rapid.T, states []string) any) {
	m := load(t, newRuntime(t), name)
	rapid.Check(t, func(t *rapid.T) {
		states := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { return draw{t}.state(name) }), 2, 4).Draw(t, "states")
		want := marshal(t, model(t, states))
		if got := must(t, m, states...); got != want {
			t.Fatalf("%s of %q is %s, want %s", name, states, got, want)
		}
	})
}

func marshal(t *rapid.T, v any) string {
	b, err := json.Marshal(v) // sorts keys; the random states have nothing that it escapes otherwise
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func unmarshal[T any](t *rapid.T, text string) T {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v T
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return v
}

type counts map[string]uint64

func (c counts) raise(o counts) {
	for k, n := range o {
		c[k] = max(c[k], n)
	}
}

// TestCartModel is the rule of examples/cart-merge, with encoding/json as there.
func TestCartModel(t *testing.T) {
	type cart struct {
		Items counts `json:"items"`
	}
	against(t, "cart", func(t *rapid.T, states []string) any {
		all := cart{counts{}}
		for _, s := range states {
			all.Items.raise(unmarshal[cart](t, s).Items)
		}
		return all
	})
}

// TestCartOfTheExample: both implementations of the rule accept the same carts and give the same bytes, but for the
// SKUs that README.md names.
func TestCartOfTheExample(t *testing.T) {
	m := load(t, newRuntime(t), "cart")
	same := func(a, b string) (got, want string, ok bool) {
		got, err := merge(m, a, b)
		want2, err2 := cart.Merge([][]byte{[]byte(a), []byte(b)})
		return got, string(want2), got == string(want2) && (err == nil) == (err2 == nil)
	}
	for _, sku := range []string{`\ufffd`, "\ufffd", `\u2028`, "\u2028", "\u2029"} {
		if got, want, ok := same(`{"items":{"`+sku+`":1}}`, `{"items":{}}`); ok {
			t.Errorf("SKU %s: both give %q and %q: correct README.md", sku, got, want)
		}
	}
	skus := []string{``, `a`, `\u0061`, `\u0000`, `\u001f`, `\b\f\n\r\t`, `\"\\\/`, `<&>`, "\x7f", "\ufeff", "\ufffe", `\ud83d\ude00`, `\ud83d`, "\xff", "\x01"}
	quantities := []string{"0", "7", "9007199254740991", "9007199254740992", "-0", "-1", "01", "1.0", "1e2", `"1"`, "null"}
	for _, sku := range skus {
		for _, q := range quantities {
			a := `{"items":{"` + sku + `":` + q + `}}`
			if got, want, ok := same(a, `{"items":{"b":1}}`); !ok {
				t.Errorf("%s: %q, the example's is %q", a, got, want)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw{t}.state("cart"), draw{t}.state("cart")
		if got, want, ok := same(a, b); !ok {
			t.Fatalf("%s and %s: %q, the example's is %q", a, b, got, want)
		}
	})
}

func TestCounterModel(t *testing.T) {
	type counter struct {
		N counts `json:"n"`
		P counts `json:"p"`
	}
	against(t, "pn-counter", func(t *rapid.T, states []string) any {
		all := counter{counts{}, counts{}}
		for _, s := range states {
			c := unmarshal[counter](t, s)
			all.N.raise(c.N)
			all.P.raise(c.P)
		}
		return all
	})
}

func TestSetModel(t *testing.T) {
	type set struct {
		Adds    map[string][]string `json:"adds"`
		Removes []string            `json:"removes"`
	}
	against(t, "or-set", func(t *rapid.T, states []string) any {
		all := set{map[string][]string{}, []string{}}
		for _, s := range states {
			o := unmarshal[set](t, s)
			all.Removes = append(all.Removes, o.Removes...)
			for element, tags := range o.Adds {
				all.Adds[element] = append(all.Adds[element], tags...)
			}
		}
		slices.Sort(all.Removes)
		all.Removes = slices.Compact(all.Removes)
		for element, tags := range all.Adds {
			tags = slices.DeleteFunc(tags, func(tag string) bool { return slices.Contains(all.Removes, tag) })
			slices.Sort(tags)
			all.Adds[element] = slices.Compact(tags)
		}
		maps.DeleteFunc(all.Adds, func(_ string, tags []string) bool { return len(tags) == 0 })
		return all
	})
}

func TestUnionModel(t *testing.T) {
	against(t, "set-union", func(t *rapid.T, states []string) any {
		texts := map[string]bool{}
		for _, s := range states {
			for _, e := range unmarshal[[]any](t, s) {
				texts[marshal(t, canonical(e))] = true
			}
		}
		out := []json.RawMessage{}
		for _, text := range slices.Sorted(maps.Keys(texts)) {
			out = append(out, json.RawMessage(text))
		}
		return out
	})
}

func TestJSONModel(t *testing.T) {
	against(t, "json-merge", func(t *rapid.T, states []string) any {
		all := map[string]any{}
		for _, s := range states {
			joinObjects(t, all, canonical(unmarshal[any](t, s)).(map[string]any))
		}
		return all
	})
}

// spelling is the canonical one of the numbers in the random states.
func spelling(n json.Number) json.Number {
	if s, ok := map[json.Number]json.Number{"-0": "0", "1.0": "1", "10e-1": "1", "25e-2": "0.25", "1e30": "1e+30"}[n]; ok {
		return s
	}
	return n
}

func canonical(v any) any {
	switch v := v.(type) {
	case json.Number:
		return spelling(v)
	case []any:
		for i := range v {
			v[i] = canonical(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = canonical(v[k])
		}
	}
	return v
}

func joinObjects(t *rapid.T, into, from map[string]any) {
	for k, v := range from {
		have, ok := into[k]
		a, isObject := have.(map[string]any)
		b, alsoObject := v.(map[string]any)
		switch {
		case isObject && alsoObject:
			joinObjects(t, a, b)
		case !ok || compareValues(t, v, have) > 0:
			into[k] = v
		}
	}
}

func compareValues(t *rapid.T, a, b any) int {
	rank := func(v any) int {
		switch v := v.(type) {
		case nil:
			return 0
		case bool:
			if v {
				return 2
			}
			return 1
		case json.Number:
			return 3
		case string:
			return 4
		case []any:
			return 5
		default:
			return 6
		}
	}
	if d := cmp.Compare(rank(a), rank(b)); d != 0 {
		return d
	}
	switch a := a.(type) {
	case json.Number:
		x, _ := new(big.Rat).SetString(string(a))
		y, _ := new(big.Rat).SetString(string(b.(json.Number)))
		return x.Cmp(y)
	case string:
		return cmp.Compare(a, b.(string))
	case []any:
		return bytes.Compare([]byte(marshal(t, a)), []byte(marshal(t, b)))
	}
	return 0
}
