// Package laws tests whether a resolver is fit to merge siblings: deterministic, commutative,
// associative, idempotent and canonical, in bytes. It is a test on samples and mutations of them, not a
// proof.
//
// It has three outcomes and leans towards saying nothing: what a module refuses, or fails on, is
// inconclusive and never a violation; a violation is reproduced before it is reported; and a check that
// tested nothing says so.
package laws

import (
	"context"
	"hash/fnv"
	"math/rand/v2"
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

// The laws, as violations and evidence name them.
const (
	Deterministic = "deterministic"
	Commutative   = "commutative"
	Associative   = "associative"
	Idempotent    = "idempotent"
	// Canonical is broken by outputs that are equal as JSON but not in bytes.
	Canonical = "canonical"
)

// Merge runs the module on siblings, from its initial state. The ancestor, if any, comes first.
type Merge func(ctx context.Context, siblings []resolver.Sibling) (resolver.Response, error)

// Defaults of the options.
const (
	DefaultBudget   = 5 * time.Second
	defaultRounds   = 200
	defaultEvidence = 32
)

// Options bound a check. Zero fields take the default in brackets.
type Options struct {
	// Budget is how long the check may take [5 s]; what is tested by then counts. A quarter of it is kept for
	// making a counterexample small.
	Budget time.Duration
	// Seed chooses the combinations [1].
	Seed uint64
	// Rounds is how many sets of siblings are tested at the most [200].
	Rounds int
	// Verbatim leaves mutations out: the values were observed, and nobody says that a client would write others.
	Verbatim bool
	// Deletes says that the module wants to see concurrent deletes, so they are among the inputs.
	Deletes bool
	// Evidence bounds the equations that the report lists [32]; the values in them have 64 KiB at the most.
	Evidence int
	// Progress, if not nil, is called after each round, by the goroutine of the check.
	Progress func(Progress)
}

// Progress is how far a check has come.
type Progress struct {
	// Round is the number of rounds done, of Rounds at the most; time may end it earlier.
	Round, Rounds int
	// Tested and Failed are those of the Report.
	Tested, Failed int
	// Shrinking says that a law is broken, and the counterexample is being made small.
	Shrinking bool
}

// Report is the result of a check.
type Report struct {
	Outcome Outcome
	// Tested counts equations that were tested to the end, Failed those that the module refused or failed.
	Tested, Failed int
	// Laws counts the tested ones by law. An equation that holds proves its outputs canonical, too.
	Laws map[string]int
	// Deletes and Ancestors count those with a delete among the inputs, and with an ancestor.
	Deletes, Ancestors int
	// Evidence are some of the tested equations, of every law the first ones.
	Evidence  []Equation
	Violation *Violation
}

// Check tests the laws on samples, of which the first 256 different ones count. It returns early only
// when ctx ends, and bounds merges by handing them a ctx; a merge that does not heed it is waited for.
// Equal arguments test equal merges, as far as the time allows. Samples and reports are not copied.
func Check(ctx context.Context, merge Merge, samples [][]byte, o Options) Report {
	o = o.withDefaults()
	pool := distinct(samples)
	if len(pool) < 2 {
		return Report{Outcome: Untested}
	}
	ctx, cancel := context.WithTimeout(ctx, o.Budget)
	defer cancel()
	searching, enough := context.WithTimeout(ctx, o.Budget/4*3)
	defer enough()
	c := &checker{
		ctx: ctx, searching: searching, merge: merge, o: o, rng: rand.New(rand.NewPCG(max(o.Seed, 1), 0)),
		pool: pool, samples: len(pool), plain: min(2*len(pool), (o.Rounds+1)/2), report: Report{Laws: make(map[string]int)},
	}
	var broken *finding
	for n := 0; n < o.Rounds && searching.Err() == nil && broken == nil; n++ {
		broken = c.round(n)
		c.progress(n+1, broken != nil)
	}
	if broken != nil {
		c.report.Violation = c.shrunk(*broken).violation()
	}
	c.report.Outcome = c.outcome()
	return c.report
}

// CheckModule is Check of a compiled module, on behalf of a key of a keyspace whose values have at most
// maxValueBytes. Without a key the module is told that it is "law-check".
func CheckModule(ctx context.Context, m *resolver.Module, keyspace string, key []byte, maxValueBytes int, samples [][]byte, o Options) Report {
	o.Deletes = m.WantsDeleted()
	if len(key) == 0 {
		key = []byte("law-check")
	}
	merge := func(ctx context.Context, in []resolver.Sibling) (resolver.Response, error) {
		resp, _, err := m.Merge(ctx, resolver.Request{Keyspace: keyspace, Key: key, Siblings: in}, maxValueBytes)
		return resp, err
	}
	return Check(ctx, merge, samples, o)
}

func (o Options) withDefaults() Options {
	if o.Budget == 0 {
		o.Budget = DefaultBudget
	}
	if o.Rounds == 0 {
		o.Rounds = defaultRounds
	}
	if o.Evidence == 0 {
		o.Evidence = defaultEvidence
	}
	return o
}

func (c *checker) outcome() Outcome {
	if c.report.Violation != nil {
		return Unlawful
	}
	for _, l := range []string{Deterministic, Commutative, Associative, Idempotent} {
		if c.report.Laws[l] == 0 {
			return Inconclusive
		}
	}
	if c.o.Deletes && c.report.Deletes == 0 {
		return Inconclusive
	}
	return Lawful
}

func (c *checker) progress(round int, shrinking bool) {
	if c.o.Progress != nil {
		c.o.Progress(Progress{round, c.o.Rounds, c.report.Tested, c.report.Failed, shrinking})
	}
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

// written is a value as a client would have written it. Its time depends on its bytes alone, so that a
// resolver which goes by time is judged fairly.
func written(b []byte) value {
	h := fnv.New32a()
	_, _ = h.Write(b) // never fails
	return value{bytes: append([]byte{}, b...), timeMs: 1 + uint64(h.Sum32())}
}
