package ring

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		q := drawQ(t)
		record, last := drawHistory(t)
		order := uint64(rapid.IntRange(1, int(last)).Draw(t, "order"))
		old, new := mustNew(t, q, at(record, order)), mustNew(t, q, record)
		n := rapid.IntRange(0, 5).Draw(t, "n")
		plan := Diff(old, new, n)
		if !slices.IsSortedFunc(plan.Moves, func(a, b Move) int { return int(a.Partition) - int(b.Partition) }) {
			t.Fatal("moves are not in order of partitions")
		}
		moves := make(map[Partition][]Move)
		for _, m := range plan.Moves {
			moves[m.Partition] = append(moves[m.Partition], m)
		}
		for p := range Partition(q) {
			before, after := set(old, p, n), set(new, p, n)
			holders := make(map[string]bool)
			for id := range before {
				holders[id] = true
			}
			given := make(map[string]bool)
			for _, m := range moves[p] {
				if !before[m.From] || before[m.To] || !after[m.To] {
					t.Fatalf("%+v: before %v, after %v", m, before, after)
				}
				if len(before) == len(after) && (given[m.From] || after[m.From]) {
					t.Fatalf("%+v: %s gives up a replica that it keeps or gave before", m, m.From)
				}
				given[m.From] = true
				holders[m.To] = true
				if !after[m.From] {
					delete(holders, m.From)
				}
			}
			if len(moves[p]) != missing(after, before) || missing(after, holders) != 0 {
				t.Fatalf("%d: moves %v: before %v, after %v", p, moves[p], before, after)
			}
			// Who gives up and has a successor is named.
			if len(before) == len(after) && missing(holders, after) != 0 {
				t.Fatalf("%d: moves %v leave %v, want %v", p, moves[p], holders, after)
			}
		}
	})
}

func set(r *Ring, p Partition, n int) map[string]bool {
	ids := make(map[string]bool)
	for i, id := range r.PreferenceList(p) {
		if i < n {
			ids[id] = true
		}
	}
	return ids
}

// missing is how many of a are not in b.
func missing(a, b map[string]bool) int {
	n := 0
	for id := range a {
		if !b[id] {
			n++
		}
	}
	return n
}

func TestDiffOfDifferentQPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	Diff(mustNew(t, 16, fleet(3, 1, 3)), mustNew(t, 32, fleet(3, 1, 3)), 3)
}
