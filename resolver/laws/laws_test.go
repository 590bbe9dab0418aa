package laws

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
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

func TestCheck(t *testing.T) {
	calls := 0
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
		{"a map in its own order", merger(func(in [][]string) ([]string, error) {
			out, err := union(in)
			calls++
			k := calls % max(1, len(out))
			return slices.Concat(out[k:], out[:k]), err
		}), samples, Unlawful, "deterministic"},
		{"a cap that only three states show", merger(func(in [][]string) ([]string, error) {
			out, err := union(in)
			return out[max(0, len(out)-3):], err
		}), lists("a,b,c", "b,c,d", "a,d,e"), Lawful, ""}, // keeping the largest three is a lawful cap
		{"a cap by arrival", merger(func(in [][]string) ([]string, error) {
			out, err := union(in)
			if len(out) > 4 {
				out = append(out[:2], out[len(out)/2:]...)
				out = out[:min(4, len(out))]
			}
			return out, err
		}), lists("a,b,c", "d,e,f", "g,h,i", "b,h"), Unlawful, "idempotent"},
		{"fails always", merger(func([][]string) ([]string, error) { return nil, errors.New("no") }), samples, Inconclusive, ""},
		{"one sample", merger(union), lists("a", "a"), Untested, ""},
		{"no samples", merger(union), nil, Untested, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Check(t.Context(), c.merge, c.samples, Options{Time: 5 * time.Second})
			if r.Outcome != c.outcome {
				t.Fatalf("%+v, violation %v", r, r.Violation)
			}
			if c.outcome == Unlawful && !strings.Contains(r.Violation.Law, c.law) {
				t.Fatalf("broke %s, expected %s", r.Violation, c.law)
			}
			if c.outcome == Unlawful && bytes.Equal(r.Violation.Left, r.Violation.Right) {
				t.Fatalf("the counterexample shows no difference: %s", r.Violation)
			}
		})
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
	r := Check(t.Context(), picky, lists("a,b", "b,c", "d"), Options{Time: 5 * time.Second})
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
	first, again, other := trace(3), trace(3), trace(4)
	if first != again || first == other {
		t.Fatal("the seed does not decide what is tested")
	}
}

func TestCheckEndsInTime(t *testing.T) {
	start := time.Now()
	slow := func(ctx context.Context, _ []resolver.Sibling) (resolver.Response, error) {
		<-ctx.Done()
		return resolver.Response{}, ctx.Err()
	}
	if r := Check(t.Context(), slow, lists("a", "b"), Options{Time: 50 * time.Millisecond}); r.Outcome != Inconclusive {
		t.Fatalf("%+v", r)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Fatalf("took %v", d)
	}
}

func TestSamplesSection(t *testing.T) {
	module := []byte("\x00asm\x01\x00\x00\x00\x00\x05\x04name")
	for _, samples := range [][][]byte{nil, {[]byte("a")}, {{}, []byte("b"), bytes.Repeat([]byte("c"), 300)}} {
		got, err := Samples(WithSamples(module, samples))
		if err != nil || len(got) != len(samples) || !slices.EqualFunc(got, samples, bytes.Equal) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if got, err := Samples(module); err != nil || got != nil {
		t.Fatalf("%q, %v", got, err)
	}
	damaged := WithSamples(module, lists("sample"))
	for i := range damaged {
		_, _ = Samples(damaged[:i]) // must not panic
	}
	if _, err := Samples(damaged[:len(damaged)-1]); !errors.Is(err, ErrSamples) {
		t.Fatal(err)
	}
}

func FuzzSamples(f *testing.F) {
	f.Add(WithSamples([]byte("\x00asm\x01\x00\x00\x00"), lists("a", "bc")))
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x00\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, b []byte) {
		samples, err := Samples(b)
		n := 0
		for _, s := range samples {
			n += len(s)
		}
		if err == nil && n > len(b) {
			t.Fatalf("%d bytes of samples in a module of %d", n, len(b))
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
	m, err := rt.Compile(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	merge := func(ctx context.Context, in []resolver.Sibling) (resolver.Response, error) {
		resp, _, err := m.Merge(ctx, resolver.Request{Keyspace: "ks", Key: []byte("k"), Siblings: in}, 1<<20)
		return resp, err
	}
	if r := Check(t.Context(), merge, samples, Options{Time: time.Minute, Rounds: 12}); r.Outcome != Lawful {
		t.Fatalf("%+v %v", r, r.Violation)
	}
	if err := rt.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}
