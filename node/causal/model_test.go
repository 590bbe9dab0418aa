package causal

import (
	"fmt"
	"slices"
	"testing"
)

// schedules plays seeds from first on and fails on the first verdict that allowed does not hold. It
// returns the number of acknowledged writes.
func schedules(t *testing.T, first, n uint64, r rules, allowed ...string) (acked int) {
	t.Helper()
	for seed := first; seed < first+n; seed++ {
		v, w := play(seed, r, false)
		for kind := range v {
			if !slices.Contains(allowed, kind) {
				t.Fatal(explain(seed, r))
			}
		}
		for _, wr := range w.writes {
			if wr.acked {
				acked++
			}
		}
	}
	return acked
}

// TestRandomSchedules: with all rules on, nothing is lost, nothing comes back, nothing diverges, no dot
// names two writes and join keeps its laws.
func TestRandomSchedules(t *testing.T) {
	for _, first := range []uint64{0, 1 << 32} {
		t.Run(fmt.Sprintf("seeds from %d", first), func(t *testing.T) {
			t.Parallel()
			n := uint64(scale(10_000))
			acked := schedules(t, first, n, rules{})
			t.Logf("%d schedules, %d acknowledged writes", n, acked)
			if acked < 4*int(n) {
				t.Fatalf("only %d acknowledged writes: the schedules test little", acked)
			}
		})
	}
}

// TestUnlawfulResolver: with collapses at any time by resolvers that do not even agree, replicas
// converge and nothing is lost; removed content may come back, which is the price of the cap.
func TestUnlawfulResolver(t *testing.T) {
	t.Parallel()
	schedules(t, 0, uint64(scale(2_000)), rules{collapseAnywhere: true, unlawful: true}, "back")
}

// TestLastWriteWins: under policy lww replicas converge to one version, whatever each dropped early.
func TestLastWriteWins(t *testing.T) {
	t.Parallel()
	schedules(t, 0, uint64(scale(2_000)), rules{lastWins: true})
}

// TestSwitchedOffRules takes one rule away at a time. The judge must object, and say what is wrong.
func TestSwitchedOffRules(t *testing.T) {
	const seeds = 3_000
	for name, c := range map[string]struct {
		rules rules
		want  []string
	}{
		"siblings replaced by their merge at any time":           {rules{collapseAnywhere: true}, []string{"back"}},
		"settle round younger than the tokens":                   {rules{settleWithoutAge: true}, []string{"back"}},
		"settle round that does not ask for hints":               {rules{settleWithHints: true}, []string{"back"}},
		"a merged value without its dots":                        {rules{collapseAnywhere: true, collapse: collapseToOneDot}, []string{"lost", "back"}},
		"of one label the local copy stays":                      {rules{collapseAnywhere: true, unlawful: true, join: localWins}, []string{"diverged", "back", "laws"}},
		"overlapping labels share their dots out":                {rules{collapseAnywhere: true, unlawful: true, join: winnerPerDot}, []string{"back", "laws"}},
		"a fresh dot at every merger":                            {rules{dotAtEveryMerger: true}, []string{"storm", "back"}},
		"a fresh dot by the reader":                              {rules{dotAtReader: true}, []string{"back"}},
		"version vectors without dots":                           {rules{put: vectorOnly}, []string{"lost"}},
		"contexts cut at 3 actors":                               {rules{cutContexts: 3}, []string{"lost", "back"}},
		"a wiped disk keeps its identity":                        {rules{sameIdentity: true}, []string{"reused", "lost"}},
		"a rolled-back disk keeps its incarnation":               {rules{sameIncarnation: true}, []string{"reused", "lost"}},
		"a tombstone reaped by one replica, and the actor stays": {rules{reapLocally: true, sameActor: true}, []string{"reused", "lost"}},
		"a delivered hint or settled tombstone keeps its actor":  {rules{sameActor: true}, []string{"reused", "lost"}},
		"a delivered hint goes though it has grown":              {rules{dropGrownHint: true}, []string{"copies"}},
		"the new version sent alone":                             {rules{entryAlone: true}, []string{"lost"}},
		"acknowledged before it is durable":                      {rules{ackUnsynced: true}, []string{"copies", "lost"}},
		"a write's token claims all that stands there":           {rules{tokenClaimsAll: true}, []string{"lost"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := map[string]uint64{}
			for seed := range uint64(seeds) {
				v, _ := play(seed, c.rules, false)
				for kind := range v {
					if _, ok := found[kind]; !ok {
						found[kind] = seed
					}
				}
				if !slices.ContainsFunc(c.want, func(kind string) bool { _, ok := found[kind]; return !ok }) {
					t.Logf("kind of violation and first seed: %v", found)
					return
				}
			}
			t.Fatalf("the judge found %v in %d schedules, want all of %v", found, seeds, c.want)
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

// winnerPerDot is Join, but versions with overlapping labels share the dots out: each dot goes to the
// strongest version, and labels shrink.
func winnerPerDot(local, other Object) Object {
	ll, ol := local.Live(), other.Live()
	live := ll.Intersect(ol).Union(ll.Unseen(other.Context)).Union(ol.Unseen(local.Context))
	all := append(slices.Clone(local.Versions), other.Versions...)
	slices.SortFunc(all, func(a, b Version) int { return -compareStrength(a, b) })
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
