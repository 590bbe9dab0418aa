package storm

import (
	"context"
	"fmt"

	"dynamo/node/sim/history"
)

// strict is a keyspace in which only primaries count, so that with R + W > N reads see what was acknowledged before. Each
// key has one writer and many readers.
const strict = "strict"

// workStrictly reads a key of anybody, and writes it if it is its own.
func (c *client) workStrictly(ctx context.Context) {
	writer := c.id
	if c.rng.IntN(2) == 0 {
		writer = fmt.Sprintf("c%d", 1+c.rng.IntN(c.plan.Clients))
	}
	k := name{strict, fmt.Sprint(writer, "-", c.rng.IntN(2))}
	r, ok := c.get(ctx, k)
	if missed := history.Missed(c.book.history(k), r.began, r.values); ok && missed != "" {
		c.violation(history.Strict, k.String(), "%s read %q, and %s was acknowledged before", c.id, r.values, missed)
	}
	if v := c.unique(); ok && writer == c.id {
		c.put(ctx, k, v, pad(v, 0), r)
	}
}
