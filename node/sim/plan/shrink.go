package plan

import "slices"

// Shrink looks for a smaller plan that is still broken, by leaving faults out, half of them at first, and then clients
// and time. It asks broken at most tries times, and always in the same order.
func Shrink(p Plan, broken func(Plan) bool, tries int) Plan {
	still := func(q Plan) bool {
		if tries <= 0 {
			return false
		}
		tries--
		if !broken(q) {
			return false
		}
		p = q
		return true
	}
	for size := (len(p.Faults) + 1) / 2; size > 0 && len(p.Faults) > 0; size /= 2 {
		for from := 0; from < len(p.Faults); {
			q := p
			q.Faults = slices.Delete(slices.Clone(p.Faults), from, min(from+size, len(p.Faults)))
			if !still(q) {
				from += size
			}
		}
	}
	for p.Clients > 1 {
		q := p
		q.Clients--
		if !still(q) {
			break
		}
	}
	for p.Length > minimalLength {
		q := p
		q.Length = max(p.Length/2, minimalLength)
		q.Faults = slices.DeleteFunc(slices.Clone(p.Faults), func(f Fault) bool { return f.At >= q.Length })
		if !still(q) {
			break
		}
	}
	return p
}

// minimalLength is the shortest run that Shrink tries.
const minimalLength = 1e9 // 1 s in nanoseconds
