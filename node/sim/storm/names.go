package storm

import (
	"time"

	"dynamo/node/sim/plan"
)

// The words of package plan that everybody who runs storms needs.
type (
	Plan      = plan.Plan
	FaultKind = plan.Kind
)

// Draw makes the plan of a seed: see plan.Draw.
func Draw(seed uint64, nodes int, length time.Duration) Plan { return plan.Draw(seed, nodes, length) }

// DrawOf is Draw with faults of some kinds only: see plan.DrawOf.
func DrawOf(seed uint64, nodes int, length time.Duration, only []FaultKind) Plan {
	return plan.DrawOf(seed, nodes, length, only)
}

// Shrink looks for a smaller plan that is still broken: see plan.Shrink.
func Shrink(p Plan, broken func(Plan) bool, tries int) Plan { return plan.Shrink(p, broken, tries) }
