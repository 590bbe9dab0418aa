package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Error is one mistake in a cluster file. It never shows a secret, a token or the text that a variable
// holds (numbers aside).
type Error struct {
	File         string // as it was given in Options; may be empty
	Line, Column int    // both from 1
	Key          string // path of the key, e.g. "nodes[1].http"; empty where the mistake belongs to no key
	Message      string
	Suggestion   string // how to put it right; may be empty
}

// Error returns "file:line:column: key: message (suggestion)" without the parts that are empty.
func (e *Error) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File + ":")
	}
	fmt.Fprintf(&b, "%d:%d: ", e.Line, e.Column)
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Message)
	if e.Suggestion != "" {
		b.WriteString(" (" + e.Suggestion + ")")
	}
	return b.String()
}

// maxErrors bounds what is reported of one file: more than this many lines help nobody.
const maxErrors = 20

// report collects the mistakes of one file.
type report struct {
	file  string
	errs  []*Error // the first maxErrors
	count int      // of all
}

func (r *report) add(e *Error) {
	r.count++
	if len(r.errs) < maxErrors {
		e.File = r.file
		r.errs = append(r.errs, e)
	}
}

// err joins the mistakes in the order of the file, and says how many are left out.
func (r *report) err() error {
	if r.count == 0 {
		return nil
	}
	slices.SortStableFunc(r.errs, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	joined := make([]error, 0, len(r.errs)+1)
	for _, e := range r.errs {
		joined = append(joined, e)
	}
	if more := r.count - len(r.errs); more > 0 {
		last := r.errs[len(r.errs)-1]
		joined = append(joined, &Error{
			File: r.file, Line: last.Line, Column: last.Column,
			Message: fmt.Sprintf("too many errors, %d more are not shown", more),
		})
	}
	return errors.Join(joined...)
}

// quote shows a piece of the file in a message, shortened: a file may hold a megabyte of anything.
func quote(s string) string {
	const longest = 80
	if r := []rune(s[:min(len(s), 4*longest)]); len(r) > longest || len(s) > 4*longest {
		return strconv.Quote(string(r[:min(len(r), longest)]) + "...")
	}
	return strconv.Quote(s)
}

// list writes words as "a, b or c".
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// suggest says which of the known words was probably meant, or lists them all. It also returns the probable word, or
// "" if none is near.
func suggest(word string, known []string) (suggestion, probable string) {
	if probable = nearest(word, known); probable != "" {
		return fmt.Sprintf("did you mean %q?", probable), probable
	}
	return "expected " + list(known), ""
}

// nearest returns the known word with the smallest edit distance to word, if it is small enough for a slip of the
// finger: a third of the letters, case and "-" for "_" aside.
func nearest(word string, known []string) string {
	const longest = 64 // longer words resemble none of ours, and the distance costs their product
	if len(word) > longest {
		return ""
	}
	fold := strings.NewReplacer("-", "_", " ", "_")
	folded := fold.Replace(strings.ToLower(word))
	best, bestDistance := "", 0
	for _, k := range known {
		d := distance(folded, fold.Replace(k))
		if d <= max(1, len(k)/3) && d < len(k) && (best == "" || d < bestDistance) {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance is the number of insertions, deletions, substitutions and swaps of neighbours that turn a into b (optimal
// string alignment).
func distance(a, b string) int {
	previous, current := make([]int, len(b)+1), make([]int, len(b)+1)
	var beforeThat []int
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		current[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			current[j] = min(previous[j]+1, current[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], beforeThat[j-2]+1)
			}
		}
		beforeThat, previous, current = previous, current, make([]int, len(b)+1)
	}
	return previous[len(b)]
}
