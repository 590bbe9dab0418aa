package storm

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"sync"

	"dynamo/node/coordinator"
	"dynamo/node/sim/history"
)

// name is a key of a keyspace.
type name struct{ keyspace, key string }

// String is how stories name the key.
func (n name) String() string { return n.keyspace + "/" + n.key }

// book holds all that clients did and saw.
type book struct {
	mu   sync.Mutex
	keys map[name][]history.Operation
	// shown is what an ETag of a key stood for when it was first seen.
	shown map[tagOf]string
	// carts are the carts that were written, by key and name of the write.
	carts map[name]map[string]map[string]int
}

type tagOf struct {
	name
	etag string
}

func newBook() *book {
	return &book{keys: map[name][]history.Operation{}, shown: map[tagOf]string{}, carts: map[name]map[string]map[string]int{}}
}

func (b *book) add(k name, o history.Operation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keys[k] = append(b.keys[k], o)
}

func (b *book) history(k name) []history.Operation {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.keys[k])
}

// names lists the keys in order.
func (b *book) names() []name {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.SortedFunc(maps.Keys(b.keys), func(x, y name) int {
		return slices.Compare([]string{x.keyspace, x.key}, []string{y.keyspace, y.key})
	})
}

// keep remembers a cart that is about to be written.
func (b *book) keep(k name, write string, items map[string]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.carts[k] == nil {
		b.carts[k] = map[string]map[string]int{}
	}
	b.carts[k][write] = maps.Clone(items)
}

// compare says what is wrong with an answer as such, empty for nothing: an ETag names the versions that it was made of
// and the resolver, so it stands for the same bytes on all nodes and at all times; and a cart is the merge of the
// writes that it bears the marks of.
func (b *book) compare(k name, a coordinator.Answer) (promise, detail string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, now := tagOf{k, a.ETag}, shown(a)
	if was, ok := b.shown[at]; ok && was != now {
		return "equal versions show equal bytes", fmt.Sprintf("%s showed %s and shows %s", a.ETag, was, now)
	}
	b.shown[at] = now
	if k.keyspace != carts || a.Value == nil {
		return "", ""
	}
	var c cart
	if err := json.Unmarshal(a.Value.Bytes, &c); err != nil {
		return "reads show what was written", err.Error()
	}
	want := map[string]int{}
	for _, w := range c.writes() {
		want = merged(want, b.carts[k][w])
	}
	if !maps.Equal(want, c.Items) {
		return "a merge is that of its siblings", fmt.Sprintf("the cart %v should be %v", c.Items, want)
	}
	return "", ""
}

// shown names what a client sees of an answer.
func shown(a coordinator.Answer) string {
	s := ""
	if a.Value != nil {
		s = "value " + digest(a.Value.Bytes) + a.Value.ContentType
	}
	for _, v := range a.Siblings {
		s += " sibling " + digest(v.Bytes) + v.ContentType
	}
	return s
}

// digest is a short name of some bytes.
func digest(b []byte) string {
	h := fnv.New64a()
	_, _ = h.Write(b) // never fails
	return fmt.Sprint(len(b), "-", hex.EncodeToString(h.Sum(nil)))
}
