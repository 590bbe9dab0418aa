package chaos

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

func put(o outcome, value string, covers ...string) operation {
	return operation{kind: "put", outcome: o, values: []string{value}, covers: covers}
}

func del(o outcome, covers ...string) operation {
	return operation{kind: "delete", outcome: o, covers: covers}
}

// after is a write with the context that another write answered with.
func after(o outcome, value, follows string, covers ...string) operation {
	return operation{kind: "put", outcome: o, values: []string{value}, covers: covers, follows: follows}
}

func get(values ...string) operation { return operation{kind: "get", values: values} }

// TestCheckerCatches feeds made-up histories to the checker: a wrong end must be called wrong, and a right one right.
func TestCheckerCatches(t *testing.T) {
	for name, c := range map[string]struct {
		keyspace string
		history  []operation
		final    []string
		want     string // part of a violation, or empty for none
	}{
		"a set that has all":                {sets, []operation{put(acked, "a"), put(acked, "b")}, []string{"a", "b"}, ""},
		"a lost element":                    {sets, []operation{put(acked, "a"), put(acked, "b")}, []string{"a"}, `acknowledged "b" is lost`},
		"an element of unknown outcome":     {sets, []operation{put(unknown, "a"), put(acked, "b")}, []string{"b"}, ""},
		"the same, stored":                  {sets, []operation{put(unknown, "a"), put(acked, "b")}, []string{"a", "b"}, ""},
		"an element that was refused":       {sets, []operation{put(refused, "a")}, []string{"a"}, "refused"},
		"an element from nowhere":           {sets, nil, []string{"x"}, "nobody wrote it"},
		"an element read from nowhere":      {sets, []operation{get("x")}, nil, `read "x": nobody wrote it`},
		"a refused element read":            {sets, []operation{put(refused, "x"), get("x")}, nil, `read "x": its write was refused`},
		"a value":                           {plain, []operation{put(acked, "a")}, []string{"a"}, ""},
		"a lost value":                      {plain, []operation{put(acked, "a")}, nil, `acknowledged "a" is lost`},
		"a superseded value":                {plain, []operation{put(acked, "a"), put(acked, "b", "a")}, []string{"b"}, ""},
		"a superseded value comes back":     {plain, []operation{put(acked, "a"), put(acked, "b", "a")}, []string{"a", "b"}, "came back"},
		"blind writes side by side":         {plain, []operation{put(acked, "a"), put(acked, "b")}, []string{"a", "b"}, ""},
		"a blind write swallows another":    {plain, []operation{put(acked, "a"), put(acked, "b")}, []string{"b"}, `acknowledged "a" is lost`},
		"a delete":                          {plain, []operation{put(acked, "a"), del(acked, "a")}, nil, ""},
		"a deleted value comes back":        {plain, []operation{put(acked, "a"), del(acked, "a")}, []string{"a"}, "came back"},
		"a delete of something else":        {plain, []operation{put(acked, "a"), put(acked, "b"), del(acked, "a")}, nil, `acknowledged "b" is lost`},
		"an unknown delete took place":      {plain, []operation{put(acked, "a"), del(unknown, "a")}, nil, ""},
		"an unknown delete did not":         {plain, []operation{put(acked, "a"), del(unknown, "a")}, []string{"a"}, ""},
		"a refused delete took place":       {plain, []operation{put(acked, "a"), del(refused, "a")}, nil, `acknowledged "a" is lost`},
		"an unknown write that was seen":    {plain, []operation{put(acked, "a"), put(unknown, "b", "a"), get("b")}, []string{"a", "b"}, `"a" is there`},
		"an unknown write in the end":       {plain, []operation{put(acked, "a"), put(unknown, "b", "a")}, []string{"a", "b"}, `"a" is there`},
		"an unknown write that failed":      {plain, []operation{put(acked, "a"), put(unknown, "b", "a")}, []string{"a"}, ""},
		"an unknown write, seen, deleted":   {plain, []operation{put(unknown, "a"), get("a"), del(acked, "a")}, []string{"a"}, "came back"},
		"an unknown write after a delete":   {plain, []operation{put(acked, "a"), put(unknown, "b"), del(acked, "a")}, []string{"b"}, ""},
		"a write that follows another":      {plain, []operation{put(acked, "a"), after(acked, "b", "a")}, []string{"b"}, ""},
		"the same, but they stay":           {plain, []operation{put(acked, "a"), after(acked, "b", "a")}, []string{"a", "b"}, ""},
		"it followed, what it saw is back":  {plain, []operation{put(acked, "o"), put(acked, "a", "o"), after(acked, "b", "a", "o")}, []string{"o", "b"}, `"o" is there`},
		"it followed and is lost":           {plain, []operation{put(acked, "a"), after(acked, "b", "a")}, []string{"a"}, `acknowledged "b" is lost`},
		"the newest":                        {newest, []operation{put(acked, "a"), put(acked, "b")}, []string{"b"}, ""},
		"the newest is lost":                {newest, []operation{put(acked, "a"), put(acked, "b")}, []string{"a"}, "older than"},
		"the newest is lost altogether":     {newest, []operation{put(acked, "a")}, nil, `acknowledged "a" is lost`},
		"the newest may be of unknown fate": {newest, []operation{put(acked, "a"), put(unknown, "b"), put(acked, "c")}, []string{"b"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, got := judge(c.keyspace, c.history, c.final)
			all := strings.Join(got, "; ")
			if (c.want == "") != (all == "") || !strings.Contains(all, c.want) {
				t.Errorf("violations %q, want %q", all, c.want)
			}
		})
	}
}

func TestCheckerKnowsWhatIsGone(t *testing.T) {
	for name, c := range map[string]struct {
		history []operation
		want    bool
	}{
		"deleted":                     {[]operation{put(acked, "a"), del(acked, "a")}, true},
		"deleted beside an unknown":   {[]operation{put(unknown, "b"), put(acked, "a"), del(acked, "a")}, false},
		"deleted, perhaps":            {[]operation{put(acked, "a"), del(unknown, "a")}, false},
		"deleted, refused in between": {[]operation{put(refused, "b"), put(acked, "a"), del(acked, "a")}, true},
	} {
		if got := judgePlain(c.history, nil).gone(); got != c.want {
			t.Errorf("%s: gone is %v", name, got)
		}
	}
}

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
