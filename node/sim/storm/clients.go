package storm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"dynamo/node/causal"
	"dynamo/node/coordinator"
	"dynamo/node/sim/history"
)

// client is one program that uses the store. Its choices are its own: they do not depend on what others do.
type client struct {
	*run
	id  string
	rng *rand.Rand
	seq int
	// turns counts the operations on each slot of its own keys.
	turns map[int]int
	// open are deletes of unknown outcome, repeated as they were until it is known.
	open map[name]func() history.Operation
}

// clients starts all clients; they end with ctx.
func (r *run) clients(ctx context.Context, wg *sync.WaitGroup) {
	for i := range r.plan.Clients {
		c := &client{
			run: r, id: fmt.Sprintf("c%d", i+1), rng: rand.New(rand.NewPCG(r.plan.Seed, uint64(i)+1)),
			turns: map[int]int{}, open: map[name]func() history.Operation{},
		}
		turn := []func(context.Context){c.addElement, c.workPlain, c.overwrite}[i%3]
		wg.Go(func() {
			for c.pause(ctx) {
				turn(ctx)
			}
		})
	}
}

// pause waits a little; false if it is time to stop.
func (c *client) pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(1 + c.rng.Int64N(int64(150*time.Millisecond)))):
	}
	return ctx.Err() == nil
}

// call makes one operation and writes it down.
func (c *client) call(ctx context.Context, k name, o history.Operation, f func(context.Context, *coordinator.Coordinator) (coordinator.Answer, error)) (history.Operation, coordinator.Answer) {
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
		o.Outcome, o.Answer = c.classify(k, err)
	}
	o.Took = c.since() - o.At
	if o.Kind == history.Get && o.Outcome == history.Acked {
		values, err := valuesOf(k.keyspace, a)
		if err != nil {
			c.violation("answers", k.String(), "%v", err)
		}
		o.Values = values
	}
	o.Context = a.Token[max(0, len(a.Token)-8):]
	c.book.add(k, o)
	c.run.log.Lock()
	defer c.run.log.Unlock()
	c.run.write(k.String() + " " + o.String())
	return o, a
}

// classify reads an answer; some must not be given, whatever happens.
func (c *client) classify(k name, err error) (history.Outcome, string) {
	if err == nil {
		return history.Acked, "ok"
	}
	e, ok := errors.AsType[*coordinator.Error](err)
	if !ok {
		return history.Unknown, err.Error()
	}
	switch e.Code {
	case coordinator.CodeTooManySiblings, coordinator.CodeOverloaded, coordinator.CodeQuorumUnmet, coordinator.CodeNotReady,
		coordinator.CodeDiskFull, coordinator.CodeBadContext:
	default:
		c.violation("answers", k.String(), "an answer that nothing excuses: %v", e)
	}
	if e.MaybeStored {
		return history.Unknown, e.Error() + " (maybe stored)"
	}
	return history.Refused, e.Error()
}

// valuesOf reads an answer as the keyspace means it: the elements of a set, or the siblings.
func valuesOf(keyspace string, a coordinator.Answer) ([]string, error) {
	siblings := a.Siblings
	if a.Value != nil {
		siblings = append(siblings, *a.Value)
	}
	var out []string
	for _, v := range siblings {
		if keyspace != sets {
			out = append(out, string(v.Bytes))
			continue
		}
		var elements []string
		if err := json.Unmarshal(v.Bytes, &elements); err != nil {
			return nil, fmt.Errorf("the value %q is no set: %w", v.Bytes, err)
		}
		for _, e := range elements {
			if !slices.Contains(out, e) {
				out = append(out, e)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

func (c *client) get(ctx context.Context, k name) (values []string, token string, ok bool) {
	o, a := c.call(ctx, k, history.Operation{Kind: history.Get}, func(ctx context.Context, at *coordinator.Coordinator) (coordinator.Answer, error) {
		return at.Get(ctx, coordinator.ReadRequest{Keyspace: k.keyspace, Key: []byte(k.key)})
	})
	return o.Values, a.Token, o.Outcome == history.Acked
}

func (c *client) write(ctx context.Context, k name, o history.Operation, body []byte, token string) (history.Operation, string) {
	o, a := c.call(ctx, k, o, func(ctx context.Context, at *coordinator.Coordinator) (coordinator.Answer, error) {
		return at.Write(ctx, coordinator.WriteRequest{
			Keyspace: k.keyspace, Key: []byte(k.key), Token: token,
			Value: causal.Value{Bytes: body, ContentType: "application/json", Deleted: o.Kind == history.Delete},
		})
	})
	return o, a.Token
}

func (c *client) put(ctx context.Context, k name, value string, body []byte, covers []string, token string) (history.Operation, string) {
	return c.write(ctx, k, history.Operation{Kind: history.Put, Values: []string{value}, Covers: covers}, body, token)
}

func (c *client) unique() string {
	c.seq++
	return fmt.Sprintf("%s-%d", c.id, c.seq)
}

// addElement adds to a set: read, add, write; now and then without the reading.
func (c *client) addElement(ctx context.Context) {
	// After a while a set is left alone and the next one begun: otherwise the largest would take all the time.
	k := name{sets, fmt.Sprintf("set-%d-%d", c.rng.IntN(c.plan.Keys), int(c.since()/(10*time.Second)))}
	e := c.unique()
	elements, token := []string(nil), ""
	if c.rng.IntN(4) > 0 {
		var ok bool
		if elements, token, ok = c.get(ctx, k); !ok {
			return
		}
	}
	body, err := json.Marshal(append(slices.Clone(elements), e))
	if err != nil {
		c.violation("answers", k.String(), "%v", err)
		return
	}
	c.put(ctx, k, e, body, elements, token)
}

// workPlain writes keys that only this client writes, so that what each write had seen is known.
func (c *client) workPlain(ctx context.Context) {
	const operations = 12
	slot := c.rng.IntN(c.plan.Keys)
	k := name{plain, fmt.Sprintf("%s-%d-%d", c.id, slot, c.turns[slot]/operations)}
	c.turns[slot]++
	if again := c.open[k]; again != nil {
		if again().Outcome == history.Unknown {
			return
		}
		delete(c.open, k)
	}
	if c.rng.IntN(8) == 0 {
		v := c.unique()
		c.put(ctx, k, v, []byte(v), nil, "")
		return
	}
	values, token, ok := c.get(ctx, k)
	if !ok {
		return
	}
	last := c.turns[slot]%operations == 0 // leave most keys deleted
	if len(values) > 0 && (c.rng.IntN(3) == 0 || last && c.rng.IntN(4) > 0) {
		erase := func() history.Operation {
			o, _ := c.write(ctx, k, history.Operation{Kind: history.Delete, Covers: values}, nil, token)
			return o
		}
		if erase().Outcome == history.Unknown {
			c.open[k] = erase
		}
		return
	}
	v := c.unique()
	o, answered := c.put(ctx, k, v, []byte(v), values, token)
	if slot%4 == 0 && o.Outcome == history.Acked && c.rng.IntN(4) == 0 {
		// The context of the answer covers the write and what it covered. Not for all keys: the check is weaker then.
		next := c.unique()
		c.write(ctx, k, history.Operation{Kind: history.Put, Values: []string{next}, Covers: values, Follows: v}, []byte(next), answered)
	}
}

// overwrite writes keys where the newest write wins.
func (c *client) overwrite(ctx context.Context) {
	k := name{newest, fmt.Sprintf("%s-%d", c.id, c.rng.IntN(c.plan.Keys))}
	if c.rng.IntN(3) == 0 {
		c.get(ctx, k)
		return
	}
	v := c.unique()
	c.put(ctx, k, v, []byte(v), nil, "")
}
