package storm

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"dynamo/node/causal"
	"dynamo/node/cluster"
	"dynamo/node/config"
	"dynamo/node/coordinator"
	"dynamo/node/record"
	"dynamo/node/sim/history"
	"dynamo/node/sim/plan"
)

// bench is a run without a cluster, at a time of its own.
type bench struct {
	*run
	now time.Time
	w   *watcher
	// copies are what each node holds of one key.
	copies map[string]*held
	key    keyID
}

func newBench(keyspace string, policy config.Policy) *bench {
	b := &bench{now: time.Unix(1000, 0), copies: map[string]*held{}, key: keyID{cluster.KeyspaceID(keyspace, 1), "k"}}
	b.run = &run{o: Options{Now: func() time.Time { return b.now }}, began: b.now, plan: plan.Plan{Nodes: 3}, book: newBook()}
	b.log.digest = sha256.New()
	b.workloads = []workload{{keyspace: keyspace, policy: policy}}
	b.w = b.newWatcher()
	return b
}

// sees has the watcher look at a copy of a node, some seconds later.
func (b *bench) sees(node string, o causal.Object) {
	looked := b.since()
	b.now = b.now.Add(time.Second)
	h := b.copies[node]
	if h == nil {
		h = &held{gone: true}
		b.copies[node] = h
	}
	b.w.copy(node, b.key, h, record.Record{Object: o}, looked)
}

// forgets is a copy that is gone.
func (b *bench) forgets(node string) {
	h := b.copies[node]
	h.gone, h.object, h.changed = true, causal.Object{}, b.since()
}

func (b *bench) found() string {
	var all strings.Builder
	for _, v := range b.report.Violations {
		all.WriteString(v.Promise + ": " + v.Detail + "\n")
	}
	return all.String()
}

func actor(n byte) causal.Actor {
	return causal.Actor{Node: causal.NodeID{n}, Incarnation: 1, Seq: uint64(n)}
}

func value(s string) causal.Value { return causal.Value{Bytes: []byte(s)} }

// TestWatcherCatches shows the watcher nodes that break a promise: it must say so, and nothing of nodes that do not.
func TestWatcherCatches(t *testing.T) {
	a1, _ := causal.Object{}.Put(nil, actor(1), value("a1"))
	other, _ := causal.Object{}.Put(nil, actor(1), value("other"))
	b1, _ := a1.Put(a1.Context, actor(2), value("b1")) // supersedes a1
	both := causal.Object{Context: b1.Context, Versions: append(append([]causal.Version{}, a1.Versions...), b1.Versions...)}
	gone, _ := a1.Put(a1.Context, actor(2), causal.Value{Deleted: true})
	siblings := causal.Object{}
	for i := range 3*siblingRefusal + 1 {
		siblings, _ = siblings.Put(nil, actor(3), value(fmt.Sprint(i)))
	}
	crowd := causal.Object{}
	for i := range 10 {
		crowd, _ = crowd.Put(crowd.Context, actor(byte(10+i)), value(fmt.Sprint(i)))
	}
	two, _ := a1.Put(nil, actor(1), value("a2"))
	collapsed, err1 := two.Collapse(value("x"), causal.Provenance{Epoch: 1})
	differently, err2 := two.Collapse(value("y"), causal.Provenance{Epoch: 1})
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	shrunk := causal.Object{Context: b1.Context[1:], Versions: b1.Versions}
	plainly := func(f func(*bench)) func() *bench {
		return func() *bench {
			b := newBench(plain, config.PolicySiblings)
			f(b)
			return b
		}
	}
	for name, c := range map[string]struct {
		play func() *bench
		want string
	}{
		"a value, superseded everywhere": {plainly(func(b *bench) { b.sees("n1", a1); b.sees("n2", a1); b.sees("n2", b1); b.sees("n1", b1) }), ""},
		"siblings":                       {plainly(func(b *bench) { b.sees("n1", a1); b.sees("n1", two); b.sees("n2", two) }), ""},
		"a delete, forgotten, a new value": {plainly(func(b *bench) {
			b.sees("n1", gone)
			b.now = b.now.Add(settleAfter)
			b.forgets("n1")
			fresh, _ := causal.Object{}.Put(nil, actor(4), value("new"))
			b.sees("n1", fresh)
		}), ""},
		"a context that is pruned after a while": {plainly(func(b *bench) {
			b.sees("n1", b1)
			b.now = b.now.Add(settleAfter)
			b.sees("n1", shrunk)
		}), ""},
		"a dot for two values":    {plainly(func(b *bench) { b.sees("n1", a1); b.sees("n2", other) }), "a dot stands for one value"},
		"a dot for two keys":      {plainly(func(b *bench) { b.sees("n1", a1); b.key.key = "l"; b.sees("n2", a1) }), "a dot stands for one value"},
		"a value that comes back": {plainly(func(b *bench) { b.sees("n1", a1); b.sees("n1", b1); b.sees("n1", both) }), "does not come back"},
		"a value that comes back after all was forgotten": {plainly(func(b *bench) {
			b.sees("n1", a1)
			b.sees("n1", gone)
			b.now = b.now.Add(settleAfter)
			b.forgets("n1")
			b.sees("n1", a1)
		}), "does not come back"},
		"one context, two states":         {plainly(func(b *bench) { b.sees("n1", b1); b.sees("n2", both) }), "equal contexts go with equal versions"},
		"a context pruned too early":      {plainly(func(b *bench) { b.sees("n1", b1); b.sees("n1", shrunk) }), "a context keeps what it has seen"},
		"a context that goes back":        {plainly(func(b *bench) { b.sees("n1", two); b.sees("n1", a1) }), "a context keeps what it has seen"},
		"siblings without bound":          {plainly(func(b *bench) { b.sees("n1", siblings) }), "siblings are bounded"},
		"a context without bound":         {plainly(func(b *bench) { b.sees("n1", crowd) }), "contexts are bounded"},
		"one label collapsed in two ways": {plainly(func(b *bench) { b.sees("n1", collapsed); b.sees("n2", differently) }), "equal labels stand for equal bytes"},
		"the last write of two": {func() *bench {
			b := newBench(newest, config.PolicyLWW)
			b.sees("n1", two)
			b.sees("n2", two.Last())
			return b
		}, ""},
	} {
		if got := c.play().found(); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: found %q, want %q", name, got, c.want)
		}
	}
}

// TestBookCatches: an ETag for two values, and carts that are not the merge of their writes.
func TestBookCatches(t *testing.T) {
	k, answer := name{carts, "k"}, func(etag, body string) coordinator.Answer {
		v := value(body)
		return coordinator.Answer{ETag: etag, Value: &v}
	}
	for want, answers := range map[string][]coordinator.Answer{
		"":                                    {answer("1", `{"items":{"#w1":1,"a":3,"#w2":1,"b":1}}`), answer("1", `{"items":{"#w1":1,"a":3,"#w2":1,"b":1}}`), answer("2", `{"items":{"#w1":1,"a":3}}`)},
		"equal versions show equal bytes":     {answer("1", `{"items":{"#w1":1,"a":3}}`), answer("1", `{"items":{"#w2":1,"a":2,"b":1}}`)},
		"a merge is that of its siblings":     {answer("1", `{"items":{"#w1":1,"#w2":1,"a":2,"b":1}}`)},
		"reads show what was written":         {answer("1", `[]`)},
		"a merge is that of its siblings now": {answer("1", `{"items":{"#w1":1,"a":3,"stray":1}}`)},
	} {
		b := newBook()
		b.keep(k, "w1", map[string]int{"#w1": 1, "a": 3})
		b.keep(k, "w2", map[string]int{"#w2": 1, "a": 2, "b": 1})
		got := ""
		for _, a := range answers {
			if promise, _ := b.compare(k, a); promise != "" {
				got = promise
			}
		}
		if got != strings.TrimSuffix(want, " now") {
			t.Errorf("found %q, want %q", got, want)
		}
	}
}

func TestValuesAreChecked(t *testing.T) {
	for body, read := range map[string]func([]byte) ([]string, error){
		string(pad("c1-2", 500))[1:]:             padded,
		string(pad("c1-2", 500)) + "!":           padded,
		`{"adds":{"e":["t1"]},"removes":["t1"]}`: tags,
		`{"items":{"a":"b"}}`:                    cartWrites,
		`["a"`:                                   elements,
		`{"p":{"c1":1}`:                          counted,
	} {
		if got, err := read([]byte(body)); err == nil {
			t.Errorf("%.60s is read as %q", body, got)
		}
	}
	if got, err := padded(pad("c1-2", 500)); err != nil || got[0] != "c1-2" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestDropIsJudged: what was written before a drop must not be there afterwards; what was written before all nodes knew of it
// may be or not.
func TestDropIsJudged(t *testing.T) {
	put := func(at time.Duration, value string) history.Operation {
		return history.Operation{Kind: history.Put, At: at * time.Second, Values: []string{value}}
	}
	all := []history.Operation{put(1, "before"), put(10, "meanwhile"), put(20, "after")}
	for final, want := range map[string]string{
		"after":           "",
		"meanwhile after": "",
		"meanwhile":       `acknowledged "after" is lost`,
		"before after":    `"before" is there`,
	} {
		b := newBench(fleeting, config.PolicySiblings)
		b.dropped = drop{begun: 5 * time.Second, known: 15 * time.Second}
		k := name{fleeting, "k"}
		for _, o := range all {
			b.book.add(k, o)
		}
		_, wrong := history.Judge(history.Siblings, b.judged(k), strings.Fields(final))
		if got := strings.Join(wrong, "; "); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: found %q, want %q", final, got, want)
		}
	}
}
