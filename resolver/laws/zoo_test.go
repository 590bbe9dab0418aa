package laws

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"dynamo/resolver"
)

// stock is a JSON object of quantities, as shops keep them.
type stock = map[string]int64

// shop makes a Merge of a function on stocks. It is as strict as a resolver ought to be.
func shop(f func(in []stock) any) Merge {
	return func(_ context.Context, siblings []resolver.Sibling) (resolver.Response, error) {
		var in []stock
		for _, s := range siblings {
			if s.Ancestor {
				continue
			}
			var one stock
			if err := json.Unmarshal(s.Value, &one); err != nil || one == nil {
				return resolver.Response{}, fmt.Errorf("no stock: %q", s.Value)
			}
			in = append(in, one)
		}
		out, ok := f(in).([]byte)
		if !ok {
			var err error
			if out, err = json.Marshal(f(in)); err != nil {
				return resolver.Response{}, err
			}
		}
		return resolver.Response{Payload: out}, nil
	}
}

// fold combines the stocks field by field.
func fold(in []stock, f func(a, b int64) int64) stock {
	out := maps.Clone(in[0])
	for _, s := range in[1:] {
		for k, v := range s {
			if have, ok := out[k]; ok {
				v = f(have, v)
			}
			out[k] = v
		}
	}
	return out
}

func larger(a, b int64) int64 { return max(a, b) }

// list writes a stock with its fields in the given order.
func list(s stock, keys []string, space string) []byte {
	var parts []string
	for _, k := range keys {
		b, _ := json.Marshal(k)
		parts = append(parts, fmt.Sprintf("%s:%s%d", b, space, s[k]))
	}
	return []byte("{" + strings.Join(parts, ","+space) + "}")
}

func cut(s stock, keep int, keys []string) stock {
	for len(keys) > keep {
		delete(s, keys[0])
		keys = keys[1:]
	}
	return s
}

func stocks() [][]byte {
	return lists(`{"apples":3,"pears":1}`, `{"pears":5,"figs":2,"nuts":7}`, `{"dates":12}`, `{"apples":8,"figs":40,"kiwis":6}`)
}

// animal is an unlawful resolver, and the laws that it may be caught at.
type animal struct {
	name  string
	merge func(rng *rand.Rand) Merge
	laws  []string
}

func zoo() []animal {
	still := func(f func(in []stock) any) func(*rand.Rand) Merge {
		return func(*rand.Rand) Merge { return shop(f) }
	}
	return append([]animal{
		{"the last one wins", still(func(in []stock) any { return in[len(in)-1] }), []string{Commutative}},
		{"keeps the first", still(func(in []stock) any {
			return fold(in, func(a, _ int64) int64 { return a })
		}), []string{Commutative}},
		{"sum", still(func(in []stock) any {
			return fold(in, func(a, b int64) int64 { return a + b })
		}), []string{Idempotent}},
		{"average", still(func(in []stock) any {
			sum := fold(in, func(a, b int64) int64 { return a + b })
			for k := range sum {
				sum[k] /= int64(len(in))
			}
			return sum
		}), []string{Idempotent, Associative}},
		{"cap at four, the least one goes, one a merge", still(func(in []stock) any {
			s := fold(in, larger)
			return cut(s, max(4, len(s)-1), slices.Sorted(maps.Keys(s)))
		}), []string{Associative, Idempotent}},
		{"cap at three, ties in map order", still(func(in []stock) any {
			s := fold(in, larger)
			order := slices.SortedFunc(maps.Keys(s), func(a, b string) int { return int(s[a] - s[b]) })
			return cut(s, 3, order)
		}), []string{Deterministic}},
		{"drops what is empty", still(func(in []stock) any {
			s := fold(in, func(a, b int64) int64 { return min(a, b) })
			maps.DeleteFunc(s, func(_ string, n int64) bool { return n == 0 })
			return s
		}), []string{Associative, Idempotent}},
		{"spaces by chance of order", still(func(in []stock) any {
			s := fold(in, larger)
			return list(s, slices.Sorted(maps.Keys(s)), strings.Repeat(" ", len(in)-1))
		}), []string{Canonical}},
		{"fields in order of arrival", still(func(in []stock) any {
			s := fold(in, larger)
			var keys []string
			for _, one := range in {
				for _, k := range slices.Sorted(maps.Keys(one)) {
					if !slices.Contains(keys, k) {
						keys = append(keys, k)
					}
				}
			}
			return list(s, keys, "")
		}), []string{Canonical}},
		{"map order", still(func(in []stock) any {
			s := fold(in, larger)
			var keys []string
			for k := range s { // in no order, which is the point
				keys = append(keys, k)
			}
			return list(s, keys, "")
		}), []string{Deterministic}},
	}, unsteady()...)
}

func unsteady() []animal {
	return []animal{
		{"concatenation", func(*rand.Rand) Merge {
			return func(_ context.Context, in []resolver.Sibling) (resolver.Response, error) {
				var out []byte
				for _, s := range in {
					out = append(out, s.Value...)
				}
				return resolver.Response{Payload: out}, nil
			}
		}, []string{Commutative}},
		{"time", func(*rand.Rand) Merge {
			clock := int64(0)
			return shop(func(in []stock) any {
				s := fold(in, larger)
				clock++
				s["merged_at"] = clock / 5
				return s
			})
		}, []string{Deterministic}},
		{"hidden state", func(*rand.Rand) Merge {
			seen := stock{}
			return shop(func(in []stock) any {
				seen = fold(append(in, seen), larger)
				return seen
			})
		}, []string{Deterministic}},
		{"random", func(rng *rand.Rand) Merge {
			return shop(func(in []stock) any { return in[rng.IntN(len(in))] })
		}, []string{Deterministic}},
		{"seldom random", func(rng *rand.Rand) Merge {
			return shop(func(in []stock) any {
				s := fold(in, larger)
				if rng.IntN(20) == 0 {
					delete(s, slices.Max(slices.Collect(maps.Keys(s))))
				}
				return s
			})
		}, []string{Deterministic}},
	}
}

// TestZoo: every unlawful resolver is caught, for what it does, with a small counterexample that holds.
func TestZoo(t *testing.T) {
	t.Parallel()
	for _, a := range zoo() {
		t.Run(a.name, func(t *testing.T) {
			for seed := range uint64(4) {
				merge := a.merge(rand.New(rand.NewPCG(seed, 9)))
				r := Check(t.Context(), merge, stocks(), Options{Seed: seed + 1, Budget: time.Minute})
				if r.Outcome != Unlawful || !slices.Contains(a.laws, r.Violation.Law) {
					t.Fatalf("seed %d: %s, %v, violation %v", seed, r.Outcome, r.Laws, r.Violation)
				}
				if seed == 0 {
					t.Log("\n" + r.Violation.Explain())
				}
				wantDifference(t, merge, r.Violation)
				wantSmall(t, a, r.Violation)
			}
		})
	}
}

func wantSmall(t *testing.T, a animal, v *Violation) {
	t.Helper()
	bytes := len(v.Ancestor)
	for _, in := range v.Inputs {
		bytes += len(in)
	}
	most := 60
	if a.name == "hidden state" {
		most = 150 // it cannot be shown again, so it cannot be shrunk
	}
	if len(v.Inputs) > 3 || bytes > most || v.Ancestor != nil && a.name != "hidden state" {
		t.Errorf("%d siblings of %d bytes:\n%s", len(v.Inputs), bytes, v.Explain())
	}
}

// TestLawfulIsNeverFlagged, whatever the seed.
func TestLawfulIsNeverFlagged(t *testing.T) {
	t.Parallel()
	set := func(_ context.Context, siblings []resolver.Sibling) (resolver.Response, error) {
		all := map[string]bool{}
		for _, s := range siblings {
			var one []string
			if err := json.Unmarshal(s.Value, &one); err != nil {
				return resolver.Response{}, err
			}
			for _, item := range one {
				all[item] = true
			}
		}
		out := slices.Sorted(maps.Keys(all))
		if out == nil {
			out = []string{}
		}
		b, err := json.Marshal(out)
		return resolver.Response{Payload: b}, err
	}
	maximum := func(_ context.Context, siblings []resolver.Sibling) (resolver.Response, error) {
		best := int64(0)
		for i, s := range siblings {
			var n int64
			if err := json.Unmarshal(s.Value, &n); err != nil {
				return resolver.Response{}, err
			}
			if best = max(best, n); i == 0 {
				best = n
			}
		}
		return resolver.Response{Payload: fmt.Append(nil, best)}, nil
	}
	for name, c := range map[string]struct {
		merge   Merge
		samples [][]byte
		deletes bool
		seeds   uint64
	}{
		"set union":       {set, lists(`["a","b"]`, `["c"]`, `["b","d","e"]`, `[]`), false, 200},
		"maximum":         {maximum, lists("3", "17", "40"), false, 200},
		"maximum by key":  {shop(func(in []stock) any { return fold(in, larger) }), stocks(), false, 200},
		"deletes win":     {deletesWin(shop(func(in []stock) any { return fold(in, larger) })), stocks(), true, 30},
		"the newest wins": {newest(resolver.StatusSelect), stocks(), false, 200},
		"two samples":     {set, lists(`["a"]`, `["b"]`), false, 30},
		"three ways":      {threeWays, lists(`["a","b"]`, `["c"]`, `["b","d","e"]`, `["a","c"]`), false, 30},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range c.seeds {
				r := Check(t.Context(), c.merge, c.samples, Options{Seed: seed + 1, Budget: time.Minute, Rounds: 5, Deletes: c.deletes})
				if r.Outcome != Lawful || r.Ancestors == 0 || c.deletes != (r.Deletes > 0) {
					t.Fatalf("seed %d: %s, %v, %v", seed, r.Outcome, r.Laws, r.Violation)
				}
			}
		})
	}
}

// deletesWin makes a merge answer a delete among the siblings with a deletion.
func deletesWin(merge Merge) Merge {
	return func(ctx context.Context, in []resolver.Sibling) (resolver.Response, error) {
		resp, err := merge(ctx, slices.DeleteFunc(slices.Clone(in), func(s resolver.Sibling) bool { return s.Deleted }))
		if slices.ContainsFunc(in, func(s resolver.Sibling) bool { return s.Deleted }) {
			return resolver.Response{Status: resolver.StatusDeleted}, nil
		}
		return resp, err
	}
}

// threeWays takes out of the union what the ancestor had and not all siblings still have.
func threeWays(_ context.Context, siblings []resolver.Sibling) (resolver.Response, error) {
	count, had := map[string]int{}, map[string]bool{}
	n := 0
	for _, s := range siblings {
		var one []string
		if err := json.Unmarshal(s.Value, &one); err != nil {
			return resolver.Response{}, err
		}
		if n++; s.Ancestor {
			n--
		}
		slices.Sort(one)
		for _, item := range slices.Compact(one) {
			if s.Ancestor {
				had[item] = true
			} else {
				count[item]++
			}
		}
	}
	maps.DeleteFunc(count, func(item string, times int) bool { return had[item] && times < n })
	b, err := json.Marshal(append([]string{}, slices.Sorted(maps.Keys(count))...))
	return resolver.Response{Payload: b}, err
}

// TestDeletesAndAncestorsAreTested: faults that show with a delete or an ancestor only.
func TestDeletesAndAncestorsAreTested(t *testing.T) {
	union := shop(func(in []stock) any { return fold(in, larger) })
	byPlace := func(_ context.Context, in []resolver.Sibling) (resolver.Response, error) {
		if in[0].Deleted {
			return resolver.Response{Status: resolver.StatusDeleted}, nil
		}
		return union(t.Context(), slices.DeleteFunc(slices.Clone(in), func(s resolver.Sibling) bool { return s.Deleted }))
	}
	if r := Check(t.Context(), byPlace, stocks(), Options{Deletes: true}); r.Outcome != Unlawful || !slices.ContainsFunc(r.Violation.Inputs, func(b []byte) bool { return b == nil }) {
		t.Errorf("%s, %v", r.Outcome, r.Violation)
	}
	if r := Check(t.Context(), byPlace, stocks(), Options{Rounds: 20}); r.Outcome != Lawful || r.Deletes != 0 {
		t.Errorf("the module does not want deletes: %s, %v", r.Outcome, r.Violation)
	}
	refuses := func(ctx context.Context, in []resolver.Sibling) (resolver.Response, error) {
		if slices.ContainsFunc(in, func(s resolver.Sibling) bool { return s.Deleted }) {
			return resolver.Response{}, errors.New("no deletes")
		}
		return union(ctx, in)
	}
	if r := Check(t.Context(), refuses, stocks(), Options{Deletes: true, Rounds: 20}); r.Outcome != Inconclusive {
		t.Errorf("%s, %v", r.Outcome, r.Violation)
	}
	counter := func(_ context.Context, in []resolver.Sibling) (resolver.Response, error) {
		if !in[0].Ancestor {
			return union(t.Context(), in)
		}
		return resolver.Response{Payload: bytes.Join([][]byte{in[1].Value, in[2].Value}, nil)}, nil
	}
	r := Check(t.Context(), counter, stocks(), Options{})
	if r.Outcome != Unlawful || r.Violation.Ancestor == nil || !strings.Contains(r.Violation.Explain(), "ancestor = ") {
		t.Errorf("%s, %v", r.Outcome, r.Violation)
	}
}

// TestEqualTimes: the newest wins, but of two that are equally new the one that happens to come last, or first.
func TestEqualTimes(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]func(a, b uint64) bool{
		"last":  func(a, b uint64) bool { return a >= b },
		"first": func(a, b uint64) bool { return a > b },
	} {
		for _, rounds := range []int{5, 40} {
			for seed := range uint64(50) {
				merge := func(_ context.Context, in []resolver.Sibling) (resolver.Response, error) {
					in = slices.DeleteFunc(slices.Clone(in), func(s resolver.Sibling) bool { return s.Ancestor })
					best := in[0]
					for _, s := range in[1:] {
						if later(s.TimeMs, best.TimeMs) {
							best = s
						}
					}
					return resolver.Response{Payload: best.Value}, nil
				}
				r := Check(t.Context(), merge, stocks(), Options{Seed: seed + 1, Rounds: rounds, Budget: time.Minute})
				if r.Outcome != Unlawful || r.Violation.Law != Commutative || len(r.Violation.Inputs) != 2 {
					t.Fatalf("%s, seed %d: %s, %v", name, seed, r.Outcome, r.Violation)
				}
				v := r.Violation
				if n := len(v.Inputs[0]) + len(v.Inputs[1]); n > 6 || v.TimesMs[0] != v.TimesMs[1] {
					t.Fatalf("%s, seed %d: %d bytes, times %v", name, seed, n, v.TimesMs)
				}
				if !strings.Contains(v.Explain(), "same millisecond") || !strings.Contains(v.String(), "same millisecond") {
					t.Fatalf("the reader cannot see why:\n%s", v.Explain())
				}
			}
		}
	}
}

// TestTimesAreMentionedWhereTheyMatter: sets of four are first tested with equal times, which this fault does not need.
func TestTimesAreMentionedWhereTheyMatter(t *testing.T) {
	t.Parallel()
	merge := shop(func(in []stock) any {
		s := fold(in, larger)
		return cut(s, len(s)-max(0, len(in)-3), slices.Sorted(maps.Keys(s)))
	})
	tied := false
	seen := func(ctx context.Context, in []resolver.Sibling) (resolver.Response, error) {
		tied = tied || len(in) == 4 && in[0].TimeMs == in[3].TimeMs
		return merge(ctx, in)
	}
	r := Check(t.Context(), seen, stocks(), Options{Budget: time.Minute})
	if r.Outcome != Unlawful || !tied || strings.Contains(r.Violation.Explain(), "millisecond") {
		t.Fatalf("%s, tied %t, %v", r.Outcome, tied, r.Violation)
	}
}

// TestThreeStates: a cap that any two samples pass breaks with three of them, which it takes all of.
func TestThreeStates(t *testing.T) {
	capped := shop(func(in []stock) any {
		s := fold(in, larger)
		return cut(s, max(5, len(s)-1), slices.Sorted(maps.Keys(s)))
	})
	r := Check(t.Context(), capped, lists(`{"a":1,"b":1}`, `{"c":1,"d":1}`, `{"e":1,"f":1,"g":1}`), Options{Budget: time.Minute})
	if r.Outcome != Unlawful || r.Violation.Law != Associative && r.Violation.Law != Idempotent || len(r.Violation.Inputs) > 3 {
		t.Fatalf("%s, %v", r.Outcome, r.Violation)
	}
}

// TestHugeValuesAreShrunkInTime: a search that has no end must not outlast the budget, nor hold all it might try.
func TestHugeValuesAreShrunkInTime(t *testing.T) {
	first := func(_ context.Context, in []resolver.Sibling) (resolver.Response, error) {
		return resolver.Response{Payload: in[0].Value}, nil
	}
	for name, samples := range map[string][][]byte{
		"bytes": {bytes.Repeat([]byte("xy"), maxSampleBytes/4), bytes.Repeat([]byte("z,"), maxSampleBytes/4)},
		"json":  {fmt.Appendf(nil, "[%s1]", strings.Repeat("12,", 20000)), fmt.Appendf(nil, `{"a":[%s2]}`, strings.Repeat("[],", 20000))},
	} {
		start := time.Now()
		r := Check(t.Context(), first, samples, Options{})
		if r.Outcome != Unlawful || r.Violation.Law != Commutative || time.Since(start) > 10*time.Second {
			t.Errorf("%s: %s in %v", name, r.Outcome, time.Since(start))
		}
		if n := len(r.Violation.Inputs[0]) + len(r.Violation.Inputs[1]); n > 10 {
			t.Errorf("%s: %d bytes", name, n)
		}
	}
}

// TestEvidence: it can be sent on, has every law, and is bounded.
func TestEvidence(t *testing.T) {
	union := shop(func(in []stock) any { return fold(in, larger) })
	var last Progress
	r := Check(t.Context(), union, stocks(), Options{Evidence: 20, Rounds: 30, Progress: func(p Progress) { last = p }})
	laws := map[string]bool{}
	for _, e := range r.Evidence {
		laws[e.Law] = true
		if !bytes.Equal(e.Outputs[0], e.Outputs[1]) {
			t.Errorf("%+v", e)
		}
	}
	if len(r.Evidence) > 20 || len(laws) != 4 || r.Tested < 500 {
		t.Errorf("%d equations, %v, of %d", len(r.Evidence), laws, r.Tested)
	}
	if want := (Progress{30, 30, r.Tested, r.Failed, false}); last != want {
		t.Errorf("%+v, want %+v", last, want)
	}
	b, err := json.Marshal(r.Evidence)
	var back []Equation
	if err != nil || json.Unmarshal(b, &back) != nil || len(back) != len(r.Evidence) || !bytes.Equal(back[3].Inputs[0], r.Evidence[3].Inputs[0]) {
		t.Errorf("%v: %s", err, b)
	}
	huge := [][]byte{fmt.Appendf(nil, `{"a%0100000d":1}`, 0), fmt.Appendf(nil, `{"b%0100000d":1}`, 0)}
	if r := Check(t.Context(), union, huge, Options{Rounds: 2, Budget: time.Minute}); len(r.Evidence) > 0 || r.Tested == 0 {
		t.Errorf("%d equations with huge values", len(r.Evidence))
	}
}

// TestEquations counts the orders and splits.
func TestEquations(t *testing.T) {
	for k, want := range map[int][2]int{2: {1, 0}, 3: {5, 3}, 4: {23, 13}, 5: {119, 50}} {
		if o, s := len(orders(k)), len(splits(k)); o != want[0] || s != want[1] {
			t.Errorf("%d siblings: %d orders, %d splits", k, o, s)
		}
		for _, q := range equations(k) {
			if q.law() == Deterministic || q.right.String() != equations(k)[0].right.String() {
				t.Errorf("%s", q)
			}
		}
	}
}

// FuzzTree: taking JSON apart and putting it together again changes nothing but the spelling.
func FuzzTree(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.50,"x",null],"a":{}}`, `[]`, `"\u0000<"`, `-0`, `1e400`, `[[[[]]]]`, ` { } `, `x`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := parseTree(b)
		if err != nil {
			return
		}
		out := tree.append(nil)
		if !json.Valid(out) || len(tree.nodes()) == 0 {
			t.Fatalf("%q became %q", b, out)
		}
		if !sameJSON(b, out) {
			t.Fatalf("%q and %q are not the same", b, out)
		}
		c := &checker{rng: rand.New(rand.NewPCG(1, 1))}
		_ = c.mutate(b)
		if m := tree.clone(); !bytes.Equal(m.append(nil), out) {
			t.Fatal("a clone differs")
		}
		n := 0
		for s := range smallerBytes(written(b)) {
			if !json.Valid(s) {
				t.Fatalf("%q is no JSON", s)
			}
			if n++; n > 1000 {
				break
			}
		}
	})
}
