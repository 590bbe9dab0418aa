package history

import (
	"strings"
	"testing"
)

func put(o Outcome, value string, covers ...string) Operation {
	return Operation{Kind: Put, Outcome: o, Values: []string{value}, Covers: covers}
}

func del(o Outcome, covers ...string) Operation {
	return Operation{Kind: Delete, Outcome: o, Covers: covers}
}

// after is a write with the context that another write answered with.
func after(o Outcome, value, follows string, covers ...string) Operation {
	return Operation{Kind: Put, Outcome: o, Values: []string{value}, Covers: covers, Follows: follows}
}

// numbers is a write of a counter.
func numbers(o Outcome, values ...string) Operation {
	return Operation{Kind: Put, Outcome: o, Values: values}
}

func get(values ...string) Operation { return Operation{Kind: Get, Values: values} }

// TestCheckerCatches feeds made-up histories to the checker: a wrong end must be called wrong, and a right one right.
func TestCheckerCatches(t *testing.T) {
	for name, c := range map[string]struct {
		rule    Rule
		history []Operation
		final   []string
		want    string // part of a violation, or empty for none
	}{
		"a set that has all":                {Union, []Operation{put(Acked, "a"), put(Acked, "b")}, []string{"a", "b"}, ""},
		"a lost element":                    {Union, []Operation{put(Acked, "a"), put(Acked, "b")}, []string{"a"}, `acknowledged "b" is lost`},
		"an element of unknown outcome":     {Union, []Operation{put(Unknown, "a"), put(Acked, "b")}, []string{"b"}, ""},
		"the same, stored":                  {Union, []Operation{put(Unknown, "a"), put(Acked, "b")}, []string{"a", "b"}, ""},
		"an element that was refused":       {Union, []Operation{put(Refused, "a")}, []string{"a"}, "refused"},
		"an element from nowhere":           {Union, nil, []string{"x"}, "nobody wrote it"},
		"an element read from nowhere":      {Union, []Operation{get("x")}, nil, `read "x": nobody wrote it`},
		"a refused element read":            {Union, []Operation{put(Refused, "x"), get("x")}, nil, `read "x": its write was refused`},
		"a value":                           {Siblings, []Operation{put(Acked, "a")}, []string{"a"}, ""},
		"a lost value":                      {Siblings, []Operation{put(Acked, "a")}, nil, `acknowledged "a" is lost`},
		"a superseded value":                {Siblings, []Operation{put(Acked, "a"), put(Acked, "b", "a")}, []string{"b"}, ""},
		"a superseded value comes back":     {Siblings, []Operation{put(Acked, "a"), put(Acked, "b", "a")}, []string{"a", "b"}, "came back"},
		"blind writes side by side":         {Siblings, []Operation{put(Acked, "a"), put(Acked, "b")}, []string{"a", "b"}, ""},
		"a blind write swallows another":    {Siblings, []Operation{put(Acked, "a"), put(Acked, "b")}, []string{"b"}, `acknowledged "a" is lost`},
		"a delete":                          {Siblings, []Operation{put(Acked, "a"), del(Acked, "a")}, nil, ""},
		"a deleted value comes back":        {Siblings, []Operation{put(Acked, "a"), del(Acked, "a")}, []string{"a"}, "came back"},
		"a delete of something else":        {Siblings, []Operation{put(Acked, "a"), put(Acked, "b"), del(Acked, "a")}, nil, `acknowledged "b" is lost`},
		"an unknown delete took place":      {Siblings, []Operation{put(Acked, "a"), del(Unknown, "a")}, nil, ""},
		"an unknown delete did not":         {Siblings, []Operation{put(Acked, "a"), del(Unknown, "a")}, []string{"a"}, ""},
		"a refused delete took place":       {Siblings, []Operation{put(Acked, "a"), del(Refused, "a")}, nil, `acknowledged "a" is lost`},
		"an unknown write that was seen":    {Siblings, []Operation{put(Acked, "a"), put(Unknown, "b", "a"), get("b")}, []string{"a", "b"}, `"a" is there`},
		"an unknown write in the end":       {Siblings, []Operation{put(Acked, "a"), put(Unknown, "b", "a")}, []string{"a", "b"}, `"a" is there`},
		"an unknown write that failed":      {Siblings, []Operation{put(Acked, "a"), put(Unknown, "b", "a")}, []string{"a"}, ""},
		"an unknown write, seen, deleted":   {Siblings, []Operation{put(Unknown, "a"), get("a"), del(Acked, "a")}, []string{"a"}, "came back"},
		"an unknown write after a delete":   {Siblings, []Operation{put(Acked, "a"), put(Unknown, "b"), del(Acked, "a")}, []string{"b"}, ""},
		"a write that follows another":      {Siblings, []Operation{put(Acked, "a"), after(Acked, "b", "a")}, []string{"b"}, ""},
		"the same, but they stay":           {Siblings, []Operation{put(Acked, "a"), after(Acked, "b", "a")}, []string{"a", "b"}, ""},
		"it followed, what it saw is back":  {Siblings, []Operation{put(Acked, "o"), put(Acked, "a", "o"), after(Acked, "b", "a", "o")}, []string{"o", "b"}, `"o" is there`},
		"it followed and is lost":           {Siblings, []Operation{put(Acked, "a"), after(Acked, "b", "a")}, []string{"a"}, `acknowledged "b" is lost`},
		"the newest":                        {Newest, []Operation{put(Acked, "a"), put(Acked, "b")}, []string{"b"}, ""},
		"the newest is lost":                {Newest, []Operation{put(Acked, "a"), put(Acked, "b")}, []string{"a"}, "older than"},
		"the newest is lost altogether":     {Newest, []Operation{put(Acked, "a")}, nil, `acknowledged "a" is lost`},
		"the newest may be of unknown fate": {Newest, []Operation{put(Acked, "a"), put(Unknown, "b"), put(Acked, "c")}, []string{"b"}, ""},
		"an observed element":               {Observed, []Operation{put(Acked, "a"), put(Unknown, "b")}, []string{"a"}, ""},
		"an observed element is lost":       {Observed, []Operation{put(Acked, "a")}, nil, `acknowledged "a" is lost`},
		"what a write had seen stays":       {Observed, []Operation{put(Acked, "a"), put(Acked, "b", "a")}, []string{"b"}, `acknowledged "a" is lost`},
		"a removed element":                 {Observed, []Operation{put(Acked, "a"), del(Acked, "a")}, nil, ""},
		"a removed element comes back":      {Observed, []Operation{put(Acked, "a"), del(Acked, "a")}, []string{"a"}, "came back"},
		"an unknown removal":                {Observed, []Operation{put(Acked, "a"), del(Unknown, "a")}, []string{"a"}, ""},
		"an unknown removal took place":     {Observed, []Operation{put(Acked, "a"), del(Unknown, "a")}, nil, ""},
		"a refused removal took place":      {Observed, []Operation{put(Acked, "a"), del(Refused, "a")}, nil, `acknowledged "a" is lost`},
		"an unknown element that was gone":  {Observed, []Operation{put(Unknown, "a"), get("a"), del(Acked, "a")}, []string{"a"}, "came back"},
		"an observed element from nowhere":  {Observed, nil, []string{"x"}, "nobody wrote it"},
		"a counter":                         {Counter, []Operation{numbers(Acked, "c/p=1"), numbers(Acked, "c/p=2", "c/n=1")}, []string{"c/p=2", "c/n=1"}, ""},
		"a counter that lost one":           {Counter, []Operation{numbers(Acked, "c/p=1"), numbers(Acked, "c/p=2")}, []string{"c/p=1"}, "older than an acknowledged"},
		"a counter that lost all":           {Counter, []Operation{numbers(Acked, "c/p=1")}, nil, `acknowledged "c/p=1" is lost`},
		"a counter that lost a side":        {Counter, []Operation{numbers(Acked, "c/p=1", "c/n=3")}, []string{"c/p=1"}, `acknowledged "c/n=3" is lost`},
		"a counter that counted twice":      {Counter, []Operation{numbers(Acked, "c/p=1")}, []string{"c/p=2"}, "nobody wrote it"},
		"a counter of unknown outcome":      {Counter, []Operation{numbers(Acked, "c/p=1"), numbers(Unknown, "c/p=4")}, []string{"c/p=4"}, ""},
		"the same, not stored":              {Counter, []Operation{numbers(Acked, "c/p=1"), numbers(Unknown, "c/p=4")}, []string{"c/p=1"}, ""},
		"a counter with a refused number":   {Counter, []Operation{numbers(Acked, "c/p=1"), numbers(Refused, "c/p=4")}, []string{"c/p=4"}, "its write was refused"},
		"a number refused and repeated":     {Counter, []Operation{numbers(Refused, "c/p=4"), numbers(Acked, "c/p=4")}, []string{"c/p=4"}, ""},
		"a counter that reads too much":     {Counter, []Operation{numbers(Acked, "c/p=1"), get("c/p=7")}, []string{"c/p=1"}, `read "c/p=7": nobody wrote it`},
	} {
		t.Run(name, func(t *testing.T) {
			_, got := Judge(c.rule, c.history, c.final)
			all := strings.Join(got, "; ")
			if (c.want == "") != (all == "") || !strings.Contains(all, c.want) {
				t.Errorf("violations %q, want %q", all, c.want)
			}
		})
	}
}

func TestCheckerKnowsWhatIsGone(t *testing.T) {
	for name, c := range map[string]struct {
		history []Operation
		want    bool
	}{
		"deleted":                     {[]Operation{put(Acked, "a"), del(Acked, "a")}, true},
		"deleted beside an unknown":   {[]Operation{put(Unknown, "b"), put(Acked, "a"), del(Acked, "a")}, false},
		"deleted, perhaps":            {[]Operation{put(Acked, "a"), del(Unknown, "a")}, false},
		"deleted, refused in between": {[]Operation{put(Refused, "b"), put(Acked, "a"), del(Acked, "a")}, true},
	} {
		if got := siblings(c.history, nil).Gone(); got != c.want {
			t.Errorf("%s: gone is %v", name, got)
		}
	}
}
