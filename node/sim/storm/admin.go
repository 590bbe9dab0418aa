package storm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"dynamo/node"
	"dynamo/node/coordinator"
	"dynamo/node/sim/admin"
	"dynamo/node/sim/history"
)

// drop is when the keyspace fleeting was dropped and created again, since the start of the run.
type drop struct {
	// begun is when the administrator asked for it, 0 if he did not.
	begun time.Duration
	// known is when every node had the new one, 0 if that is not known.
	known time.Duration
}

func (r *run) has(keyspace string) bool {
	return slices.ContainsFunc(r.workloads, func(w workload) bool { return w.keyspace == keyspace })
}

// create makes the keyspace fleeting at a node.
func (r *run) create(ctx context.Context, n *node.Node) error {
	conflict, copies := "siblings", min(3, r.plan.Nodes)
	quorum := min(2, copies)
	_, _, err := n.Keyspaces().PutKeyspace(ctx, fleeting, coordinator.KeyspaceChange{N: &copies, R: &quorum, W: &quorum, Conflict: &conflict})
	return err
}

// anyone returns a node that runs.
func (r *run) anyone() *node.Node {
	for _, id := range r.ids() {
		if n := r.c.Node(id); n != nil {
			return n
		}
	}
	return nil
}

// prepare makes what the cluster file does not name.
func (r *run) prepare(ctx context.Context) error {
	if !r.has(fleeting) {
		return nil
	}
	if err := r.create(ctx, r.anyone()); err != nil {
		return err
	}
	for range 600 {
		if r.allKnow(1, true) {
			return nil
		}
		if !admin.Wait(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
	return errors.New("storm: a new keyspace does not become known in a minute without faults")
}

// administer drops the keyspace fleeting in the middle of the run and creates it again, whatever else goes on.
func (r *run) administer(ctx context.Context, wg *sync.WaitGroup) {
	if !r.has(fleeting) {
		return
	}
	rng := rand.New(rand.NewPCG(r.plan.Seed, 0x61646d69))
	at := time.Duration((0.2 + 0.6*rng.Float64()) * float64(r.plan.Length))
	pause := time.Duration(rng.IntN(2)) * time.Duration(rng.IntN(1500)) * time.Millisecond
	wg.Go(func() {
		if !admin.Wait(ctx, at) {
			return
		}
		r.dropped.begun = r.since()
		r.replace(ctx, rng, pause)
	})
}

// replace goes on with a replacement that was begun until all nodes know of it or ctx ends.
func (r *run) replace(ctx context.Context, rng *rand.Rand, pause time.Duration) {
	for r.dropped.known == 0 {
		ids := r.ids()
		if n := r.c.Node(ids[rng.IntN(len(ids))]); n != nil && isReady(n) {
			r.replaceAt(ctx, n, pause)
		}
		if r.allKnow(2, false) {
			r.dropped.known = r.since()
			r.note("all nodes know the second %s", fleeting)
		}
		if !admin.Wait(ctx, 100*time.Millisecond) {
			return
		}
	}
}

// replaceAt does the next step at a node, by what that node knows.
func (r *run) replaceAt(ctx context.Context, n *node.Node, pause time.Duration) {
	now, err := n.Keyspaces().Keyspace(fleeting)
	switch {
	case err == nil && now.Generation > 1:
		return
	case err == nil:
		r.note("drop %s: %v", fleeting, n.DropKeyspace(ctx, fleeting))
		if pause == 0 {
			r.note("create %s: %v", fleeting, r.create(ctx, n))
		}
		admin.Wait(ctx, pause)
	default:
		r.note("create %s: %v", fleeting, r.create(ctx, n))
	}
}

func isReady(n *node.Node) bool {
	select {
	case <-n.Ready():
		return true
	default:
		return false
	}
}

// allKnow says whether all nodes run, or some do not matter, and have that generation of the keyspace fleeting.
func (r *run) allKnow(generation uint64, some bool) bool {
	for _, id := range r.ids() {
		n := r.c.Node(id)
		if n == nil && some {
			continue
		}
		if n == nil {
			return false
		}
		if k, err := n.Keyspaces().Keyspace(fleeting); err != nil || k.Generation != generation {
			return false
		}
	}
	return true
}

// judged is the history of a key as it is to be judged. What was written before its keyspace was dropped must be gone.
// Until all nodes knew the new one, a node may have acknowledged what is gone since, and nobody knows of which
// keyspace a read was.
func (r *run) judged(k name) []history.Operation {
	all := r.book.history(k)
	if k.keyspace != fleeting || r.dropped.begun == 0 {
		return all
	}
	var out []history.Operation
	for _, o := range all {
		before, unclear := o.At+o.Took < r.dropped.begun, r.dropped.known == 0 || o.At < r.dropped.known
		switch {
		case o.Kind == history.Get && (before || unclear):
			continue
		case before:
			o.Outcome, o.Answer = history.Refused, fmt.Sprintf("%s, and its keyspace was dropped", o.Answer)
		case unclear && o.Outcome == history.Acked:
			o.Outcome = history.Unknown
		}
		out = append(out, o)
	}
	return out
}
