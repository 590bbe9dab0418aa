package chaos

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestSumsAreCompared(t *testing.T) {
	sum := func(count int, s string) partitionSum { return partitionSum{Count: count, Sum: s, Sound: true} }
	for name, c := range map[string]struct {
		held map[string]partitionSum
		want string
	}{
		"equal":        {map[string]partitionSum{"n1": sum(1, "a"), "n2": sum(1, "a"), "n3": sum(1, "a")}, ""},
		"another sum":  {map[string]partitionSum{"n1": sum(1, "a"), "n2": sum(1, "b"), "n3": sum(1, "a")}, "with sum"},
		"one is short": {map[string]partitionSum{"n1": sum(2, "a"), "n2": sum(1, "a"), "n3": sum(2, "a")}, "keys"},
		"one is away":  {map[string]partitionSum{"n1": sum(1, "a"), "n2": sum(1, "a")}, "2 nodes have it"},
		"one doubts":   {map[string]partitionSum{"n1": sum(1, "a"), "n2": sum(1, "a"), "n3": {Count: 1, Sum: "a"}}, "not sure"},
	} {
		err := compareSums(map[int]map[string]partitionSum{7: c.held})
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if compareSums(map[int]map[string]partitionSum{}) == nil {
		t.Error("no sums at all are equal")
	}
}

// TestPlan: a seed gives one plan, which lasts, and in which a wipe stands alone.
func TestPlan(t *testing.T) {
	ids := []string{"n1", "n2", "n3", "n4", "n5"}
	for seed := range uint64(200) {
		draw := func() []fault { return plan(rand.New(rand.NewPCG(seed, 0)), time.Minute, ids, true) }
		faults := draw()
		if !reflect.DeepEqual(faults, draw()) {
			t.Fatalf("seed %d gives two plans", seed)
		}
		if n := len(faults); n < 10 || faults[n-1].from < 40*time.Second {
			t.Errorf("seed %d: %d faults, the last at %v", seed, n, faults[n-1].from)
		}
		for i, a := range faults {
			if a.to <= a.from || a.to > time.Minute || len(a.nodes) == 0 {
				t.Errorf("seed %d: %+v", seed, a)
			}
			for _, b := range faults[:i] {
				if apart := b.to < a.from || a.to < b.from; !apart && (a.kind == faultWipe || b.kind == faultWipe) {
					t.Errorf("seed %d: %v while %v", seed, a, b)
				}
			}
		}
	}
}
