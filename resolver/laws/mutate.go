package laws

import (
	"bytes"
	"slices"
	"strconv"
)

// mutate changes a value a little: JSON mostly as JSON, so that a module which parses it has a chance to accept it.
func (c *checker) mutate(b []byte) []byte {
	if t, err := parseTree(b); err == nil && c.rng.IntN(8) > 0 {
		c.mutateTree(t)
		return t.append(nil)
	}
	return c.mutateBytes(b)
}

// mutateTree changes one node.
func (c *checker) mutateTree(t *tree) {
	nodes := t.nodes()
	n := nodes[c.rng.IntN(len(nodes))]
	switch n.kind {
	case '{', '[':
		c.mutateInside(n)
	case '"':
		n.text = c.mutateText(n.text)
	case '0':
		n.text = c.mutateNumber(n.text)
	default:
		n.text = []string{"true", "false", "null"}[c.rng.IntN(3)]
	}
}

// mutateInside drops, adds, repeats or moves what is in an object or an array. What it adds is like something in it.
func (c *checker) mutateInside(n *tree) {
	if len(n.kids) == 0 {
		return
	}
	i := c.rng.IntN(len(n.kids))
	switch c.rng.IntN(4) {
	case 0:
		n.drop(i)
	case 1: // the same once more
		n.kids = append(n.kids, n.kids[i].clone())
		if n.kind == '{' {
			n.fields = append(n.fields, n.fields[i])
		}
	case 2: // another one like it
		kid := n.kids[i].clone()
		if n.kind == '{' {
			n.fields = append(n.fields, c.mutateText(n.fields[i]))
		} else {
			c.mutateTree(kid)
		}
		n.kids = append(n.kids, kid)
	default:
		j := c.rng.IntN(len(n.kids))
		n.kids[i], n.kids[j] = n.kids[j], n.kids[i]
		if n.kind == '{' {
			n.fields[i], n.fields[j] = n.fields[j], n.fields[i]
		}
	}
}

func (c *checker) mutateText(s string) string {
	r := []rune(s)
	letter := rune('a' + c.rng.IntN(26))
	if len(r) == 0 || c.rng.IntN(4) == 0 {
		return string(append(r, letter))
	}
	i := c.rng.IntN(len(r))
	switch c.rng.IntN(8) {
	case 0:
		return ""
	case 1:
		return string(slices.Delete(r, i, i+1))
	}
	r[i] = letter
	return string(r)
}

func (c *checker) mutateNumber(s string) string {
	n, err := strconv.ParseInt(s, 10, 53)
	if err != nil {
		return strconv.Itoa(c.rng.IntN(10))
	}
	switch c.rng.IntN(5) {
	case 0:
		return strconv.FormatInt(n-1, 10)
	case 1:
		return strconv.FormatInt(n*10, 10)
	case 2:
		return strconv.Itoa(c.rng.IntN(10))
	case 3:
		return strconv.FormatInt(-n, 10)
	}
	return strconv.FormatInt(n+1, 10)
}

// mutateBytes changes a digit or a letter, takes out or repeats a byte, or flips a bit.
func (c *checker) mutateBytes(v []byte) []byte {
	m := bytes.Clone(v)
	if len(m) == 0 {
		return m
	}
	i := c.rng.IntN(len(m))
	switch c.rng.IntN(8) {
	case 0:
		return slices.Delete(m, i, i+1)
	case 1:
		return slices.Insert(m, i, m[i])
	}
	for range len(m) {
		switch ch := m[i]; {
		case ch >= '0' && ch <= '9':
			m[i] = byte('1' + c.rng.IntN(9))
			return m
		case ch >= 'a' && ch <= 'z':
			m[i] = byte('a' + c.rng.IntN(26))
			return m
		}
		i = (i + 1) % len(m)
	}
	m[i] ^= byte(1 << c.rng.IntN(8))
	return m
}
