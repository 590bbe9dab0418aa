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

	"dynamo/node/causal"
	"dynamo/node/config"
	"dynamo/node/coordinator"
)

const (
	apples = `{"items":{"apple":2}}`
	pears  = `{"items":{"pear":1}}`
	both   = `{"items":{"apple":2,"pear":1}}`
)

// inBubble runs f with a cluster of n nodes on virtual time.
func inBubble(t *testing.T, n int, seed uint64, f func(t *testing.T, ctx context.Context, c *Cluster), ks ...config.Keyspace) {
	t.Helper()
	inTunedBubble(t, n, seed, func(*config.Limits) {}, f, ks...)
}

// inTunedBubble is inBubble with other limits.
func inTunedBubble(t *testing.T, n int, seed uint64, tune func(*config.Limits), f func(t *testing.T, ctx context.Context, c *Cluster), ks ...config.Keyspace) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		cfg := Config(n, 16, ks...)
		cfg.Limits.ResolverTimeout = time.Minute
		tune(&cfg.Limits)
		c := New(Options{
			Config: cfg, Seed: seed, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
			ModuleCache: filepath.Join(os.TempDir(), "dynamo-test-modules"),
		})
		defer func() {
			if err := c.Close(ctx); err != nil {
				t.Error(err)
			}
		}()
		if err := c.StartAll(ctx); err != nil {
			t.Fatal(err)
		}
		f(t, ctx, c)
	})
}

func keyspace(name string, p config.Policy) config.Keyspace {
	k := config.Keyspace{Name: name, N: 3, R: 2, W: 2, Conflict: p, Durability: config.DurabilitySync, MaxValueBytes: 1 << 20}
	if p == config.PolicyResolver {
		k.Resolver, _ = filepath.Abs("../../examples/cart-merge/cart.wasm")
	}
	return k
}

func put(t *testing.T, ctx context.Context, c *Cluster, id, ks, key, value, token string, o coordinator.Options) string {
	t.Helper()
	a, err := write(ctx, c, id, ks, key, value, token, o)
	if err != nil {
		t.Fatalf("put via %s: %v", id, err)
	}
	return a.Token
}

func write(ctx context.Context, c *Cluster, id, ks, key, value, token string, o coordinator.Options) (coordinator.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return c.Node(id).Requests().Write(ctx, coordinator.WriteRequest{
		Keyspace: ks, Key: []byte(key), Options: o, Token: token,
		Value: causal.Value{Bytes: []byte(value), ContentType: "application/json", Deleted: value == ""},
	})
}

func get(t *testing.T, ctx context.Context, c *Cluster, id, ks, key string, o coordinator.Options) coordinator.Answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	a, err := c.Node(id).Requests().Get(ctx, coordinator.ReadRequest{Keyspace: ks, Key: []byte(key), Options: o})
	if err != nil {
		t.Fatalf("get via %s: %v", id, err)
	}
	return a
}

// TestCutAndMerge is the main job: two sides of a cut write one cart, and after the heal every node
// answers with one merged cart, which the next write replaces.
func TestCutAndMerge(t *testing.T) {
	inBubble(t, 3, 1, func(t *testing.T, ctx context.Context, c *Cluster) {
		one := coordinator.Options{R: 1, W: 1}
		c.Cut([]string{"n1"}, []string{"n2", "n3"})
		put(t, ctx, c, "n1", "carts", "alice", apples, "", one)
		put(t, ctx, c, "n2", "carts", "alice", pears, "", coordinator.Options{})
		if a := get(t, ctx, c, "n1", "carts", "alice", one); string(a.Value.Bytes) != apples {
			t.Fatalf("n1 answers %q across the cut", a.Value.Bytes)
		}
		if a := get(t, ctx, c, "n3", "carts", "alice", coordinator.Options{}); string(a.Value.Bytes) != pears {
			t.Fatalf("n3 answers %q across the cut", a.Value.Bytes)
		}
		if _, err := write(ctx, c, "n1", "carts", "alice", apples, "", coordinator.Options{}); !isCode(err, coordinator.CodeQuorumUnmet) {
			t.Fatalf("W=2 on the smaller side: %v", err)
		}
		c.Heal()
		time.Sleep(5 * time.Second)
		token := ""
		for i, id := range []string{"n1", "n2", "n3"} {
			o := coordinator.Options{}
			if i == 0 {
				o.R = coordinator.QuorumAll
			}
			a := get(t, ctx, c, id, "carts", "alice", o)
			if a.Value == nil || string(a.Value.Bytes) != both || a.Merged == "" || a.Count < 2 {
				t.Fatalf("%s answers %+v", id, a)
			}
			token = a.Token
			time.Sleep(time.Second)
		}
		put(t, ctx, c, "n3", "carts", "alice", apples, token, coordinator.Options{})
		for _, id := range []string{"n1", "n2", "n3"} {
			if a := get(t, ctx, c, id, "carts", "alice", coordinator.Options{}); a.Count != 1 || string(a.Value.Bytes) != apples {
				t.Fatalf("%s answers %+v after the write that saw both", id, a)
			}
		}
	}, keyspace("carts", config.PolicyResolver))
}

func isCode(err error, code coordinator.Code) bool {
	e, ok := err.(*coordinator.Error)
	return ok && e.Code == code
}

// TestAcknowledgedWritesSurviveACrashOfAll takes the power from all nodes at once.
func TestAcknowledgedWritesSurviveACrashOfAll(t *testing.T) {
	for _, percent := range []int{0, 50, 100} {
		t.Run(fmt.Sprintf("%d%% of unsynced data survives", percent), func(t *testing.T) {
			inBubble(t, 3, uint64(percent)+2, func(t *testing.T, ctx context.Context, c *Cluster) {
				ids := []string{"n1", "n2", "n3"}
				for i := range 30 {
					put(t, ctx, c, ids[i%3], "notes", fmt.Sprint("k", i), fmt.Sprint("v", i), "", coordinator.Options{})
				}
				for _, id := range ids {
					if err := c.Crash(ctx, id, percent); err != nil {
						t.Log("close after the power is gone:", err)
					}
				}
				if err := c.StartAll(ctx); err != nil {
					t.Fatal(err)
				}
				for i := range 30 {
					a := get(t, ctx, c, ids[(i+1)%3], "notes", fmt.Sprint("k", i), coordinator.Options{})
					if a.Value == nil || string(a.Value.Bytes) != fmt.Sprint("v", i) {
						t.Fatalf("k%d: %+v", i, a)
					}
				}
			}, keyspace("notes", config.PolicySiblings))
		})
	}
}

// TestWriteTokenDoesNotClaimUnseenSiblings: two blind writes through one node are two dots of one
// actor. The second writer has not seen the first value, so its next write must leave it.
func TestWriteTokenDoesNotClaimUnseenSiblings(t *testing.T) {
	inBubble(t, 3, 7, func(t *testing.T, ctx context.Context, c *Cluster) {
		put(t, ctx, c, "n1", "notes", "k", "first", "", coordinator.Options{})
		token := put(t, ctx, c, "n1", "notes", "k", "second", "", coordinator.Options{})
		put(t, ctx, c, "n2", "notes", "k", "second, edited", token, coordinator.Options{})
		a := get(t, ctx, c, "n3", "notes", "k", coordinator.Options{})
		var got []string
		for _, s := range a.Siblings {
			got = append(got, string(s.Bytes))
		}
		slices.Sort(got)
		if fmt.Sprint(got) != "[first second, edited]" {
			t.Fatalf("siblings %q", got)
		}
	}, keyspace("notes", config.PolicySiblings))
}

// TestDeleteLeavesConcurrentWrite: a delete takes away what its context has seen and no more.
func TestDeleteLeavesConcurrentWrite(t *testing.T) {
	inBubble(t, 3, 8, func(t *testing.T, ctx context.Context, c *Cluster) {
		token := put(t, ctx, c, "n1", "notes", "k", "old", "", coordinator.Options{})
		put(t, ctx, c, "n2", "notes", "k", "new", "", coordinator.Options{})
		put(t, ctx, c, "n3", "notes", "k", "", token, coordinator.Options{})
		if a := get(t, ctx, c, "n1", "notes", "k", coordinator.Options{}); a.Value == nil || string(a.Value.Bytes) != "new" {
			t.Fatalf("%+v", a)
		}
		put(t, ctx, c, "n1", "notes", "k", "", "", coordinator.Options{})
		if a := get(t, ctx, c, "n2", "notes", "k", coordinator.Options{}); a.Found() || a.Token == "" {
			t.Fatalf("after a delete without a context: %+v", a)
		}
	}, keyspace("notes", config.PolicySiblings))
}

// TestFallbacksStandIn: with all primaries of a key down, a write succeeds through fallbacks, is read
// through them, and goes home when the primaries return.
func TestFallbacksStandIn(t *testing.T) {
	inBubble(t, 6, 9, func(t *testing.T, ctx context.Context, c *Cluster) {
		loc, err := c.Node("n1").Requests().Locate("notes", []byte("k"))
		if err != nil {
			t.Fatal(err)
		}
		primaries, fallbacks := loc.PreferenceList[:3], loc.PreferenceList[3:]
		for _, id := range primaries {
			if err := c.Stop(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
		put(t, ctx, c, fallbacks[0], "notes", "k", "v", "", coordinator.Options{})
		if a := get(t, ctx, c, fallbacks[1], "notes", "k", coordinator.Options{}); a.Value == nil || string(a.Value.Bytes) != "v" {
			t.Fatalf("through fallbacks: %+v", a)
		}
		if _, err := write(ctx, c, fallbacks[0], "notes", "k", "w", "", coordinator.Options{PrimariesOnly: true}); !isCode(err, coordinator.CodeQuorumUnmet) {
			t.Fatalf("sloppy=false with no primary: %v", err)
		}
		if err := c.StartAll(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		for _, id := range fallbacks {
			if err := c.Stop(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
		if a := get(t, ctx, c, primaries[2], "notes", "k", coordinator.Options{R: 2}); !a.Found() {
			t.Fatalf("hints did not go home: %+v", a)
		}
	}, keyspace("notes", config.PolicySiblings))
}
