package causal

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// TestRandomSchedules: with all rules on, nothing is lost, nothing comes back, nothing diverges and no
// dot names two writes.
func TestRandomSchedules(t *testing.T) {
	t.Parallel()
	n := uint64(1_500)
	writes := 0
	for seed := range n {
		kind, detail, w := run(seed, rules{})
		if kind != "" {
			t.Fatalf("seed %d: %s: %s\n%s", seed, kind, detail, strings.Join(w.trace, "\n"))
		}
		for _, wr := range w.writes {
			if wr.acked {
				writes++
			}
		}
	}
	t.Logf("%d schedules, %d acknowledged writes", n, writes)
	if writes < int(n) {
		t.Fatalf("only %d acknowledged writes: the schedules test little", writes)
	}
}

// TestUnlawfulResolverLosesNothing: with collapses at any time by resolvers that do not even agree,
// replicas converge and nothing is lost; removed content may come back, which is the price of the cap.
func TestUnlawfulResolverLosesNothing(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		kind, detail, w := run(seed, rules{collapseAnywhere: true, unlawful: true})
		if kind != "" && kind != "back" {
			t.Fatalf("seed %d: %s: %s\n%s", seed, kind, detail, strings.Join(w.trace, "\n"))
		}
	}
}

// TestSwitchedOffRules takes one rule away at a time. Each must be missed.
func TestSwitchedOffRules(t *testing.T) {
	for name, c := range map[string]struct {
		rules rules
		want  []string
	}{
		"siblings replaced by their merge at any time":       {rules{collapseAnywhere: true}, []string{"back"}},
		"settle round younger than the tokens":               {rules{settleWithoutAge: true}, []string{"back", "lost"}},
		"a fresh dot at every merger":                        {rules{dotAtEveryMerger: true}, []string{"diverged"}},
		"a fresh dot by the reader":                          {rules{dotAtReader: true}, []string{"back"}},
		"merged value without its dots":                      {rules{collapseAnywhere: true, collapse: collapseToOneDot}, []string{"lost"}},
		"of one label the local copy stays":                  {rules{collapseAnywhere: true, unlawful: true, join: localWins}, []string{"diverged"}},
		"overlapping labels share their dots out":            {rules{collapseAnywhere: true, join: winnerPerDot}, []string{"lost", "diverged"}},
		"version vectors without dots":                       {rules{put: vectorOnly}, []string{"lost"}},
		"contexts cut at 3 actors":                           {rules{cutContexts: 3}, []string{"lost", "back", "diverged"}},
		"a wiped disk keeps its identity":                    {rules{sameIdentity: true}, []string{"reused"}},
		"a rolled-back disk keeps its incarnation":           {rules{sameIncarnation: true}, []string{"reused"}},
		"a tombstone reaped by one replica, the actor stays": {rules{reapLocally: true}, []string{"reused", "lost"}},
		"the new version sent alone":                         {rules{entryAlone: true}, []string{"lost"}},
		"a write's token claims all that stands there":       {rules{tokenClaimsAll: true}, []string{"lost"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := map[string]int{}
			for seed := range uint64(6_000) {
				kind, _, _ := run(seed, c.rules)
				if kind == "" {
					continue
				}
				found[kind]++
				if slices.Contains(c.want, kind) {
					t.Logf("seed %d: %s", seed, kind)
					return
				}
			}
			t.Fatalf("the judge did not object with any of %v in 6000 schedules; found %v", c.want, found)
		})
	}
}

// collapseToOneDot lets the merged value stand for one of its dots, as reconcile in a dotted version
// vector set does.
func collapseToOneDot(o Object, v Value) Object {
	d, ok := o.Live().Min()
	if !ok {
		return o
	}
	return Object{Context: o.Context, Versions: []Version{{Value: v, Label: DotsOf(d), Live: DotsOf(d)}}}
}

// localWins is Join, but of two versions of one label it keeps the local one.
func localWins(local, other Object) Object {
	j := local.Join(other)
	j.Versions = slices.Clone(j.Versions)
	for i, v := range j.Versions {
		for _, l := range local.Versions {
			if l.Label.Compare(v.Label) == 0 {
				j.Versions[i].Value = l.Value
			}
		}
	}
	return j
}

// winnerPerDot is Join, but versions with overlapping labels share the dots out: each goes to the larger
// value, and labels shrink.
func winnerPerDot(local, other Object) Object {
	live := local.Live().Intersect(other.Live()).Union(local.Live().Unseen(other.Context)).Union(other.Live().Unseen(local.Context))
	all := append(slices.Clone(local.Versions), other.Versions...)
	slices.SortFunc(all, func(a, b Version) int { return -bytes.Compare(a.Bytes, b.Bytes) })
	out := Object{Context: local.Context.Join(other.Context)}
	var taken Dots
	for _, v := range all {
		v.Live = v.Live.Intersect(live).minus(taken)
		if v.Label = v.Live; !v.Live.Empty() {
			taken = taken.Union(v.Live)
			out.Versions = append(out.Versions, v)
		}
	}
	slices.SortFunc(out.Versions, compareLabels)
	return out
}

// vectorOnly is Put with a version vector for every sibling and no dots: a second blind write through
// one actor descends from the first in the vector's eyes.
func vectorOnly(o Object, seen Basis, own Actor, v Value) (Object, Dot) {
	if n := o.Context.Counter(own); n > 0 {
		seen.Context = seen.Context.With(Dot{own, n})
	}
	return o.PutOver(seen, own, v)
}
