package ring

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func mustNew(t rapid.TB, q int, record []Member) *Ring {
	t.Helper()
	r, err := New(q, record)
	if err != nil {
		t.Fatalf("New(%d, %+v): %v", q, record, err)
	}
	return r
}

// fleet is a record of n members of weight 1 in so many zones, of which the first
// birth founded the cluster and the others joined one by one.
func fleet(n, zones, birth int) []Member {
	var record []Member
	for i := range n {
		record = append(record, Member{
			ID: fmt.Sprintf("n%02d", i), Zone: fmt.Sprintf("z%d", i%zones), Weight: 1,
			Joined: uint64(max(1, i-birth+2)),
		})
	}
	return record
}

func live(record []Member) []Member {
	return slices.DeleteFunc(slices.Clone(record), func(m Member) bool { return m.Left != 0 })
}

// at is the record as it was after the events up to an order.
func at(record []Member, order uint64) []Member {
	var past []Member
	for _, m := range record {
		if m.Joined > order {
			continue
		}
		if m.Left > order {
			m.Left = 0
		}
		past = append(past, m)
	}
	return past
}

// drawHistory draws a record that could have come about, of up to 5 events after
// the birth, and its last order. Each event has an order of its own, except that
// a replacement is a leave and a join of one order.
func drawHistory(t *rapid.T) ([]Member, uint64) {
	var record []Member
	zones := rapid.IntRange(1, 4).Draw(t, "zones")
	join := func(order uint64) {
		record = append(record, Member{
			ID: fmt.Sprintf("n%d", len(record)*7%32), Joined: order,
			Zone:   fmt.Sprintf("z%d", rapid.IntRange(1, zones).Draw(t, "zone")),
			Weight: rapid.SampledFrom([]int{1, 1, 1, 2, 5}).Draw(t, "weight"),
		})
	}
	leave := func(order uint64) {
		var candidates []int
		for i, m := range record {
			if m.Left == 0 && m.Joined < order {
				candidates = append(candidates, i)
			}
		}
		record[rapid.SampledFrom(candidates).Draw(t, "leaver")].Left = order
	}
	for range rapid.IntRange(1, 6).Draw(t, "birth") {
		join(1)
	}
	last := uint64(1)
	for range rapid.IntRange(0, 5).Draw(t, "events") {
		last += uint64(rapid.IntRange(1, 3).Draw(t, "gap"))
		kind := rapid.SampledFrom([]string{"join", "join", "leave", "replace"}).Draw(t, "kind")
		if kind == "replace" || kind == "leave" && len(live(record)) > 1 {
			leave(last)
		}
		if kind != "leave" {
			join(last)
		}
	}
	return record, last
}

func drawQ(t *rapid.T) int {
	return rapid.SampledFrom([]int{16, 16, 32}).Draw(t, "Q")
}

func tokenOwners(r *Ring) []string {
	owners := make([]string, r.Q())
	for p := range owners {
		owners[p] = r.Owner(Partition(p))
	}
	return owners
}

// meanToMax is mean/max of what the members have.
func meanToMax(record []Member, of func(id string) int) float64 {
	sum, most, n := 0, 0, 0
	for _, m := range live(record) {
		sum, most, n = sum+of(m.ID), max(most, of(m.ID)), n+1
	}
	return float64(sum) / float64(n) / float64(most)
}

func benchmarkRing(b *testing.B) *Ring {
	b.Helper()
	r, err := New(4096, fleet(30, 3, 30))
	if err != nil {
		b.Fatal(err)
	}
	return r
}
