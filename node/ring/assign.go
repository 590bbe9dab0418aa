package ring

import (
	"cmp"
	"fmt"
	"slices"
)

// nobody owns an orphan: a token whose owner left, or none had yet.
const nobody = int32(-1)

// assignment is who owns which token while the history is folded. Members are
// indices into the sorted record.
type assignment struct {
	record []Member
	zone   []int32 // per member: number of its zone
	live   []bool  // per member
	count  []int   // per member: tokens held, or to be held at the end of the step
	own    []int32 // per partition: who holds its token
	steps  uint64
	search search
}

func newAssignment(q int, record []Member) *assignment {
	a := &assignment{
		record: record,
		zone:   make([]int32, len(record)),
		live:   make([]bool, len(record)),
		count:  make([]int, len(record)),
		own:    slices.Repeat([]int32{nobody}, q),
	}
	zones := make(map[string]int32)
	for i, m := range record {
		z, ok := zones[m.Zone]
		if !ok {
			z = int32(len(zones))
			zones[m.Zone] = z
		}
		a.zone[i] = z
	}
	a.search = newSearch(q, len(record))
	return a
}

// apply folds one step of the history. First it settles how many tokens each
// member holds, then which.
func (a *assignment) apply(s step) error {
	a.steps++
	rnd := splitmix(a.steps)
	for _, i := range s.joined {
		a.live[i] = true
	}
	if s.left >= 0 {
		a.leave(s)
	}
	members := a.members()
	switch {
	case len(members) > len(a.own):
		return fmt.Errorf("%w: %d members, %d partitions", ErrTooManyMembers, len(members), len(a.own))
	case len(members) == 0:
		return nil // all tokens wait for the next member
	}
	take := make([]int, len(a.record)) // orphans each member receives
	give := make([]int, len(a.record)) // tokens each member cedes to the newcomer
	loads := a.loads(members)
	for range a.orphans() {
		i := loads.least()
		a.count[i]++
		take[i]++
	}
	newcomer := nobody
	if len(s.joined) == 1 {
		newcomer = int32(s.joined[0])
		a.shed(loads, newcomer, take)
		a.ask(loads, newcomer, give)
	}
	from := slices.Clone(a.own)
	orphans := a.orphanPositions()
	a.fill(orphans, take, &rnd)
	if newcomer != nobody {
		a.steal(newcomer, give, &rnd)
	}
	a.search.improve(a, members, from, orphans, newcomer, &rnd)
	return nil
}

// leave takes one member out; its tokens are orphans, or its replacement's.
func (a *assignment) leave(s step) {
	heir := nobody
	if len(s.joined) == 1 {
		heir = int32(s.joined[0])
		a.count[heir] = a.count[s.left]
	}
	a.live[s.left] = false
	a.count[s.left] = 0
	for p, o := range a.own {
		if o == int32(s.left) {
			a.own[p] = heir
		}
	}
	a.search.rename(int32(s.left), heir)
}

func (a *assignment) members() []int32 {
	var members []int32
	for i, live := range a.live {
		if live {
			members = append(members, int32(i))
		}
	}
	return members
}

func (a *assignment) orphans() int {
	held := 0
	for _, n := range a.count {
		held += n
	}
	return len(a.own) - held
}

func (a *assignment) orphanPositions() []int32 {
	var orphans []int32
	for p, o := range a.own {
		if o == nobody {
			orphans = append(orphans, int32(p))
		}
	}
	return orphans
}

// loads compares members by their excess: tokens held less tokens due by weight,
// in units of 1/total tokens. It fits: 2^16 tokens, weights of 2^16 in sum 2^32.
type loads struct {
	a       *assignment
	members []int32
	total   int64 // of all weights
}

func (a *assignment) loads(members []int32) loads {
	l := loads{a: a, members: members}
	for _, i := range members {
		l.total += int64(a.record[i].Weight)
	}
	return l
}

func (l loads) excess(i int32) int64 {
	return int64(l.a.count[i])*l.total - int64(len(l.a.own))*int64(l.a.record[i].Weight)
}

// least is the member that is due a token most: one that has none, else the one
// of the lowest excess; of equals the first in the record.
func (l loads) least() int32 {
	return slices.MinFunc(l.members, func(x, y int32) int {
		if (l.a.count[x] == 0) != (l.a.count[y] == 0) {
			return cmp.Compare(min(l.a.count[x], 1), min(l.a.count[y], 1))
		}
		return cmp.Compare(l.excess(x), l.excess(y))
	})
}

// most is the member other than the newcomer that can best spare a token, or
// nobody: the last token of a member stays.
func (l loads) most(newcomer int32) int32 {
	best := nobody
	for _, i := range l.members {
		if i != newcomer && l.a.count[i] > 1 && (best == nobody || l.excess(i) > l.excess(best)) {
			best = i
		}
	}
	return best
}

// shed makes orphans of what a replacement inherited beyond its share, evenly
// spread over its tokens.
func (a *assignment) shed(l loads, newcomer int32, take []int) {
	held, shed := a.count[newcomer], 0
	for a.count[newcomer] > 1 {
		i := l.least()
		if i == newcomer || l.excess(newcomer)-l.excess(i) <= l.total {
			break
		}
		a.count[newcomer]--
		a.count[i]++
		take[i]++
		shed++
	}
	if shed == 0 {
		return
	}
	seen := 0
	for p, o := range a.own {
		if o != newcomer {
			continue
		}
		if (seen+1)*shed/held > seen*shed/held {
			a.own[p] = nobody
		}
		seen++
	}
}

// ask settles how many tokens the newcomer takes from whom: one after the other
// from the most overloaded, as long as that brings the two nearer to each other.
func (a *assignment) ask(l loads, newcomer int32, give []int) {
	for {
		i := l.most(newcomer)
		if i == nobody {
			return
		}
		if a.count[newcomer] > 0 && l.excess(i)-l.excess(newcomer) <= l.total {
			return
		}
		a.count[i]--
		a.count[newcomer]++
		give[i]++
	}
}

// steal chooses the newcomer's tokens: evenly spaced about the ring with some
// jitter, each the nearest whose owner still has to give.
func (a *assignment) steal(newcomer int32, give []int, rnd *splitmix) {
	left, q := 0, len(a.own)
	for _, n := range give {
		left += n
	}
	total := left
	for ; left > 0; left-- {
		at := ((total-left)*q + rnd.below(q)) / total
		for d := range q { // at, at+1, at-1, at+2, ...
			offset := (d + 1) / 2
			if d%2 == 0 {
				offset = -offset
			}
			p := (at + offset + q) & (q - 1)
			if o := a.own[p]; o != newcomer && give[o] > 0 {
				give[o]--
				a.own[p] = newcomer
				break
			}
		}
	}
}

// lookahead is how many candidates fill weighs for a token.
const lookahead = 64

// fill hands the orphans out: take[i] of them to each member i. Each member's are
// evenly spaced with jitter, so that rows of members follow each other in ever
// different order, and out of the next candidates the first is chosen that has no
// neighbour of its own or of its zone.
func (a *assignment) fill(orphans []int32, take []int, rnd *splitmix) {
	type turn struct {
		time   uint64
		member int32
	}
	turns := make([]turn, 0, len(orphans))
	for i, n := range take {
		for k := range n {
			turns = append(turns, turn{(uint64(k)<<32 + rnd.next()>>32) / uint64(n), int32(i)})
		}
	}
	slices.SortFunc(turns, func(x, y turn) int {
		return cmp.Or(cmp.Compare(x.time, y.time), cmp.Compare(x.member, y.member))
	})
	for _, p := range orphans {
		best, least := 0, 1<<30
		for c := range min(lookahead, len(turns)) {
			if conflicts := a.conflicts(int(p), turns[c].member); conflicts < least {
				best, least = c, conflicts
			}
			if least == 0 {
				break
			}
		}
		a.own[p] = turns[best].member
		copy(turns[1:], turns[:best])
		turns = turns[1:]
	}
}

// conflicts weighs the neighbours of p that are of the member (8) or of its zone
// (1), the nearer the more.
func (a *assignment) conflicts(p int, member int32) int {
	found, q := 0, len(a.own)
	for d := 1; d < depth; d++ {
		for _, o := range [2]int32{a.own[(p+d)&(q-1)], a.own[(p-d+q)&(q-1)]} {
			switch {
			case o == nobody:
			case o == member:
				found += 8 * (depth - d)
			case a.zone[o] == a.zone[member]:
				found += depth - d
			}
		}
	}
	return found
}

// splitmix is the generator SplitMix64 (Steele, Lea and Flood, 2014). It is
// spelled out here because its numbers decide where data lives.
type splitmix uint64

func (s *splitmix) next() uint64 {
	*s += 0x9e3779b97f4a7c15
	z := uint64(*s)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below is a number from 0 to n-1, n < 2^32.
func (s *splitmix) below(n int) int { return int(s.next() >> 32 * uint64(n) >> 32) }
