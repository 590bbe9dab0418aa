package causal

import (
	"cmp"
	"slices"
	"strings"
)

// Range is a run of consecutive dots of one actor, both ends included.
type Range struct {
	Actor    Actor
	From, To uint64
}

// Dots is a set of dots, kept as sorted, disjoint, non-adjacent ranges. The zero value is empty.
type Dots []Range

// DotsOf returns the set of the given dots.
func DotsOf(ds ...Dot) Dots {
	out := make(Dots, 0, len(ds))
	for _, d := range ds {
		out = append(out, Range{d.Actor, d.Counter, d.Counter})
	}
	return out.normal()
}

// normal sorts and coalesces the ranges of s in place.
func (s Dots) normal() Dots {
	if len(s) < 2 {
		return s
	}
	slices.SortFunc(s, compareRanges)
	out := s[:1]
	for _, r := range s[1:] {
		last := &out[len(out)-1]
		if r.Actor == last.Actor && r.From <= last.To+1 {
			last.To = max(last.To, r.To)
			continue
		}
		out = append(out, r)
	}
	return out
}

func compareRanges(a, b Range) int {
	if c := a.Actor.Compare(b.Actor); c != 0 {
		return c
	}
	if c := cmp.Compare(a.From, b.From); c != 0 {
		return c
	}
	return cmp.Compare(a.To, b.To)
}

// Empty reports whether there is no dot in s.
func (s Dots) Empty() bool { return len(s) == 0 }

// Count returns the number of dots.
func (s Dots) Count() uint64 {
	var n uint64
	for _, r := range s {
		n += r.To - r.From + 1
	}
	return n
}

// Min returns the smallest dot by (actor, counter); ok is false for the empty set.
func (s Dots) Min() (d Dot, ok bool) {
	if len(s) == 0 {
		return Dot{}, false
	}
	return Dot{s[0].Actor, s[0].From}, true
}

// Contains reports whether d is in s.
func (s Dots) Contains(d Dot) bool {
	for _, r := range s {
		if r.Actor == d.Actor && r.From <= d.Counter && d.Counter <= r.To {
			return true
		}
	}
	return false
}

// Union returns the dots that are in s or in t.
func (s Dots) Union(t Dots) Dots {
	switch {
	case len(s) == 0:
		return t
	case len(t) == 0:
		return s
	}
	return append(append(make(Dots, 0, len(s)+len(t)), s...), t...).normal()
}

// Intersect returns the dots that are in both.
func (s Dots) Intersect(t Dots) Dots {
	var out Dots
	i, j := 0, 0
	for i < len(s) && j < len(t) {
		if c := s[i].Actor.Compare(t[j].Actor); c != 0 {
			if c < 0 {
				i++
			} else {
				j++
			}
			continue
		}
		if from, to := max(s[i].From, t[j].From), min(s[i].To, t[j].To); from <= to {
			out = append(out, Range{s[i].Actor, from, to})
		}
		if s[i].To < t[j].To {
			i++
		} else {
			j++
		}
	}
	return out
}

// Unseen returns the dots of s that c has not seen.
func (s Dots) Unseen(c Context) Dots {
	var out Dots
	for _, r := range s {
		if n := c.Counter(r.Actor); n < r.To {
			out = append(out, Range{r.Actor, max(r.From, n+1), r.To})
		}
	}
	return out
}

// minus returns the dots of s that are not in t.
func (s Dots) minus(t Dots) Dots {
	if len(t) == 0 {
		return s
	}
	var out Dots
	for _, r := range s {
		from := r.From
		for _, q := range t {
			if q.Actor != r.Actor || q.To < from || q.From > r.To {
				continue
			}
			if q.From > from {
				out = append(out, Range{r.Actor, from, q.From - 1})
			}
			from = q.To + 1
		}
		if from <= r.To {
			out = append(out, Range{r.Actor, from, r.To})
		}
	}
	return out
}

// SubsetOf reports whether every dot of s is in t.
func (s Dots) SubsetOf(t Dots) bool {
	j := 0
	for _, r := range s {
		for j < len(t) && (t[j].Actor.Compare(r.Actor) < 0 || (t[j].Actor == r.Actor && t[j].To < r.From)) {
			j++
		}
		if j == len(t) || t[j].Actor != r.Actor || t[j].From > r.From || t[j].To < r.To {
			return false
		}
	}
	return true
}

// Compare orders sets by their ranges; it is 0 exactly for equal sets.
func (s Dots) Compare(t Dots) int { return slices.CompareFunc(s, t, compareRanges) }

// SeenBy reports whether c has seen every dot of s.
func (s Dots) SeenBy(c Context) bool {
	for _, r := range s {
		if c.Counter(r.Actor) < r.To {
			return false
		}
	}
	return true
}

// String lists up to 16 dots, for logs and explain.
func (s Dots) String() string {
	var b strings.Builder
	for i, d := range s.List(16) {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(d.String())
	}
	return b.String()
}

// List returns the first dots of s in order, at most limit of them.
func (s Dots) List(limit int) []Dot {
	var out []Dot
	for _, r := range s {
		for n := r.From; n <= r.To && len(out) < limit; n++ {
			out = append(out, Dot{r.Actor, n})
		}
	}
	return out
}

// valid reports whether s is in canonical form.
func (s Dots) valid() bool {
	for i, r := range s {
		if r.From == 0 || r.From > r.To || r.To > maxCounter {
			return false
		}
		if i == 0 {
			continue
		}
		p := s[i-1]
		if c := p.Actor.Compare(r.Actor); c > 0 || (c == 0 && r.From <= p.To+1) {
			return false
		}
	}
	return true
}
