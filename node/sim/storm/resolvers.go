package storm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"dynamo/node"
	"dynamo/node/coordinator"
	"dynamo/node/sim/admin"
	"dynamo/node/sim/plan"
	"dynamo/node/sim/rigged"
)

// binder is what is known of the administrators who change resolvers while the run goes on. It belongs to the goroutine
// of Run; they work on their own until their context ends.
type binder struct {
	wg  *sync.WaitGroup
	ctx context.Context
	// broken are the keyspaces that had, or may have, a version that fails or breaks the laws.
	broken map[string]bool
}

func newBinder(ctx context.Context, wg *sync.WaitGroup) binder {
	return binder{wg: wg, ctx: ctx, broken: map[string]bool{}}
}

// mending numbers versions that end a fault, and those that end the run; the others have the number of their fault.
const (
	mending = 100
	ending  = 200
)

// rebind has an administrator change a resolver, as a fault says.
func (r *run) rebind(i int) {
	f, a := r.plan.Faults[i], r.administrator(i)
	r.resolvers.wg.Go(func() {
		switch f.Kind {
		case plan.Unlawful:
			a.BindUnlawful(r.resolvers.ctx)
		case plan.Failing:
			a.BindFailing(r.resolvers.ctx, f.Percent)
		default:
			a.Upgrade(r.resolvers.ctx, f.Percent)
		}
	})
	if f.Kind != plan.Upgrade {
		r.resolvers.broken[a.Keyspace] = true
	}
}

// mendLater has an administrator bind a sound version again.
func (r *run) mendLater(i int) {
	a := r.administrator(i)
	a.Number += mending
	r.resolvers.wg.Go(func() { a.Mend(r.resolvers.ctx) })
}

// administrator is the one who changes a resolver for a fault.
func (r *run) administrator(i int) *admin.Admin {
	f := r.plan.Faults[i]
	var of []workload
	for _, w := range r.workloads {
		if w.resolver != "" && w.keyspace != user && (f.Kind == plan.Unlawful) == (w.keyspace == lawless) {
			of = append(of, w)
		}
	}
	w := of[f.Percent%len(of)]
	module, _ := r.o.Builtins(w.resolver)
	rng := rand.New(rand.NewPCG(r.plan.Seed, 0x72657300+uint64(i)))
	return &admin.Admin{
		Keyspace: w.keyspace, Module: module, Number: i, Rand: rng, Note: r.note,
		Violation: func(promise, detail string) { r.violation(promise, w.keyspace, "%s", detail) },
		Node: func() *node.Node {
			ids := r.ids()
			if n := r.c.Node(ids[rng.IntN(len(ids))]); n != nil && isReady(n) {
				return n
			}
			return nil
		},
	}
}

// mend binds sound versions where others were, now that nothing else is wrong, and waits until all nodes have them.
func (r *run) mend(ctx context.Context) error {
	for i, w := range r.workloads {
		if !r.resolvers.broken[w.keyspace] {
			continue
		}
		module, _ := r.o.Builtins(w.resolver)
		u := coordinator.Upload{Module: rigged.Version(module, ending+i), Check: coordinator.CheckStrict}
		up, err := r.c.Node(r.ids()[i%len(r.ids())]).Resolvers().Upload(ctx, w.keyspace, u)
		r.note("%s gets a sound version in the end: %v", w.keyspace, err)
		why := fmt.Sprint(err)
		for until := r.since() + resolverPatience; err == nil && why != "" && r.since() < until; {
			if err := r.until(ctx, r.since()+100*time.Millisecond); err != nil {
				return err
			}
			why = r.unbound(w.keyspace, up.SHA256)
		}
		if why != "" {
			r.violation("a sound resolver takes over", w.keyspace, "%s", why)
		}
	}
	return nil
}

// unbound says which node does not merge by a version yet.
func (r *run) unbound(keyspace, sha string) string {
	for _, id := range r.ids() {
		n := r.c.Node(id)
		if n == nil {
			return id + " is down"
		}
		st, err := n.Resolvers().Status(keyspace)
		switch {
		case err != nil:
			return fmt.Sprintf("%s: %v", id, err)
		case st.Active == nil || st.Active.SHA256 != sha:
			return fmt.Sprintf("%s has another active version: %+v", id, slices.Clone(st.History))
		case !st.Loaded || st.Quarantine != nil:
			return fmt.Sprintf("%s does not call it: loaded %t, %+v", id, st.Loaded, st.Quarantine)
		}
	}
	return ""
}
