package laws

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
)

// Bounds on JSON values that are taken apart; others are bytes.
const (
	maxJSONBytes = 64 << 10
	maxJSONDepth = 64
)

var errJSON = errors.New("laws: no JSON that can be taken apart")

// tree is a JSON value that remembers the order of its fields, and fields that come twice.
type tree struct {
	kind   byte // '{', '[', '"', '0' for a number, or 'v' for true, false and null
	text   string
	fields []string // of an object, one for each child
	kids   []*tree
}

// parseTree takes JSON apart. It is total.
func parseTree(b []byte) (*tree, error) {
	if len(b) > maxJSONBytes || !json.Valid(b) {
		return nil, errJSON
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	t, err := readTree(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errJSON
	}
	return t, nil
}

func readTree(d *json.Decoder, depth int) (*tree, error) {
	if depth > maxJSONDepth {
		return nil, errJSON
	}
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch x := token.(type) {
	case json.Delim:
		return readInside(d, byte(x), depth)
	case string:
		return &tree{kind: '"', text: x}, nil
	case json.Number:
		return &tree{kind: '0', text: x.String()}, nil
	case bool:
		return &tree{kind: 'v', text: strconv.FormatBool(x)}, nil
	}
	return &tree{kind: 'v', text: "null"}, nil
}

func readInside(d *json.Decoder, kind byte, depth int) (*tree, error) {
	t := &tree{kind: kind}
	for d.More() {
		if kind == '{' {
			field, err := d.Token()
			if err != nil {
				return nil, err
			}
			name, ok := field.(string)
			if !ok {
				return nil, errJSON
			}
			t.fields = append(t.fields, name)
		}
		kid, err := readTree(d, depth+1)
		if err != nil {
			return nil, err
		}
		t.kids = append(t.kids, kid)
	}
	_, err := d.Token() // the closing bracket
	return t, err
}

// append writes the tree without spaces.
func (t *tree) append(b []byte) []byte {
	switch t.kind {
	case '{', '[':
		b = append(b, t.kind)
		for i, kid := range t.kids {
			if i > 0 {
				b = append(b, ',')
			}
			if t.kind == '{' {
				b = append(appendString(b, t.fields[i]), ':')
			}
			b = kid.append(b)
		}
		return append(b, t.kind+2) // ']' and '}' follow two after their opening
	case '"':
		return appendString(b, t.text)
	}
	return append(b, t.text...)
}

func appendString(b []byte, s string) []byte {
	var w bytes.Buffer
	e := json.NewEncoder(&w)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return append(b, `""`...) // a string never fails
	}
	return append(b, bytes.TrimSuffix(w.Bytes(), []byte("\n"))...)
}

func (t *tree) clone() *tree {
	c := &tree{kind: t.kind, text: t.text, fields: slices.Clone(t.fields)}
	for _, kid := range t.kids {
		c.kids = append(c.kids, kid.clone())
	}
	return c
}

// nodes are the tree and all that is below it.
func (t *tree) nodes() []*tree {
	out := []*tree{t}
	for _, kid := range t.kids {
		out = append(out, kid.nodes()...)
	}
	return out
}

func (t *tree) drop(i int) {
	t.kids = slices.Delete(t.kids, i, i+1)
	if t.kind == '{' {
		t.fields = slices.Delete(t.fields, i, i+1)
	}
}

// sameJSON says whether two texts are the same JSON: whatever the spaces, the order of fields and the spelling of
// strings and numbers.
func sameJSON(a, b []byte) bool {
	x, err := parseTree(a)
	if err != nil {
		return false
	}
	y, err := parseTree(b)
	if err != nil {
		return false
	}
	return bytes.Equal(x.normal().append(nil), y.normal().append(nil))
}

// normal sorts the fields and spells numbers in one way.
func (t *tree) normal() *tree {
	for _, kid := range t.kids {
		kid.normal()
	}
	if t.kind == '{' {
		order := make([]int, len(t.kids))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(i, j int) int { return bytes.Compare([]byte(t.fields[i]), []byte(t.fields[j])) })
		fields, kids := t.fields, t.kids
		t.fields, t.kids = nil, nil
		for _, i := range order {
			t.fields, t.kids = append(t.fields, fields[i]), append(t.kids, kids[i])
		}
	}
	if t.kind == '0' {
		// Whole numbers stay as they are: they may have more digits than a float.
		if _, err := strconv.ParseInt(t.text, 10, 64); err != nil {
			if x, err := strconv.ParseFloat(t.text, 64); err == nil {
				t.text = strconv.FormatFloat(x, 'f', -1, 64)
			}
		}
	}
	return t
}
