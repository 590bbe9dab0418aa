package sim

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"dynamo/node/config"
	"dynamo/node/conflict"
	"dynamo/node/coordinator"
)

// inBirthBubble runs f with a cluster on virtual time of which no node has been started.
func inBirthBubble(t *testing.T, n int, seed uint64, f func(t *testing.T, ctx context.Context, c *Cluster), ks ...config.Keyspace) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		cfg := Config(n, 16, ks...)
		cfg.Limits.ResolverTimeout = time.Minute
		c := New(Options{Config: cfg, Seed: seed, Logger: slog.New(slog.DiscardHandler), Now: time.Now, ModuleCache: filepath.Join(os.TempDir(), "dynamo-test-modules")})
		defer func() {
			if err := c.Close(ctx); err != nil {
				t.Error(err)
			}
		}()
		f(t, ctx, c)
	})
}

// startWith boots a node whose file is not quite that of the others.
func (c *Cluster) startWith(ctx context.Context, id string, other func(*config.Cluster)) error {
	was := c.o.Config
	defer func() { c.o.Config = was }()
	file := *was
	file.Keyspaces = slices.Clone(was.Keyspaces)
	other(&file)
	c.o.Config = &file
	return c.Start(ctx, id)
}

// TestBirthResolverThatAMemberLacks: the resolver of the cluster file is active from birth on. A member that does not
// find the file gets the module from the others; one that cannot compile it keeps the siblings, and merges like
// the others as soon as it can.
func TestBirthResolverThatAMemberLacks(t *testing.T) {
	inBirthBubble(t, 4, 51, func(t *testing.T, ctx context.Context, c *Cluster) {
		start := func(id string, other func(*config.Cluster)) {
			t.Helper()
			if err := c.startWith(ctx, id, other); err != nil {
				t.Fatal(err)
			}
		}
		start("n4", func(file *config.Cluster) { file.Keyspaces[0].Resolver = "/nonexistent/cart.wasm" })
		start("n3", func(file *config.Cluster) { file.Limits.ResolverModuleBytes = 1000 })
		for _, id := range []string{"n1", "n2"} {
			start(id, func(*config.Cluster) {})
		}
		time.Sleep(5 * time.Second)
		put(t, ctx, c, "n1", "carts", "k", apples, "", coordinator.Options{W: coordinator.QuorumAll})
		put(t, ctx, c, "n3", "carts", "k", pears, "", coordinator.Options{W: coordinator.QuorumAll})
		merges := func(id string) {
			t.Helper()
			within(t, time.Minute, id+" does not merge", func() bool {
				a := get(t, ctx, c, id, "carts", "k", coordinator.Options{})
				return a.Value != nil && string(a.Value.Bytes) == both && a.Merged != "" && a.Count == 2
			})
		}
		for _, id := range []string{"n1", "n2", "n4"} {
			merges(id)
		}
		for range 3 { // it does not change its mind
			if a := get(t, ctx, c, "n3", "carts", "k", coordinator.Options{}); a.Value != nil || len(a.Siblings) != 2 || a.ResolverError != "too_large" {
				t.Fatalf("n3 answers %+v", a)
			}
			time.Sleep(20 * time.Second)
		}
		active := ""
		for _, id := range []string{"n1", "n2", "n3", "n4"} {
			st, err := c.Node(id).Resolvers().Status("carts")
			if err != nil || st.Active == nil || st.Active.Version != 1 || st.Loaded != (id != "n3") || active != "" && active != st.Active.SHA256 {
				t.Fatalf("%s: %+v, %v", id, st, err)
			}
			active = st.Active.SHA256
		}
		equal(t, c)
		if err := c.Stop(ctx, "n3"); err != nil {
			t.Fatal(err)
		}
		if err := c.Start(ctx, "n3"); err != nil {
			t.Fatal(err)
		}
		merges("n3")
		equal(t, c)
	}, keyspace("carts", config.PolicyResolver))
}

// TestLateMemberFetchesBeforeItMerges: a member that was away while the version changed shows siblings until it has the
// new one, and never what the old one makes of them, once it has heard of the change.
func TestLateMemberFetchesBeforeItMerges(t *testing.T) {
	inBubble(t, 3, 52, func(t *testing.T, ctx context.Context, c *Cluster) {
		off := coordinator.CheckOff
		if _, err := c.Node("n1").Resolvers().Upload(ctx, "carts", coordinator.Upload{Module: selecting(0), Check: off}); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"n1", "n2"} {
			put(t, ctx, c, id, "carts", "k", "by "+id, "", coordinator.Options{W: coordinator.QuorumAll})
		}
		first := get(t, ctx, c, "n3", "carts", "k", coordinator.Options{})
		if first.Value == nil || first.Merged == "" {
			t.Fatalf("%+v", first)
		}
		if err := c.Stop(ctx, "n3"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		up, err := c.Node("n1").Resolvers().Upload(ctx, "carts", coordinator.Upload{Module: selecting(1), Check: off})
		if err != nil || up.Version != 2 {
			t.Fatalf("%+v, %v", up, err)
		}
		if err := c.Start(ctx, "n3"); err != nil {
			t.Fatal(err)
		}
		heard := false
		within(t, time.Minute, "n3 does not merge by the new version", func() bool {
			st, err := c.Node("n3").Resolvers().Status("carts")
			if err != nil {
				t.Fatal(err)
			}
			heard = heard || st.Active.SHA256 == up.SHA256
			a := get(t, ctx, c, "n3", "carts", "k", coordinator.Options{})
			switch {
			case a.Merged == up.SHA256:
				return string(a.Value.Bytes) != string(first.Value.Bytes)
			case heard && (a.Merged != "" || a.ResolverError != conflict.CodePending):
				t.Fatalf("n3 has heard of version 2 and answers %+v", a)
			}
			return false
		})
	}, keyspace("carts", config.PolicySiblings))
}

// TestVersionsApartBecomeEqual: on two sides of a cut two versions are active, and both collapse siblings on their disks.
// After the heal the greater epoch rules, and all replicas hold and show the same bytes.
func TestVersionsApartBecomeEqual(t *testing.T) {
	few := func(l *config.Limits) { l.MaxSiblings = 3 }
	inTunedBubble(t, 3, 53, few, func(t *testing.T, ctx context.Context, c *Cluster) {
		v2, err := os.ReadFile("../../plugins/wasm/lww.wasm")
		if err != nil {
			t.Fatal(err)
		}
		cart := func(sku string, n int) string { return fmt.Sprintf(`{"items":{%q:%d}}`, sku, n) }
		one := coordinator.Options{R: 1, W: 1}
		keys := []string{"a", "b", "c"}
		for _, key := range keys {
			put(t, ctx, c, "n1", "carts", key, cart("before", 1), "", coordinator.Options{W: coordinator.QuorumAll})
			put(t, ctx, c, "n2", "carts", key, cart("before", 2), "", coordinator.Options{W: coordinator.QuorumAll})
		}
		c.Cut([]string{"n1"}, []string{"n2", "n3"})
		time.Sleep(10 * time.Second)
		up, err := c.Node("n2").Resolvers().Upload(ctx, "carts", coordinator.Upload{Module: v2, Check: coordinator.CheckStrict})
		if err != nil || up.Version != 2 || up.Check.Outcome != "lawful" {
			t.Fatalf("%+v, %v", up, err)
		}
		for i := range 6 {
			for _, key := range keys {
				put(t, ctx, c, "n1", "carts", key, cart(fmt.Sprint("left", i), 1), "", one)
				put(t, ctx, c, fmt.Sprint("n", 2+i%2), "carts", key, cart(fmt.Sprint("right", i), 1), "", one)
				time.Sleep(10 * time.Millisecond)
			}
		}
		merged := func(id, key string) string {
			t.Helper()
			a := get(t, ctx, c, id, "carts", key, one)
			if a.Value == nil || a.Count > 4 { // of 8 writes that had seen nothing
				t.Fatalf("%s shows no value of %s: %+v", id, key, a)
			}
			return string(a.Value.Bytes)
		}
		for _, key := range keys {
			left, right := merged("n1", key), merged("n2", key)
			if left != `{"items":{"before":2,"left0":1,"left1":1,"left2":1,"left3":1,"left4":1,"left5":1}}` || right != cart("right5", 1) {
				t.Fatalf("%s while they are apart: %s and %s", key, left, right)
			}
		}
		c.Heal()
		equal(t, c)
		within(t, time.Minute, "the members show different values", func() bool {
			for _, key := range keys {
				for _, id := range []string{"n1", "n2", "n3"} {
					if merged(id, key) != cart("right5", 1) {
						return false
					}
				}
			}
			return true
		})
		for _, id := range []string{"n1", "n2", "n3"} {
			if st, err := c.Node(id).Resolvers().Status("carts"); err != nil || st.Active.SHA256 != up.SHA256 {
				t.Fatalf("%s: %+v, %v", id, st, err)
			}
		}
		equal(t, c)
	}, keyspace("carts", config.PolicyResolver))
}
