package storm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"dynamo/node/causal"
	"dynamo/node/coordinator"
	"dynamo/node/sim/history"
	"dynamo/node/sim/plan"
)

// client is one program that uses the store. Its choices are its own: they do not depend on what others do.
type client struct {
	*run
	id  string
	rng *rand.Rand
	seq int
	// turns counts the operations on each slot of its own keys.
	turns map[name]int
	// open are writes of unknown outcome, repeated as they were until it is known.
	open map[name]func() history.Operation
	// own are its own numbers in counters.
	own map[name]counter
	// old are readings whose contexts are kept until they have expired.
	old map[name]reading
}

// clients starts all clients; they end with ctx. Each has three workloads, and turns to any of them each time.
func (r *run) clients(ctx context.Context, wg *sync.WaitGroup) {
	for i := range r.plan.Clients {
		c := &client{
			run: r, id: fmt.Sprintf("c%d", i+1), rng: rand.New(rand.NewPCG(r.plan.Seed, uint64(i)+1)),
			turns: map[name]int{}, open: map[name]func() history.Operation{}, own: map[name]counter{}, old: map[name]reading{},
		}
		var turns []func(*client, context.Context)
		for j := range min(3, len(r.workloads)) {
			turns = append(turns, r.workloads[(i+j*(len(r.workloads)/3))%len(r.workloads)].turn)
		}
		wg.Go(func() {
			for c.pause(ctx) {
				turns[c.rng.IntN(len(turns))](c, ctx)
			}
		})
	}
}

// pause waits a little; false if it is time to stop.
func (c *client) pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(1 + c.rng.Int64N(int64(c.plan.Pause)))):
	}
	return ctx.Err() == nil
}

// request is one call of the store.
type request func(context.Context, *coordinator.Coordinator) (coordinator.Answer, error)

// call makes one operation and writes it down.
func (c *client) call(ctx context.Context, k name, o history.Operation, f request) (history.Operation, coordinator.Answer) {
	<-c.gate
	defer func() { c.gate <- struct{}{} }()
	ids := c.ids()
	o.Client, o.Node, o.At = c.id, ids[c.rng.IntN(len(ids))], c.since()
	var a coordinator.Answer
	if n := c.c.Node(o.Node); n == nil {
		o.Outcome, o.Answer = history.Refused, "no connection"
	} else {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		var err error
		a, err = f(ctx, n.Requests())
		cancel()
		o.Outcome, o.Answer = c.classify(k, o, err)
		if c.c.Node(o.Node) != n { // its answers ended with its power, whatever it did after
			o.Outcome, o.Answer = history.Unknown, "the connection broke"
		}
	}
	o.Took = c.since() - o.At
	if o.Kind == history.Get && o.Outcome == history.Acked {
		o.Values = c.read(k, a)
	}
	o.Context = a.Token[max(0, len(a.Token)-8):]
	c.book.add(k, o)
	c.run.log.Lock()
	defer c.run.log.Unlock()
	c.run.write(k.String() + " " + o.String())
	return o, a
}

// classify reads an answer; some must not be given, whatever happens.
func (c *client) classify(k name, o history.Operation, err error) (history.Outcome, string) {
	if err == nil {
		return history.Acked, "ok"
	}
	e, ok := errors.AsType[*coordinator.Error](err)
	if !ok {
		return history.Unknown, err.Error()
	}
	excused := false
	switch e.Code {
	case coordinator.CodeTooManySiblings, coordinator.CodeOverloaded, coordinator.CodeQuorumUnmet, coordinator.CodeNotReady, coordinator.CodeDiskFull:
		excused = true
	case coordinator.CodeBadContext:
		excused = c.since()-o.Seen >= contextLifetime-clockSlack || c.plan.Skewed()
	case coordinator.CodePreconditionFailed:
		excused = o.Guarded
	case coordinator.CodeKeyspaceUnknown:
		excused = k.keyspace == fleeting
	case coordinator.CodeInternal: // whether it is stored is said beside it
		excused = c.plan.Has(plan.FlipTables, plan.ReadError)
	}
	if !excused {
		c.violation("answers", k.String(), "an answer that nothing excuses: %v", e)
	}
	if e.MaybeStored {
		return history.Unknown, e.Error() + " (maybe stored)"
	}
	return history.Refused, e.Error()
}

// read says what an answer shows, and asks what is true of all answers.
func (r *run) read(k name, a coordinator.Answer) []string {
	values, err := r.valuesOf(k.keyspace, a)
	if err != nil {
		r.violation("reads show what was written", k.String(), "%v", err)
	}
	if promise, detail := r.book.compare(k, a); promise != "" {
		r.violation(promise, k.String(), "%s", detail)
	}
	return values
}

// reading is what a client knows of a key.
type reading struct {
	a      coordinator.Answer
	values []string
	// The read began and ended at these times; the context was sealed in between.
	began, ended time.Duration
}

// single says whether the answer is one value, or none: a resolver that is missing somewhere shows siblings.
func (r reading) single() bool { return len(r.a.Siblings) == 0 }

// body is the value, or the other one if there is none.
func (r reading) body(none string) []byte {
	if r.a.Value == nil {
		return []byte(none)
	}
	return r.a.Value.Bytes
}

func (c *client) get(ctx context.Context, k name) (reading, bool) {
	o, a := c.call(ctx, k, history.Operation{Kind: history.Get}, func(ctx context.Context, at *coordinator.Coordinator) (coordinator.Answer, error) {
		return at.Get(ctx, coordinator.ReadRequest{Keyspace: k.keyspace, Key: []byte(k.key), Options: coordinator.Options{PrimariesOnly: k.keyspace == strict}})
	})
	return reading{a, o.Values, o.At, o.At + o.Took}, o.Outcome == history.Acked
}

// write is a put or a delete; guard may change the request.
func (c *client) write(ctx context.Context, k name, o history.Operation, body []byte, token string, guard ...func(*coordinator.WriteRequest)) (history.Operation, string) {
	o.Guarded = len(guard) > 0
	o, a := c.call(ctx, k, o, func(ctx context.Context, at *coordinator.Coordinator) (coordinator.Answer, error) {
		w := coordinator.WriteRequest{
			Keyspace: k.keyspace, Key: []byte(k.key), Token: token, Options: coordinator.Options{PrimariesOnly: k.keyspace == strict},
			Value: causal.Value{Bytes: body, ContentType: "application/json", Deleted: body == nil},
		}
		for _, f := range guard {
			f(&w)
		}
		return at.Write(ctx, w)
	})
	return o, a.Token
}

// put is a put with the context of a reading.
func (c *client) put(ctx context.Context, k name, value string, body []byte, r reading) (history.Operation, string) {
	return c.write(ctx, k, history.Operation{Kind: history.Put, Values: []string{value}, Covers: r.values, Seen: r.began}, body, r.a.Token)
}

// blind is a put without a context.
func (c *client) blind(ctx context.Context, k name, value string, body []byte) {
	c.put(ctx, k, value, body, reading{})
}

func (c *client) unique() string {
	c.seq++
	return fmt.Sprintf("%s-%d", c.id, c.seq)
}

// shared is a key that all clients use for a while: then it is left alone and the next one begun, or the largest would
// take all the time.
func (c *client) shared(keyspace string) name {
	return name{keyspace, fmt.Sprintf("%d-%d", c.rng.IntN(c.plan.Keys), int(c.since()/(10*time.Second)))}
}

func (c *client) marshal(k name, v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		c.violation("answers", k.String(), "%v", err)
	}
	return b
}
