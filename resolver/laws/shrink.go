package laws

import (
	"bytes"
	"cmp"
	"iter"
	"slices"
	"strconv"
)

// Bounds on the search for a small counterexample.
const (
	maxShrinkTests = 20_000
	// repeats is how often a merge is repeated to see whether it is always the same: Go, for one, starts at one of eight
	// places of a small map.
	repeats = 64
	// patience is the same for the first merge that is looked at.
	patience = 256
)

// shrunk makes a counterexample small: fewer siblings, no ancestor, no equal times, one content type, fewer merges, then shorter and plainer values, as
// long as the module accepts them and breaks the same kind of law. It stops when the time is over; what comes
// out was seen to be broken twice.
func (c *checker) shrunk(t finding) finding {
	c.done = nil
	test := c.unequal
	found := t
	if t.unrepeated {
		test = func(q *finding) bool { return c.unsteady(q, repeats) }
		found = c.culprit(t)
	}
	canonical := t.isCanonical()
	broken := func(q *finding) bool { return q.sound() && test(q) && (t.unrepeated || q.isCanonical() == canonical) }
	tests := 0
	for again := true; again; {
		again = false
		for q := range found.smaller {
			if tests++; tests > maxShrinkTests || c.ctx.Err() != nil {
				break
			}
			if q.size().compare(found.size()) >= 0 {
				continue
			}
			if broken(&q) {
				found, again = q, true
				break
			}
		}
	}
	// The last word: it is still so, or else what was seen first is reported.
	if t.unrepeated {
		return found // two outputs of one merge are all the proof there can be
	}
	if !broken(&found) {
		return t
	}
	if last, err := c.again(found); err == nil && last.unrepeated {
		return c.shrunk(last)
	}
	return found
}

func (c *checker) unequal(t *finding) bool { return c.test(t) == nil && !t.l.equal(t.r) }

// unsteady repeats a merge until it gives something else.
func (c *checker) unsteady(t *finding, repeats int) bool {
	first, err := c.eval(t.left, t.inputs, t.ancestor)
	if err != nil {
		return false
	}
	for range repeats {
		next, err := c.eval(t.left, t.inputs, t.ancestor)
		if err != nil {
			return false
		}
		if !next.equal(first) {
			t.l, t.r = first, next
			return true
		}
	}
	return false
}

// culprit finds, in merges of merges, the one merge that is not steady; t itself if none shows to be.
func (c *checker) culprit(t finding) finding {
	var search func(e expr) (value, *finding)
	search = func(e expr) (value, *finding) {
		if e.args == nil {
			return t.inputs[e.leaf], nil
		}
		one := finding{ancestor: t.ancestor, unrepeated: true}
		var args []expr
		for i, a := range e.args {
			v, found := search(a)
			if found != nil {
				return v, found
			}
			one.inputs, args = append(one.inputs, v), append(args, leaf(i))
		}
		one.equation = equation{f(args...), f(args...)}
		if one.sound() && c.unsteady(&one, patience) {
			return value{}, &one
		}
		v, err := c.run(t.ancestor, one.inputs)
		if err != nil {
			return v, &t
		}
		return v, nil
	}
	if _, found := search(t.left); found != nil {
		return *found
	}
	return t
}

// isCanonical says that the sides differ in the spelling only.
func (t finding) isCanonical() bool {
	return !t.l.deleted && !t.r.deleted && !bytes.Equal(t.l.bytes, t.r.bytes) && sameJSON(t.l.bytes, t.r.bytes)
}

// sound says that the store could come to ask this, and that the answers ought to be equal: merges on both sides, of
// different inputs.
func (t finding) sound() bool {
	if t.left.args == nil || t.right.args == nil || !t.unrepeated && t.law() == Deterministic {
		return false
	}
	for i, v := range t.inputs {
		if slices.ContainsFunc(t.inputs[:i], v.sameBytes) {
			return false
		}
	}
	return true
}

// tied says that all inputs were written in the same millisecond.
func (t finding) tied() bool {
	return !slices.ContainsFunc(t.inputs, func(v value) bool { return v.timeMs != t.inputs[0].timeMs })
}

// untied gives the inputs times of their own.
func (t finding) untied() finding {
	t.inputs = slices.Clone(t.inputs)
	for i, v := range t.inputs {
		if t.inputs[i].timeMs = uint64(i + 1); !v.deleted {
			t.inputs[i].timeMs = written(v.bytes).timeMs
		}
	}
	return t
}

// mixed says that the inputs are of different content types.
func (t finding) mixed() bool {
	return slices.ContainsFunc(t.inputs, func(v value) bool { return !v.deleted && v.ctype != t.contentType() })
}

// contentType is that of the first value among the inputs.
func (t finding) contentType() string {
	for _, v := range t.inputs {
		if !v.deleted {
			return v.ctype
		}
	}
	return ""
}

// unmixed gives the inputs one content type.
func (t finding) unmixed() finding {
	ctype := t.contentType()
	t.inputs = slices.Clone(t.inputs)
	for i, v := range t.inputs {
		if !v.deleted {
			t.inputs[i].ctype = ctype
		}
	}
	return t
}

// respelled is v with other bytes. Its time is that of the bytes only if v's was.
func (v value) respelled(b []byte) value {
	w := v.rewritten(b)
	if v.timeMs != written(v.bytes).timeMs {
		w.timeMs = v.timeMs
	}
	return w
}

// extent is how large a counterexample is, what counts most first.
type extent []int

func (s extent) compare(o extent) int { return slices.CompareFunc(s, o, cmp.Compare[int]) }

func (t finding) size() extent {
	s := extent{len(t.inputs), 0, 0, 0, t.left.merges() + t.right.merges(), 0, 0}
	all := t.inputs
	if t.ancestor != nil {
		s[1] = 1
		all = append(slices.Clone(all), *t.ancestor)
	}
	if t.tied() {
		s[2] = 1
	}
	if t.mixed() {
		s[3] = 1
	}
	for _, v := range all {
		s[5] += len(v.bytes)
		for _, ch := range v.bytes {
			s[6] += int(ch)
		}
	}
	return s
}

// smaller are findings to try in place of this one, the boldest first. It is an iter.Seq, as there can be many.
func (t finding) smaller(yield func(finding) bool) {
	for i := range t.inputs {
		for as := -1; as < len(t.inputs); as++ { // without it, or another one in its place
			if q, ok := t.without(i, as); ok && !yield(q) {
				return
			}
		}
	}
	if q := t; t.ancestor != nil {
		if q.ancestor = nil; !yield(q) {
			return
		}
	}
	if t.tied() && !yield(t.untied()) || t.mixed() && !yield(t.unmixed()) {
		return
	}
	if !t.unrepeated {
		for _, eq := range equations(len(t.inputs)) {
			q := t
			if q.equation = eq; !yield(q) {
				return
			}
		}
	}
	for i, v := range t.inputs {
		for b := range smallerBytes(v) {
			q := t
			q.inputs = slices.Clone(t.inputs)
			if q.inputs[i] = v.respelled(b); !yield(q) {
				return
			}
		}
	}
	if t.ancestor == nil {
		return
	}
	for b := range smallerBytes(*t.ancestor) {
		q := t
		if q.ancestor = new(written(b)); !yield(q) {
			return
		}
	}
}

// without takes input i out of the equation, and puts another one in its place if as is one.
func (t finding) without(i, as int) (finding, bool) {
	if i == as || len(t.inputs) < 3 {
		return t, false
	}
	to := make([]int, len(t.inputs))
	next := 0
	for j := range to {
		if to[j] = next; j != i {
			next++
		}
	}
	if to[i] = -1; as >= 0 {
		to[i] = to[as]
	}
	q := t
	q.inputs = slices.Delete(slices.Clone(t.inputs), i, i+1)
	left, ok := t.left.rename(to)
	right, ok2 := t.right.rename(to)
	q.equation = equation{left, right}
	return q, ok && ok2
}

// smallerBytes are shorter and plainer spellings: of JSON other JSON, of bytes other bytes.
func smallerBytes(v value) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if v.deleted {
			return
		}
		if t, err := parseTree(v.bytes); err == nil {
			smallerTrees(t, yield)
			return
		}
		for n := len(v.bytes); n > 0; n /= 2 {
			for at := 0; at+n <= len(v.bytes); at += n {
				if !yield(slices.Delete(bytes.Clone(v.bytes), at, at+n)) {
					return
				}
			}
		}
		for i, ch := range v.bytes[:min(len(v.bytes), 256)] {
			for _, plain := range []byte("01ab") {
				if plain >= ch || !isWord(ch) {
					continue
				}
				b := bytes.Clone(v.bytes)
				if b[i] = plain; !yield(b) {
					return
				}
			}
		}
	}
}

func isWord(ch byte) bool {
	return ch >= '0' && ch <= '9' || ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z'
}

// maxShrinkNodes bounds the nodes of a value that are simplified one by one.
const maxShrinkNodes = 512

func smallerTrees(t *tree, yield func([]byte) bool) {
	if !yield(t.append(nil)) { // at least without spaces
		return
	}
	nodes := t.nodes()
	for i := range nodes[:min(len(nodes), maxShrinkNodes)] {
		for change := range simpler(nodes[i]) {
			c := t.clone()
			change(c.nodes()[i])
			if !yield(c.append(nil)) {
				return
			}
		}
	}
}

// simpler are changes that make a node simpler, to be done to a copy of it.
func simpler(n *tree) iter.Seq[func(*tree)] {
	return func(yield func(func(*tree)) bool) {
		kids := len(n.kids)
		half := min(len(n.fields), kids/2)
		// Halves first.
		if kids > 3 && (!yield(func(n *tree) { n.kids, n.fields = n.kids[:kids/2], n.fields[:half] }) ||
			!yield(func(n *tree) { n.kids, n.fields = n.kids[kids/2:], n.fields[half:] })) {
			return
		}
		for j := range min(kids, maxShrinkNodes) {
			if !yield(func(n *tree) { n.drop(j) }) || !yield(func(n *tree) { *n = *n.kids[j] }) {
				return
			}
		}
		for j, name := range n.fields {
			for _, s := range smallerTexts(name) {
				if !yield(func(n *tree) { n.fields[j] = s }) {
					return
				}
			}
		}
		var texts []string
		switch n.kind {
		case '"':
			texts = smallerTexts(n.text)
		case '0':
			texts = smallerNumbers(n.text)
		}
		for _, s := range texts {
			if !yield(func(n *tree) { n.text = s }) {
				return
			}
		}
	}
}

func smallerTexts(s string) []string {
	if len(s) > 1 {
		r := []rune(s)
		return []string{"a", "b", string(r[:len(r)/2]), string(r[1:]), string(r[:len(r)-1])}
	}
	return []string{"a", "b", "c"}
}

func smallerNumbers(s string) []string {
	out := []string{"0", "1", "2", "3"}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return append(out, strconv.FormatInt(n/2, 10), strconv.FormatInt(n-1, 10))
	}
	if x, err := strconv.ParseFloat(s, 64); err == nil {
		out = append(out, strconv.FormatFloat(x, 'f', 0, 64))
	}
	return out
}
