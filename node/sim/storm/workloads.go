package storm

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"dynamo/node/config"
	"dynamo/node/coordinator"
	"dynamo/node/sim/history"
	"dynamo/node/sim/plan"
)

// The keyspaces of runs.
const (
	sets     = "sets"     // unions of elements through a resolver
	plain    = "plain"    // siblings, deletes with contexts, guards, large values
	newest   = "newest"   // last write wins
	carts    = "carts"    // the greatest count of each SKU, through a resolver
	counters = "counters" // sums of what each client counted, through a resolver
	tagged   = "tagged"   // sets that can remove, through a resolver
	fleeting = "fleeting" // like plain, dropped and created again in the middle
	user     = "user"     // whatever a user's resolver makes of its samples
	lawless  = "lawless"  // like sets, with a resolver that loses elements for a time
)

// workload is one way of using the store: a keyspace, what clients do with it and how it is judged.
type workload struct {
	keyspace string
	policy   config.Policy
	resolver string
	rule     history.Rule
	// values reads a stored value as its history means it.
	values func(body []byte) ([]string, error)
	turn   func(c *client, ctx context.Context)
}

// drawWorkloads draws those of a run. Resolvers are its costly part, so most runs have one of the ready-made, none more
// than two.
func (r *run) drawWorkloads() []workload {
	rng := rand.New(rand.NewPCG(r.plan.Seed, 0x776f726b))
	out := []workload{
		{plain, config.PolicySiblings, "", history.Siblings, padded, func(c *client, ctx context.Context) { c.workPlain(ctx, plain) }},
		{newest, config.PolicyLWW, "", history.Newest, padded, (*client).overwrite},
	}
	merged := []workload{
		{sets, config.PolicyResolver, "set-union", history.Union, elements, func(c *client, ctx context.Context) { c.addElement(ctx, sets) }},
		{carts, config.PolicyResolver, "cart", history.Siblings, cartWrites, (*client).shop},
		{counters, config.PolicyResolver, "pn-counter", history.Counter, counted, (*client).count},
		{tagged, config.PolicyResolver, "or-set", history.Observed, tags, (*client).tag},
	}
	for _, i := range rng.Perm(len(merged))[:1+rng.IntN(3)/2] {
		out = append(out, merged[i])
	}
	if rng.IntN(3) == 0 {
		out = append(out, workload{fleeting, config.PolicySiblings, "", history.Siblings, padded, func(c *client, ctx context.Context) { c.workPlain(ctx, fleeting) }})
	}
	if rand.New(rand.NewPCG(r.plan.Seed, 0x737472)).IntN(3) == 0 { // of its own: the other workloads are as they were without it
		out = append(out, workload{strict, config.PolicySiblings, "", history.Siblings, padded, (*client).workStrictly})
	}
	if r.plan.Has(plan.Unlawful) {
		out = append(out, workload{lawless, config.PolicyResolver, "set-union", history.Any, elements, func(c *client, ctx context.Context) { c.addElement(ctx, lawless) }})
	}
	if len(r.o.Resolver) > 0 {
		out = append(out, workload{user, config.PolicyResolver, user, history.Any, whole, (*client).useResolver})
	}
	return out
}

// workload returns the one of a keyspace.
func (r *run) workload(keyspace string) workload {
	i := slices.IndexFunc(r.workloads, func(w workload) bool { return w.keyspace == keyspace })
	return r.workloads[i]
}

// builtins knows the user's module as well.
func (r *run) builtins(name string) ([]byte, bool) {
	if name == user && len(r.o.Resolver) > 0 {
		return r.o.Resolver, true
	}
	return r.o.Builtins(name)
}

// valuesOf reads an answer as the keyspace means it, over all siblings if it shows a conflict.
func (r *run) valuesOf(keyspace string, a coordinator.Answer) ([]string, error) {
	siblings := slices.Clone(a.Siblings)
	if a.Value != nil {
		siblings = append(siblings, *a.Value)
	}
	read, all := r.workload(keyspace).values, map[string]bool{}
	for _, v := range siblings {
		values, err := read(v.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the value %.200q is not what anybody wrote: %w", v.Bytes, err)
		}
		for _, e := range values {
			all[e] = true
		}
	}
	return slices.Sorted(maps.Keys(all)), nil
}

func whole(body []byte) ([]string, error) { return []string{digest(body)}, nil }

func elements(body []byte) (out []string, err error) { return out, json.Unmarshal(body, &out) }

// pad makes a value of the given size out of its name, so that a byte that changed is seen.
func pad(name string, size int) []byte {
	return []byte(name + strings.Repeat("."+name, size/(len(name)+1)))[:max(size, len(name))]
}

// padded is the name in a value made by pad.
func padded(body []byte) ([]string, error) {
	name, _, _ := strings.Cut(string(body), ".")
	if string(pad(name, len(body))) != string(body) {
		return nil, fmt.Errorf("%d bytes that do not repeat %q", len(body), name)
	}
	return []string{name}, nil
}

// cart is a value of builtin:cart. Besides SKUs it has a mark for the write that made it, so that a merged cart tells
// which writes it stands for.
type cart struct {
	Items map[string]int `json:"items"`
}

// mark begins the name of a mark.
const mark = "#"

func (c cart) writes() (out []string) {
	for sku := range c.Items {
		if name, ok := strings.CutPrefix(sku, mark); ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func cartWrites(body []byte) ([]string, error) {
	var c cart
	err := json.Unmarshal(body, &c)
	return c.writes(), err
}

// counter is a value of builtin:pn-counter: what each client counted up and down.
type counter struct {
	P map[string]int `json:"p"`
	N map[string]int `json:"n"`
}

func counted(body []byte) (out []string, err error) {
	var c counter
	if err := json.Unmarshal(body, &c); err != nil {
		return nil, err
	}
	for side, counts := range map[string]map[string]int{"p": c.P, "n": c.N} {
		for actor, n := range counts {
			out = append(out, history.Count(actor+"/"+side, n))
		}
	}
	return out, nil
}

// taggedSet is a value of builtin:or-set.
type taggedSet struct {
	Adds    map[string][]string `json:"adds"`
	Removes []string            `json:"removes"`
}

func tags(body []byte) (out []string, err error) {
	var s taggedSet
	if err := json.Unmarshal(body, &s); err != nil {
		return nil, err
	}
	for _, t := range s.Adds {
		out = append(out, t...)
	}
	for _, t := range out {
		if slices.Contains(s.Removes, t) {
			return nil, fmt.Errorf("tag %s is both there and removed", t)
		}
	}
	return out, nil
}
