package storm

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"dynamo/node/coordinator"
	"dynamo/node/sim/history"
)

// settleOpen repeats a write of unknown outcome; false while it still is.
func (c *client) settleOpen(k name) bool {
	again := c.open[k]
	if again != nil && again().Outcome == history.Unknown {
		return false
	}
	delete(c.open, k)
	return true
}

// addElement adds to a set: read, add, write; now and then without the reading.
func (c *client) addElement(ctx context.Context, keyspace string) {
	k, e := c.shared(keyspace), c.unique()
	if c.rng.IntN(4) == 0 {
		c.blind(ctx, k, e, c.marshal(k, []string{e}))
		return
	}
	if r, ok := c.get(ctx, k); ok {
		c.put(ctx, k, e, c.marshal(k, append(slices.Clone(r.values), e)), r)
	}
}

// workPlain writes keys that only this client writes, so that what each write had seen is known.
func (c *client) workPlain(ctx context.Context, keyspace string) {
	const operations = 12
	slot := c.rng.IntN(c.plan.Keys)
	turn := name{keyspace, fmt.Sprint(slot)}
	k := name{keyspace, fmt.Sprintf("%s-%d-%d", c.id, slot, c.turns[turn]/operations)}
	c.turns[turn]++
	last := c.turns[turn]%operations == 0 // leave most keys deleted
	if !c.settleOpen(k) {
		return
	}
	if c.rng.IntN(8) == 0 {
		v := c.unique()
		c.blind(ctx, k, v, c.plainBody(v))
		return
	}
	r, ok := c.get(ctx, k)
	if !ok {
		return
	}
	if c.tryOld(ctx, k, r) {
		return
	}
	if len(r.values) > 0 && (c.rng.IntN(3) == 0 || last && c.rng.IntN(4) > 0) {
		erase := func() history.Operation {
			o, _ := c.write(ctx, k, history.Operation{Kind: history.Delete, Covers: r.values, Seen: r.began}, nil, r.a.Token)
			return o
		}
		if erase().Outcome == history.Unknown {
			c.open[k] = erase
		}
		return
	}
	v := c.unique()
	if c.rng.IntN(6) == 0 {
		c.guarded(ctx, k, v, r)
		return
	}
	o, answered := c.put(ctx, k, v, c.plainBody(v), r)
	if slot%4 == 0 && o.Outcome == history.Acked && c.rng.IntN(4) == 0 {
		// The context of the answer covers the write and what it covered. Not for all keys: the check is weaker then.
		next := c.unique()
		follow := history.Operation{Kind: history.Put, Values: []string{next}, Covers: r.values, Follows: v, Seen: o.At}
		c.write(ctx, k, follow, c.plainBody(next), answered)
	}
}

// plainBody is the value of a name, a large one now and then.
func (c *client) plainBody(v string) []byte {
	if c.rng.IntN(40) == 0 {
		return pad(v, 1+c.rng.IntN(maxValue))
	}
	return pad(v, 0)
}

// guarded writes only if the key still is what was read: a guard that fails writes nothing.
func (c *client) guarded(ctx context.Context, k name, v string, r reading) {
	c.write(ctx, k, history.Operation{Kind: history.Put, Values: []string{v}, Covers: r.values, Seen: r.began}, c.plainBody(v), r.a.Token,
		func(w *coordinator.WriteRequest) {
			if r.a.Found() {
				w.IfMatch = r.a.ETag
			} else {
				w.IfNoneMatch = true
			}
		})
}

// tryOld keeps a reading now and then and writes with its context when that is expired: it must be refused, whatever
// has become of the key. It says whether it did.
func (c *client) tryOld(ctx context.Context, k name, r reading) bool {
	was, kept := c.old[k]
	if !kept && r.a.Token != "" && c.rng.IntN(8) == 0 {
		c.old[k] = r
	}
	if !kept || c.since()-was.ended < contextLifetime+clockSlack+c.plan.Skew() {
		return false
	}
	delete(c.old, k)
	v := c.unique()
	if o, _ := c.put(ctx, k, v, pad(v, 0), was); o.Outcome == history.Acked {
		c.violation("expired contexts are refused", k.String(), "%s was acknowledged with a context %v old", v, o.At-was.ended)
	}
	return true
}

// overwrite writes keys where the newest write wins.
func (c *client) overwrite(ctx context.Context) {
	k := name{newest, fmt.Sprintf("%s-%d", c.id, c.rng.IntN(c.plan.Keys))}
	if c.rng.IntN(3) == 0 {
		c.get(ctx, k)
		return
	}
	v := c.unique()
	c.blind(ctx, k, v, pad(v, 0))
}

// shop changes the count of a SKU in a cart; 0 takes it out.
func (c *client) shop(ctx context.Context) {
	k, v := c.shared(carts), c.unique()
	sku, n := fmt.Sprint("sku", c.rng.IntN(5)), max(0, c.rng.IntN(6)-1)
	if c.rng.IntN(6) == 0 {
		change := cart{map[string]int{sku: n, mark + v: 1}}
		c.book.keep(k, v, change.Items)
		c.blind(ctx, k, v, c.marshal(k, change))
		return
	}
	r, ok := c.get(ctx, k)
	if !ok || !r.single() {
		return
	}
	var now cart
	if err := json.Unmarshal(r.body(`{"items":{}}`), &now); err != nil {
		return // it is written down already
	}
	for _, w := range now.writes() {
		delete(now.Items, mark+w)
	}
	now.Items[sku], now.Items[mark+v] = n, 1
	c.book.keep(k, v, now.Items)
	c.put(ctx, k, v, c.marshal(k, now), r)
}

// count counts up or down. It knows its own numbers, and never goes on before it knows that the last one is stored.
func (c *client) count(ctx context.Context) {
	k := c.shared(counters)
	if !c.settleOpen(k) {
		return
	}
	own, ok := c.own[k]
	if !ok {
		own = counter{map[string]int{}, map[string]int{}}
		c.own[k] = own
	}
	counts := own.P
	if c.rng.IntN(3) == 0 {
		counts = own.N
	}
	before := counts[c.id]
	counts[c.id] += 1 + c.rng.IntN(3)
	write := func() history.Operation { return c.writeCount(ctx, k, own) }
	switch write().Outcome {
	case history.Unknown:
		c.open[k] = write
	case history.Refused:
		counts[c.id] = before
	}
}

// writeCount writes its own numbers, beside those that it reads or alone.
func (c *client) writeCount(ctx context.Context, k name, own counter) history.Operation {
	var r reading
	value := own
	if c.rng.IntN(4) > 0 {
		var read counter
		now, ok := c.get(ctx, k)
		if ok && now.single() && json.Unmarshal(now.body(`{}`), &read) == nil {
			r, value = now, counter{merged(read.P, own.P), merged(read.N, own.N)}
		}
	}
	o := history.Operation{Kind: history.Put, Seen: r.began, Values: []string{
		history.Count(c.id+"/p", own.P[c.id]), history.Count(c.id+"/n", own.N[c.id]),
	}}
	o, _ = c.write(ctx, k, o, c.marshal(k, value), r.a.Token)
	return o
}

// merged takes the greater of each.
func merged(a, b map[string]int) map[string]int {
	out := maps.Clone(a)
	if out == nil {
		out = map[string]int{}
	}
	for k, n := range b {
		out[k] = max(out[k], n)
	}
	return out
}

// tag adds an element under a tag of its own, or removes the tags of an element that it sees.
func (c *client) tag(ctx context.Context) {
	k, element, t := c.shared(tagged), fmt.Sprint("e", c.rng.IntN(4)), c.unique()
	if c.rng.IntN(5) == 0 {
		c.blind(ctx, k, t, c.marshal(k, taggedSet{map[string][]string{element: {t}}, []string{}}))
		return
	}
	r, ok := c.get(ctx, k)
	if !ok || !r.single() {
		return
	}
	var now taggedSet
	if err := json.Unmarshal(r.body(`{"adds":{},"removes":[]}`), &now); err != nil {
		return // it is written down already
	}
	if gone := now.Adds[element]; len(gone) > 0 && c.rng.IntN(2) == 0 {
		delete(now.Adds, element)
		now.Removes = append(now.Removes, gone...)
		c.write(ctx, k, history.Operation{Kind: history.Delete, Covers: gone, Seen: r.began}, c.marshal(k, now), r.a.Token)
		return
	}
	now.Adds[element] = append(now.Adds[element], t)
	c.put(ctx, k, t, c.marshal(k, now), r)
}

// useResolver writes samples of a user's resolver, and what it made of them.
func (c *client) useResolver(ctx context.Context) {
	k := c.shared(user)
	body := c.samples[c.rng.IntN(len(c.samples))]
	if c.rng.IntN(3) == 0 {
		c.blind(ctx, k, digest(body), body)
		return
	}
	r, ok := c.get(ctx, k)
	if !ok {
		return
	}
	if made := r.body(string(body)); c.rng.IntN(3) == 0 && len(made) <= maxSample {
		body = made // it may meet its own siblings again
	}
	c.put(ctx, k, digest(body), body, r)
}
