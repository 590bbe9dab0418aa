package storm

import (
	"context"
	"errors"
	"fmt"

	"dynamo/node/causal"
	"dynamo/node/coordinator"
)

// checkGuards asks that preconditions hold a write back where nothing is wrong and nobody else writes.
func (r *run) checkGuards(ctx context.Context) {
	k, ids := name{plain, "guarded"}, r.ids()
	write := func(i int, value, token, match string) error {
		_, err := r.c.Node(ids[i%len(ids)]).Requests().Write(ctx, coordinator.WriteRequest{
			Keyspace: k.keyspace, Key: []byte(k.key), Token: token, IfMatch: match, IfNoneMatch: match == "",
			Value: causal.Value{Bytes: []byte(value), ContentType: "text/plain"},
		})
		return err
	}
	fails := func(what string, err error) {
		if e, ok := errors.AsType[*coordinator.Error](err); !ok || e.Code != coordinator.CodePreconditionFailed {
			r.violation("guards hold", k.String(), "%s was answered %v", what, err)
		}
	}
	read := func(i int) (a coordinator.Answer) {
		a, err := r.ask(ctx, k, ids[i%len(ids)], 0)
		if err == nil && a.Value == nil {
			err = fmt.Errorf("%d siblings", len(a.Siblings))
		}
		if err != nil {
			r.violation("guards hold", k.String(), "the read was answered %v", err)
		}
		return a
	}
	if err := write(0, "first", "", ""); err != nil {
		r.violation("guards hold", k.String(), "the first write was answered %v", err)
	}
	fails("a second first write", write(1, "second", "", ""))
	first := read(2)
	if err := write(3, "third", first.Token, first.ETag); err != nil {
		r.violation("guards hold", k.String(), "a write with the right ETag was answered %v", err)
	}
	fails("a write with an ETag that is past", write(4, "fourth", first.Token, first.ETag))
	if last := read(5); last.Value != nil && string(last.Value.Bytes) != "third" {
		r.violation("guards hold", k.String(), "it is %q in the end", last.Value.Bytes)
	}
}
