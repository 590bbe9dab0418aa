package cart

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func valuesOf(values ...string) [][]byte {
	var out [][]byte
	for _, v := range values {
		out = append(out, []byte(v))
	}
	return out
}

func merge(t *testing.T, values ...string) string {
	t.Helper()
	merged, err := Merge(valuesOf(values...))
	if err != nil {
		t.Fatalf("%q: %v", values, err)
	}
	return string(merged)
}

func TestMerge(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{`{"items":{}}`, `{"items":{}}`, `{"items":{}}`},
		{`{"items":{"apple":1}}`, `{"items":{"pear":2}}`, `{"items":{"apple":1,"pear":2}}`},
		{`{"items":{"apple":1}}`, `{"items":{"apple":3}}`, `{"items":{"apple":3}}`},
		{` { "items" : { "b" : 1 , "a" : 0 } } `, `{"items":{"b":1}}`, `{"items":{"a":0,"b":1}}`},
		{`{"items":{"\u0061<&>":1}}`, `{"items":{"ä":9007199254740991}}`, `{"items":{"a<&>":1,"ä":9007199254740991}}`},
	} {
		if got := merge(t, c.a, c.b); got != c.want {
			t.Errorf("%s and %s: got %s, want %s", c.a, c.b, got, c.want)
		}
	}
}

func TestRefusesWhatItDoesNotUnderstand(t *testing.T) {
	for _, bad := range []string{
		``, `null`, `[]`, `{}`, `{"items":null}`, `{"items":[]}`, `{"things":{}}`, `{"items":{},"more":1}`,
		`{"items":{"a":-1}}`, `{"items":{"a":1.0}}`, `{"items":{"a":1e2}}`, `{"items":{"a":"1"}}`, `{"items":{"a":null}}`,
		`{"items":{"a":9007199254740992}}`, `{"items":{"a":1,"a":2}}`, `{"items":{"a":{}}}`, `{"items":{"a":1}} x`,
		`{"items":{"a":1}}{}`, `{"items":{"a":1}`, `{"items":{"\ud800":1}}`, "{\"items\":{\"\xff\":1}}",
	} {
		for _, values := range [][][]byte{valuesOf(`{"items":{}}`, bad), valuesOf(bad, `{"items":{}}`)} {
			if got, err := Merge(values); err == nil {
				t.Errorf("%q: got %s", values, got)
			}
		}
	}
}

func randomCart(r *rand.Rand) string {
	var items []string
	for _, i := range r.Perm(6)[:r.IntN(6)] {
		items = append(items, fmt.Sprintf(`"sku%d":%d`, i, r.IntN(4)))
	}
	return `{"items":{` + strings.Join(items, ", ") + `}}`
}

// TestLaws: what a resolver must promise, in bytes.
func TestLaws(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		a, b, c := randomCart(r), randomCart(r), randomCart(r)
		all := merge(t, a, b, c)
		for name, got := range map[string]string{
			"other order":      merge(t, c, a, b),
			"reversed":         merge(t, c, b, a),
			"grouped left":     merge(t, merge(t, a, b), c),
			"grouped right":    merge(t, a, merge(t, b, c)),
			"overlapping":      merge(t, merge(t, a, b), merge(t, b, c)),
			"with itself":      merge(t, all, all),
			"with an old part": merge(t, all, a),
		} {
			if got != all {
				t.Fatalf("%s of %s, %s, %s: got %s, want %s", name, a, b, c, got, all)
			}
		}
	}
}

// TestNothingAddedIsLost: every item of every cart is in the result.
func TestNothingAddedIsLost(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		values := []string{randomCart(r), randomCart(r), randomCart(r)}
		merged, err := parseCart([]byte(merge(t, values...)))
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			c, err := parseCart([]byte(v))
			if err != nil {
				t.Fatal(err)
			}
			for sku, n := range c {
				if merged[sku] < n {
					t.Fatalf("%q: %s has %d of %d", values, sku, merged[sku], n)
				}
			}
		}
	}
}

// FuzzMerge: any bytes are refused or merged to a canonical cart.
func FuzzMerge(f *testing.F) {
	f.Add([]byte(`{"items":{"a":1}}`), []byte(`{"items":{"b":2}}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		merged, err := Merge([][]byte{a, b})
		if err != nil {
			return
		}
		c, err := parseCart(merged)
		if err != nil {
			t.Fatalf("the result %s is no cart: %v", merged, err)
		}
		if again, err := c.encode(); err != nil || string(again) != string(merged) {
			t.Fatalf("%s is not canonical: %s, %v", merged, again, err)
		}
	})
}
