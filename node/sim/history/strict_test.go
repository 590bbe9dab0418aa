package history

import (
	"testing"
	"time"
)

// TestMissed: a read may show what was acknowledged before it, or what came later, and nothing less.
func TestMissed(t *testing.T) {
	put := func(v string, at time.Duration, is Outcome) Operation {
		return Operation{Kind: Put, Values: []string{v}, At: at * time.Second, Took: time.Second, Outcome: is}
	}
	all := []Operation{put("c1-1", 0, Acked), put("c1-9", 2, Acked), put("c1-10", 4, Unknown), put("c1-11", 8, Acked)}
	for _, c := range []struct {
		at     time.Duration
		values []string
		want   string
	}{
		{0, nil, ""},
		{2, nil, "c1-1"},
		{2, []string{"c1-1"}, ""},
		{7, []string{"c1-1"}, "c1-9"},
		{7, []string{"c1-1", "c1-9"}, ""},
		{7, []string{"c1-10"}, ""},
		{9, []string{"c1-9"}, ""},
		{10, []string{"c1-9"}, "c1-11"},
	} {
		if got := Missed(all, c.at*time.Second, c.values); got != c.want {
			t.Errorf("a read of %q at %ds missed %q, not %q", c.values, c.at, got, c.want)
		}
	}
}
