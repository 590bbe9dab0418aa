package storm

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"dynamo/node/causal"
	"dynamo/node/cluster"
	"dynamo/node/record"
)

// settles says whether the run goes on until all is forgotten that may be.
func (r *run) settles() bool { return r.plan.Seed%3 == 0 }

// settlePatience is how long the settle rounds may take once every key has been quiet for long enough.
const settlePatience = 45 * time.Second

// settle waits, with the cluster whole and nobody writing, until the settle rounds have forgotten what they may: then no
// tombstones are left, no siblings that a lawful resolver merges, and no actors in contexts that write no more.
func (r *run) settle(ctx context.Context) error {
	before := r.answers(ctx)
	began, why := r.since(), ""
	for r.since()-began < settleAfter+settlePatience+r.plan.Skew() {
		if err := r.until(ctx, r.since()+time.Second); err != nil {
			return err
		}
		r.watcher.look()
		if why = r.watcher.unsettled(); why == "" {
			r.note("settled after %v", r.since()-began)
			break
		}
	}
	if why != "" {
		r.violation("what may be forgotten is forgotten", "", "not after %v of quiet: %s", r.since()-began, why)
	}
	if err := r.becomeWhole(ctx); err != nil {
		return err
	}
	r.report.Watched.Settled++
	after := r.answers(ctx)
	for _, k := range r.book.names() {
		if before[k] != after[k] {
			r.violation("settling changes no value", k.String(), "reads showed %s before and show %s", before[k], after[k])
		}
	}
	return nil
}

// answers reads all keys once.
func (r *run) answers(ctx context.Context) map[name]string {
	out := map[name]string{}
	for i, k := range r.book.names() {
		a, err := r.ask(ctx, k, r.ids()[i%len(r.ids())], 0)
		if err != nil {
			r.violation("reads succeed when nothing is wrong", k.String(), "%v", err)
		}
		out[k] = shown(a)
	}
	return out
}

// unsettled says what is still there that should be forgotten.
func (w *watcher) unsettled() string {
	own := map[keyID][]causal.Actor{}
	for _, n := range w.nodes {
		for tree, copies := range n.held {
			for key, h := range copies {
				own[keyID{tree.Keyspace, key}] = append(own[keyID{tree.Keyspace, key}], h.own)
			}
		}
	}
	for _, id := range w.ids() {
		for tree, copies := range w.nodes[id].held {
			for _, key := range slices.Sorted(maps.Keys(copies)) {
				k := keyID{tree.Keyspace, key}
				if why := w.unsettledCopy(k, copies[key].object, own[k]); why != "" {
					return fmt.Sprintf("%s %s holds %s", w.name(k), id, why)
				}
			}
		}
	}
	return ""
}

func (w *watcher) unsettledCopy(k keyID, o causal.Object, own []causal.Actor) string {
	at := w.workload(w.name(k).keyspace)
	if !o.IsZero() && deleted(o) {
		return "a tombstone"
	}
	if at.resolver != "" && at.keyspace != user && len(o.Versions) > 1 {
		return fmt.Sprintf("%d siblings", len(o.Versions))
	}
	if pruned := o.Prune(own); len(o.Context) > record.CrowdedActors && len(pruned.Context) < len(o.Context) {
		return fmt.Sprintf("a context of %d, of which %d would do", len(o.Context), len(pruned.Context))
	}
	return ""
}

// leftovers looks for copies and hints of a keyspace that was dropped.
func (w *watcher) leftovers() string {
	if w.dropped.begun == 0 {
		return ""
	}
	old := cluster.KeyspaceID(fleeting, 1)
	for _, id := range w.ids() {
		n := w.c.Node(id)
		if n == nil {
			continue
		}
		for _, tree := range n.Disk().Trees() {
			if root, _ := n.Disk().TreeRoot(tree); tree.Keyspace == old && root.Count > 0 {
				return fmt.Sprintf("%s holds %d copies of the keyspace that was dropped", id, root.Count)
			}
		}
	}
	return ""
}
