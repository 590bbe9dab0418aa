package main

import (
	"reflect"
	"testing"
)

func TestPlus(t *testing.T) {
	for _, c := range []struct {
		before   cart
		sku      string
		quantity int64
		want     string
	}{
		{nil, "a", 2, `{"items":{"a":2}}`},
		{cart{"b": 1}, "a", 2, `{"items":{"a":2,"b":1}}`},
		{cart{"a": 3}, "a", 2, `{"items":{"a":5}}`},
		{cart{"a": 3}, "a", -2, `{"items":{"a":1}}`},
		{cart{"a": 3}, "a", -4, `{"items":{"a":0}}`},
		{cart{}, "a", -1, `{"items":{"a":0}}`},
		{cart{"a": maxQuantity}, "a", 1, `{"items":{"a":9007199254740991}}`},
		{cart{}, "<&>", 0, `{"items":{"<&>":0}}`},
	} {
		got, err := c.before.plus(c.sku, c.quantity).encode()
		if err != nil || string(got) != c.want {
			t.Errorf("%v plus %d %s: got %s, %v, want %s", c.before, c.quantity, c.sku, got, err, c.want)
		}
	}
}

func TestPlusLeavesTheCartAlone(t *testing.T) {
	c := cart{"a": 1}
	c.plus("a", 5)
	if c["a"] != 1 {
		t.Errorf("got %v", c)
	}
}

func TestParseCart(t *testing.T) {
	if c, err := parseCart([]byte(`{"items":{}}`)); err != nil || len(c) != 0 {
		t.Errorf("got %v, %v", c, err)
	}
	for _, bad := range []string{``, `{}`, `null`, `[]`, `{"items":[]}`, `{"items":{"a":-1}}`, `{"items":null}`} {
		if c, err := parseCart([]byte(bad)); err == nil || !isNonsense(err) {
			t.Errorf("%s: got %v, %v", bad, c, err)
		}
	}
}

func TestMissing(t *testing.T) {
	c := cart{"a": 1, "gone": 0}
	got := c.missing(map[string]bool{"z": true, "gone": true, "a": true, "b": true})
	if want := []string{"b", "z"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := c.missing(nil); got != nil {
		t.Errorf("got %v", got)
	}
}
