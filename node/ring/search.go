package ring

import "slices"

const (
	// depth is how many places of the preference lists are balanced: replication
	// 2 and 3. With more replicas the balance follows, less exactly.
	depth = 3
	// maxWalk ends walks to a rare zone; beyond, the search is blind. It bounds
	// time, not the lists.
	maxWalk = 64
	// The search ends after budget steps of walks, or after so many trials in vain:
	// idle, or fewer where there are few possible swaps.
	budget = 1 << 19
	idle   = 1 << 11
	// unit is the cost of one replica out of balance; pairCost that of a pair of
	// first and second that is too frequent, longCost that of a longer walk
	// (neighbours of one owner or zone), moveCost that of a replica moved.
	unit     = 1 << 10
	pairCost = unit
	longCost = unit / 2
	moveCost = unit
	// maxPairs is the number of members up to which pairs are counted.
	maxPairs = 256
)

// search improves the placement of tokens by swaps that change neither the number
// of tokens of any member nor the number of tokens that the step moves: local
// search, taking what makes the whole better.
//
// What is good: replica counts in proportion to weights (the sum of squares over
// weights is least when they are, and it finds the nearest possible where zones
// forbid proportion), many different seconds for each first (they take over when
// it is away), short walks, and few replicas moved.
type search struct {
	// Per partition: the first depth of its list (nobody beyond), where its walk
	// ended, and the list before the step.
	top  [][depth]int32
	end  []int32
	base [][depth]int32

	need     [depth]int // nodes that the top has of each round
	limit    int        // of a walk
	replicas [depth][]int64
	price    []int64 // per member: unit over its relative weight
	pairs    []int64 // first and second, by slot; empty when there are too many
	slot     []int32 // per member: its place among the live
	lives    int32
	work     int

	generation uint64
	seen       []uint64 // per member: generation in which the walk met it
	zoneSeen   []uint64
	inZone     []int32
	touched    []uint64 // per partition
	undo       []undo
}

type undo struct {
	p   int32
	top [depth]int32
	end int32
}

func newSearch(q, members int) search {
	s := search{
		top: make([][depth]int32, q), end: make([]int32, q), base: make([][depth]int32, q),
		limit: min(q, maxWalk), price: make([]int64, members), slot: make([]int32, members),
		seen: make([]uint64, members), zoneSeen: make([]uint64, members), inZone: make([]int32, members),
		touched: make([]uint64, q),
	}
	for i := range s.top {
		s.top[i] = empty()
	}
	for n := range s.replicas {
		s.replicas[n] = make([]int64, members)
	}
	return s
}

func empty() [depth]int32 { return [depth]int32{nobody, nobody, nobody} }

// rename makes an heir the holder of all replicas of one who left.
func (s *search) rename(left, heir int32) {
	for p := range s.top {
		for n, i := range s.top[p] {
			if i == left {
				s.top[p][n] = heir
			}
		}
	}
}

// improve searches for a better placement after a step. from is the placement
// before it, with orphans.
func (s *search) improve(a *assignment, members, from, orphans []int32, newcomer int32, rnd *splitmix) {
	s.begin(a, members)
	if len(members) == 1 {
		return
	}
	stolen := s.stolen(a, from, newcomer)
	byOwner := make([][]int32, len(a.record)) // positions by owner before the step
	if len(stolen) > 0 {
		for p, o := range from {
			if o != nobody {
				byOwner[o] = append(byOwner[o], int32(p))
			}
		}
	}
	swaps := len(orphans) * (len(orphans) - 1)
	for _, p := range stolen {
		swaps += len(byOwner[from[p]]) - 1
	}
	for vain := 0; vain < min(idle, 2*swaps) && s.work < budget; vain++ {
		pick := rnd.below(len(stolen) + len(orphans))
		if pick >= len(stolen) {
			i, j := orphans[pick-len(stolen)], orphans[rnd.below(len(orphans))]
			if a.own[i] != a.own[j] && s.try(a, i, j) {
				vain = 0
			}
			continue
		}
		i := stolen[pick]
		kept := byOwner[from[i]]
		j := kept[rnd.below(len(kept))]
		if a.own[j] != newcomer && s.try(a, i, j) {
			stolen[pick], vain = j, 0
		}
	}
}

// stolen lists the positions that the newcomer took from members.
func (s *search) stolen(a *assignment, from []int32, newcomer int32) []int32 {
	var stolen []int32
	for p, o := range a.own {
		if o == newcomer && from[p] != newcomer && from[p] != nobody {
			stolen = append(stolen, int32(p))
		}
	}
	return stolen
}

// begin sets the search up for the members of this step.
func (s *search) begin(a *assignment, members []int32) {
	copy(s.base, s.top)
	s.work = 0
	clear(s.inZone)
	heaviest := 0
	var zones [depth]int // zones with more than r members
	for _, i := range members {
		if r := s.inZone[a.zone[i]]; r < depth {
			zones[r]++
		}
		s.inZone[a.zone[i]]++
		heaviest = max(heaviest, a.record[i].Weight)
	}
	left := min(depth, len(members))
	for r := range zones {
		s.need[r] = min(zones[r], left)
		left -= s.need[r]
	}
	for n := range s.replicas {
		clear(s.replicas[n])
	}
	s.lives, s.pairs = int32(len(members)), nil
	if len(members) <= maxPairs {
		s.pairs = make([]int64, len(members)*len(members))
	}
	for slot, i := range members {
		s.slot[i] = int32(slot)
		s.price[i] = unit * int64(heaviest) / int64(a.record[i].Weight)
	}
	for p := range s.top {
		s.walk(a, int32(p))
		s.add(int32(p), 1)
	}
}

// walk computes the top of the preference list of p.
func (s *search) walk(a *assignment, p int32) {
	s.generation++
	generation, mask := s.generation, int32(len(a.own)-1)
	missing := 0
	var begin [depth]int // where each round begins in the top
	for r, n := range s.need {
		begin[r] = missing
		missing += n
	}
	need, top := s.need, empty()
	d := int32(0)
	for ; ; d++ {
		if o := a.own[(p+d)&mask]; s.seen[o] != generation {
			s.seen[o] = generation
			z := a.zone[o]
			if s.zoneSeen[z] != generation {
				s.zoneSeen[z], s.inZone[z] = generation, 0
			}
			r := s.inZone[z]
			s.inZone[z]++
			if r < depth && need[r] > 0 {
				top[begin[r]] = o
				begin[r]++
				need[r]--
				missing--
			}
		}
		if missing == 0 || int(d) == s.limit-1 {
			break
		}
	}
	s.work += int(d) + 1
	s.top[p], s.end[p] = top, d
}

// add counts the top of p in (1) or out (-1), and returns what that costs.
func (s *search) add(p int32, sign int64) int64 {
	cost := sign * longCost * int64(s.end[p])
	if first, second := s.top[p][0], s.top[p][1]; second != nobody && s.pairs != nil {
		n := &s.pairs[s.slot[first]*s.lives+s.slot[second]]
		cost += pairCost * (2*sign**n + 1)
		*n += sign
	}
	for place, i := range s.top[p] {
		if i == nobody {
			continue
		}
		for n := max(1, place); n < depth; n++ { // n+1 replicas
			cost += s.price[i] * (2*sign*s.replicas[n][i] + 1)
			s.replicas[n][i] += sign
		}
		if base := s.base[p]; base[0] != nobody && !slices.Contains(base[:], i) {
			cost += sign * moveCost
		}
	}
	return cost
}

// try swaps the owners of two tokens and takes that back unless it is better. Only
// walks that pass one of the two are affected; they begin in a row before it, for
// a walk never ends before one that begins earlier.
func (s *search) try(a *assignment, i, j int32) bool {
	s.undo = s.undo[:0]
	s.generation++
	mark, mask := s.generation, int32(len(a.own)-1)
	delta := int64(0)
	for _, t := range [2]int32{i, j} {
		for d := range int32(s.limit) {
			p := (t - d) & mask
			if s.end[p] < d {
				break
			}
			if s.touched[p] == mark {
				continue
			}
			s.touched[p] = mark
			s.undo = append(s.undo, undo{p, s.top[p], s.end[p]})
			delta += s.add(p, -1)
		}
	}
	a.own[i], a.own[j] = a.own[j], a.own[i]
	for _, u := range s.undo {
		s.walk(a, u.p)
		delta += s.add(u.p, 1)
	}
	if delta < 0 {
		return true
	}
	a.own[i], a.own[j] = a.own[j], a.own[i]
	for _, u := range s.undo {
		s.add(u.p, -1)
	}
	for _, u := range s.undo {
		s.top[u.p], s.end[u.p] = u.top, u.end
		s.add(u.p, 1)
	}
	return false
}
