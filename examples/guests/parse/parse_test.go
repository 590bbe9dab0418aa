package parse

import (
	"bytes"
	"testing"

	"dynamo/examples/cart-merge/cart"
)

// FuzzMerge has package cart for a judge.
func FuzzMerge(f *testing.F) {
	f.Add([]byte(`{"items":{"pear":1,"apple":2}}`), []byte(` { "items" : { "" : 0 , "\u00e9\ud83d\ude00\n\"" : 9007199254740991 } } `))
	f.Add([]byte(`{"items":{"a":1,"\u0061":2}}`), []byte(`{"\u0069tems":{"\u2028 \u0000<":1}}`))
	f.Add([]byte(`{"items":{"\ufffd":1}}`), []byte(`{"items":{"a":01}}`))
	f.Add([]byte(`{"items":{"\ud83dx":1}}`), []byte(`{"items":{"a":1,}}`))
	f.Add([]byte("{\"items\":{\"\xff\":1}}"), []byte(`{"items":{"a":1.0}}`))
	f.Add([]byte(`{"items":{"\`), []byte(`{"items":{}}x`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		want, wantErr := cart.Merge([][]byte{a, b})
		got, err := Merge([][]byte{a, b})
		if (err != nil) != (wantErr != nil) || err == nil && !bytes.Equal(got, want) {
			t.Errorf("%q, %q: got %q, %v, want %q, %v", a, b, got, err, want, wantErr)
		}
	})
}
