// Package laws tests whether a resolver is fit to merge siblings: deterministic, commutative,
// associative, idempotent and canonical, in bytes. It is a test on samples and mutations of them, not a
// proof.
//
// It has three outcomes and leans towards saying nothing: what a module refuses, or fails on, is
// inconclusive and never a violation; a violation is reproduced before it is reported; and a check that
// tested nothing says so.
package laws

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
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
	// Untested: nothing at all was tested, as there were fewer than two different samples, or the module refused,
	// failed on or deleted everything.
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
	// ContentTypes are those of the samples, in their order. A sample without one is application/json if it is JSON,
	// else application/octet-stream.
	ContentTypes []string
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
	// Unasked counts those that need a delete, such as one that the module made of other inputs, as an input of a module
	// that does not want to see deletes. The store would not ask it; they are neither tested nor failed.
	Unasked int
	// Refusal is what the module, or the time, had against the first of the failed ones.
	Refusal string
	// Samples is how many different values there were.
	Samples int
	// Missed are the laws that no equation tested, of an inconclusive check.
	Missed []string
	// Laws counts the tested ones by law. An equation that holds proves its outputs canonical, too.
	Laws map[string]int
	// Deletes and Ancestors count those with a delete among the inputs, and with an ancestor.
	Deletes, Ancestors int
	// Evidence are some of the tested equations, of every law the first ones.
	Evidence  []Equation
	Violation *Violation
	// wantsDeletes says that merges with a delete had to be tested, too.
	wantsDeletes bool
}

// Check tests the laws on samples, of which the first 256 different ones count. It returns early only
// when ctx ends, and bounds merges by handing them a ctx; a merge that does not heed it is waited for.
// Equal arguments test equal merges, as far as the time allows. Samples and reports are not copied.
func Check(ctx context.Context, merge Merge, samples [][]byte, o Options) Report {
	o = o.withDefaults()
	pool := distinct(samples, o.ContentTypes)
	if len(pool) < 2 {
		return Report{Outcome: Untested, Samples: len(pool)}
	}
	ctx, cancel := context.WithTimeout(ctx, o.Budget)
	defer cancel()
	searching, enough := context.WithTimeout(ctx, o.Budget/4*3)
	defer enough()
	c := &checker{
		ctx: ctx, searching: searching, merge: merge, o: o, rng: rand.New(rand.NewPCG(max(o.Seed, 1), 0)),
		pool: pool, samples: len(pool), plain: min(2*len(pool), (o.Rounds+1)/2), report: Report{Laws: make(map[string]int), Samples: len(pool), wantsDeletes: o.Deletes},
	}
	var broken *finding
	for n := 0; n < o.Rounds && searching.Err() == nil && broken == nil; n++ {
		broken = c.round(n)
		c.progress(n+1, broken != nil)
	}
	if broken != nil {
		c.report.Violation = c.shrunk(*broken).violation()
	}
	c.report.judge()
	return c.report
}

// And is the report of both checks of one module: what either has tested counts, and what either has broken.
func (r Report) And(s Report) Report {
	r.Tested, r.Failed, r.Unasked = r.Tested+s.Tested, r.Failed+s.Failed, r.Unasked+s.Unasked
	r.Samples, r.Deletes, r.Ancestors = r.Samples+s.Samples, r.Deletes+s.Deletes, r.Ancestors+s.Ancestors
	r.Refusal = cmp.Or(r.Refusal, s.Refusal)
	r.wantsDeletes = r.wantsDeletes || s.wantsDeletes
	if r.Violation == nil {
		r.Violation = s.Violation
	}
	r.Evidence = append(slices.Clone(r.Evidence), s.Evidence...)
	counts := make(map[string]int)
	for _, laws := range []map[string]int{r.Laws, s.Laws} {
		for law, n := range laws {
			counts[law] += n
		}
	}
	r.Laws, r.Missed = counts, nil
	r.judge()
	return r
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

// judge sets the outcome by what was counted.
func (r *Report) judge() {
	switch {
	case r.Violation != nil:
		r.Outcome = Unlawful
		return
	case r.Tested == 0:
		r.Outcome = Untested
		return
	}
	if r.wantsDeletes && r.Deletes == 0 {
		r.Missed = append(r.Missed, "merges with a delete")
	}
	for _, l := range []string{Deterministic, Commutative, Associative, Idempotent} {
		if r.Laws[l] == 0 {
			r.Missed = append(r.Missed, l)
		}
	}
	if r.Outcome = Lawful; len(r.Missed) > 0 {
		r.Outcome = Inconclusive
	}
}

// Summary tells a person in a line how far the test went.
func (r Report) Summary() string {
	var b strings.Builder
	switch {
	case r.Outcome == Untested && r.Samples < 2:
		return "there are no two different values to test with"
	case r.Outcome == Untested && r.Failed == 0:
		fmt.Fprintf(&b, "nothing was tested on %d samples: the module deletes, and does not want to see deletes", r.Samples)
	case r.Outcome == Untested:
		fmt.Fprintf(&b, "nothing was tested: of all %d equations on %d samples the module merged none", r.Failed, r.Samples)
	default:
		fmt.Fprintf(&b, "%d equations held on %d samples, %d could not be tested", r.Tested, r.Samples, r.Failed)
		if r.Unasked > 0 {
			fmt.Fprintf(&b, ", %d more have a delete inside that the module does not want to see", r.Unasked)
		}
		if len(r.Missed) > 0 {
			fmt.Fprintf(&b, "; never tested: %s", strings.Join(r.Missed, ", "))
		}
	}
	if r.Refusal != "" && r.Outcome != Lawful {
		fmt.Fprintf(&b, " (the first: %s)", r.Refusal)
	}
	return b.String()
}

func (c *checker) progress(round int, shrinking bool) {
	if c.o.Progress != nil {
		c.o.Progress(Progress{round, c.o.Rounds, c.report.Tested, c.report.Failed, shrinking})
	}
}

func distinct(in [][]byte, types []string) []value {
	var out []value
	seen := make(map[string]bool)
	for i, b := range in {
		if !seen[string(b)] && len(out) < maxSamples {
			seen[string(b)] = true
			v := written(b)
			if i < len(types) && types[i] != "" {
				v.ctype = types[i]
			}
			out = append(out, v)
		}
	}
	return out
}

// written is a value as a client would have written it. Its time depends on its bytes alone, so that a
// resolver which goes by time is judged fairly.
func written(b []byte) value {
	h := fnv.New32a()
	_, _ = h.Write(b) // never fails
	ctype := "application/octet-stream"
	if json.Valid(b) {
		ctype = "application/json"
	}
	return value{bytes: append([]byte{}, b...), ctype: ctype, timeMs: 1 + uint64(h.Sum32())}
}

// rewritten is written, under the content type of v.
func (v value) rewritten(b []byte) value {
	w := written(b)
	w.ctype = v.ctype
	return w
}
