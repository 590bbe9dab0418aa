package storm

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"dynamo/node/coordinator"
	"dynamo/node/sim/history"
)

func (r *run) rule(keyspace string) history.Rule {
	if keyspace == newest && r.plan.Skewed() {
		return history.Written
	}
	return map[string]history.Rule{sets: history.Union, plain: history.Siblings, newest: history.Newest}[keyspace]
}

// check ends all faults and compares the end with the histories.
func (r *run) check(ctx context.Context) error {
	r.note("all faults end")
	if err := r.becomeWhole(ctx); err != nil {
		return err
	}
	for _, k := range r.book.names() {
		before := len(r.report.Violations)
		if err := r.checkKey(ctx, k); err != nil {
			r.violation("reads succeed when nothing is wrong", k.String(), "%v", err)
		}
		if len(r.report.Violations) > before {
			r.report.Violations[len(r.report.Violations)-1].Story = r.story(ctx, k)
		}
	}
	return ctx.Err()
}

// checkKey looks at a key through each of its replicas alone, and at a quorum.
func (r *run) checkKey(ctx context.Context, k name) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ids := r.ids()
	e, err := r.c.Node(ids[0]).Requests().Explain(ctx, k.keyspace, []byte(k.key))
	if err != nil {
		return err
	}
	r.compare(k, e)
	operations := r.book.history(k)
	type view struct {
		node string
		r    coordinator.Quorum
	}
	views := []view{{ids[len(operations)%len(ids)], 0}}
	for _, c := range e.Replicas {
		if c.HintFor == "" {
			views = append(views, view{c.Node, 1})
		}
	}
	for _, v := range views {
		a, err := r.c.Node(v.node).Requests().Get(ctx, coordinator.ReadRequest{
			Keyspace: k.keyspace, Key: []byte(k.key), Options: coordinator.Options{R: v.r},
		})
		if err != nil {
			return fmt.Errorf("read via %s: %w", v.node, err)
		}
		final, err := valuesOf(k.keyspace, a)
		if err != nil {
			return err
		}
		if k.keyspace == sets && len(a.Siblings) > 0 {
			r.violation("clients never see a conflict", k.String(), "%s shows %d siblings: %s", v.node, len(a.Siblings), a.ResolverError)
		}
		verdict, wrong := history.Judge(r.rule(k.keyspace), operations, final)
		for _, w := range wrong {
			r.violation(promise(w), k.String(), "%s: %s", v.node, w)
		}
		r.report.Verified += len(verdict.Required)
	}
	return nil
}

// promise names what a finding of the judge breaks.
func promise(finding string) string {
	switch {
	case strings.HasPrefix(finding, "acknowledged"):
		return "acknowledged writes are not lost"
	case strings.Contains(finding, "came back"):
		return "what a context covered does not come back"
	}
	return "reads show what was written"
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
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(a[:min(9, len(a))], b[:min(9, len(b))]) })
	e, err := r.c.Node(r.ids()[0]).Requests().Explain(ctx, k.keyspace, []byte(k.key))
	if err != nil {
		return append(lines, "explain: "+err.Error())
	}
	for _, c := range e.Replicas {
		lines = append(lines, fmt.Sprintf("in the end %s %s holds %s", c.Role, c.Node, content(c)))
	}
	return lines
}
