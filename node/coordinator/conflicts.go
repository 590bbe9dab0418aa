package coordinator

import (
	"context"
	"slices"
	"sync"
	"time"

	"dynamo/node/causal"
	"dynamo/node/conflict"
)

// conflictPatience bounds how long a conflict list waits for members that say nothing: what the others
// know is worth more than an error.
const conflictPatience = time.Second

// conflictReads is how many keys of a conflict list are read at a time.
const conflictReads = 16

// ConflictRequest pages through the keys that hold siblings, in byte order.
type ConflictRequest struct {
	Keyspace string
	After    []byte
	Limit    int
	// Unmerged leaves out the keys whose siblings a resolver merges.
	Unmerged bool
}

// ConflictEntry is one key that holds siblings now.
type ConflictEntry struct {
	Key []byte
	// Count is the number of siblings that stand against each other.
	Count int
	// Since is when the second of them was written, by the clock of the node that took it.
	Since time.Time
	// Why they are not merged: "no_resolver", "pending", the reason of the resolver, or the error code of the
	// read. Empty if they are, by the resolver Merged.
	Why, Detail, Merged string
}

// ConflictPage is one page; Next is the key to go on after, nil at the end.
type ConflictPage struct {
	Entries []ConflictEntry
	Next    []byte
	// Unheard are members that did not answer: conflicts that only they know of are missing.
	Unheard []string
}

// Conflicts returns one page of the keys that hold siblings, over the whole cluster. Every member is asked for
// the keys of which its copy has several versions, and what stands for those keys is read like any other
// read. It needs one replica of every partition. A conflict of which each replica knows one side only is found
// once a read or anti-entropy has brought the sides together.
func (c *Coordinator) Conflicts(ctx context.Context, req ConflictRequest) (ConflictPage, error) {
	p, err := c.plan(req.Keyspace, []byte{0}, Options{R: 1})
	if err != nil {
		return ConflictPage{}, err
	}
	page, after := ConflictPage{}, req.After
	unheard := make(map[string]bool)
	for {
		s, err := c.sweepConflicts(ctx, p, req, after)
		if err != nil {
			return ConflictPage{}, err
		}
		for _, id := range s.unheard {
			unheard[id] = true
		}
		page.Unheard = slices.DeleteFunc(slices.Clone(p.list), func(id string) bool { return !unheard[id] })
		slices.Sort(page.Unheard)
		for _, e := range c.inspectConflicts(ctx, req, s.keys) {
			if e.Count < 2 && e.Why == "" || req.Unmerged && e.Merged != "" {
				continue
			}
			if page.Entries = append(page.Entries, e); len(page.Entries) == req.Limit {
				page.Next = e.Key
				return page, nil
			}
		}
		if s.end == nil {
			return page, nil
		}
		if err := ctx.Err(); err != nil {
			return ConflictPage{}, AsError(err)
		}
		after = s.end
	}
}

func (c *Coordinator) sweepConflicts(ctx context.Context, p plan, req ConflictRequest, after []byte) (swept, error) {
	ctx, cancel := context.WithTimeout(ctx, conflictPatience)
	defer cancel()
	return c.sweep(ctx, p, ListRequest{Limit: req.Limit, conflicts: true}, after)
}

// inspectConflicts reads keys, some at a time, and settles what they hold.
func (c *Coordinator) inspectConflicts(ctx context.Context, req ConflictRequest, keys []string) []ConflictEntry {
	out := make([]ConflictEntry, len(keys))
	turns := make(chan struct{}, conflictReads)
	var wg sync.WaitGroup
	for i, key := range keys {
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			out[i] = c.inspectConflict(ctx, req.Keyspace, []byte(key))
		})
	}
	wg.Wait()
	return out
}

func (c *Coordinator) inspectConflict(ctx context.Context, keyspace string, key []byte) ConflictEntry {
	e := ConflictEntry{Key: key}
	p, err := c.plan(keyspace, key, Options{})
	var o causal.Object
	if err == nil {
		o, err = c.read(ctx, p)
	}
	if err != nil {
		why := AsError(err).(*Error)
		e.Why, e.Detail = string(why.Code), why.Detail
		return e
	}
	res := c.s.Settler.Settle(ctx, conflict.PathConflicts, p.policy, key, o.Versions)
	e.Count, e.Merged, e.Since = res.Count, res.Merged, conflictBegan(o)
	if res.Kind == conflict.Conflict {
		if e.Why, e.Detail = res.Code, res.Detail; e.Why == "" {
			e.Why = conflict.CodeNoResolver
		}
	}
	return e
}

// conflictBegan is when the second of an object's versions was written.
func conflictBegan(o causal.Object) time.Time {
	var times []uint64
	for _, v := range o.Versions {
		times = append(times, v.TimeMs)
	}
	if len(times) < 2 {
		return time.Time{}
	}
	slices.Sort(times)
	return time.UnixMilli(int64(min(times[1], 1<<52))).UTC()
}
