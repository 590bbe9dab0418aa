package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// request builds what the store would send.
func request(values ...string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, requestMagic)
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = append(b, bytesField([]byte("carts"))...)
	b = append(b, bytesField([]byte("alice"))...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(values)))
	for i, v := range values {
		b = binary.LittleEndian.AppendUint32(b, 0)
		b = binary.LittleEndian.AppendUint64(b, uint64(i))
		b = append(b, bytesField([]byte("application/json"))...)
		b = append(b, bytesField([]byte(v))...)
	}
	return b
}

// answerOf splits a response into its parts.
func answerOf(b []byte) (status uint32, contentType, payload string) {
	r := &reader{rest: b}
	return r.u32(), string(r.bytes()), string(r.bytes())
}

func merge(t *testing.T, values ...string) string {
	t.Helper()
	status, contentType, payload := answerOf(resolve(request(values...)))
	if status != statusValue || contentType != "application/json" {
		t.Fatalf("%q: status %d, %s, %s", values, status, contentType, payload)
	}
	return payload
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
		for _, r := range [][]byte{request(`{"items":{}}`, bad), request(bad, `{"items":{}}`)} {
			if status, _, message := answerOf(resolve(r)); status != statusError || message == "" {
				t.Errorf("%q: status %d, %q", bad, status, message)
			}
		}
	}
}

func TestMalformedFrames(t *testing.T) {
	good := request(`{"items":{}}`, `{"items":{}}`)
	for n := range good {
		if status, _, _ := answerOf(resolve(good[:n])); status != statusError {
			t.Errorf("the first %d bytes gave status %d", n, status)
		}
	}
	if status, _, _ := answerOf(resolve(append(good, 0))); status != statusError {
		t.Error("a byte too many was accepted")
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

func TestAncestorIsNotMerged(t *testing.T) {
	b := request(`{"items":{"old":9}}`, `{"items":{"a":1}}`, `{"items":{"b":1}}`)
	at := slices.Index(b, 3) // the count, and after it the first sibling's flags
	b[at+4] = flagAncestor
	if _, _, got := answerOf(resolve(b)); got != `{"items":{"a":1,"b":1}}` {
		t.Errorf("got %s", got)
	}
}

func FuzzResolve(f *testing.F) {
	f.Add(request(`{"items":{"a":1}}`, `{"items":{"b":2}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		status, _, payload := answerOf(resolve(b))
		if status == statusError {
			return
		}
		c, err := parseCart([]byte(payload))
		if err != nil {
			t.Fatalf("the result %s is no cart: %v", payload, err)
		}
		if again, err := c.encode(); err != nil || string(again) != payload {
			t.Fatalf("%s is not canonical: %s, %v", payload, again, err)
		}
	})
}
