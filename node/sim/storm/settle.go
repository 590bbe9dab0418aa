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
	began, k, why := r.since(), name{}, ""
	for r.since()-began < settleAfter+settlePatience+r.plan.Skew() {
		if err := r.until(ctx, r.since()+time.Second); err != nil {
			return err
		}
		r.watcher.look()
		if k, why = r.watcher.unsettled(); why == "" {
			r.note("settled after %v", r.since()-began)
			break
		}
	}
	if why != "" {
		r.violation("what may be forgotten is forgotten", k.String(), "not after %v of quiet: %s", r.since()-began, why)
	}
	if err := r.becomeWhole(ctx); err != nil {
		return err
	}
	r.report.Watched.Settled++
	return nil
}

// unsettled says what is still there that should be forgotten.
func (w *watcher) unsettled() (name, string) {
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
					return w.name(k), id + " holds " + why
				}
			}
		}
	}
	return name{}, ""
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
