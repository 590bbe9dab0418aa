package conflict

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"dynamo/node/causal"
	"dynamo/node/config"
	"dynamo/resolver"
)

// fixture is a settler over the cart example's module.
type fixture struct {
	*Settler
	module  []byte
	sha     [32]byte
	fetches int
	now     time.Time
	// more are modules beside the active one; while hold is open they cannot be had.
	more map[[32]byte][]byte
	hold chan struct{}
}

// add makes another module known.
func (f *fixture) add(module []byte) [32]byte {
	sha := sha256.Sum256(module)
	f.more[sha] = module
	return sha
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	module, err := os.ReadFile("../../examples/cart-merge/cart.wasm")
	if err != nil {
		t.Fatal(err)
	}
	return newFixtureOf(t, module, resolver.DefaultLimits())
}

func newFixtureOf(t *testing.T, module []byte, limits resolver.Limits) *fixture {
	t.Helper()
	f := &fixture{module: module, sha: sha256.Sum256(module), now: time.UnixMilli(1), more: map[[32]byte][]byte{}}
	log := slog.New(slog.DiscardHandler)
	now := func() time.Time { return f.now }
	rt, err := resolver.New(resolver.Options{Limits: limits, Logger: log, Now: now, CacheDir: filepath.Join(os.TempDir(), "dynamo-test-modules")})
	if err != nil {
		t.Fatal(err)
	}
	f.Settler = New(Options{
		Runtime: rt, ViewBytes: 1 << 20, Logger: log, Now: now,
		Fetch: func(ctx context.Context, sha [32]byte) ([]byte, error) {
			if b, ok := f.more[sha]; ok {
				if f.hold != nil {
					select {
					case <-f.hold:
					case <-ctx.Done():
					}
				}
				return b, ctx.Err()
			}
			f.fetches++
			if sha != f.sha {
				return nil, errors.New("nobody has it")
			}
			return f.module, nil
		},
	})
	t.Cleanup(func() {
		if err := errors.Join(f.Settler.Close(context.Background()), rt.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) policy(p config.Policy) Policy {
	return Policy{Keyspace: "carts", Conflict: p, MaxValueBytes: 1 << 20, Module: f.sha, Epoch: 1, Lawful: true}
}

func actor(n byte) causal.Actor {
	return causal.Actor{Node: causal.NodeID{n}, Incarnation: 1, Seq: 1}
}

// written returns an object with one blind write per value; an empty value is a delete.
func written(values ...string) causal.Object {
	var o causal.Object
	for i, v := range values {
		o, _ = o.Put(nil, actor(byte(i+1)), causal.Value{Bytes: []byte(v), TimeMs: uint64(i + 1), Deleted: v == "", ContentType: "application/json"})
	}
	return o
}

const (
	apples = `{"items":{"apple":2}}`
	pears  = `{"items":{"pear":1}}`
	both   = `{"items":{"apple":2,"pear":1}}`
)

func TestSettle(t *testing.T) {
	f := newFixture(t)
	siblings, lww, res := f.policy(config.PolicySiblings), f.policy(config.PolicyLWW), f.policy(config.PolicyResolver)
	unbound := res
	unbound.Module = [32]byte{}
	gone := res
	gone.Module = [32]byte{1}
	for _, c := range []struct {
		name   string
		policy Policy
		object causal.Object
		kind   Kind
		value  string
		count  int
		code   string
	}{
		{"nothing", res, causal.Object{}, Absent, "", 0, ""},
		{"one value", res, written(apples), Single, apples, 1, ""},
		{"only tombstones", siblings, written("", ""), Deleted, "", 2, ""},
		{"a value beside a concurrent delete wins", siblings, written(apples, ""), Single, apples, 1, ""},
		{"a value beside a concurrent delete wins without a call", res, written("", apples), Single, apples, 1, ""},
		{"siblings stay", siblings, written(apples, pears), Conflict, "", 2, ""},
		{"equal bytes of two instants stay siblings without a resolver", siblings, written(apples, apples), Conflict, "", 2, ""},
		{"equal bytes need no merge", res, written(apples, apples), Single, apples, 1, ""},
		{"the last writer wins", lww, written(apples, pears), Single, pears, 1, ""},
		{"merged", res, written(apples, pears), Single, both, 2, ""},
		{"merged beside a delete", res, written(apples, "", pears), Single, both, 2, ""},
		{"refused by the module", res, written(apples, "no cart"), Conflict, "", 2, "guest_error"},
		{"no resolver bound", unbound, written(apples, pears), Conflict, "", 2, CodeNoResolver},
		{"module out of reach", gone, written(apples, pears), Conflict, "", 2, CodePending},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := f.Settle(t.Context(), PathRead, c.policy, []byte("k"), c.object.Versions)
			if res.Kind != c.kind || string(res.Value.Bytes) != c.value || res.Count != c.count || res.Code != c.code {
				t.Fatalf("kind %d value %q count %d code %q (%s)", res.Kind, res.Value.Bytes, res.Count, res.Code, res.Detail)
			}
			if (res.Merged != "") != (c.count > 1 && c.kind == Single) {
				t.Fatalf("merged by %q", res.Merged)
			}
			if len(res.Siblings) > 0 && len(res.Siblings) != c.count {
				t.Fatalf("%d siblings shown, count %d", len(res.Siblings), c.count)
			}
		})
	}
}

func TestViewIsMadeOncePerSiblings(t *testing.T) {
	f := newFixture(t)
	o := written(apples, pears)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			vs := slices.Clone(o.Versions)
			slices.Reverse(vs)
			if res := f.Settle(t.Context(), PathRead, f.policy(config.PolicyResolver), []byte("k"), vs); string(res.Value.Bytes) != both {
				t.Errorf("got %q: %s", res.Value.Bytes, res.Detail)
			}
		})
	}
	wg.Wait()
	if calls := f.Module(f.sha).Calls; calls != 1 {
		t.Fatalf("%d merges of one conflict", calls)
	}
	if got := f.Totals().Paths["read"]; got != 16 {
		t.Fatalf("path read counted %d", got)
	}
	f.Settle(t.Context(), PathRead, f.policy(config.PolicyResolver), []byte("another key"), o.Versions)
	if calls := f.Module(f.sha).Calls; calls != 2 {
		t.Fatalf("%d merges: a view must not be shared between keys", calls)
	}
}

func TestFailedMergeIsForgottenAfterAWhile(t *testing.T) {
	f := newFixture(t)
	o := written(apples, "no cart")
	for _, step := range []struct {
		after time.Duration
		calls uint64
	}{{0, 1}, {failureLife, 1}, {time.Millisecond, 2}} {
		f.now = f.now.Add(step.after)
		f.Settle(t.Context(), PathRead, f.policy(config.PolicyResolver), []byte("k"), o.Versions)
		if got := f.Module(f.sha); got.Calls != step.calls || got.Failures != step.calls || got.Errors["guest_error"] != step.calls {
			t.Fatalf("after %v: %+v, want %d calls", step.after, got, step.calls)
		}
	}
}

func TestViewsAreBounded(t *testing.T) {
	v := newViews(10*viewOverhead, time.Now)
	for i := range 100 {
		id := viewID{byte(i)}
		v.get(t.Context(), id, func() view { return view{value: causal.Value{Bytes: make([]byte, 100)}} })
		if v.bytes() > 10*viewOverhead {
			t.Fatalf("%d bytes kept", v.bytes())
		}
	}
	if len(v.mu.byID) != v.mu.order.Len() || v.mu.order.Len() == 0 {
		t.Fatalf("%d by id, %d in order", len(v.mu.byID), v.mu.order.Len())
	}
	v.get(t.Context(), viewID{200}, func() view { return view{value: causal.Value{Bytes: make([]byte, 20*viewOverhead)}} })
	if _, ok := v.kept(viewID{200}); ok {
		t.Fatal("a view larger than the cache was kept")
	}
}

func TestCollapse(t *testing.T) {
	f := newFixture(t)
	p := f.policy(config.PolicyResolver)
	o := written(apples, pears)
	c, ok := f.Collapse(t.Context(), p, []byte("k"), o)
	if !ok || len(c.Versions) != 1 || string(c.Versions[0].Bytes) != both {
		t.Fatalf("collapse: %v %+v", ok, c)
	}
	if v := c.Versions[0]; v.Label.Count() != 2 || v.Resolver.Epoch != 1 || v.Resolver.SHA256 != f.sha {
		t.Fatalf("label %v resolver %+v", v.Label, v.Resolver)
	}
	if j := c.Join(o); !j.Equal(c) {
		t.Fatal("the raw siblings come back beside the collapsed version")
	}
	unlawful := p
	unlawful.Lawful = false
	for name, c := range map[string]struct {
		p Policy
		o causal.Object
	}{"unchecked resolver": {unlawful, o}, "failed merge": {p, written(apples, "no cart")}, "one version": {p, written(apples)}} {
		if got, ok := f.Collapse(t.Context(), c.p, []byte("k"), c.o); ok || !got.Equal(c.o) {
			t.Errorf("%s: collapsed", name)
		}
	}
}

func TestTry(t *testing.T) {
	f := newFixture(t)
	p := f.policy(config.PolicyResolver)
	res, err := f.Try(t.Context(), p, []byte("k"), []causal.Value{{Bytes: []byte(apples)}, {Bytes: []byte(pears)}})
	if err != nil || string(res.Value.Bytes) != both || res.Merged == "" {
		t.Fatalf("%+v, %v", res, err)
	}
	p.Module = [32]byte{9}
	if _, err := f.Try(t.Context(), p, nil, nil); err == nil {
		t.Fatal("a module that nobody has was tried")
	}
}

func TestModulesFetchAgainAfterAWhile(t *testing.T) {
	f := newFixture(t)
	load := func() error { _, err := f.Load(t.Context(), [32]byte{1}); return err }
	first, again := load(), load()
	if first == nil || again == nil || f.fetches != 1 {
		t.Fatalf("%d fetches, %v, %v", f.fetches, first, again)
	}
	f.now = f.now.Add(refetchAfter + 1)
	if load() == nil || f.fetches != 2 {
		t.Fatalf("%d fetches", f.fetches)
	}
}

func TestCanonicalOrder(t *testing.T) {
	o := written("a", "b", "c")
	want := fmt.Sprint(Ordered(o.Versions))
	vs := slices.Clone(o.Versions)
	slices.Reverse(vs)
	if got := fmt.Sprint(Ordered(vs)); got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	if !bytes.Equal(Ordered(o.Versions)[0].Bytes, []byte("a")) {
		t.Fatal("not by smallest dot")
	}
}
