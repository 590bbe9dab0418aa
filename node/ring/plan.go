package ring

import "slices"

// Move is one replica of a partition that goes to a new holder.
type Move struct {
	Partition Partition
	// From is the member that gives its replica up for this one. Where none is
	// left to do so, because there were fewer than n members, it is the owner by
	// the old ring, as the one to copy from; whether that one keeps its own
	// replica, the new ring says.
	From string
	To   string
}

// Plan is what has to be copied between two rings, in order of partitions.
type Plan struct {
	Moves []Move
}

// Diff plans the way from one ring to another with n replicas of each partition:
// one move for each member that is among the first n of a partition in the new
// ring and was not in the old. A replica that is given up without a successor
// (there are now fewer than n members) is no move. It panics when the rings differ
// in Q, which is fixed at the birth of a cluster.
func Diff(old, new *Ring, n int) Plan {
	if old.Q() != new.Q() {
		panic("ring: Diff of rings with different Q")
	}
	var plan Plan
	for p := range Partition(old.Q()) {
		before, after := first(old.PreferenceList(p), n), first(new.PreferenceList(p), n)
		givers := 0 // before[:givers] are dealt with
		for _, to := range after {
			if slices.Contains(before, to) {
				continue
			}
			for givers < len(before) && slices.Contains(after, before[givers]) {
				givers++
			}
			from := old.Owner(p)
			if givers < len(before) {
				from = before[givers]
				givers++
			}
			plan.Moves = append(plan.Moves, Move{Partition: p, From: from, To: to})
		}
	}
	return plan
}

func first(list []string, n int) []string {
	return list[:max(0, min(n, len(list)))]
}
