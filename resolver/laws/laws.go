// Package laws tests whether a resolver is fit to merge siblings: deterministic, commutative,
// associative, idempotent and canonical, in bytes. It is a test on samples and mutations of them, not a
// proof.
//
// It has three outcomes and leans towards saying nothing: what a module refuses, or fails on, is
// inconclusive and never a violation; a violation is reproduced before it is reported; and a check that
// tested nothing says so.
package laws

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"time"

	"dynamo/resolver"
)

// Outcome is what a check came to.
type Outcome string

// The outcomes.
const (
	Lawful   Outcome = "lawful"
	Unlawful Outcome = "unlawful"
	// Inconclusive: no law was seen broken, but at least one could not be tested even once, because the
	// module refused, failed on or deleted what it needs, or the time was over.
	Inconclusive Outcome = "inconclusive"
	// Untested: there were fewer than two different samples.
	Untested Outcome = "untested"
)

// Merge runs the module on siblings, from its initial state.
type Merge func(ctx context.Context, siblings []resolver.Sibling) (resolver.Response, error)

// Options bound a check. Zero fields take the default in brackets.
type Options struct {
	// Time is how long the check may take [2 s]; what is tested by then counts.
	Time time.Duration
	// Seed chooses the combinations [1].
	Seed uint64
	// Rounds is how many triples are tested at the most [200].
	Rounds int
}

// Violation is a law that does not hold, with a counterexample that was seen twice. If it is that of
// determinism, the two outputs are those of one merge, or of one sequence of merges of the inputs.
type Violation struct {
	Law    string
	Inputs [][]byte
	// Left and Right are the two outputs that ought to be equal; nil is a deletion.
	Left, Right []byte
}

// String tells a person what is wrong.
func (v Violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", v.Law)
	for i, in := range v.Inputs {
		fmt.Fprintf(&b, "%c = %s, ", 'a'+i, excerpt(in))
	}
	fmt.Fprintf(&b, "one side gives %s, the other %s", excerpt(v.Left), excerpt(v.Right))
	return b.String()
}

func excerpt(b []byte) string {
	const most = 120
	if b == nil {
		return "a deletion"
	}
	if len(b) > most {
		return fmt.Sprintf("%q...", b[:most])
	}
	return fmt.Sprintf("%q", b)
}

// Report is the result of a check.
type Report struct {
	Outcome Outcome
	// Tested counts laws that were tested to the end, Failed merges that the module refused or failed.
	Tested, Failed int
	Violation      *Violation
}

// Check tests the laws on samples, of which the first 256 different ones count. It returns early only
// when ctx ends, and bounds merges by handing them a ctx; a merge that does not heed it is waited for.
// Equal arguments test equal merges, as far as the time allows.
func Check(ctx context.Context, merge Merge, samples [][]byte, o Options) Report {
	if o.Time == 0 {
		o.Time = 2 * time.Second
	}
	if o.Rounds == 0 {
		o.Rounds = 200
	}
	pool := distinct(samples)
	if len(pool) < 2 {
		return Report{Outcome: Untested}
	}
	ctx, cancel := context.WithTimeout(ctx, o.Time)
	defer cancel()
	c := &checker{
		ctx: ctx, merge: merge, rng: rand.New(rand.NewPCG(max(o.Seed, 1), 0)),
		pool: pool, plain: 2 * len(pool), untested: make(map[string]bool),
	}
	for _, l := range c.laws(value{}, value{}, value{}) {
		c.untested[l.name] = true
	}
	for n := 0; n < o.Rounds && ctx.Err() == nil && c.report.Violation == nil; n++ {
		c.round(n)
	}
	switch {
	case c.report.Violation != nil:
		c.report.Outcome = Unlawful
	case len(c.untested) > 0:
		c.report.Outcome = Inconclusive
	default:
		c.report.Outcome = Lawful
	}
	return c.report
}

func distinct(in [][]byte) []value {
	var out []value
	seen := make(map[string]bool)
	for _, b := range in {
		if !seen[string(b)] && len(out) < maxSamples {
			seen[string(b)] = true
			out = append(out, written(b))
		}
	}
	return out
}

// value is what a merge takes and gives.
type value struct {
	bytes   []byte
	timeMs  uint64
	deleted bool // bytes are nil then, and otherwise not
}

// written is a value as a client would have written it. Its time depends on its bytes alone, so that a
// resolver which goes by time is judged fairly.
func written(b []byte) value {
	h := fnv.New32a()
	_, _ = h.Write(b) // never fails
	return value{bytes: append([]byte{}, b...), timeMs: 1 + uint64(h.Sum32())}
}

func (v value) equal(w value) bool { return v.deleted == w.deleted && bytes.Equal(v.bytes, w.bytes) }

type checker struct {
	ctx   context.Context
	merge Merge
	rng   *rand.Rand
	pool  []value
	plain int // rounds on the samples as they are, and in turn
	// The merges of this round, since the laws have many in common.
	done     map[string]merged
	untested map[string]bool
	report   Report
}

type merged struct {
	value value
	err   error
}

// errRefused says that the module would not merge these inputs.
var errRefused = errors.New("laws: the module does not merge these inputs")

// run merges values in the order given. As in the store, the result is as new as the newest of them, or as
// the one that was selected.
func (c *checker) run(values ...value) (value, error) {
	in := make([]resolver.Sibling, len(values))
	newest := uint64(0)
	for i, v := range values {
		if v.deleted {
			// Whether the module sees deletes among the siblings is not known here.
			return value{}, errRefused
		}
		in[i] = resolver.Sibling{Value: bytes.Clone(v.bytes), TimeMs: v.timeMs}
		newest = max(newest, v.timeMs)
	}
	resp, err := c.merge(c.ctx, in)
	switch {
	case err != nil:
		return value{}, fmt.Errorf("%w: %w", errRefused, err)
	case resp.Status == resolver.StatusValue:
		return value{bytes: append([]byte{}, resp.Payload...), timeMs: newest}, nil
	case resp.Status == resolver.StatusDeleted:
		return value{deleted: true, timeMs: newest}, nil
	case resp.Status == resolver.StatusSelect && resp.Index >= 0 && resp.Index < len(values):
		return values[resp.Index], nil
	}
	return value{}, errRefused
}

// f is run, once for equal values in a round.
func (c *checker) f(values ...value) (value, error) {
	var key []byte
	for _, v := range values {
		key = fmt.Appendf(key, "%v %d %q,", v.deleted, v.timeMs, v.bytes)
	}
	m, ok := c.done[string(key)]
	if !ok {
		m.value, m.err = c.run(values...)
		c.done[string(key)] = m
	}
	return m.value, m.err
}

// round takes three values, the first rounds from the samples as they are, later ones with mutations
// that the module accepts, and tests every law on them.
func (c *checker) round(n int) {
	c.done = make(map[string]merged)
	a, b, d := c.pick(n), c.pick(n+1), c.pick(n+2)
	if n >= c.plain {
		d = c.mutated(d)
	}
	for _, law := range c.laws(a, b, d) {
		if c.ctx.Err() != nil {
			return
		}
		left, right, err := law.sides()
		if err != nil {
			c.report.Failed++
			continue
		}
		if !left.equal(right) {
			if c.report.Violation, err = c.again(law, left, right); err != nil {
				c.report.Failed++
				continue
			}
		}
		c.report.Tested++
		delete(c.untested, law.name)
		if c.report.Violation != nil {
			return
		}
	}
}

// again tests a broken law anew and tells which one it is that is broken: sides that are not what they
// were prove that the module is not deterministic, and nothing of any other law.
func (c *checker) again(l law, left, right value) (*Violation, error) {
	v := &Violation{Law: l.name, Left: left.bytes, Right: right.bytes}
	for _, in := range l.inputs {
		v.Inputs = append(v.Inputs, in.bytes)
	}
	if l.name == deterministic {
		return v, nil
	}
	c.done = make(map[string]merged)
	left2, right2, err := l.sides()
	switch {
	case err != nil:
		return nil, err
	case !left2.equal(left):
		v.Law, v.Right = deterministic, left2.bytes
	case !right2.equal(right):
		v.Law, v.Left, v.Right = deterministic, right.bytes, right2.bytes
	}
	return v, nil
}

func (c *checker) pick(n int) value {
	if n < c.plain {
		return c.pool[n%(c.plain/2)]
	}
	return c.pool[c.rng.IntN(len(c.pool))]
}

const deterministic = "deterministic"

type law struct {
	name   string
	inputs []value
	sides  func() (left, right value, err error)
}

// laws are the equations of one triple.
func (c *checker) laws(a, b, d value) []law {
	pair, triple := []value{a, b}, []value{a, b, d}
	type side = func() (value, error)
	both := func(l, r side) func() (value, value, error) {
		return func() (value, value, error) {
			x, err := l()
			if err != nil {
				return x, x, err
			}
			y, err := r()
			return x, y, err
		}
	}
	f := func(vs ...value) side { return func() (value, error) { return c.f(vs...) } }
	of := func(l, r side) side {
		return func() (value, error) {
			x, y, err := both(l, r)()
			if err != nil {
				return x, err
			}
			return c.f(x, y)
		}
	}
	is := func(v value) side { return func() (value, error) { return v, nil } }
	fresh := func() (value, error) { return c.run(a, b) }
	return []law{
		{deterministic, pair, both(f(a, b), fresh)},
		{"commutative", pair, both(f(a, b), f(b, a))},
		{"idempotent: f(f(a,b),a) = f(a,b)", pair, both(of(f(a, b), is(a)), f(a, b))},
		{"canonical: merging a result with itself changes nothing", pair, both(of(f(a, b), f(a, b)), f(a, b))},
		{"associative: f(f(a,b),c) = f(a,b,c)", triple, both(of(f(a, b), is(d)), f(a, b, d))},
		{"associative: f(f(b,c),a) = f(c,b,a)", triple, both(of(f(b, d), is(a)), f(d, b, a))},
		{"associative: f(f(a,b),f(b,c)) = f(a,b,c)", triple, both(of(f(a, b), f(b, d)), f(a, b, d))},
	}
}

// mutated changes a value a little, in ways that leave most text formats valid, until the module
// accepts it; the value itself if it never does. What is accepted joins the pool.
func (c *checker) mutated(v value) value {
	const tries = 8
	for range tries {
		m := written(c.mutate(v.bytes))
		if m.equal(v) {
			continue
		}
		if _, err := c.f(m, v); err == nil {
			if len(c.pool) < maxSamples {
				c.pool = append(c.pool, m)
			}
			return m
		}
	}
	return v
}

func (c *checker) mutate(v []byte) []byte {
	m := bytes.Clone(v)
	if len(m) == 0 {
		return m
	}
	i := c.rng.IntN(len(m))
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
