package laws

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"dynamo/resolver"
)

// value is what a merge takes and gives.
type value struct {
	bytes   []byte
	ctype   string // the content type, empty of a delete
	timeMs  uint64
	deleted bool // bytes are nil then, and otherwise not
}

// equal is what the two sides of an equation have to be: of one content type, too.
func (v value) equal(w value) bool { return v.sameBytes(w) && v.ctype == w.ctype }

func (v value) sameBytes(w value) bool {
	return v.deleted == w.deleted && bytes.Equal(v.bytes, w.bytes)
}

type checker struct {
	ctx context.Context
	// searching ends before ctx does: what is left is for the counterexample.
	searching context.Context
	merge     Merge
	o         Options
	rng       *rand.Rand
	pool      []value
	samples   int // the first ones of the pool
	plain     int // rounds on the samples as they are, and in turn
	// The merges of this round, since the laws have many in common; nil if none are to be kept.
	done map[string]merged
	// Merges of the first rounds, which are repeated in later ones: a module must not remember.
	early         []finding
	evidenceBytes int
	report        Report
}

type merged struct {
	value value
	err   error
}

// finding is an equation on inputs, and what its sides came to.
type finding struct {
	equation
	inputs     []value
	ancestor   *value
	l, r       value
	unrepeated bool // one merge gave two outputs
}

// errUnasked says that the store would not ask the module to merge these inputs.
var errUnasked = errors.New("laws: a delete, which the module is never shown")

// asked are the values that the store would show the module: of several deletes the newest. A module that is
// never shown deletes cannot be asked about one at all.
func (c *checker) asked(values []value) ([]value, error) {
	var out []value
	at := -1
	for _, v := range values {
		switch {
		case !v.deleted:
			out = append(out, v)
		case !c.o.Deletes:
			return nil, errUnasked
		case at < 0:
			at = len(out)
			out = append(out, v)
		default:
			out[at].timeMs = max(out[at].timeMs, v.timeMs)
		}
	}
	return out, nil
}

// run merges values in the order given. As in the store, the result is as new as the newest of them, or as
// the one that was selected.
func (c *checker) run(ancestor *value, values []value) (value, error) {
	values, err := c.asked(values)
	if err != nil {
		return value{}, err
	}
	if len(values) == 1 && values[0].deleted {
		return values[0], nil // deletes alone are a delete, without a call
	}
	var in []resolver.Sibling
	if ancestor != nil {
		in = append(in, resolver.Sibling{Value: bytes.Clone(ancestor.bytes), ContentType: ancestor.ctype, TimeMs: ancestor.timeMs, Ancestor: true})
	}
	first := len(in)
	newest := slices.MaxFunc(values, func(a, b value) int { return cmp.Compare(a.timeMs, b.timeMs) })
	for _, v := range values {
		in = append(in, resolver.Sibling{Value: bytes.Clone(v.bytes), ContentType: v.ctype, TimeMs: v.timeMs, Deleted: v.deleted})
	}
	resp, err := c.merge(c.ctx, in)
	switch {
	case err != nil:
		return value{}, fmt.Errorf("merge: %w", err)
	case resp.Status == resolver.StatusValue:
		return value{bytes: append([]byte{}, resp.Payload...), ctype: cmp.Or(resp.ContentType, newest.ctype), timeMs: newest.timeMs}, nil
	case resp.Status == resolver.StatusDeleted:
		return value{deleted: true, timeMs: newest.timeMs}, nil
	case resp.Status == resolver.StatusSelect && resp.Index >= first && resp.Index < len(in):
		return values[resp.Index-first], nil
	}
	return value{}, fmt.Errorf("merge: answered with status %d", resp.Status)
}

// once is run, once for equal values in a round.
func (c *checker) once(ancestor *value, values []value) (value, error) {
	if c.done == nil {
		return c.run(ancestor, values)
	}
	var key []byte
	for _, v := range values {
		key = fmt.Appendf(key, "%v %d %q %q,", v.deleted, v.timeMs, v.ctype, v.bytes)
	}
	m, ok := c.done[string(key)]
	if !ok {
		m.value, m.err = c.run(ancestor, values)
		c.done[string(key)] = m
	}
	return m.value, m.err
}

func (c *checker) eval(e expr, inputs []value, ancestor *value) (value, error) {
	if e.args == nil {
		return inputs[e.leaf], nil
	}
	values := make([]value, len(e.args))
	for i, a := range e.args {
		v, err := c.eval(a, inputs, ancestor)
		if err != nil {
			return v, err
		}
		values[i] = v
	}
	return c.once(ancestor, values)
}

// test works out both sides.
func (c *checker) test(t *finding) (err error) {
	if t.l, err = c.eval(t.left, t.inputs, t.ancestor); err != nil {
		return err
	}
	t.r, err = c.eval(t.right, t.inputs, t.ancestor)
	return err
}

// sizes are the numbers of siblings of the rounds, in turn. Most faults show with two or three.
func size(n int) int { return []int{3, 2, 3, 4, 3, 3, 4, 3, 5}[n%9] }

// round takes some values, in the first rounds the samples as they are, later ones with mutations that the module
// accepts, and tests every law on them. Of eight rounds two have an ancestor, two a delete if the module wants it, three siblings of
// one time, since clients do write in the same millisecond, and one siblings of different content types.
func (c *checker) round(n int) *finding {
	c.done = make(map[string]merged)
	t := finding{inputs: c.inputs(n)}
	if len(t.inputs) < 2 {
		return nil
	}
	switch {
	case n%4 == 1:
		t.ancestor = new(c.pool[c.rng.IntN(len(c.pool))])
	case n%4 == 2 && c.o.Deletes:
		i := c.rng.IntN(len(t.inputs))
		t.inputs[i] = value{deleted: true, timeMs: t.inputs[i].timeMs}
	}
	if n%4 == 3 || n%8 == 6 {
		for i := range t.inputs {
			t.inputs[i].timeMs = 1 // no value's own, so that the shrinker can tell
		}
		t = t.unmixed() // the newest has no content type to give
	}
	if n%8 == 4 && !c.o.Verbatim {
		for i := range t.inputs {
			t.inputs[i].ctype = fmt.Sprintf("application/x-%d", i)
		}
	}
	for _, q := range equations(len(t.inputs)) {
		t.equation = q
		if broken := c.judge(t, c.test); broken != nil {
			return broken
		}
	}
	whole := equations(len(t.inputs))[0].right
	t.equation = equation{whole, whole}
	var err error
	t.l, err = c.eval(whole, t.inputs, t.ancestor)
	c.done = nil
	if err == nil {
		if len(c.early) < maxEarly {
			c.early = append(c.early, t)
			c.learn(t.l)
		}
		if broken := c.judge(t, c.repeat); broken != nil {
			return broken
		}
	}
	if len(c.early) == 0 {
		return nil
	}
	return c.judge(c.early[n%len(c.early)], c.repeat)
}

// maxEarly bounds the merges that are repeated.
const maxEarly = 8

// repeat works out the right side of an equation whose left one was worked out before.
func (c *checker) repeat(t *finding) (err error) {
	t.r, err = c.eval(t.right, t.inputs, t.ancestor)
	return err
}

// judge tests one equation and counts it. A broken one is tested anew before it is returned.
func (c *checker) judge(t finding, test func(*finding) error) *finding {
	if c.searching.Err() != nil {
		return nil
	}
	if err := test(&t); err != nil {
		c.miss(err)
		return nil
	}
	if !t.l.equal(t.r) {
		broken, err := c.again(t)
		if err != nil {
			c.miss(err)
			return nil
		}
		c.count(broken)
		return &broken
	}
	c.count(t)
	return nil
}

// miss counts an equation that was not tested to the end.
func (c *checker) miss(err error) {
	if errors.Is(err, errUnasked) {
		c.report.Unasked++
		return
	}
	if c.report.Failed++; c.report.Refusal == "" {
		text := err.Error()
		c.report.Refusal = strings.ToValidUTF8(text[:min(len(text), 300)], "")
	}
}

func (c *checker) count(t finding) {
	c.report.Tested++
	if t.ancestor != nil {
		c.report.Ancestors++
	}
	if slices.ContainsFunc(t.inputs, func(v value) bool { return v.deleted }) {
		c.report.Deletes++
	}
	law := t.law()
	c.report.Laws[law]++
	c.collect(law, t)
}

// reruns is how often a broken law is tested anew, if there is time. Once is needed; more tell what is random from
// what is wrong always.
const reruns = 32

// again tests a broken law anew and tells which one it is that is broken: sides that are not what they
// were prove that the module is not deterministic, and nothing of any other law.
func (c *checker) again(t finding) (finding, error) {
	if t.equation.law() == Deterministic {
		t.unrepeated = true
		return t, nil
	}
	c.done = nil
	for n := range reruns {
		next := t
		if err := c.test(&next); err != nil {
			if n == 0 {
				return t, err
			}
			break
		}
		switch {
		case !next.l.equal(t.l):
			t.equation, t.r, t.unrepeated = equation{t.left, t.left}, next.l, true
			return t, nil
		case !next.r.equal(t.r):
			t.equation, t.l, t.r, t.unrepeated = equation{t.right, t.right}, t.r, next.r, true
			return t, nil
		}
	}
	return t, nil
}

// inputs takes the siblings of a round: in the first rounds the samples in turn, then any of the pool, one
// or all of them mutated. No two are equal.
func (c *checker) inputs(n int) []value {
	var out []value
	for i := range size(n) {
		var v value
		if n < c.plain {
			v = c.pool[(n+i)%c.samples]
		} else {
			v = c.pool[c.rng.IntN(len(c.pool))]
			if !c.o.Verbatim && (i == 0 || c.rng.IntN(3) == 0) {
				v = c.mutated(v)
			}
		}
		if !slices.ContainsFunc(out, v.sameBytes) {
			out = append(out, v)
		}
	}
	// Two samples alone do not make a triple, but with what came of them they may.
	for _, v := range c.pool {
		if len(out) < min(size(n), 3) && !slices.ContainsFunc(out, v.sameBytes) {
			out = append(out, v)
		}
	}
	return out
}

// learn adds a value that the module gave or takes to the pool, as a client would write it back.
func (c *checker) learn(v value) {
	if len(c.pool) >= maxSamples || v.deleted || slices.ContainsFunc(c.pool, v.sameBytes) {
		return
	}
	w := written(v.bytes)
	if c.o.Verbatim {
		w.ctype = v.ctype
	}
	c.pool = append(c.pool, w)
}

// mutated changes a value a little until the module accepts it beside the value it was made of; the value
// itself if it never does. What is accepted joins the pool.
func (c *checker) mutated(v value) value {
	const tries = 6
	for range tries {
		m := v.rewritten(c.mutate(v.bytes))
		if m.sameBytes(v) || len(m.bytes) > maxSampleBytes {
			continue
		}
		if _, err := c.run(nil, []value{m, v}); err == nil {
			c.learn(m)
			return m
		}
	}
	return v
}
