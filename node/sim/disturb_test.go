package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"dynamo/node"
	"dynamo/node/causal"
	"dynamo/node/config"
	"dynamo/node/coordinator"
	"dynamo/node/peer"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// TestPausedNodeDeliversLate: a write to all waits for a node that stands still and is acknowledged once it goes on; that
// node's log grows no further meanwhile.
func TestPausedNodeDeliversLate(t *testing.T) {
	inBubble(t, 3, 41, func(t *testing.T, ctx context.Context, c *Cluster) {
		put(t, ctx, c, "n1", "notes", "k", "before", "", coordinator.Options{W: coordinator.QuorumAll})
		c.Pause("n2")
		began := time.Now()
		var wg sync.WaitGroup
		var err error
		wg.Go(func() {
			_, err = c.Node("n1").Requests().Write(ctx, coordinator.WriteRequest{
				Keyspace: "notes", Key: []byte("k"), Value: causal.Value{Bytes: []byte("after")},
				Options: coordinator.Options{W: coordinator.QuorumAll, PrimariesOnly: true},
			})
		})
		time.Sleep(400 * time.Millisecond)
		if _, err := write(ctx, c, "n2", "notes", "other", "v", "", coordinator.Options{}); err == nil {
			t.Error("a node that stands still acknowledged a write")
		}
		c.Resume("n2")
		wg.Wait()
		if took := time.Since(began); err != nil || took < 400*time.Millisecond {
			t.Errorf("%v after %v", err, took)
		}
		eventually(t, 10*time.Second, "n2 takes part again", func() error {
			_, err := write(ctx, c, "n2", "notes", "other", "v", "", coordinator.Options{W: coordinator.QuorumAll, PrimariesOnly: true})
			return err
		})
		c.Pause("n3")
		if err := c.Crash(ctx, "n3", 50); err != nil {
			t.Fatal("the power goes while a node stands still:", err)
		}
		if err := c.Start(ctx, "n3"); err != nil {
			t.Fatal(err)
		}
	}, keyspace("notes", config.PolicySiblings))
}

// TestSlowLink: what a slow node is sent is late, and nothing else.
func TestSlowLink(t *testing.T) {
	inBubble(t, 3, 42, func(t *testing.T, ctx context.Context, c *Cluster) {
		took := func(id string) time.Duration {
			began := time.Now()
			put(t, ctx, c, id, "notes", "k", "v", "", coordinator.Options{W: 2, PrimariesOnly: true})
			return time.Since(began)
		}
		c.Slow(peer.Faults{MinDelay: 150 * time.Millisecond, MaxDelay: 160 * time.Millisecond}, "n3")
		if fast, slow := took("n1"), took("n3"); fast > 20*time.Millisecond || slow < 300*time.Millisecond {
			t.Errorf("%v beside the slow node, %v through it", fast, slow)
		}
		c.Fair()
		if d := took("n3"); d > 20*time.Millisecond {
			t.Errorf("%v in the end", d)
		}
	}, keyspace("notes", config.PolicyLWW))
}

// answers handles what a network brings.
type answers func(from string) (wire.Message, error)

// Handle implements peer.Handler.
func (f answers) Handle(_ context.Context, from string, _ wire.Message) (wire.Message, error) {
	return f(from)
}

// TestReorder: messages overtake others that were sent long before.
func TestReorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := peer.NewNetwork(peer.NetworkOptions{})
		n.SetLink("a", "b", peer.Faults{Late: 0.5, LateBy: 300 * time.Millisecond})
		ack := answers(func(string) (wire.Message, error) { return &wire.Ack{}, nil })
		a := n.Attach(func() peer.Hello { return peer.Hello{Cluster: "c", Node: "a"} }, ack, nil)
		b := n.Attach(func() peer.Hello { return peer.Hello{Cluster: "c", Node: "b"} }, ack, nil)
		var wg sync.WaitGroup
		var mu sync.Mutex
		var order []int
		for i := range 20 {
			wg.Go(func() {
				short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				if _, err := a.Call(short, "b", &wire.Ping{}); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			})
			time.Sleep(10 * time.Millisecond)
		}
		wg.Wait()
		if len(order) != 20 || slices.IsSorted(order) {
			t.Errorf("answered in the order %v", order)
		}
		if err := errors.Join(a.Close(), b.Close()); err != nil {
			t.Error(err)
		}
	})
}

// TestWrongClock: the newest write is the one with the latest time, whoever wrote last; and a token grows old at once on a
// node whose clock jumps.
func TestWrongClock(t *testing.T) {
	inTunedBubble(t, 3, 44, func(l *config.Limits) { l.ContextLifetime, l.SettleAfter = time.Minute, 2*time.Minute }, func(t *testing.T, ctx context.Context, c *Cluster) {
		all := coordinator.Options{W: coordinator.QuorumAll}
		c.SetClock("n1", 5*time.Minute, 0)
		c.Cut([]string{"n1"}, []string{"n2", "n3"})
		put(t, ctx, c, "n1", "notes", "k", "early", "", coordinator.Options{W: 1})
		time.Sleep(time.Second)
		put(t, ctx, c, "n2", "notes", "k", "late", "", coordinator.Options{W: 1})
		c.Heal()
		time.Sleep(5 * time.Second)
		if a := get(t, ctx, c, "n3", "notes", "k", coordinator.Options{R: coordinator.QuorumAll}); a.Value == nil || string(a.Value.Bytes) != "early" {
			t.Errorf("%+v", a)
		}
		token := put(t, ctx, c, "n2", "notes", "other", "v", "", all)
		if _, err := write(ctx, c, "n1", "notes", "other", "w", token, all); !isCode(err, coordinator.CodeBadContext) {
			t.Errorf("a token that is five minutes old by n1's clock: %v", err)
		}
		c.SetClock("n1", 0, 0.1)
		time.Sleep(10 * time.Second)
		if off := time.Until(c.clocks["n1"].now()); off < 900*time.Millisecond || off > 1100*time.Millisecond {
			t.Errorf("off by %v after ten seconds", off)
		}
		c.SetClock("n1", 0, 0)
		if _, err := write(ctx, c, "n1", "notes", "other", "w", token, all); err != nil {
			t.Errorf("with the clock put right: %v", err)
		}
	}, keyspace("notes", config.PolicyLWW))
}

// TestClockSetBackIsNotFencedOff: a node that comes back with an earlier clock is taken for older than itself by settle
// rounds, until it hears so.
func TestClockSetBackIsNotFencedOff(t *testing.T) {
	inTunedBubble(t, 3, 46, settling, func(t *testing.T, ctx context.Context, c *Cluster) {
		all := coordinator.Options{W: coordinator.QuorumAll, PrimariesOnly: true}
		put(t, ctx, c, "n1", "notes", "k", "v", "", all)
		put(t, ctx, c, "n1", "notes", "k", "", "", all)
		within(t, 10*time.Minute, "the tombstone is still there", func() bool { return copiesOf(c, "notes") == 0 })
		if err := c.Stop(ctx, "n1"); err != nil {
			t.Fatal(err)
		}
		c.SetClock("n1", -time.Hour, 0)
		if err := c.Start(ctx, "n1"); err != nil {
			t.Fatal(err)
		}
		within(t, 10*time.Second, "the others refuse what it writes", func() bool {
			_, err := write(ctx, c, "n1", "notes", "k", "w", "", all)
			return err == nil
		})
	}, keyspace("notes", config.PolicySiblings))
}

// TestLogFails: a node whose log does not sync stops loudly, acknowledges nothing, and boots again.
func TestLogFails(t *testing.T) {
	for _, f := range []DiskFault{FailSync, NoSpace} {
		t.Run(fmt.Sprint(f), func(t *testing.T) {
			d := newDrive(vfs.NewCrashableMem())
			fatal := make(chan error, 9)
			open := func() (*store.Store, error) {
				return store.Open(store.Options{Dir: "/n1", FS: d, Rand: &lockedReader{r: rand.NewChaCha8([32]byte{1})}, Now: time.Now, OnFatal: func(err error) { fatal <- err }})
			}
			s, err := open()
			if err != nil {
				t.Fatal(err)
			}
			d.setFault(f)
			if err := s.PutMeta("name", []byte("value")); !errors.Is(err, store.ErrFailed) || d.faults() == 0 {
				t.Errorf("%v after %d failures", err, d.faults())
			}
			if err := s.Close(); !errors.Is(err, store.ErrFailed) {
				t.Error(err)
			}
			<-fatal
			d = d.replaced(d.CrashClone(vfs.CrashCloneCfg{}))
			if _, err := open(); f == NoSpace && err == nil {
				t.Error("it boots without space")
			}
			d = d.replaced(d.CrashClone(vfs.CrashCloneCfg{}))
			d.setFault(Healthy)
			if s, err = open(); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCrashInBoot: wherever the power goes while a node boots, the next boot finds what was acknowledged.
func TestCrashInBoot(t *testing.T) {
	inBubble(t, 3, 45, func(t *testing.T, ctx context.Context, c *Cluster) {
		put(t, ctx, c, "n1", "notes", "k", "v", "", coordinator.Options{W: coordinator.QuorumAll, PrimariesOnly: true})
		during := 0
		for operations := range 24 {
			if err := c.Crash(ctx, "n2", 50); err != nil {
				t.Fatal(err)
			}
			early, err := c.CrashInBoot(ctx, "n2", operations, 100*(operations%2))
			if early {
				during++
			} else if err != nil {
				t.Fatal(err)
			}
			if err := c.Start(ctx, "n2"); err != nil {
				t.Fatalf("after %d operations: %v", operations, err)
			}
			if keys := c.Node("n2").Keys(); keys != 1 {
				t.Fatalf("after %d operations: %d keys", operations, keys)
			}
		}
		if during < 10 {
			t.Errorf("the power went %d times during the boot", during)
		}
	}, keyspace("notes", config.PolicySiblings))
}

// sums says what a node holds.
func sums(n *node.Node) string {
	var b strings.Builder
	for _, p := range n.Partitions() {
		fmt.Fprintf(&b, "%d: %d %.8s %t, ", p.Partition, p.Count, fmt.Sprint(p.Sum), p.Sound)
	}
	return b.String()
}

// TestFlippedBits: a database that damage makes unusable is not opened, but set aside when the operator says so; the node
// is refilled under a new identity.
func TestFlippedBits(t *testing.T) {
	inBubble(t, 3, 46, func(t *testing.T, ctx context.Context, c *Cluster) {
		aside := 0
		stopped := make(chan error, 10)
		c.o.Fatal = func(_ string, err error) { stopped <- err }
		boot := func() {
			time.Sleep(time.Second) // what is set aside has the time in seconds in its name
			err := c.Boot(ctx, "n2")
			if errors.Is(err, store.ErrUnusable) {
				aside++
				err = c.BootReset(ctx, "n2")
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for i := range 12 {
			put(t, ctx, c, "n1", "notes", fmt.Sprint(i), "v", "", coordinator.Options{W: coordinator.QuorumAll, PrimariesOnly: true})
			if err := c.Crash(ctx, "n2", 0); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Flip("n2", ".sst"); err != nil || n == 0 && i > 1 {
				t.Fatalf("%d bits, %v", n, err)
			}
			boot()
			eventually(t, 2*time.Minute, "n2 holds all again", func() error {
				select {
				case err := <-stopped:
					t.Log("n2 had to stop:", err)
					if err := c.Crash(ctx, "n2", 0); err != nil {
						t.Log("and closes with:", err)
					}
					boot()
				default:
				}
				mine, theirs := sums(c.Node("n2")), sums(c.Node("n1"))
				if mine != theirs {
					return fmt.Errorf("%s, n1 has %s", mine, theirs)
				}
				return nil
			})
		}
		if aside == 0 {
			t.Error("no bit mattered")
		}
	}, keyspace("notes", config.PolicySiblings))
}
