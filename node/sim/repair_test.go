package sim

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"dynamo/node/config"
	"dynamo/node/coordinator"
)

// equal waits until all primaries of every partition hold the same, without a read, and returns how many
// copies a node holds at most. It fails after a minute of virtual time.
func equal(t *testing.T, c *Cluster) (copies uint64) {
	t.Helper()
	type tree struct {
		partition uint32
		keyspace  string
	}
	why := ""
	for range 120 {
		why, copies = "", 0
		first := make(map[tree]string)
		for _, n := range c.o.Config.Nodes {
			mine := uint64(0)
			for _, p := range c.Node(n.ID).Partitions() {
				id, sum := tree{p.Partition, p.Keyspace}, fmt.Sprint(p.Sum, p.Count)
				if was, ok := first[id]; ok && was != sum || !p.Sound {
					why = fmt.Sprintf("%v: %s holds %s, another %s, sound %t", id, n.ID, sum, was, p.Sound)
				}
				first[id] = sum
				mine += p.Count
			}
			copies = max(copies, mine)
		}
		if why == "" {
			return copies
		}
		time.Sleep(500 * time.Millisecond)
	}
	t.Fatalf("the replicas do not become equal: %s", why)
	return 0
}

func TestReplicasBecomeEqualWithoutReads(t *testing.T) {
	inBubble(t, 3, 11, func(t *testing.T, ctx context.Context, c *Cluster) {
		one := coordinator.Options{R: 1, W: 1}
		c.Cut([]string{"n1"}, []string{"n2", "n3"})
		for i := range 40 {
			put(t, ctx, c, "n1", "notes", fmt.Sprint("a", i), "left", "", one)
			put(t, ctx, c, "n2", "notes", fmt.Sprint("a", i/2), fmt.Sprint("right", i), "", one)
			put(t, ctx, c, "n3", "default", fmt.Sprint("d", i%7), fmt.Sprint(i), "", one)
			put(t, ctx, c, "n1", "default", fmt.Sprint("d", i%7), fmt.Sprint(i), "", one)
		}
		c.Heal()
		if n := equal(t, c); n != 47 {
			t.Fatalf("%d copies of 47 keys", n)
		}
		for _, id := range []string{"n1", "n2", "n3"} {
			if a := get(t, ctx, c, id, "notes", "a3", one); len(a.Siblings) != 3 {
				t.Fatalf("%s shows %+v", id, a)
			}
		}
	}, keyspace("notes", config.PolicySiblings))
}

func TestWipedNodeIsRefilled(t *testing.T) {
	inBubble(t, 5, 12, func(t *testing.T, ctx context.Context, c *Cluster) {
		for i := range 300 {
			put(t, ctx, c, "n1", "notes", fmt.Sprint(i), "v", "", coordinator.Options{})
		}
		before := equal(t, c)
		if err := c.Stop(ctx, "n2"); err != nil {
			t.Fatal(err)
		}
		c.Wipe("n2")
		if err := c.Start(ctx, "n2"); err != nil {
			t.Fatal(err)
		}
		if after := equal(t, c); after != before || before < 150 {
			t.Fatalf("%d copies before, %d after", before, after)
		}
	}, keyspace("notes", config.PolicySiblings))
}

// settling makes tombstones go within seconds.
func settling(l *config.Limits) {
	l.ContextLifetime, l.MaxTimeout, l.RequestTimeout, l.SettleAfter = 20*time.Second, 5*time.Second, 2*time.Second, 30*time.Second
}

func copiesOf(c *Cluster, keyspace string) (n uint64) {
	for _, cfg := range c.o.Config.Nodes {
		if c.Node(cfg.ID) == nil {
			continue
		}
		for _, p := range c.Node(cfg.ID).Partitions() {
			if p.Keyspace == keyspace {
				n += p.Count
			}
		}
	}
	return n
}

func within(t *testing.T, limit time.Duration, what string, f func() bool) {
	t.Helper()
	for range int(limit / time.Second) {
		if f() {
			return
		}
		time.Sleep(time.Second)
	}
	t.Fatalf("after %v: %s", limit, what)
}

// A deleted key is forgotten by all, but only while everybody is there to agree: a replica that was away
// for longer than any timer cannot bring the value back.
func TestDeletesStayDeleted(t *testing.T) {
	inTunedBubble(t, 5, 13, settling, func(t *testing.T, ctx context.Context, c *Cluster) {
		primaries := c.Node("n1").Requests()
		at, err := primaries.Locate("notes", []byte("k"))
		if err != nil {
			t.Fatal(err)
		}
		away, here := at.PreferenceList[2], at.PreferenceList[0]
		put(t, ctx, c, here, "notes", "k", "v", "", coordinator.Options{W: 3})
		put(t, ctx, c, here, "notes", "stays", "v", "", coordinator.Options{W: 3})
		if err := c.Stop(ctx, away); err != nil {
			t.Fatal(err)
		}
		put(t, ctx, c, here, "notes", "k", "", "", coordinator.Options{})
		time.Sleep(10 * time.Minute)
		if n := copiesOf(c, "notes"); n < 4 {
			t.Fatalf("%d copies are left while %s is away: the tombstone was reaped too early", n, away)
		}
		if err := c.Start(ctx, away); err != nil {
			t.Fatal(err)
		}
		equal(t, c)
		if a := get(t, ctx, c, away, "notes", "k", coordinator.Options{R: 1}); a.Found() {
			t.Fatalf("the deleted value is back: %+v", a)
		}
		within(t, 10*time.Minute, "the tombstone is still there", func() bool { return copiesOf(c, "notes") == 3 })
		// Nothing is left of the key, and it can be written anew.
		for _, n := range c.o.Config.Nodes {
			if a := get(t, ctx, c, n.ID, "notes", "k", coordinator.Options{R: 3}); a.Token != "" {
				t.Fatalf("%s remembers %+v", n.ID, a)
			}
		}
		put(t, ctx, c, away, "notes", "k", "again", "", coordinator.Options{})
		if a := get(t, ctx, c, here, "notes", "k", coordinator.Options{}); a.Value == nil || string(a.Value.Bytes) != "again" {
			t.Fatalf("after a new write: %+v", a)
		}
	}, keyspace("notes", config.PolicySiblings))
}

func TestSiblingsOfALawfulResolverAreCollapsed(t *testing.T) {
	inTunedBubble(t, 3, 14, settling, func(t *testing.T, ctx context.Context, c *Cluster) {
		put(t, ctx, c, "n1", "carts", "alice", apples, "", coordinator.Options{W: 3})
		put(t, ctx, c, "n2", "carts", "alice", pears, "", coordinator.Options{W: 3})
		within(t, 5*time.Minute, "there are still two siblings", func() bool {
			a := get(t, ctx, c, "n3", "carts", "alice", coordinator.Options{R: 3})
			return a.Count == 1 && a.Value != nil && string(a.Value.Bytes) == both
		})
		equal(t, c)
	}, keyspace("carts", config.PolicyResolver))
}

func TestDroppedKeyspaceIsGoneFromNodesThatWereAway(t *testing.T) {
	inBubble(t, 3, 15, func(t *testing.T, ctx context.Context, c *Cluster) {
		for i := range 50 {
			put(t, ctx, c, "n1", "notes", fmt.Sprint(i), "v", "", coordinator.Options{W: 3})
		}
		if err := c.Stop(ctx, "n3"); err != nil {
			t.Fatal(err)
		}
		if err := c.Node("n1").DropKeyspace(ctx, "notes"); err != nil {
			t.Fatal(err)
		}
		holds := func() (n uint64) {
			for _, cfg := range c.o.Config.Nodes {
				if c.Node(cfg.ID) != nil {
					n += c.Node(cfg.ID).Keys()
				}
			}
			return n
		}
		within(t, time.Minute, "the data is still there", func() bool { return holds() == 0 })
		if err := c.Start(ctx, "n3"); err != nil {
			t.Fatal(err)
		}
		within(t, time.Minute, "the data is still on n3", func() bool {
			return holds() == 0 && !slices.ContainsFunc(c.Node("n3").Partitions(), func(p coordinator.PartitionCopy) bool { return p.Keyspace == "notes" })
		})
	}, keyspace("notes", config.PolicySiblings))
}
