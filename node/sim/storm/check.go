package storm

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"dynamo/node/conflict"
	"dynamo/node/coordinator"
	"dynamo/node/sim/admin"
	"dynamo/node/sim/history"
	"dynamo/node/store"
)

func (r *run) rule(keyspace string) history.Rule {
	if keyspace == newest && r.plan.Skewed() {
		return history.Written
	}
	return r.workload(keyspace).rule
}

// check ends all faults and compares the end with the histories.
func (r *run) check(ctx context.Context) error {
	if err := r.awaitLeavers(ctx); err != nil {
		return err
	}
	r.note("all faults end")
	if err := r.becomeWhole(ctx); err != nil {
		return err
	}
	if err := r.mend(ctx); err != nil {
		return err
	}
	if r.dropped.begun > 0 {
		r.replace(ctx, rand.New(rand.NewPCG(r.plan.Seed, 1)), 0)
	}
	// Requests of the clients may still be under way; none lasts longer.
	if err := r.until(ctx, r.since()+r.limits.MaxTimeout); err != nil {
		return err
	}
	if err := r.becomeWhole(ctx); err != nil {
		return err
	}
	r.watcher.end()
	r.watcher.look()
	if why := r.watcher.leftovers(); why != "" {
		r.violation("what is dropped is gone", fleeting, "%s", why)
	}
	before := r.checkKeys(ctx)
	if r.settles() {
		if err := r.settle(ctx); err != nil {
			return err
		}
		after := r.checkKeys(ctx)
		for _, k := range r.book.names() {
			if before[k] != after[k] {
				r.violation("settling changes no value", k.String(), "reads showed %s before and show %s", before[k].shown, after[k].shown)
			}
		}
	}
	if !r.plan.Skewed() { // tokens expire at once where clocks are far apart
		r.checkGuards(ctx)
	}
	r.stories(ctx)
	return ctx.Err()
}

// view is what all reads of a key show.
type view struct {
	shown string
	found bool
}

// checkKeys looks at all keys; one that cannot be read is not among the views.
func (r *run) checkKeys(ctx context.Context) map[name]view {
	views := map[name]view{}
	for _, k := range r.book.names() {
		v, err := r.checkKey(ctx, k)
		if err != nil {
			r.violation("reads succeed when nothing is wrong", k.String(), "%v", err)
			continue
		}
		views[k] = v
	}
	r.checkLists(ctx, views)
	r.checkSamples(ctx)
	return views
}

// maxStories bounds a report.
const maxStories = 5

// stories tells of the first keys that something is wrong with.
func (r *run) stories(ctx context.Context) {
	told := map[string]bool{}
	for i := range r.report.Violations {
		v := &r.report.Violations[i]
		if keyspace, key, ok := strings.Cut(v.Key, "/"); ok && !told[v.Key] && len(told) < maxStories {
			told[v.Key] = true
			v.Story = r.story(ctx, name{keyspace, key})
		}
	}
}

// checkKey looks at a key through each of its replicas alone, and at a quorum.
func (r *run) checkKey(ctx context.Context, k name) (out view, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	ids := r.ids()
	e, err := r.explain(ctx, k)
	if err != nil {
		return out, err
	}
	r.compare(k, e)
	operations := r.judged(k)
	type way struct {
		node string
		r    coordinator.Quorum
	}
	ways := []way{{ids[len(operations)%len(ids)], 0}}
	for _, c := range e.Replicas {
		if c.HintFor == "" {
			ways = append(ways, way{c.Node, 1})
		}
	}
	if k.keyspace == user {
		for _, id := range ids {
			ways = append(ways, way{id, 0})
		}
	}
	for i, v := range ways {
		a, err := r.ask(ctx, k, v.node, v.r)
		if err != nil {
			return out, err
		}
		now := view{shown(a), a.Found()}
		if i > 0 && out != now {
			r.violation("all nodes show the same", k.String(), "%s shows %s, another showed %s", v.node, now.shown, out.shown)
		}
		out = now
		final := r.read(k, a)
		if r.workload(k.keyspace).resolver != "" && k.keyspace != user && len(a.Siblings) > 0 {
			r.violation("clients never see a conflict", k.String(), "%s shows %d siblings: %s", v.node, len(a.Siblings), a.ResolverError)
		}
		if k.keyspace == user && i == 0 {
			if err := r.checkMerge(ctx, k, a, v.node, ids[(len(operations)+1)%len(ids)]); err != nil {
				return out, err
			}
		}
		verdict, wrong := history.Judge(r.rule(k.keyspace), operations, final)
		for _, w := range wrong {
			r.violation(history.Promise(w), k.String(), "%s: %s", v.node, w)
		}
		r.verified(k, len(verdict.Required))
	}
	return out, nil
}

// explain asks every node what it holds. One that meets a bad block mends what was in it, for who asks again.
func (r *run) explain(ctx context.Context, k name) (coordinator.Explanation, error) {
	began := r.since()
	for {
		e, err := r.c.Node(r.ids()[0]).Requests().Explain(ctx, k.keyspace, []byte(k.key))
		bad := func(c coordinator.ExplainReplica) bool { return strings.Contains(c.Error, store.ErrCorrupt.Error()) }
		if err != nil || !slices.ContainsFunc(e.Replicas, bad) || r.since()-began > mendPatience || !admin.Wait(ctx, time.Second) {
			return e, err
		}
	}
}

func (r *run) verified(k name, n int) {
	w := r.report.Workloads[k.keyspace]
	w.Verified += n
	r.report.Workloads[k.keyspace] = w
}

// mendPatience is how long a node may take to mend a record in a table that is damaged.
const mendPatience = 15 * time.Second

// resolverPatience is how long a node may take to fetch a resolver that it does not have.
const resolverPatience = 30 * time.Second

// ask reads a key through a node. One that was wiped fetches a resolver when a reader first needs it, and shows the siblings
// to that one; it may not do so for long.
func (r *run) ask(ctx context.Context, k name, id string, quorum coordinator.Quorum) (coordinator.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, resolverPatience)
	defer cancel()
	for {
		a, err := r.c.Node(id).Requests().Get(ctx, coordinator.ReadRequest{
			Keyspace: k.keyspace, Key: []byte(k.key), Options: coordinator.Options{R: quorum},
		})
		if err != nil {
			return a, fmt.Errorf("read via %s: %w", id, err)
		}
		if a.ResolverError != conflict.CodePending || !admin.Wait(ctx, 200*time.Millisecond) {
			return a, nil
		}
	}
}

// checkLists asks that listings show the keys that reads show. A listing is made in pages of a few keys.
func (r *run) checkLists(ctx context.Context, views map[name]view) {
	for i, w := range r.workloads {
		at := r.ids()[i%len(r.ids())]
		listed, err := r.list(ctx, at, w.keyspace)
		if err != nil {
			r.violation("reads succeed when nothing is wrong", w.keyspace, "a listing via %s: %v", at, err)
			continue
		}
		for _, k := range r.book.names() {
			if k.keyspace != w.keyspace {
				continue
			}
			if v, ok := views[k]; ok && v.found != listed[k.key] {
				r.violation("listings show what reads show", k.String(), "via %s: listed %t, found %t", at, listed[k.key], v.found)
			}
			delete(listed, k.key)
		}
		for key := range listed {
			r.violation("listings show what reads show", name{w.keyspace, key}.String(), "via %s: nobody wrote it", at)
		}
	}
}

func (r *run) list(ctx context.Context, id, keyspace string) (map[string]bool, error) {
	out := map[string]bool{}
	q := coordinator.ListRequest{Keyspace: keyspace, Limit: 23}
	for {
		page, err := r.c.Node(id).Requests().List(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, e := range page.Entries {
			if out[string(e.Key)] {
				return nil, fmt.Errorf("%q is listed twice", e.Key)
			}
			out[string(e.Key)] = true
		}
		if q.After = page.Next; page.Next == nil {
			return out, nil
		}
	}
}

// compare asks that the primaries hold the same, in bytes, and that equal dots stand for equal bytes.
func (r *run) compare(k name, e coordinator.Explanation) {
	versions := map[string]string{}
	for i, c := range e.Replicas {
		switch {
		case c.Error != "":
			r.violation("reads succeed when nothing is wrong", k.String(), "%s: %s", c.Node, c.Error)
			continue
		case c.HintFor != "":
			r.violation("hints are delivered", k.String(), "%s still keeps a hint for %s", c.Node, c.HintFor)
			continue
		}
		if first := e.Replicas[0]; i > 0 && content(c) != content(first) {
			r.violation("replicas become equal", k.String(), "%s holds %s, %s holds %s", first.Node, content(first), c.Node, content(c))
		}
		for _, v := range c.Versions {
			id, bytes := fmt.Sprint(v.Dots), fmt.Sprint(v.SHA256, v.Deleted, v.ContentType)
			if was, ok := versions[id]; ok && was != bytes {
				r.violation("a dot stands for one value", k.String(), "%s is %s and %s", id, was, bytes)
			}
			versions[id] = bytes
		}
	}
}

func content(c coordinator.ExplainReplica) string {
	b, err := json.Marshal([]any{c.Context, c.Versions})
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// story tells all that is known of a key, with what went wrong meanwhile.
func (r *run) story(ctx context.Context, k name) []string {
	lines := slices.Clone(r.log.steps)
	for _, o := range r.book.history(k) {
		lines = append(lines, o.String())
	}
	lines = append(lines, r.watcher.of(k)...)
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(a[:min(9, len(a))], b[:min(9, len(b))]) })
	e, err := r.explain(ctx, k)
	if err != nil {
		return append(lines, "explain: "+err.Error())
	}
	for _, c := range e.Replicas {
		lines = append(lines, fmt.Sprintf("in the end %s %s holds %s", c.Role, c.Node, content(c)))
	}
	return lines
}
