package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// maxQuantity is the largest quantity that the resolver takes.
const maxQuantity = 1<<53 - 1

// A cart maps a SKU to a quantity: {"items":{"apple":3,"pear":1}}.
type cart map[string]uint64

type cartJSON struct {
	Items map[string]uint64 `json:"items"`
}

func parseCart(b []byte) (cart, error) {
	var j cartJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotCart, err)
	}
	if j.Items == nil {
		return nil, fmt.Errorf("%w: it has no items: %.80q", errNotCart, b)
	}
	return j.Items, nil
}

// encode spells a cart as the resolver does: sorted SKUs, no spaces.
func (c cart) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(cartJSON{c}); err != nil {
		return nil, fmt.Errorf("encode cart: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// plus returns the cart after one event. What is taken out stays in the cart with quantity 0: the merge keeps every SKU
// of every version, so one that simply vanished would come back from any version that had not seen it go.
func (c cart) plus(sku string, quantity int64) cart {
	next := maps.Clone(c)
	if next == nil {
		next = cart{}
	}
	have := next[sku]
	if quantity < 0 {
		next[sku] = have - min(have, uint64(-quantity))
	} else {
		next[sku] = min(have+uint64(quantity), maxQuantity)
	}
	return next
}

// missing lists, sorted, the SKUs that ought to be in the cart and are not. A quantity of 0 is not missing: somebody
// took the item out again.
func (c cart) missing(added map[string]bool) []string {
	var out []string
	for _, sku := range slices.Sorted(maps.Keys(added)) {
		if _, ok := c[sku]; !ok {
			out = append(out, sku)
		}
	}
	return out
}
