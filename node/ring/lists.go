package ring

// preferenceLists computes the lists of all partitions: for each, where it begins
// in the names. Equal lists share their place.
//
// The rounds of the walk have a closed form. Sort the nodes by where the walk
// first meets them and number those of each zone 0, 1, ...: round r takes the
// nodes numbered r, in the order met. And the order met from p is the order met
// from p+1 with the owner of p moved to the front. So one pass backwards over the
// ring, in time proportional to Q and the number of members, gives all lists.
func preferenceLists(own []int32, record []Member, zone []int32, live int) (list []uint32, names []string) {
	order := firstMet(own, len(record), live)
	list = make([]uint32, len(own))
	known := make(map[string]uint32) // lists met before, as bytes
	var members []int32              // all lists, one after the other
	ranks := newRanking(len(record), live)
	key := make([]byte, 0, 4*live)
	for p := len(own) - 1; p >= 0; p-- {
		moveToFront(order, own[p])
		key = key[:0]
		sorted := ranks.sort(order, zone)
		for _, i := range sorted {
			key = append(key, byte(i>>24), byte(i>>16), byte(i>>8), byte(i))
		}
		at, ok := known[string(key)]
		if !ok {
			at = uint32(len(members))
			known[string(key)] = at
			members = append(members, sorted...)
		}
		list[p] = at
	}
	names = make([]string, len(members))
	for at, i := range members {
		names[at] = record[i].ID
	}
	return list, names
}

// firstMet is the order in which a walk from the first partition meets the owners.
func firstMet(own []int32, members, live int) []int32 {
	order := make([]int32, 0, live)
	met := make([]bool, members)
	for _, o := range own {
		if !met[o] {
			met[o] = true
			order = append(order, o)
		}
	}
	return order
}

func moveToFront(order []int32, o int32) {
	previous := o
	for i, x := range order {
		order[i] = previous
		if x == o {
			return
		}
		previous = x
	}
}

// ranking sorts nodes by their number within their zone, stably, by counting.
type ranking struct {
	inZone []int32 // per zone: nodes met so far
	rank   []int32 // per position in the order
	start  []int32 // per rank: where its nodes begin
	out    []int32
}

func newRanking(zones, live int) *ranking {
	return &ranking{
		inZone: make([]int32, zones),
		rank:   make([]int32, live),
		start:  make([]int32, live+1),
		out:    make([]int32, live),
	}
}

func (r *ranking) sort(order, zone []int32) []int32 {
	clear(r.inZone)
	clear(r.start)
	for at, i := range order {
		rank := r.inZone[zone[i]]
		r.inZone[zone[i]]++
		r.rank[at] = rank
		r.start[rank+1]++
	}
	for i := 1; i < len(r.start); i++ {
		r.start[i] += r.start[i-1]
	}
	for at, i := range order {
		rank := r.rank[at]
		r.out[r.start[rank]] = i
		r.start[rank]++
	}
	return r.out
}
