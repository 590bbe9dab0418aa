// Command go-json is the cart merge with encoding/json and nothing else, for the benchmark: it takes what that
// package takes, a SKU twice among it. The merge is the same code as the benchmark's native one.
package main

import (
	"encoding/json"

	"dynamo/resolver/guest"
)

var _ = guest.Resolver(resolve)

func resolve(siblings []guest.Sibling) (guest.Result, error) {
	values := make([][]byte, 0, len(siblings))
	for _, s := range siblings {
		values = append(values, s.Value)
	}
	merged, err := merge(values)
	return guest.Value("application/json", merged), err
}

type cart struct {
	Items map[string]uint64 `json:"items"`
}

func merge(values [][]byte) ([]byte, error) {
	merged := cart{map[string]uint64{}}
	for _, v := range values {
		var c cart
		if err := json.Unmarshal(v, &c); err != nil {
			return nil, err
		}
		for sku, n := range c.Items {
			merged.Items[sku] = max(merged.Items[sku], n)
		}
	}
	return json.Marshal(merged)
}

// Packages prepare things when they are first used: in a guest, that would be in each merge. What is done here is part of
// the first state.
var _, _ = merge([][]byte{[]byte(`{"items":{"apple":1,"pear":2}}`)})

func main() {}
