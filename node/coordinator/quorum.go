package coordinator

import (
	"errors"
	"fmt"
	"strings"

	"dynamo/node/causal"
)

// target is one node that a request asks, and why.
type target struct {
	node string
	// hintFor is the primary for which this fallback stands in; empty for a primary.
	hintFor string
}

// refusal is why a node did not count.
type refusal struct {
	node string
	err  error
}

// tally is what reads and writes have in common: who was heard, each node counted once.
type tally struct {
	need    int
	counted map[string]bool
	failed  []refusal
}

func newTally(need int) tally { return tally{need: need, counted: make(map[string]bool)} }

func (t *tally) fail(node string, err error) { t.failed = append(t.failed, refusal{node, err}) }

// describe says what was needed, what was had and each node's reason.
func (t *tally) describe(kind string, have int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s needs %d replicas, %d answered", kind, t.need, have)
	for i, f := range t.failed {
		if i == 0 {
			b.WriteString("; ")
		} else {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s: %v", f.node, f.err)
	}
	return b.String()
}

// unmet is the error of a quorum that was not reached. If every node that failed refused for the same
// reason, that is what the client is told.
func (t *tally) unmet(kind string, have int) *Error {
	code := CodeQuorumUnmet
	for i, f := range t.failed {
		why := refused(f.err)
		if i > 0 && why != code || why == "" {
			code = CodeQuorumUnmet
			break
		}
		code = why
	}
	return &Error{Code: code, Detail: t.describe(kind, have), Retryable: true}
}

// writes counts durable acknowledgements of one write. It is a plain value of the request's goroutine.
type writes struct {
	tally
	// strict leaves fallbacks uncounted (sloppy=false).
	strict bool
}

func newWrites(need int, strict bool) *writes {
	return &writes{tally: newTally(need), strict: strict}
}

// add counts a durable acknowledgement.
func (w *writes) add(t target) {
	if t.hintFor == "" || !w.strict {
		w.counted[t.node] = true
	}
}

func (w *writes) have() int    { return len(w.counted) }
func (w *writes) enough() bool { return w.have() >= w.need }

// reads gathers the answers to one read. A replica may answer with the hash of its object alone; it
// counts once an object of that hash is at hand. It is a plain value of the request's goroutine.
type reads struct {
	tally
	joined causal.Object
	known  map[causal.Hash]bool
	hashes map[string]causal.Hash
	roles  map[string]target
	// unsure are the replicas whose silence says nothing.
	unsure map[string]bool
	// strict leaves fallbacks uncounted (sloppy=false): what they show is joined all the same.
	strict bool
}

func newReads(need int, strict bool) *reads {
	return &reads{
		strict: strict,
		tally:  newTally(need),
		known:  map[causal.Hash]bool{{}: true}, // nothing there needs no object
		hashes: make(map[string]causal.Hash),
		roles:  make(map[string]target),
		unsure: make(map[string]bool),
	}
}

// errUnsure is why a replica that answered does not count.
var errUnsure = errors.New("compares itself with the other replicas after an unclean stop")

// doubt leaves a replica uncounted: what it shows is joined all the same.
func (r *reads) doubt(node string) {
	if !r.unsure[node] {
		r.unsure[node] = true
		r.fail(node, errUnsure)
	}
}

// add takes one answer; o is nil if only the hash came.
func (r *reads) add(t target, h causal.Hash, o *causal.Object) {
	r.hashes[t.node], r.roles[t.node] = h, t
	if o != nil && !r.known[h] {
		r.known[h] = true
		r.joined = r.joined.Join(*o)
	}
	for node, h := range r.hashes {
		if r.strict && r.roles[node].hintFor != "" {
			continue
		}
		if r.known[h] && !r.unsure[node] {
			r.counted[node] = true
		}
	}
}

func (r *reads) have() int { return len(r.counted) }

// enough reports whether R replicas are counted. That there is nothing is not for fallbacks alone to
// say: they hold only what was written while the primaries were away.
func (r *reads) enough() bool {
	if r.have() < r.need {
		return false
	}
	if !r.joined.IsZero() {
		return true
	}
	for node := range r.counted {
		if r.roles[node].hintFor == "" {
			return true
		}
	}
	return false
}

// wanted returns one node for every hash whose object is not at hand yet.
func (r *reads) wanted(asked map[string]bool) []target {
	var out []target
	pending := make(map[causal.Hash]bool)
	for node, h := range r.hashes {
		if asked[node] && !r.known[h] {
			pending[h] = true
		}
	}
	for node, h := range r.hashes {
		if !r.known[h] && !pending[h] && !asked[node] {
			pending[h] = true
			out = append(out, r.roles[node])
		}
	}
	return out
}

// result is the join of everything that was read.
func (r *reads) result() causal.Object { return r.joined }

// forget takes back what a node said of itself: it could not show the object behind its hash.
func (r *reads) forget(node string, err error) {
	r.fail(node, err)
	delete(r.hashes, node)
	delete(r.counted, node)
}

// stale returns the primaries that answered something else than the object of hash h.
func (r *reads) stale(h causal.Hash) []string {
	var out []string
	for node, got := range r.hashes {
		if got != h && r.roles[node].hintFor == "" {
			out = append(out, node)
		}
	}
	return out
}
