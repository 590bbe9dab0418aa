package storm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"dynamo/node/causal"
	"dynamo/node/coordinator"
	"dynamo/resolver/laws"
)

const (
	// maxSample is the size of the largest sample that is used, in bytes.
	maxSample = 8 << 10
	// lawTrials is how many triples of samples the laws are tried on in the end.
	lawTrials = 8
	// trialFuel bounds what trial merges of one run may cost, in units of about an instruction.
	trialFuel = 20_000_000
)

// samplesOf returns the values that a user's module brings along.
func samplesOf(module []byte) ([][]byte, error) {
	all, err := laws.Samples(module)
	if err != nil {
		return nil, fmt.Errorf("resolver: %w", err)
	}
	var out [][]byte
	for _, s := range all {
		if len(s) <= maxSample {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("the resolver brings no samples of values")
	}
	return out[:min(len(out), 64)], nil
}

// checkMerge asks that what a read shows of a user's key is what the module makes of the siblings, on another node and
// in another order, and that the module keeps its laws on them. Nothing else is known of a module of strangers.
func (r *run) checkMerge(ctx context.Context, k name, a coordinator.Answer, via, other string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	raw, err := r.c.Node(via).Requests().Get(ctx, coordinator.ReadRequest{Keyspace: k.keyspace, Key: []byte(k.key), Raw: true})
	if err != nil {
		return err
	}
	if len(raw.Siblings) < 2 {
		return nil
	}
	siblings := slices.Clone(raw.Siblings)
	slices.Reverse(siblings)
	t := trial{r, ctx, r.c.Node(other).Resolvers().Try, k}
	want, failed, err := t.merge(siblings...)
	switch {
	case err != nil:
		return err
	case failed != "" && a.Value != nil:
		r.violation("an answer is what the resolver makes of the siblings", k.String(), "%s shows %.80q, but the module fails with %s", via, a.Value.Bytes, failed)
	case failed == "" && a.Value == nil:
		r.violation("clients see no conflict that the resolver can merge", k.String(), "%s shows %d siblings for %q, but the module merges them", via, len(a.Siblings), a.ResolverError)
	case failed == "" && !(bytes.Equal(want.Bytes, a.Value.Bytes) && want.ContentType == a.Value.ContentType):
		r.violation("an answer is what the resolver makes of the siblings", k.String(), "%s shows %.80q, the module makes %.80q", via, a.Value.Bytes, want.Bytes)
	}
	return r.checkLaws(t, siblings[:min(3, len(siblings))])
}

// trial calls the module on a node, without storing anything.
type trial struct {
	*run
	ctx context.Context
	try func(ctx context.Context, keyspace, candidate string, q coordinator.TryRequest) (coordinator.TryResult, error)
	key name
}

// merge returns the merged value, which has the time of the newest, or why the module made none.
func (t trial) merge(values ...causal.Value) (out causal.Value, failed string, err error) {
	q := coordinator.TryRequest{Key: t.key.key}
	for _, v := range values {
		q.Siblings = append(q.Siblings, coordinator.TrySibling{Value: v.Bytes, ContentType: v.ContentType, TimeMs: v.TimeMs, Deleted: v.Deleted})
		out.TimeMs = max(out.TimeMs, v.TimeMs)
	}
	res, err := t.try(t.ctx, t.key.keyspace, "", q)
	if err != nil {
		return out, "", err
	}
	t.trialed += res.Fuel
	out.Bytes, out.ContentType, out.Deleted = res.Value, res.ContentType, res.Status == "deleted"
	return out, res.Error, nil
}

// checkLaws tries the laws on some values. Which siblings a node meets first, and which twice, is chance: if that made
// a difference, equal histories would end in different values.
func (r *run) checkLaws(t trial, v []causal.Value) error {
	if len(v) < 2 || r.trialed > trialFuel {
		return nil
	}
	last := v[len(v)-1]
	type term struct {
		text string
		of   [][]causal.Value // merged one by one, then together
	}
	terms := []term{
		{"f(a,b,c)", [][]causal.Value{{v[0]}, {v[1]}, {last}}},
		{"f(f(a,b),c)", [][]causal.Value{v[:2], {last}}},
		{"f(f(b,c),a)", [][]causal.Value{v[1:], {v[0]}}},
		{"f(f(a,b,c),a)", [][]causal.Value{v, {v[0]}}},
		{"f(f(a,b),f(b,c))", [][]causal.Value{v[:2], v[1:]}},
	}
	var first causal.Value
	for i, e := range terms {
		var parts []causal.Value
		for _, p := range e.of {
			one, failed, err := p[0], "", error(nil)
			if len(p) > 1 {
				one, failed, err = t.merge(p...)
			}
			if err != nil {
				return err
			}
			if failed != "" {
				return nil // it refuses these
			}
			parts = append(parts, one)
		}
		got, failed, err := t.merge(parts...)
		if err != nil {
			return err
		}
		if failed != "" {
			return nil
		}
		if i == 0 {
			first = got
		} else if !bytes.Equal(got.Bytes, first.Bytes) || got.Deleted != first.Deleted {
			r.violation("the resolver is lawful", t.key.String(), "different views of equal siblings: %s = %.80q, but f(a,b,c) = %.80q, of a = %.80q, b = %.80q, c = %.80q",
				e.text, got.Bytes, first.Bytes, v[0].Bytes, v[1].Bytes, last.Bytes)
			return nil
		}
	}
	return nil
}

// checkSamples tries the laws on samples, whatever clients have written.
func (r *run) checkSamples(ctx context.Context) {
	if !r.has(user) {
		return
	}
	rng := rand.New(rand.NewPCG(r.plan.Seed, 0x6c617773))
	ids := r.ids()
	for i := range lawTrials {
		t := trial{r, ctx, r.c.Node(ids[rng.IntN(len(ids))]).Resolvers().Try, name{user, fmt.Sprint("samples-", i)}}
		var v []causal.Value
		for range 3 {
			v = append(v, causal.Value{Bytes: r.samples[rng.IntN(len(r.samples))], ContentType: "application/json", TimeMs: 1 + rng.Uint64N(3)})
		}
		if err := r.checkLaws(t, v); err != nil {
			r.violation("reads succeed when nothing is wrong", t.key.String(), "a trial merge: %v", err)
		}
	}
}
