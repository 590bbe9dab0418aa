package laws

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dynamo/resolver"
)

// merger makes a Merge of a function on comma-separated lists.
func merger(f func(in [][]string) ([]string, error)) Merge {
	return func(_ context.Context, siblings []resolver.Sibling) (resolver.Response, error) {
		in := make([][]string, len(siblings))
		for i, s := range siblings {
			if len(s.Value) > 0 {
				in[i] = strings.Split(string(s.Value), ",")
			}
			if slices.Contains(in[i], "") {
				return resolver.Response{}, errors.New("an item without a name")
			}
		}
		out, err := f(in)
		return resolver.Response{Status: resolver.StatusValue, Payload: []byte(strings.Join(out, ","))}, err
	}
}

func union(in [][]string) ([]string, error) {
	set := map[string]bool{}
	for _, l := range in {
		for _, s := range l {
			set[s] = true
		}
	}
	return slices.Sorted(maps.Keys(set)), nil
}

func lists(s ...string) [][]byte {
	var out [][]byte
	for _, v := range s {
		out = append(out, []byte(v))
	}
	return out
}

// TestVerbatim: a union that merges sorted lists as they come is lawful for clients that sort theirs. It would
// accept mutated ones, too, but is never shown any.
func TestVerbatim(t *testing.T) {
	strange := 0
	merge := merger(func(in [][]string) ([]string, error) {
		for _, s := range slices.Concat(in...) {
			if len(s) != 1 || s[0] < 'a' || s[0] > 'i' {
				strange++
			}
		}
		out := in[0]
		for _, l := range in[1:] {
			var both []string
			for i, j := 0, 0; i < len(out) || j < len(l); {
				switch {
				case j == len(l) || i < len(out) && out[i] < l[j]:
					both, i = append(both, out[i]), i+1
				case i == len(out) || l[j] < out[i]:
					both, j = append(both, l[j]), j+1
				default:
					both, i, j = append(both, l[j]), i+1, j+1
				}
			}
			out = both
		}
		return out, nil
	})
	samples := lists("a,b,c,d,e", "b,c,f,g", "d,e,h", "a,e,f,i")
	for seed := range uint64(8) {
		if r := Check(t.Context(), merge, samples, Options{Seed: seed + 1, Verbatim: true}); r.Outcome != Lawful {
			t.Fatalf("seed %d: %s: %v", seed+1, r.Outcome, r.Violation)
		}
	}
	if strange > 0 {
		t.Fatalf("%d items that nobody wrote", strange)
	}
	if Check(t.Context(), merge, samples, Options{}); strange == 0 {
		t.Fatal("no mutations even when they are asked for")
	}
}

func TestCheck(t *testing.T) {
	calls := 0
	rng := rand.New(rand.NewPCG(1, 1))
	samples := lists("a,b", "b,c", "d", "a,e,f")
	for _, c := range []struct {
		name    string
		merge   Merge
		samples [][]byte
		outcome Outcome
		law     string
	}{
		{"set union", merger(union), samples, Lawful, ""},
		{"maximum", merger(func(in [][]string) ([]string, error) { return slices.MaxFunc(in, slices.Compare[[]string]), nil }), samples, Lawful, ""},
		{"the last one wins", merger(func(in [][]string) ([]string, error) { return in[len(in)-1], nil }), samples, Unlawful, "commutative"},
		{"concatenation", merger(func(in [][]string) ([]string, error) { return slices.Concat(in...), nil }), samples, Unlawful, "commutative"},
		{"sorted concatenation counts twice", merger(func(in [][]string) ([]string, error) {
			out := slices.Concat(in...)
			slices.Sort(out)
			return out, nil
		}), samples, Unlawful, "idempotent"},
		{"a counter that is added up", merger(func(in [][]string) ([]string, error) {
			n := 0
			for _, l := range in {
				k, err := strconv.Atoi(l[0])
				if err != nil {
					return nil, err
				}
				n += k
			}
			return []string{strconv.Itoa(n)}, nil
		}), lists("1", "2", "3"), Unlawful, "idempotent"},
		{"marks what it was given twice", merger(func(in [][]string) ([]string, error) {
			out, err := union(in)
			if slices.Equal(in[0], in[1]) {
				out = append(out, "z")
			}
			return out, err
		}), samples, Unlawful, Idempotent},
		{"a map in its own order", merger(func(in [][]string) ([]string, error) {
			out, err := union(in)
			calls++
			k := calls % max(1, len(out))
			return slices.Concat(out[k:], out[:k]), err
		}), samples, Unlawful, Deterministic},
		{"the largest three", merger(func(in [][]string) ([]string, error) {
			out, err := union(in)
			return out[max(0, len(out)-3):], err
		}), lists("a,b,c", "b,c,d", "a,d,e"), Lawful, ""}, // keeping the largest three is a lawful cap
		{"a cap that only three states show", merger(func(in [][]string) ([]string, error) {
			out, err := union(in)
			if len(out) > 3 {
				out = out[1:] // one at a time
			}
			return out, err
		}), lists("a,b", "c,d", "e,f"), Unlawful, "associative"},
		{"a cap by arrival", merger(func(in [][]string) ([]string, error) {
			out, err := union(in)
			if len(out) > 4 {
				out = append(out[:2], out[len(out)/2:]...)
				out = out[:min(4, len(out))]
			}
			return out, err
		}), lists("a,b,c", "d,e,f", "g,h,i", "b,h"), Unlawful, "idempotent"},
		{"a map in random order", merger(func(in [][]string) ([]string, error) {
			out, err := union(in)
			rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
			return out, err
		}), samples, Unlawful, Deterministic},
		{"only merges of merges are random", merger(func(in [][]string) ([]string, error) {
			out, err := union(in)
			if slices.ContainsFunc(in, func(l []string) bool { return len(l) > 2 }) {
				rng.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
			}
			return out, err
		}), lists("a,b", "c,d", "e,f"), Unlawful, Deterministic},
		{"the newest wins", newest(resolver.StatusValue), samples, Lawful, ""},
		{"the newest is selected", newest(resolver.StatusSelect), samples, Lawful, ""},
		{"selects what is not there", answers(resolver.Response{Status: resolver.StatusSelect, Index: 7}), samples, Untested, ""},
		{"keeps the siblings", answers(resolver.Response{Status: resolver.StatusKeep}), samples, Untested, ""},
		{"deletes always", answers(resolver.Response{Status: resolver.StatusDeleted}), samples, Inconclusive, ""},
		{"nothing, which is not a deletion", answers(resolver.Response{}), samples, Lawful, ""},
		{"deletes by order", func(_ context.Context, in []resolver.Sibling) (resolver.Response, error) {
			if bytes.Compare(in[0].Value, in[1].Value) > 0 {
				return resolver.Response{Status: resolver.StatusDeleted}, nil
			}
			return resolver.Response{}, nil
		}, samples, Unlawful, "commutative"},
		{"refuses what it has merged", merger(func(in [][]string) ([]string, error) {
			out, err := union(in)
			if slices.ContainsFunc(in, func(l []string) bool { return slices.Contains(l, "seen") }) {
				return nil, errors.New("no")
			}
			return append(out, "seen"), err
		}), samples, Inconclusive, ""},
		{"refuses mutations", merger(func(in [][]string) ([]string, error) {
			for _, l := range in {
				for _, item := range l {
					if !strings.Contains("abcdef", item) {
						return nil, errors.New("unknown item")
					}
				}
			}
			return union(in)
		}), samples, Lawful, ""},
		{"fails always", merger(func([][]string) ([]string, error) { return nil, errors.New("no") }), samples, Untested, ""},
		{"one sample", merger(union), lists("a", "a"), Untested, ""},
		{"no samples", merger(union), nil, Untested, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Check(t.Context(), c.merge, c.samples, Options{Budget: 5 * time.Second})
			if r.Outcome != c.outcome {
				t.Fatalf("%s, %v, violation %v", r.Outcome, r.Laws, r.Violation)
			}
			if c.outcome == Unlawful && !strings.Contains(r.Violation.Law, c.law) {
				t.Fatalf("broke %s, expected %s", r.Violation, c.law)
			}
			if c.outcome == Unlawful {
				wantDifference(t, c.merge, r.Violation)
			}
		})
	}
}

func answers(r resolver.Response) Merge {
	return func(context.Context, []resolver.Sibling) (resolver.Response, error) { return r, nil }
}

// newest takes the sibling with the largest time, of equal ones the greater bytes.
func newest(status resolver.Status) Merge {
	return func(_ context.Context, in []resolver.Sibling) (resolver.Response, error) {
		best := len(in) - 1
		for i, s := range in {
			if !s.Ancestor && cmp.Or(cmp.Compare(s.TimeMs, in[best].TimeMs), bytes.Compare(s.Value, in[best].Value)) > 0 {
				best = i
			}
		}
		return resolver.Response{Status: status, Index: best, Payload: in[best].Value}, nil
	}
}

// wantDifference takes a counterexample at its word.
func wantDifference(t *testing.T, merge Merge, v *Violation) {
	t.Helper()
	left, right := v.Outputs[0], v.Outputs[1]
	if (left == nil) == (right == nil) && bytes.Equal(left, right) {
		t.Fatalf("the counterexample shows no difference: %s", v)
	}
	if text := v.String(); !strings.Contains(text, v.Law) || !strings.Contains(text, excerpt(left, "")) || !strings.Contains(text, excerpt(v.Inputs[0], "")) {
		t.Errorf("%s", text)
	}
	if v.Law == Deterministic {
		return // the outputs are the proof, and will not come again
	}
	l, r, _ := strings.Cut(v.Text, " = ")
	for text, want := range map[string][]byte{l: left, r: right} {
		got, rest := work(t, merge, v, text)
		if rest != "" || got.Deleted != (want == nil) || !bytes.Equal(got.Value, want) {
			t.Errorf("%s: anew, %s gives %q", v, text, got.Value)
		}
	}
}

// work takes the first expression of a text at its word, and returns what follows.
func work(t *testing.T, merge Merge, v *Violation, text string) (resolver.Sibling, string) {
	t.Helper()
	if text[0] != 'f' || len(text) == 1 || text[1] != '(' {
		i := text[0] - 'a'
		return resolver.Sibling{Value: v.Inputs[i], TimeMs: v.TimesMs[i], Deleted: v.Inputs[i] == nil}, text[1:]
	}
	var in []resolver.Sibling
	if v.Ancestor != nil {
		in = append(in, resolver.Sibling{Value: v.Ancestor, Ancestor: true})
	}
	first := len(in)
	newest := uint64(0)
	for text = text[1:]; text[0] != ')'; {
		var s resolver.Sibling
		s, text = work(t, merge, v, text[1:])
		in, newest = append(in, s), max(newest, s.TimeMs)
	}
	resp, err := merge(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	out := resolver.Sibling{Value: append([]byte{}, resp.Payload...), TimeMs: newest}
	switch resp.Status {
	case resolver.StatusDeleted:
		out.Value, out.Deleted = nil, true
	case resolver.StatusSelect:
		out = in[first+resp.Index]
	}
	return out, text[1:]
}

// TestNothingTestedIsUntested: a check of which nothing came does not look like one that was merely cut short.
func TestNothingTestedIsUntested(t *testing.T) {
	samples := lists("a,b", "b,c", "d")
	refuses := merger(func([][]string) ([]string, error) { return nil, errors.New("no") })
	if r := Check(t.Context(), refuses, samples, Options{}); r.Outcome != Untested || r.Tested != 0 || r.Failed == 0 || r.Samples != 3 {
		t.Errorf("%+v", r)
	}
	if r := Check(t.Context(), merger(union), samples[:1], Options{}); r.Outcome != Untested || r.Failed != 0 || r.Samples != 1 {
		t.Errorf("%+v", r)
	}
}

// TestAnd: two checks of one module are one check, which passes if together they tested all laws.
func TestAnd(t *testing.T) {
	part := func(of ...string) Report {
		r := Report{Outcome: Inconclusive, Tested: len(of), Samples: 2, Laws: map[string]int{}, Missed: []string{"stale"}}
		for _, law := range of {
			r.Laws[law]++
		}
		return r
	}
	none := Report{Outcome: Untested, Failed: 3, Samples: 2, Refusal: "no"}
	broken := part(Commutative)
	broken.Violation = &Violation{}
	halves := []Report{part(Deterministic, Commutative), part(Associative, Idempotent)}
	withDelete := halves[1]
	withDelete.wantsDeletes = true
	for _, c := range []struct {
		a, b    Report
		outcome Outcome
		missed  string
	}{
		{halves[0], halves[1], Lawful, "[]"},
		{halves[0], none, Inconclusive, "[associative idempotent]"},
		{halves[0], withDelete, Inconclusive, "[merges with a delete]"},
		{none, none, Untested, "[]"},
		{none, broken, Unlawful, "[]"},
		{broken, halves[0], Unlawful, "[]"},
	} {
		r := c.a.And(c.b)
		if r.Outcome != c.outcome || fmt.Sprint(r.Missed) != c.missed || r.Tested != c.a.Tested+c.b.Tested || r.Samples != 4 || r.Refusal != cmp.Or(c.a.Refusal, c.b.Refusal) {
			t.Errorf("%+v and %+v: %+v", c.a, c.b, r)
		}
	}
}

// TestDeletionsOnTheWay: a module may delete. The store leaves a delete out that stands beside values, unless the
// module wants to see it; so no equation with one is held against it.
func TestDeletionsOnTheWay(t *testing.T) {
	samples := lists("a,b", "b,c", "c,d", "a,b,c")
	common := func(in []resolver.Sibling) (out []string) {
		out = strings.Split(string(in[0].Value), ",")
		for _, s := range in[1:] {
			out = slices.DeleteFunc(out, func(item string) bool { return !slices.Contains(strings.Split(string(s.Value), ","), item) })
		}
		return out
	}
	intersection := func(_ context.Context, in []resolver.Sibling) (resolver.Response, error) {
		for _, s := range in {
			if s.Deleted {
				return resolver.Response{Status: resolver.StatusDeleted}, nil
			}
		}
		in = slices.DeleteFunc(in, func(s resolver.Sibling) bool { return s.Ancestor })
		out := common(in)
		if len(out) == 0 {
			return resolver.Response{Status: resolver.StatusDeleted}, nil
		}
		slices.Sort(out)
		return resolver.Response{Payload: []byte(strings.Join(slices.Compact(out), ","))}, nil
	}
	if r := Check(t.Context(), intersection, samples, Options{}); r.Failed != 0 || r.Unasked == 0 || r.Outcome != Lawful {
		t.Errorf("%s, %d failed, %d unasked: %v", r.Outcome, r.Failed, r.Unasked, r.Violation)
	}
	if r := Check(t.Context(), intersection, samples, Options{Deletes: true}); r.Failed != 0 || r.Unasked != 0 || r.Outcome != Lawful || r.Deletes == 0 {
		t.Errorf("with deletes: %s, %d failed, %d unasked: %v", r.Outcome, r.Failed, r.Unasked, r.Violation)
	}
}

// TestContentTypesAreCompared: the content type of a result counts like its bytes.
func TestContentTypesAreCompared(t *testing.T) {
	typed := func(pick func(in []resolver.Sibling) string) Merge {
		plain := merger(union)
		return func(ctx context.Context, in []resolver.Sibling) (resolver.Response, error) {
			r, err := plain(ctx, in)
			r.ContentType = pick(in)
			return r, err
		}
	}
	samples := lists("a,b", "b,c", "d", "e,f")
	for _, c := range []struct {
		name    string
		pick    func(in []resolver.Sibling) string
		outcome Outcome
	}{
		{"its own", func([]resolver.Sibling) string { return "text/csv" }, Lawful},
		{"that of the newest", func([]resolver.Sibling) string { return "" }, Lawful},
		{"that of the first", func(in []resolver.Sibling) string { return in[0].ContentType }, Unlawful},
		{"by the number of siblings", func(in []resolver.Sibling) string { return fmt.Sprint("text/", len(in)) }, Unlawful},
	} {
		for seed := range uint64(4) {
			r := Check(t.Context(), typed(c.pick), samples, Options{Seed: seed + 1, Rounds: 40})
			if r.Outcome != c.outcome {
				t.Errorf("%s: %s, %v", c.name, r.Outcome, r.Violation)
				continue
			}
			if v := r.Violation; v != nil && (len(v.OutputTypes) != 2 || v.OutputTypes[0] == v.OutputTypes[1] || !strings.Contains(v.Explain(), " as \"")) {
				t.Errorf("%s: %+v", c.name, v)
			}
		}
	}
	var seen []string
	Check(t.Context(), func(_ context.Context, in []resolver.Sibling) (resolver.Response, error) {
		for _, s := range in {
			seen = append(seen, s.ContentType)
		}
		return resolver.Response{}, nil
	}, lists("a", "{}"), Options{Verbatim: true, ContentTypes: []string{"text/x"}, Rounds: 2})
	if !slices.Contains(seen, "text/x") || !slices.Contains(seen, "application/json") {
		t.Errorf("the module saw %q", seen)
	}
}

// TestRareFailuresAreNoViolation: a merge may fail at one time and not at another.
func TestRareFailuresAreNoViolation(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	m := merger(func(in [][]string) ([]string, error) {
		if rng.IntN(4) == 0 {
			return nil, errors.New("no time")
		}
		return union(in)
	})
	if r := Check(t.Context(), m, lists("a,b", "b,c", "d"), Options{Budget: time.Minute}); r.Outcome != Lawful || r.Failed == 0 {
		t.Fatalf("%+v", r)
	}
}

// TestRefusedInputsAreNoViolation: a module may refuse what it does not understand.
func TestRefusedInputsAreNoViolation(t *testing.T) {
	refusals := 0
	picky := merger(func(in [][]string) ([]string, error) {
		for _, l := range in {
			if slices.Contains(l, "d") {
				refusals++
				return nil, errors.New("no d")
			}
		}
		return union(in)
	})
	r := Check(t.Context(), picky, lists("a,b", "b,c", "d"), Options{Budget: 5 * time.Second})
	if r.Outcome != Lawful || r.Failed == 0 || refusals == 0 {
		t.Fatalf("%+v", r)
	}
}

func TestSameSeedSameCheck(t *testing.T) {
	trace := func(seed uint64) string {
		var b strings.Builder
		m := merger(union)
		Check(t.Context(), func(ctx context.Context, in []resolver.Sibling) (resolver.Response, error) {
			for _, s := range in {
				fmt.Fprintf(&b, "%q ", s.Value)
			}
			return m(ctx, in)
		}, lists("a,b", "b,c", "d"), Options{Seed: seed, Rounds: 30})
		return b.String()
	}
	if first := trace(3); first != trace(3) || first == trace(4) {
		t.Fatal("the seed does not decide what is tested")
	}
}

// TestCheckIsCheap: a round of three siblings merges some twenty times, one of four some fifty times.
func TestCheckIsCheap(t *testing.T) {
	n := 0
	m := merger(union)
	Check(t.Context(), func(ctx context.Context, in []resolver.Sibling) (resolver.Response, error) {
		n++
		return m(ctx, in)
	}, lists("a,b", "b,c", "d,e"), Options{Rounds: 6, Budget: time.Minute})
	if n > 220 {
		t.Errorf("%d merges in 6 rounds", n)
	}
}

func TestCheckEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	m := func(ctx context.Context, _ []resolver.Sibling) (resolver.Response, error) {
		if n++; n == 6 {
			cancel()
		}
		return resolver.Response{}, ctx.Err()
	}
	if r := Check(ctx, m, lists("a", "b"), Options{Budget: time.Minute}); r.Outcome != Inconclusive || r.Tested == 0 || n > 7 {
		t.Fatalf("%+v after %d merges", r, n)
	}
}

func TestCheckEndsInTime(t *testing.T) {
	start := time.Now()
	slow := func(ctx context.Context, _ []resolver.Sibling) (resolver.Response, error) {
		<-ctx.Done()
		return resolver.Response{}, ctx.Err()
	}
	if r := Check(t.Context(), slow, lists("a", "b"), Options{Budget: 50 * time.Millisecond}); r.Outcome != Untested || r.Failed == 0 {
		t.Fatalf("%+v", r)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Fatalf("took %v", d)
	}
}

func mustEmbed(t testing.TB, module []byte, samples ...[]byte) []byte {
	t.Helper()
	b, err := WithSamples(module, samples)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const emptyModule = "\x00asm\x01\x00\x00\x00"

func TestSamplesSection(t *testing.T) {
	module := []byte(emptyModule + "\x00\x05\x04name")
	for _, samples := range [][][]byte{nil, {[]byte("a")}, {{}, []byte("b"), bytes.Repeat([]byte("c"), 300)}} {
		b := mustEmbed(t, module, samples...)
		got, err := Samples(b)
		if err != nil || len(got) != len(samples) || !slices.EqualFunc(got, samples, bytes.Equal) {
			t.Fatalf("%q, %v", got, err)
		}
		// Others take their place, and sections that follow stay.
		more := append(slices.Clone(b), "\x00\x06\x05after"...)
		got, err = Samples(mustEmbed(t, more, []byte("new")))
		if err != nil || !slices.EqualFunc(got, lists("new"), bytes.Equal) {
			t.Fatalf("%q, %v", got, err)
		}
		want := mustEmbed(t, append(slices.Clone(module), "\x00\x06\x05after"...), []byte("new"))
		if replaced := mustEmbed(t, more, []byte("new")); !bytes.Equal(replaced, want) {
			t.Fatalf("%q, want %q", replaced, want)
		}
	}
	if got, err := Samples(module); err != nil || got != nil {
		t.Fatalf("%q, %v", got, err)
	}
	damaged := mustEmbed(t, module, []byte("sample"))
	for i := range damaged {
		_, _ = Samples(damaged[:i]) // must not panic
	}
	for _, b := range [][]byte{nil, []byte("not a module"), damaged[:len(damaged)-1]} {
		if _, err := Samples(b); !errors.Is(err, ErrSamples) {
			t.Errorf("%q: %v", b, err)
		}
		if _, err := WithSamples(b, nil); !errors.Is(err, ErrSamples) {
			t.Errorf("%q: %v", b, err)
		}
	}
	for _, samples := range [][][]byte{make([][]byte, maxSamples+1), {make([]byte, maxSampleBytes+1)}} {
		if _, err := WithSamples(module, samples); !errors.Is(err, ErrSamples) {
			t.Errorf("%d samples: %v", len(samples), err)
		}
	}
}

func TestSamplesSectionGolden(t *testing.T) {
	b := mustEmbed(t, []byte(emptyModule), []byte("ab"), []byte{})
	const golden = emptyModule + "\x00\x19" + "\x0edynamo.samples" + "\x02\x00\x00\x00ab" + "\x00\x00\x00\x00"
	if string(b) != golden {
		t.Errorf("got  %q\nwant %q", b, golden)
	}
}

func FuzzSamples(f *testing.F) {
	f.Add(mustEmbed(f, []byte(emptyModule), []byte("a"), []byte("bc")))
	f.Add([]byte(emptyModule + "\x00\xff\xff\xff\xff\x0f"))
	f.Add([]byte(emptyModule + "\x00\x0f\x0edynamo.samples\x00\x0f\x0edynamo.samples"))
	f.Fuzz(func(t *testing.T, b []byte) {
		samples, err := Samples(b)
		n := 0
		for _, s := range samples {
			n += len(s)
		}
		if err == nil && n > len(b) {
			t.Fatalf("%d bytes of samples in a module of %d", n, len(b))
		}
		if again, err := WithSamples(b, [][]byte{b}); err == nil {
			if got, err := Samples(again); err != nil || len(got) != 1 || !bytes.Equal(got[0], b) {
				t.Fatalf("%d samples, %v", len(got), err)
			}
		}
	})
}

// TestCartModule: the example's module is lawful on the samples it carries, through the real runtime.
func TestCartModule(t *testing.T) {
	b, err := os.ReadFile("../../examples/cart-merge/cart.wasm")
	if err != nil {
		t.Fatal(err)
	}
	samples, err := Samples(b)
	if err != nil || len(samples) < 2 {
		t.Fatalf("%d samples, %v", len(samples), err)
	}
	rt, err := resolver.New(resolver.Options{Now: time.Now, CacheDir: filepath.Join(os.TempDir(), "dynamo-test-modules")})
	if err != nil {
		t.Fatal(err)
	}
	m, err := rt.Load(t.Context(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	merge := func(ctx context.Context, in []resolver.Sibling) (resolver.Response, error) {
		resp, _, err := m.Merge(ctx, resolver.Request{Keyspace: "ks", Key: []byte("k"), Siblings: in}, 1<<20)
		return resp, err
	}
	if r := Check(t.Context(), merge, samples, Options{Budget: time.Minute, Rounds: 6}); r.Outcome != Lawful {
		t.Fatalf("%+v %v", r, r.Violation)
	}
	if err := rt.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}
