package node

import (
	"context"
	"time"

	"dynamo/node/cluster"
	"dynamo/node/coordinator"
	"dynamo/node/ring"
	"dynamo/node/store"
	"dynamo/resolver"
	"dynamo/resolver/laws"
)

// lawRounds bounds a check whose merges are fast; slow ones end by time.
const lawRounds = 40

// birthBudget and birthRounds bound the check of a resolver that the cluster file names: the node is not ready
// before that, and all nodes do it.
const (
	birthBudget = time.Second
	birthRounds = 8
)

// liveSamples bounds how many values of the keyspace a law check takes from this node's disk.
const liveSamples = 64

// checkLaws tests a resolver on the conflicts that this node holds of the keyspace, key by key and as they are, then
// on the samples that it carries together with values of the keyspace, and on mutations of those.
func (n *Node) checkLaws(ctx context.Context, ks cluster.Keyspace, m *resolver.Module, module []byte) coordinator.ResolverCheck {
	samples, err := laws.Samples(module)
	if err != nil {
		return coordinator.ResolverCheck{Outcome: string(laws.Untested), Detail: err.Error()}
	}
	o := laws.Options{Rounds: lawRounds, Budget: laws.DefaultBudget - watchBudget, ContentTypes: make([]string, len(samples))}
	if !n.isReady() {
		o.Budget, o.Rounds = birthBudget, birthRounds
	}
	if n.o.LawRounds > 0 {
		o.Rounds = n.o.LawRounds
	}
	live, types := n.liveValues(ks)
	samples, o.ContentTypes = append(samples, live...), append(o.ContentTypes, types...)
	r := n.checkConflicts(ctx, ks, m, n.liveConflicts(n.state.View(), ks))
	if r.Outcome != laws.Unlawful {
		r = laws.CheckModule(ctx, m, ks.Name, nil, ks.MaxValueBytes, samples, o).And(r)
	}
	n.certify(m.SHA256(), r, false)
	return lawAnswer(r)
}

// lawAnswer is what an upload says of a check.
func lawAnswer(r laws.Report) coordinator.ResolverCheck {
	out := coordinator.ResolverCheck{Outcome: string(r.Outcome), Tested: r.Tested, Failed: r.Failed, Evidence: len(r.Evidence)}
	switch r.Outcome {
	case laws.Unlawful:
		v := r.Violation
		out.Detail = v.String()
		out.Law, out.Equation, out.Inputs, out.Outputs, out.Loss = v.Law, v.Text, v.Inputs, v.Outputs[:], v.Loss
		out.OutputTypes = v.OutputTypes
	case laws.Untested:
		if out.Detail = r.Summary(); r.Samples < 2 {
			out.Detail = "neither the module nor the keyspace holds two different values to test with"
		}
	default:
		out.Detail = r.Summary()
	}
	return out
}

// liveValues returns some values of a keyspace that this node holds, with their content types.
func (n *Node) liveValues(ks cluster.Keyspace) (out [][]byte, types []string) {
	for p := range n.state.View().Ring.Q() {
		err := n.store.Scan(ring.Partition(p), ks.ID(), nil, nil, func(_ []byte, r store.Record) bool {
			for _, v := range r.Object.Versions {
				if !v.Deleted {
					out, types = append(out, v.Bytes), append(types, v.ContentType)
				}
			}
			return len(out) < liveSamples
		})
		if err != nil {
			n.log.Warn("values for the law check cannot be read", "keyspace", ks.Name, "err", err)
		}
		if len(out) >= liveSamples {
			return out[:liveSamples], types[:liveSamples]
		}
	}
	return out, types
}
