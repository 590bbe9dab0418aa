// Package cart merges shopping carts. It knows nothing of the store: carts are JSON, and go in and come out
// as bytes.
package cart

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ContentType is that of a cart.
const ContentType = "application/json"

// maxQuantity is the largest quantity that every JSON reader, JavaScript's
// included, can hold exactly.
const maxQuantity = 1<<53 - 1

// A cart maps a SKU (the shop's name for an article) to a quantity. As JSON:
//
//	{"items":{"apple":3,"pear":1}}
type cart map[string]uint64

// Merge parses carts, merges them and spells the result. An error means that one is no cart.
func Merge(values [][]byte) ([]byte, error) {
	carts := make([]cart, 0, len(values))
	for _, v := range values {
		c, err := parseCart(v)
		if err != nil {
			return nil, err
		}
		carts = append(carts, c)
	}
	return mergeCarts(carts).encode()
}

// mergeCarts keeps every SKU that is in any cart, with the largest quantity
// seen for it. Taking a maximum gives the same result in whatever order and
// grouping the carts come, and however often, which is what a resolver must
// promise. Its price: a removed item comes back when another cart still has it.
func mergeCarts(carts []cart) cart {
	merged := cart{}
	for _, c := range carts {
		for sku, quantity := range c {
			merged[sku] = max(merged[sku], quantity)
		}
	}
	return merged
}

// encode writes the one and only spelling of a cart: sorted SKUs, no spaces.
// Replicas compare bytes, so two spellings of the same cart would be two values.
func (c cart) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(struct {
		Items map[string]uint64 `json:"items"`
	}{c})
	if err != nil {
		return nil, fmt.Errorf("encode cart: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// parseCart reads a cart. It refuses what it does not fully understand:
// guessing would drop data, and a failed merge loses nothing, since the store
// then keeps all versions for the application to look at.
func parseCart(text []byte) (cart, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("not valid UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	c := cart{}
	if err := expect(d, json.Delim('{')); err != nil {
		return nil, err
	}
	if err := expect(d, "items"); err != nil {
		return nil, err
	}
	if err := expect(d, json.Delim('{')); err != nil {
		return nil, err
	}
	for d.More() {
		if err := c.parseItem(d); err != nil {
			return nil, err
		}
	}
	for range 2 {
		if err := expect(d, json.Delim('}')); err != nil {
			return nil, err
		}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the cart")
	}
	return c, nil
}

// parseItem reads one `"SKU":quantity`.
func (c cart) parseItem(d *json.Decoder) error {
	key, err := d.Token()
	if err != nil {
		return fmt.Errorf("not a cart: %w", err)
	}
	sku, ok := key.(string)
	switch {
	case !ok:
		return fmt.Errorf("a SKU must be a string, not %v", key)
	case strings.ContainsRune(sku, utf8.RuneError):
		// The decoder puts this rune where text was broken: two different SKUs
		// could look the same.
		return fmt.Errorf("SKU %q is not proper text", sku)
	}
	if _, twice := c[sku]; twice {
		return fmt.Errorf("SKU %q is there twice", sku)
	}
	value, err := d.Token()
	if err != nil {
		return fmt.Errorf("not a cart: %w", err)
	}
	number, ok := value.(json.Number)
	if !ok {
		return fmt.Errorf("quantity of %q must be a number", sku)
	}
	quantity, err := strconv.ParseUint(number.String(), 10, 64)
	if err != nil || quantity > maxQuantity {
		return fmt.Errorf("quantity of %q must be an integer from 0 to %d", sku, uint64(maxQuantity))
	}
	c[sku] = quantity
	return nil
}

// expect consumes the next JSON token, which must be want.
func expect(d *json.Decoder, want json.Token) error {
	got, err := d.Token()
	if err != nil {
		return fmt.Errorf("not a cart: %w", err)
	}
	if got != want {
		return fmt.Errorf("not a cart: want %v, not %v", want, got)
	}
	return nil
}
