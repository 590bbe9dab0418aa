// Package history judges what clients saw of keys: which values must be there in the end, and which may be. The same
// rules serve simulated clusters and real processes.
package history

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Outcome is what a client knows of its write.
type Outcome int

// The outcomes.
const (
	// Acked: W replicas have it on disk.
	Acked Outcome = iota
	// Unknown: it may be on some replicas and may turn up.
	Unknown
	// Refused: the answer, or the lack of a connection, says that it is nowhere.
	Refused
)

// String implements fmt.Stringer.
func (o Outcome) String() string { return [...]string{"acknowledged", "unknown", "refused"}[o] }

// Kind is what a client asked for.
type Kind string

// The kinds.
const (
	Get    Kind = "get"
	Put    Kind = "put"
	Delete Kind = "delete"
)

// Operation is one call of a client. A history lists those of a key in the order in which its clients were answered.
type Operation struct {
	// At is when it began, since the start of the run.
	At, Took     time.Duration
	Client, Node string
	Kind         Kind
	Outcome      Outcome
	// Answer is the status or error, for people.
	Answer string
	// Values are what a Get saw, or what a Put wrote: one value, or the one new element of a set, or the numbers of a
	// counter.
	Values []string
	// Covers are the values that stood in the reading whose context a Put or Delete was made with.
	Covers []string
	// Follows is the value whose write answered with the context. A node that does not have it yet, and cannot get
	// it in time, leaves it beside what follows it.
	Follows string
	// Seen is when the context was asked for, since the start of the run.
	Seen time.Duration
	// Guarded writes have a precondition, which may fail.
	Guarded bool
	// Context is some letters of the token, for people.
	Context string
}

// String is a line of a story; the time stands first.
func (o Operation) String() string {
	s := fmt.Sprintf("%8.3fs +%5.0fms %-4s %-6s via %s: %s %s", o.At.Seconds(), o.Took.Seconds()*1000, o.Client, o.Kind, o.Node, o.Outcome, o.Answer)
	if len(o.Values) > 0 {
		s += fmt.Sprintf(" values %q", shorten(o.Values))
	}
	if o.Kind != Get {
		s += fmt.Sprintf(" covers %q", shorten(o.Covers))
	}
	if o.Follows != "" {
		s += " follows " + o.Follows
	}
	if o.Context != "" {
		s += " context " + o.Context
	}
	return s
}

func shorten(values []string) []string {
	if len(values) <= 12 {
		return values
	}
	return append(slices.Clone(values[:12]), fmt.Sprintf("and %d more", len(values)-12))
}

// Rule is how the values of a key come together.
type Rule int

// The rules.
const (
	// Union: an element that was put stays; Put.Values is the one new element.
	Union Rule = iota
	// Siblings: values are unique, and concurrent ones stand side by side.
	Siblings
	// Newest: the newest write wins, and the key has one writer.
	Newest
	// Observed: an element that was put stays until a delete covers it, and never comes back then: elements are unique.
	Observed
	// Counter: values are made by Count; of each name the greatest number stays.
	Counter
	// Any values may be there.
	Any
	// Written: any value that was written may be there, and one must if one was acknowledged. It is for clocks that are
	// wrong.
	Written
)

// Verdict is what a history allows a key to be in the end.
type Verdict struct {
	// Required values must be there: acknowledged, and nothing that may be stored had seen them.
	Required []string
	// Allowed values may be there: maybe stored, and nothing that surely is stored had seen them.
	Allowed []string
}

// Gone says that nothing may be left of the key.
func (v Verdict) Gone() bool { return len(v.Allowed) == 0 }

// Judge compares what is there of a key in the end with its history. That a value was seen proves that its write took
// place, whatever its client was told, and so that what it covered is superseded.
func Judge(rule Rule, history []Operation, final []string) (Verdict, []string) {
	var v Verdict
	switch rule {
	case Union:
		v = union(history)
	case Siblings:
		v = siblings(history, final)
	case Newest:
		v = newest(history, final)
	case Observed:
		v = observed(history)
	case Counter:
		v = counter(history, final)
	case Any:
		return v, nil
	case Written:
		v = union(history)
		v.Required = newest(history, final).Required
	}
	return v, append(v.violations(history, final), phantoms(history)...)
}

func siblings(history []Operation, final []string) Verdict {
	seen := map[string]bool{}
	for _, v := range final {
		seen[v] = true
	}
	for _, o := range history {
		if o.Kind == Get {
			for _, v := range o.Values {
				seen[v] = true
			}
		}
	}
	surely, maybe := map[string]bool{}, map[string]bool{} // superseded
	for _, o := range history {
		if o.Kind == Get || o.Outcome == Refused {
			continue
		}
		done := o.Outcome == Acked || o.Kind == Put && seen[o.Values[0]]
		maybe[o.Follows] = true
		for _, v := range o.Covers {
			maybe[v] = true
			if done {
				surely[v] = true
			}
		}
	}
	var out Verdict
	for _, o := range history {
		if o.Kind != Put || o.Outcome == Refused {
			continue
		}
		v := o.Values[0]
		if o.Outcome == Acked && !maybe[v] {
			out.Required = append(out.Required, v)
		}
		if !surely[v] {
			out.Allowed = append(out.Allowed, v)
		}
	}
	return out
}

func union(history []Operation) Verdict {
	var out Verdict
	for _, o := range history {
		if o.Kind != Put || o.Outcome == Refused {
			continue
		}
		out.Allowed = append(out.Allowed, o.Values[0])
		if o.Outcome == Acked {
			out.Required = append(out.Required, o.Values[0])
		}
	}
	return out
}

// newest allows the last acknowledged value, or one of unknown outcome, which may have waited in a stopped node and
// got its time later.
func newest(history []Operation, final []string) Verdict {
	var out Verdict
	last := ""
	for _, o := range history {
		switch {
		case o.Kind != Put || o.Outcome == Refused:
		case o.Outcome == Unknown:
			out.Allowed = append(out.Allowed, o.Values[0])
		default:
			last = o.Values[0]
		}
	}
	if last != "" {
		out.Allowed = append(out.Allowed, last)
		if len(final) == 0 || slices.Contains(final, last) {
			out.Required = append(out.Required, last)
		}
	}
	return out
}

func observed(history []Operation) Verdict {
	surely, maybe := map[string]bool{}, map[string]bool{} // removed
	for _, o := range history {
		if o.Kind != Delete || o.Outcome == Refused {
			continue
		}
		for _, v := range o.Covers {
			maybe[v] = true
			surely[v] = surely[v] || o.Outcome == Acked
		}
	}
	var out Verdict
	for _, o := range history {
		if o.Kind != Put || o.Outcome == Refused {
			continue
		}
		v := o.Values[0]
		if o.Outcome == Acked && !maybe[v] {
			out.Required = append(out.Required, v)
		}
		if !surely[v] {
			out.Allowed = append(out.Allowed, v)
		}
	}
	return out
}

// Count is the number of a name in a counter, as a value.
func Count(name string, n int) string { return name + "=" + strconv.Itoa(n) }

// counter requires the greatest acknowledged number of each name, or a greater one that may be stored.
func counter(history []Operation, final []string) Verdict {
	split := func(value string) (string, int) {
		name, digits, _ := strings.Cut(value, "=")
		n, err := strconv.Atoi(digits)
		if err != nil {
			return value, -1
		}
		return name, n
	}
	acked := map[string]int{}
	for _, o := range history {
		if o.Kind != Put || o.Outcome != Acked {
			continue
		}
		for _, v := range o.Values {
			name, n := split(v)
			acked[name] = max(acked[name], n)
		}
	}
	var out Verdict
	for _, o := range history {
		if o.Kind != Put || o.Outcome == Refused {
			continue
		}
		for _, v := range o.Values {
			if name, n := split(v); n >= acked[name] && !slices.Contains(out.Allowed, v) {
				out.Allowed = append(out.Allowed, v)
			}
		}
	}
	there := map[string]bool{}
	for _, v := range final {
		name, _ := split(v)
		there[name] = true
	}
	for name, n := range acked {
		if v := Count(name, n); n > 0 && (!there[name] || slices.Contains(final, v)) {
			out.Required = append(out.Required, v)
		}
	}
	slices.Sort(out.Required)
	return out
}

// violations compares what is there with what must and may be.
func (v Verdict) violations(history []Operation, final []string) []string {
	var out []string
	for _, r := range v.Required {
		if !slices.Contains(final, r) {
			out = append(out, fmt.Sprintf("acknowledged %q is lost", r))
		}
	}
	for _, f := range final {
		if !slices.Contains(v.Allowed, f) {
			out = append(out, fmt.Sprintf("%q is there: %s", f, whyNot(history, f)))
		}
	}
	return out
}

// handedOn is after how long a node that holds no copy gives a write to another primary, because the first is
// silent. If the first carries it out all the same, there are two versions of one write, and who read only one of them
// has superseded only that.
const handedOn = 250 * time.Millisecond

func whyNot(history []Operation, value string) string {
	for _, o := range history {
		if o.Kind == Put && slices.Contains(o.Values, value) {
			switch {
			case o.Outcome == Refused:
				return "its write was refused"
			case o.Took >= handedOn:
				return MintedTwice
			}
			return "it came back after what superseded it, or is older than an acknowledged write"
		}
	}
	return "nobody wrote it"
}

// MintedTwice is said of a value that came back, if it may be because two nodes made its write.
const MintedTwice = "it came back; its write took so long that a second node may have been asked to make it, too"

// phantoms are values that a client read though nobody wrote them, or though their write was refused.
func phantoms(history []Operation) []string {
	written := map[string]bool{}
	for _, o := range history {
		if o.Kind != Put {
			continue
		}
		for _, v := range o.Values { // numbers of a counter may be written again
			written[v] = written[v] || o.Outcome != Refused
		}
	}
	var out []string
	for _, o := range history {
		if o.Kind != Get {
			continue
		}
		for _, v := range o.Values {
			if !written[v] {
				written[v] = true // say it once
				out = append(out, fmt.Sprintf("a client read %q: %s", v, whyNot(history, v)))
			}
		}
	}
	return out
}

// Render writes a line for each operation.
func Render(history []Operation) string {
	var b strings.Builder
	for _, o := range history {
		b.WriteString(o.String())
		b.WriteByte('\n')
	}
	return b.String()
}
