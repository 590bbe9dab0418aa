package ring

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestBalance(t *testing.T) {
	for _, c := range []struct {
		q, zones, birth      int
		tokens, two, replica float64 // least mean/max: of tokens, of the first 2, of the first 3
	}{
		// 1024 tokens for 30: 34.13 of at most 35 is 0.975.
		{1024, 1, 30, 0.97, 0.97, 0.97},
		{1024, 3, 30, 0.97, 0.97, 0.97},
		{1024, 5, 30, 0.97, 0.97, 0.97},
		{1024, 1, 27, 0.97, 0.97, 0.97},
		{1024, 3, 22, 0.97, 0.96, 0.97},
		{1024, 5, 26, 0.97, 0.96, 0.97},
		{1024, 3, 29, 0.97, 0.96, 0.97},
		{1024, 5, 29, 0.97, 0.96, 0.97},
		{4096, 3, 29, 0.99, 0.98, 0.99},
		{4096, 5, 29, 0.99, 0.98, 0.99},
	} {
		t.Run(fmt.Sprintf("Q=%d/zones=%d/birth=%d", c.q, c.zones, c.birth), func(t *testing.T) {
			t.Parallel()
			record := fleet(30, c.zones, c.birth)
			r := mustNew(t, c.q, record)
			for n, least := range map[int]float64{1: c.tokens, 2: c.two, 3: c.replica} {
				got := meanToMax(record, func(id string) int { return r.Replicas(id, n) })
				t.Logf("first %d: mean/max %.3f", n, got)
				if got < least {
					t.Errorf("first %d: mean/max %.3f, want %.2f", n, got, least)
				}
			}
		})
	}
}

func TestWeights(t *testing.T) {
	t.Parallel()
	for _, joined := range []bool{false, true} {
		var record []Member
		total := 0
		for i := range 12 {
			m := Member{ID: fmt.Sprintf("n%d", i), Weight: 1 + i%4, Joined: 1}
			if joined {
				m.Joined = uint64(1 + i)
			}
			total += m.Weight
			record = append(record, m)
		}
		const q = 2048
		r := mustNew(t, q, record)
		for _, m := range record {
			due := float64(q) * float64(m.Weight) / float64(total)
			if got := float64(r.Tokens(m.ID)); math.Abs(got-due) > 0.05*due {
				t.Errorf("joined=%v: %s of weight %d has %.0f tokens, due %.1f", joined, m.ID, m.Weight, got, due)
			}
			if got := float64(r.Replicas(m.ID, 3)); math.Abs(got-3*due) > 0.05*3*due {
				t.Errorf("joined=%v: %s of weight %d has %.0f replicas, due %.1f", joined, m.ID, m.Weight, got, 3*due)
			}
		}
	}
	// Even the lightest has a token.
	record := []Member{{ID: "a", Weight: MaxWeight, Joined: 1}, {ID: "b", Weight: 1, Joined: 1}, {ID: "c", Weight: 1, Joined: 2}}
	if r := mustNew(t, 16, record); r.Tokens("a") != 14 || r.Tokens("b") != 1 || r.Tokens("c") != 1 {
		t.Errorf("a, b, c have %d, %d, %d tokens, want 14, 1, 1", r.Tokens("a"), r.Tokens("b"), r.Tokens("c"))
	}
}

// Each event of a history moves no token but those that it must.
func TestEventsMoveOnlyTheirTokens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		q := drawQ(t)
		record, last := drawHistory(t)
		order := uint64(rapid.IntRange(2, max(2, int(last))).Draw(t, "order"))
		before, after := at(record, order-1), at(record, order)
		old, new := mustNew(t, q, before), mustNew(t, q, after)
		joined, left, weights, newest := "", "", 0, 0
		for _, m := range after {
			if m.Joined == order {
				joined, newest = m.ID, m.Weight
			}
			if m.Left == order {
				left = m.ID
			}
		}
		for _, m := range live(after) {
			weights += m.Weight
		}
		moves := Diff(old, new, 1).Moves
		for _, m := range moves {
			replaced := joined != "" && left != "" && m.From == left
			if m.To != joined && m.From != left && !replaced {
				t.Fatalf("%+v, though only %q joined and %q left", m, joined, left)
			}
		}
		switch {
		case joined == "" && left == "" && len(moves) > 0:
			t.Fatalf("nothing happened, but %v", moves)
		case joined != "" && left == "":
			optimum := math.Ceil(float64(q) * float64(newest) / float64(weights))
			if len(moves) != new.Tokens(joined) || float64(len(moves)) > optimum {
				t.Fatalf("%d tokens moved, newcomer has %d, due %.0f", len(moves), new.Tokens(joined), optimum)
			}
		case joined == "" && left != "" && len(moves) != old.Tokens(left):
			t.Fatalf("%d tokens moved, leaver had %d", len(moves), old.Tokens(left))
		case joined != "" && left != "" && len(moves) != max(old.Tokens(left), new.Tokens(joined)):
			t.Fatalf("%d tokens moved, leaver had %d, heir has %d", len(moves), old.Tokens(left), new.Tokens(joined))
		}
	})
}

// A replacement of equal weight and zone is the same ring under another name.
func TestReplacement(t *testing.T) {
	record := fleet(7, 3, 5)
	old := mustNew(t, 256, record)
	record[3].Left = 50
	record = append(record, Member{ID: "heir", Zone: record[3].Zone, Weight: 1, Joined: 50})
	new := mustNew(t, 256, record)
	moves := Diff(old, new, 3).Moves
	if len(moves) != old.Replicas("n03", 3) {
		t.Errorf("%d moves, the leaver had %d replicas", len(moves), old.Replicas("n03", 3))
	}
	for _, m := range moves {
		if m.From != "n03" || m.To != "heir" {
			t.Errorf("%+v", m)
		}
	}
}

// Replicas moved over those that must: the newcomer's, or the leaver's. Where
// each zone holds a replica of everything, tokens taken in other zones shift
// replicas within those zones, so that the optimum is out of reach.
func TestReplicasMoved(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		zones       int
		join, leave float64
	}{
		{1, 1.05, 1.05}, {3, 1.5, 1.45}, {5, 1.15, 1.1},
	} {
		record := fleet(30, c.zones, 29)
		old, new := mustNew(t, 1024, record[:29]), mustNew(t, 1024, record)
		join := float64(len(Diff(old, new, 3).Moves)) / float64(new.Replicas("n29", 3))
		record[7].Left = 50
		left := mustNew(t, 1024, record)
		leave := float64(len(Diff(new, left, 3).Moves)) / float64(new.Replicas("n07", 3))
		t.Logf("%d zones: join %.2f, leave %.2f times the optimum", c.zones, join, leave)
		if join > c.join || leave > c.leave {
			t.Errorf("%d zones: join %.2f, leave %.2f times the optimum, want at most %.2f, %.2f", c.zones, join, leave, c.join, c.leave)
		}
	}
}

// The load of a node that is away goes to many: its ranges have different
// successors.
func TestFallbacksSpread(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		q, n, zones, birth, members int
		share                       float64
	}{
		{256, 3, 3, 3, 2, 0.6},
		{256, 3, 1, 1, 2, 0.6},
		{256, 5, 1, 5, 4, 0.4},
		{256, 6, 3, 6, 4, 0.4},
		{256, 6, 3, 3, 4, 0.4},
		{1024, 30, 3, 30, 15, 0.15},
		{1024, 30, 3, 28, 15, 0.15},
	} {
		record := fleet(c.n, c.zones, c.birth)
		r := mustNew(t, c.q, record)
		for _, m := range record {
			next, most := make(map[string]int), 0
			for p := range Partition(r.Q()) {
				if list := r.PreferenceList(p); list[0] == m.ID {
					next[list[1]]++
					most = max(most, next[list[1]])
				}
			}
			if share := float64(most) / float64(r.Tokens(m.ID)); len(next) < c.members || share > c.share {
				t.Errorf("%+v: the %d tokens of %s are followed by %v", c, r.Tokens(m.ID), m.ID, next)
			}
		}
	}
}
