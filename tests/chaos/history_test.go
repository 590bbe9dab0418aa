package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// outcome is what a client knows of its write.
type outcome int

const (
	acked   outcome = iota // a 2xx: W replicas have it on disk
	unknown                // it may be on some replicas and may turn up
	refused                // the answer, or the lack of a connection, says that it is nowhere
)

func (o outcome) String() string { return [...]string{"acknowledged", "unknown", "refused"}[o] }

// operation is one call of a client, in the order in which the client made them.
type operation struct {
	at, took time.Duration // since the start of the run
	client   string
	kind     string // get, put, delete
	node     string
	outcome  outcome
	answer   string // status or error, for people
	// values are what a get saw, or what a put wrote: one value, or the one new element of a set.
	values []string
	// covers are the values that stood in the reading whose context a put or delete was made with.
	covers []string
	// follows is the value whose write answered with the context. A node that does not have it yet, and cannot get
	// it in time, leaves it beside what follows it.
	follows string
	context string // a few letters of the token, for people
}

func (o operation) String() string {
	s := fmt.Sprintf("%8.3fs +%5.0fms %-4s %-6s via %s: %s %s", o.at.Seconds(), o.took.Seconds()*1000, o.client, o.kind, o.node, o.outcome, o.answer)
	if len(o.values) > 0 {
		s += fmt.Sprintf(" values %q", shorten(o.values))
	}
	if o.kind != "get" {
		s += fmt.Sprintf(" covers %q", shorten(o.covers))
	}
	if o.follows != "" {
		s += " follows " + o.follows
	}
	if o.context != "" {
		s += " context " + o.context
	}
	return s
}

func shorten(values []string) []string {
	if len(values) <= 12 {
		return values
	}
	return append(slices.Clone(values[:12]), fmt.Sprintf("and %d more", len(values)-12))
}

// verdict is what a history allows a key to be in the end.
type verdict struct {
	// required values must be there: acknowledged, and nothing that may be stored had seen them.
	required []string
	// allowed values may be there: maybe stored, and nothing that surely is stored had seen them.
	allowed []string
}

// gone says that nothing may be left of the key.
func (v verdict) gone() bool { return len(v.allowed) == 0 }

// judgePlain derives the verdict of a key whose values are unique and where concurrent values stand side by side.
// final are the values that are there in the end: that a value was seen proves that its write took place, whatever
// its client was told, and so that what it covered is superseded.
func judgePlain(history []operation, final []string) verdict {
	seen := map[string]bool{}
	for _, v := range final {
		seen[v] = true
	}
	for _, o := range history {
		if o.kind == "get" {
			for _, v := range o.values {
				seen[v] = true
			}
		}
	}
	surely, maybe := map[string]bool{}, map[string]bool{} // superseded
	for _, o := range history {
		if o.kind == "get" || o.outcome == refused {
			continue
		}
		done := o.outcome == acked || o.kind == "put" && seen[o.values[0]]
		maybe[o.follows] = true
		for _, v := range o.covers {
			maybe[v] = true
			if done {
				surely[v] = true
			}
		}
	}
	var out verdict
	for _, o := range history {
		if o.kind != "put" || o.outcome == refused {
			continue
		}
		v := o.values[0]
		if o.outcome == acked && !maybe[v] {
			out.required = append(out.required, v)
		}
		if !surely[v] {
			out.allowed = append(out.allowed, v)
		}
	}
	return out
}

// judgeSet: nothing is ever taken out of a set, so what was acknowledged is there.
func judgeSet(history []operation) verdict {
	var out verdict
	for _, o := range history {
		if o.kind != "put" || o.outcome == refused {
			continue
		}
		out.allowed = append(out.allowed, o.values[0])
		if o.outcome == acked {
			out.required = append(out.required, o.values[0])
		}
	}
	return out
}

// judgeNewest is for keys with one writer in a keyspace where the newest write wins: the last acknowledged value, or
// one of unknown outcome, which may have waited in a stopped node and got its time later.
func judgeNewest(history []operation, final []string) verdict {
	var out verdict
	last := ""
	for _, o := range history {
		switch {
		case o.kind != "put" || o.outcome == refused:
		case o.outcome == unknown:
			out.allowed = append(out.allowed, o.values[0])
		default:
			last = o.values[0]
		}
	}
	if last != "" {
		out.allowed = append(out.allowed, last)
		if len(final) == 0 {
			out.required = append(out.required, last)
		}
	}
	return out
}

// violations compares what is there with what must and may be.
func (v verdict) violations(history []operation, final []string) []string {
	var out []string
	for _, r := range v.required {
		if !slices.Contains(final, r) {
			out = append(out, fmt.Sprintf("acknowledged %q is lost", r))
		}
	}
	for _, f := range final {
		if !slices.Contains(v.allowed, f) {
			out = append(out, fmt.Sprintf("%q is there: %s", f, whyNot(history, f)))
		}
	}
	return out
}

// handedOn is after how long a node that holds no copy gives a write to another primary, because the first is
// silent. If the first carries it out all the same, there are two versions of one write, and who read only one of them
// has superseded only that.
const handedOn = 250 * time.Millisecond

func whyNot(history []operation, value string) string {
	for _, o := range history {
		if o.kind == "put" && o.values[0] == value {
			switch {
			case o.outcome == refused:
				return "its write was refused"
			case o.took >= handedOn:
				return mintedTwice
			}
			return "it came back after what superseded it, or is older than an acknowledged write"
		}
	}
	return "nobody wrote it"
}

const mintedTwice = "it came back; its write took so long that a second node may have been asked to make it, too"

// phantoms are values that a client read though nobody wrote them, or though their write was refused.
func phantoms(history []operation) []string {
	written := map[string]bool{}
	for _, o := range history {
		if o.kind == "put" {
			written[o.values[0]] = o.outcome != refused
		}
	}
	var out []string
	for _, o := range history {
		if o.kind != "get" {
			continue
		}
		for _, v := range o.values {
			if !written[v] {
				written[v] = true // say it once
				out = append(out, fmt.Sprintf("a client read %q: %s", v, whyNot(history, v)))
			}
		}
	}
	return out
}

// judge checks one key.
func judge(keyspace string, history []operation, final []string) (verdict, []string) {
	var v verdict
	switch keyspace {
	case sets:
		v = judgeSet(history)
	case plain:
		v = judgePlain(history, final)
	default:
		v = judgeNewest(history, final)
	}
	return v, append(v.violations(history, final), phantoms(history)...)
}

func render(history []operation) string {
	var b strings.Builder
	for _, o := range history {
		b.WriteString(o.String())
		b.WriteByte('\n')
	}
	return b.String()
}
