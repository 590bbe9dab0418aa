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
	// Inconclusive: there were samples, but the module failed on all of them.
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

// Violation is a law that does not hold, with a counterexample that was seen twice.
type Violation struct {
	Law    string
	Inputs [][]byte
	// Left and Right are the two outputs that ought to be equal.
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

// Check tests the laws on samples. It returns early only when ctx ends.
func Check(ctx context.Context, merge Merge, samples [][]byte, o Options) Report {
	if o.Time == 0 {
		o.Time = 2 * time.Second
	}
	if o.Rounds == 0 {
		o.Rounds = 200
	}
	samples = distinct(samples)
	if len(samples) < 2 {
		return Report{Outcome: Untested}
	}
	ctx, cancel := context.WithTimeout(ctx, o.Time)
	defer cancel()
	c := &checker{ctx: ctx, merge: merge, rng: rand.New(rand.NewPCG(max(o.Seed, 1), 0)), pool: samples}
	for round := 0; round < o.Rounds && ctx.Err() == nil && c.report.Violation == nil; round++ {
		c.round(round)
	}
	switch {
	case c.report.Violation != nil:
		c.report.Outcome = Unlawful
	case c.report.Tested == 0:
		c.report.Outcome = Inconclusive
	default:
		c.report.Outcome = Lawful
	}
	return c.report
}

func distinct(in [][]byte) [][]byte {
	var out [][]byte
	seen := make(map[string]bool)
	for _, b := range in {
		if !seen[string(b)] {
			seen[string(b)] = true
			out = append(out, b)
		}
	}
	return out
}

type checker struct {
	ctx    context.Context
	merge  Merge
	rng    *rand.Rand
	pool   [][]byte
	report Report
}

// errRefused says that the module would not merge these inputs.
var errRefused = errors.New("laws: the module does not merge these inputs")

// f merges values in the order given, as siblings of times that depend on the value alone, so that a
// resolver which goes by time is judged fairly.
func (c *checker) f(values ...[]byte) ([]byte, error) {
	in := make([]resolver.Sibling, len(values))
	for i, v := range values {
		in[i] = resolver.Sibling{Value: v, TimeMs: 1}
	}
	resp, err := c.merge(c.ctx, in)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRefused, err)
	}
	switch resp.Status {
	case resolver.StatusValue:
		return resp.Payload, nil
	case resolver.StatusSelect:
		return values[resp.Index], nil
	}
	return nil, errRefused
}

// round takes three values, the first rounds from the samples as they are, later ones with mutations
// that the module accepts, and tests every law on them.
func (c *checker) round(n int) {
	a, b, d := c.pick(n), c.pick(n+1), c.pick(n+2)
	if n >= 2*len(c.pool) {
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
		c.report.Tested++
		if bytes.Equal(left, right) {
			continue
		}
		// Only what happens again is reported, unless the law is that it must.
		l2, r2, err := law.sides()
		if err != nil || (bytes.Equal(l2, r2) && law.name != deterministic) {
			continue
		}
		c.report.Violation = &Violation{Law: law.name, Inputs: law.inputs, Left: left, Right: right}
		return
	}
}

func (c *checker) pick(n int) []byte {
	if n < 2*len(c.pool) {
		return c.pool[n%len(c.pool)]
	}
	return c.pool[c.rng.IntN(len(c.pool))]
}

const deterministic = "deterministic"

type law struct {
	name   string
	inputs [][]byte
	sides  func() (left, right []byte, err error)
}

// laws are the equations of one triple.
func (c *checker) laws(a, b, d []byte) []law {
	pair, triple := [][]byte{a, b}, [][]byte{a, b, d}
	both := func(l, r func() ([]byte, error)) func() ([]byte, []byte, error) {
		return func() ([]byte, []byte, error) {
			x, err := l()
			if err != nil {
				return nil, nil, err
			}
			y, err := r()
			return x, y, err
		}
	}
	f := func(vs ...[]byte) func() ([]byte, error) { return func() ([]byte, error) { return c.f(vs...) } }
	nested := func(x, y, z []byte) func() ([]byte, error) {
		return func() ([]byte, error) {
			m, err := c.f(x, y)
			if err != nil {
				return nil, err
			}
			return c.f(m, z)
		}
	}
	overlap := func() ([]byte, error) {
		l, err := c.f(a, b)
		if err != nil {
			return nil, err
		}
		r, err := c.f(b, d)
		if err != nil {
			return nil, err
		}
		return c.f(l, r)
	}
	self := func() ([]byte, error) {
		m, err := c.f(a, b)
		if err != nil {
			return nil, err
		}
		return c.f(m, m)
	}
	return []law{
		{deterministic, pair, both(f(a, b), f(a, b))},
		{"commutative", pair, both(f(a, b), f(b, a))},
		{"idempotent: f(f(a,b),a) = f(a,b)", pair, both(nested(a, b, a), f(a, b))},
		{"canonical: merging a result with itself changes nothing", pair, both(self, f(a, b))},
		{"associative: f(f(a,b),c) = f(a,b,c)", triple, both(nested(a, b, d), f(a, b, d))},
		{"associative: f(f(b,c),a) = f(c,b,a)", triple, both(nested(b, d, a), f(d, b, a))},
		{"associative: f(f(a,b),f(b,c)) = f(a,b,c)", triple, both(overlap, f(a, b, d))},
	}
}

// mutated changes a value a little, in ways that leave most text formats valid, until the module
// accepts it; the value itself if it never does. What is accepted joins the pool.
func (c *checker) mutated(v []byte) []byte {
	const tries = 8
	for range tries {
		m := c.mutate(v)
		if bytes.Equal(m, v) {
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
