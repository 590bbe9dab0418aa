package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"dynamo/client"
	"dynamo/node/sim/history"
)

const (
	setClients, plainClients, newestClients = 6, 6, 1
	// pace is the least time between two operations of a client.
	pace = 20 * time.Millisecond
	// setElements is about the size at which a set is left alone and the next one begun; setsAtOnce are written to.
	setElements, setsAtOnce = 120, 8
	// plainKeys are the keys of one writer that it works on, plainOperations on each.
	plainKeys, plainOperations = 12, 12
)

// book holds the histories of all keys.
type book struct {
	mu struct {
		sync.Mutex
		keys map[keyName][]history.Operation
		// wrong are answers that no node may ever give.
		wrong []string
		// elements are the put ones, by set.
		elements map[string]int
	}
}

func newBook() *book {
	b := &book{}
	b.mu.keys, b.mu.elements = map[keyName][]history.Operation{}, map[string]int{}
	return b
}

func (b *book) add(k keyName, o history.Operation, wrong string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.keys[k] = append(b.mu.keys[k], o)
	if wrong != "" {
		b.mu.wrong = append(b.mu.wrong, fmt.Sprintf("%s/%s: %s: %s", k.keyspace, k.key, o, wrong))
	}
	if k.keyspace == sets && o.Kind == history.Put {
		b.mu.elements[k.key]++
	}
}

// full says that a set has enough elements.
func (b *book) full(set string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.elements[set] >= setElements
}

func (b *book) names() []keyName {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []keyName
	for k := range b.mu.keys {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b keyName) int {
		if a.keyspace != b.keyspace {
			return compare(a.keyspace, b.keyspace)
		}
		return compare(a.key, b.key)
	})
	return out
}

func compare(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}

func (b *book) history(k keyName) []history.Operation {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.mu.keys[k])
}

// user is one client.
type user struct {
	run *run
	id  string
	r   *rand.Rand
	seq int
}

// work calls turn again and again until the storm is over.
func (u *user) work(ctx context.Context, turn func(context.Context)) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		u.run.gate.RLock()
		turn(ctx)
		u.run.gate.RUnlock()
	}
}

// call makes one call via a random node and writes it down. The storm's end does not cut it off: it has a limit.
func (u *user) call(k keyName, o history.Operation, f func(context.Context, *client.Client) (context string, values []string, err error)) history.Operation {
	s := u.run.c.servers[u.r.IntN(len(u.run.c.servers))]
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	o.Client, o.Node, o.At = u.id, s.id, u.run.since()
	token, values, err := f(ctx, s.client)
	o.Took = u.run.since() - o.At
	if token != "" {
		o.Context = token[max(0, len(token)-8):]
	}
	if o.Kind == history.Get {
		o.Values = values
	}
	var wrong string
	o.Outcome, o.Answer, wrong = classify(err)
	u.run.book.add(k, o, wrong)
	return o
}

// classify reads an answer. wrong says why a node must not give it, whatever happens.
func classify(err error) (o history.Outcome, answer, wrong string) {
	if err == nil {
		return history.Acked, "ok", ""
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		answer = e.Error()
		if e.MaybeStored {
			answer += " (maybe stored)"
		}
		switch {
		case e.Status == 409 && e.Code == "too_many_siblings":
		case e.Status == 503 && e.Code != "":
		default:
			wrong = "an answer that nothing excuses"
		}
		if e.MaybeStored {
			return history.Unknown, answer, wrong
		}
		return history.Refused, answer, wrong
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		return history.Refused, "no connection", ""
	}
	return history.Unknown, err.Error(), ""
}

func (u *user) get(k keyName) (values []string, token string, ok bool) {
	o := u.call(k, history.Operation{Kind: history.Get}, func(ctx context.Context, c *client.Client) (string, []string, error) {
		v, err := c.Get(ctx, k.keyspace, k.key, client.CallOptions{})
		token = v.Context
		return v.Context, valuesOf(k.keyspace, v), err
	})
	return o.Values, token, o.Outcome == history.Acked
}

// valuesOf are the values behind an answer, or the elements of a set.
func valuesOf(keyspace string, v client.Value) []string {
	var raw [][]byte
	if v.Found && len(v.Siblings) == 0 {
		raw = append(raw, v.Bytes)
	}
	for _, s := range v.Siblings {
		if !s.Deleted {
			raw = append(raw, s.Value)
		}
	}
	var out []string
	for _, b := range raw {
		if keyspace == sets {
			out = append(out, elementsOf(b)...)
			continue
		}
		out = append(out, string(b))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// put writes body, which brings value, with the context of a reading that saw covers.
func (u *user) put(k keyName, value string, body []byte, covers []string, token string) (answered string, o history.Operation) {
	return u.follow(k, value, body, covers, token, "")
}

// follow is put with a context that may be the answer of another write.
func (u *user) follow(k keyName, value string, body []byte, covers []string, token, follows string) (answered string, o history.Operation) {
	o = u.call(k, history.Operation{Kind: history.Put, Values: []string{value}, Covers: covers, Follows: follows}, func(ctx context.Context, c *client.Client) (string, []string, error) {
		var err error
		answered, err = c.Put(ctx, k.keyspace, k.key, body, client.CallOptions{Context: token, ContentType: "text/plain"})
		return token, nil, err
	})
	return answered, o
}

func (u *user) del(k keyName, covers []string, token string) history.Operation {
	return u.call(k, history.Operation{Kind: history.Delete, Covers: covers}, func(ctx context.Context, c *client.Client) (string, []string, error) {
		_, err := c.Delete(ctx, k.keyspace, k.key, client.CallOptions{Context: token})
		return token, nil, err
	})
}

// unique is a value that nobody else writes, of the size of an element.
func (u *user) unique() string {
	u.seq++
	return fmt.Sprintf("%s%06d", u.id, u.seq)
}

// addElement adds to one of the sets: read, add, write; now and then without the reading.
func (u *user) addElement(context.Context) {
	slot := u.r.IntN(setsAtOnce)
	k := keyName{sets, ""}
	for generation := 0; ; generation++ {
		k.key = fmt.Sprintf("set-%d-%d", slot, generation)
		if !u.run.book.full(k.key) {
			break
		}
	}
	e := u.unique()
	if u.r.IntN(5) == 0 {
		u.put(k, e, setOf(e), nil, "")
		return
	}
	if elements, token, ok := u.get(k); ok {
		u.put(k, e, setOf(append(elements, e)...), elements, token)
	}
}

// plainWriter is the only one that writes its keys, so that what each write had seen is known.
type plainWriter struct {
	*user
	turns map[int]int
	// deletes whose outcome is unknown, by key: repeated as they were until it is known.
	open map[keyName]func() history.Operation
}

func (w *plainWriter) turn(context.Context) {
	slot := w.r.IntN(plainKeys)
	k := keyName{plain, fmt.Sprintf("%s-%d-%d", w.id, slot, w.turns[slot]/plainOperations)}
	w.turns[slot]++
	if again := w.open[k]; again != nil {
		if again().Outcome == history.Unknown {
			return
		}
		delete(w.open, k)
	}
	if w.r.IntN(8) == 0 {
		v := w.unique()
		w.put(k, v, []byte(v), nil, "")
		return
	}
	values, token, ok := w.get(k)
	if !ok {
		return
	}
	last := w.turns[slot]%plainOperations == 0 // leave most keys deleted
	if len(values) > 0 && (w.r.IntN(3) == 0 || last && w.r.IntN(4) > 0) {
		if w.del(k, values, token).Outcome == history.Unknown {
			w.open[k] = func() history.Operation { return w.del(k, values, token) }
		}
		return
	}
	v := w.unique()
	answered, o := w.put(k, v, []byte(v), values, token)
	if slot%4 == 0 && o.Outcome == history.Acked && w.r.IntN(4) == 0 {
		// The context of the answer covers the write and what it covered. Not for all keys: the check is weaker then.
		next := w.unique()
		w.follow(k, next, []byte(next), values, answered, v)
	}
}

// overwrite writes keys of the keyspace where the newest write wins.
func (u *user) overwrite(context.Context) {
	k := keyName{newest, fmt.Sprintf("%s-%d", u.id, u.r.IntN(20))}
	if u.r.IntN(3) == 0 {
		u.get(k)
		return
	}
	v := u.unique()
	u.put(k, v, []byte(v), nil, "")
}

// users are all clients of a storm.
func (r *run) users(ctx context.Context, wg *sync.WaitGroup) {
	id := 0
	add := func(n int, letter string, turn func(*user) func(context.Context)) {
		for i := range n {
			id++
			u := &user{run: r, id: fmt.Sprintf("%s%d", letter, i+1), r: rand.New(rand.NewPCG(r.seed, uint64(id)))}
			f := turn(u)
			wg.Go(func() { u.work(ctx, f) })
		}
	}
	add(setClients, "s", func(u *user) func(context.Context) { return u.addElement })
	add(plainClients, "p", func(u *user) func(context.Context) {
		w := &plainWriter{user: u, turns: map[int]int{}, open: map[keyName]func() history.Operation{}}
		return w.turn
	})
	add(newestClients, "l", func(u *user) func(context.Context) { return u.overwrite })
}
