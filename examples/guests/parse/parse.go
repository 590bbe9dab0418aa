// Package parse merges the same shopping carts as package cart, with a parser of its own. In a WebAssembly guest that
// is several times faster than package encoding/json, which asks the types at run time what they are.
package parse

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxQuantity is the largest quantity that every JSON reader, JavaScript's included, can hold exactly.
const maxQuantity = 1<<53 - 1

// Why something is no cart.
var (
	errShape    = errors.New(`not a cart: want {"items":{"SKU":quantity}}`)
	errQuantity = errors.New("a quantity must be an integer from 0 to 9007199254740991")
	errString   = errors.New("a string does not end, or has an escape that is none")
	errText     = errors.New("a string is not proper text")
	errTwice    = errors.New("a SKU is there twice")
	errMore     = errors.New("something follows the cart")
)

type item struct {
	sku      []byte // decoded
	quantity uint64
}

// Merge parses carts and spells the cart that has every SKU of any of them with its largest quantity, sorted and
// without spaces. An error means that one is no cart. What it returns may share memory with nothing.
func Merge(values [][]byte) ([]byte, error) {
	var merged []item
	size := 0
	for i, v := range values {
		items, err := parseCart(v)
		if err != nil {
			return nil, err
		}
		size += len(v)
		if i == 0 {
			merged = items
		} else {
			merged = union(merged, items)
		}
	}
	return appendCart(make([]byte, 0, size+16), merged), nil
}

// union joins two sorted lists.
func union(a, b []item) []item {
	out := make([]item, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch c := bytes.Compare(a[0].sku, b[0].sku); {
		case c < 0:
			out, a = append(out, a[0]), a[1:]
		case c > 0:
			out, b = append(out, b[0]), b[1:]
		default:
			out = append(out, item{a[0].sku, max(a[0].quantity, b[0].quantity)})
			a, b = a[1:], b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// parser reads one cart. The first fault sets err, and nothing moves any more.
type parser struct {
	text []byte
	at   int
	err  error
}

// parseCart returns the items sorted by SKU.
func parseCart(text []byte) ([]item, error) {
	p := &parser{text: text}
	p.expect('{')
	if name := p.string(); p.err == nil && string(name) != "items" {
		return nil, errShape
	}
	p.expect(':')
	p.expect('{')
	items := make([]item, 0, len(text)/16+1)
	sorted := true
	for more := p.err == nil && p.peek() != '}'; more && p.err == nil; {
		it := item{sku: p.string()}
		p.expect(':')
		it.quantity = p.quantity()
		sorted = sorted && (len(items) == 0 || bytes.Compare(items[len(items)-1].sku, it.sku) < 0)
		items = append(items, it)
		if more = p.peek() == ','; more {
			p.at++
		}
	}
	p.expect('}')
	p.expect('}')
	if p.peek(); p.err == nil && p.at < len(p.text) {
		p.err = errMore
	}
	if p.err == nil && !sorted {
		slices.SortFunc(items, func(a, b item) int { return bytes.Compare(a.sku, b.sku) })
		for i := range items[1:] {
			if bytes.Equal(items[i].sku, items[i+1].sku) {
				p.err = errTwice
			}
		}
	}
	return items, p.err
}

// peek returns the next byte behind spaces, 0 at the end.
func (p *parser) peek() byte {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; c {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return c
		}
	}
	return 0
}

func (p *parser) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *parser) expect(c byte) {
	if p.peek() != c {
		p.fail(errShape)
	}
	if p.err == nil {
		p.at++
	}
}

func (p *parser) quantity() uint64 {
	p.peek()
	first, n := p.at, uint64(0)
	for ; p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9'; p.at++ {
		if n = n*10 + uint64(p.text[p.at]-'0'); n > maxQuantity {
			p.fail(errQuantity)
			return 0
		}
	}
	if p.at == first || p.text[first] == '0' && p.at > first+1 {
		p.fail(errQuantity)
	}
	// 1.0 and 1e2 end here, with something that is neither comma nor brace.
	if c := p.peek(); c != ',' && c != '}' {
		p.fail(errQuantity)
	}
	return n
}

// string reads a string and decodes it. Without an escape it is part of the text.
func (p *parser) string() []byte {
	p.expect('"')
	from, plain := p.at, true
	for ; p.err == nil; p.at++ {
		if p.at >= len(p.text) {
			p.fail(errString)
			break
		}
		switch c := p.text[p.at]; {
		case c == '"':
			s := p.text[from:p.at]
			p.at++
			if !plain {
				s = p.decode(s)
			}
			return s
		case c == '\\':
			plain = false
			p.at++
		case c < ' ':
			p.fail(errString)
		case c >= utf8.RuneSelf:
			plain = false
		}
	}
	return nil
}

// decode replaces escapes and refuses broken text. U+FFFD is what decoders put where text was broken: two different
// SKUs could look the same.
func (p *parser) decode(s []byte) []byte {
	out := make([]byte, 0, len(s))
	for len(s) > 0 {
		if s[0] != '\\' {
			r, n := utf8.DecodeRune(s)
			if r == utf8.RuneError {
				p.fail(errText)
			}
			out, s = append(out, s[:n]...), s[n:]
			continue
		}
		if s[1] == 'u' {
			r, rest := p.unicode(s)
			out, s = utf8.AppendRune(out, r), rest
			continue
		}
		i := bytes.IndexByte([]byte(`"\/bfnrt`), s[1])
		if i < 0 {
			p.fail(errString)
			return nil
		}
		out, s = append(out, "\"\\/\b\f\n\r\t"[i]), s[2:]
	}
	return out
}

// unicode reads \uXXXX at the front of s, or two that are one character.
func (p *parser) unicode(s []byte) (rune, []byte) {
	r, ok := hex4(s)
	if !ok {
		p.fail(errString)
		return 0, nil
	}
	s = s[6:]
	if utf16.IsSurrogate(r) {
		low, _ := hex4(s)
		if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
			p.fail(errText)
			return 0, nil
		}
		s = s[6:]
	}
	if r == utf8.RuneError {
		p.fail(errText)
	}
	return r, s
}

func hex4(s []byte) (rune, bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	r := rune(0)
	for _, c := range s[2:6] {
		switch lower := c | 0x20; {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case lower >= 'a' && lower <= 'f':
			r = r<<4 | rune(lower-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// appendCart writes the one and only spelling of a cart.
func appendCart(dst []byte, items []item) []byte {
	dst = append(dst, `{"items":{`...)
	for i, it := range items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, it.sku), ':')
		dst = strconv.AppendUint(dst, it.quantity, 10)
	}
	return append(dst, "}}"...)
}

// appendString spells a string as encoding/json does: the short escapes, \u for other control characters and for
// U+2028 and U+2029, which are line ends to old JavaScript.
func appendString(dst, s []byte) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0
	for i, c := range s {
		var escape [6]byte
		n := 0
		switch short := bytes.IndexByte([]byte("\"\\\b\f\n\r\t"), c); {
		case c >= ' ' && c != '"' && c != '\\' && c != 0xe2:
			continue
		case short >= 0:
			n = copy(escape[:], []byte{'\\', `"\bfnrt`[short]})
		case c < ' ':
			n = copy(escape[:], []byte{'\\', 'u', '0', '0', digits[c>>4], digits[c&15]})
		case i+2 < len(s) && s[i+1] == 0x80 && s[i+2]|1 == 0xa9:
			n = copy(escape[:], []byte{'\\', 'u', '2', '0', '2', digits[s[i+2]&15]})
		default:
			continue
		}
		dst = append(append(dst, s[from:i]...), escape[:n]...)
		if from = i + 1; c == 0xe2 {
			from = i + 3
		}
	}
	return append(append(dst, s[from:]...), '"')
}
