package sim

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"dynamo/node/config"
	"dynamo/node/coordinator"
	"dynamo/node/peer"
)

// seeds is how many random runs there are; `make soak` asks for more.
var seeds = flag.Uint64("seeds", 12, "random runs of TestRandomFaults")

// history is what the checker knows of a run: which writes were acknowledged, and which were observed
// and replaced by a later one, acknowledged or not.
type history struct {
	acked    map[string][]string
	replaced map[string]bool
	next     int
}

// faultRun drives one cluster through random writes and faults.
type faultRun struct {
	t   *testing.T
	ctx context.Context
	c   *Cluster
	rng *rand.Rand
	ids []string
	history
	log []string
}

func (f *faultRun) note(format string, args ...any) {
	f.log = append(f.log, fmt.Sprintf(format, args...))
}

// up is a random node that runs.
func (f *faultRun) up() string {
	for {
		if id := f.ids[f.rng.IntN(len(f.ids))]; f.c.Node(id) != nil {
			return id
		}
	}
}

// write puts a new value, half of the time over what a read has shown.
func (f *faultRun) write() {
	id, key := f.up(), fmt.Sprint("k", f.rng.IntN(4))
	f.next++
	value := fmt.Sprint("v", f.next)
	token := ""
	var seen []string
	if f.rng.IntN(2) == 0 {
		ctx, cancel := context.WithTimeout(f.ctx, 2*time.Second)
		a, err := f.c.Node(id).Requests().Get(ctx, coordinator.ReadRequest{Keyspace: "notes", Key: []byte(key)})
		cancel()
		if err == nil {
			token = a.Token
			seen = shown(a)
		}
	}
	_, err := write(f.ctx, f.c, id, "notes", key, value, token, coordinator.Options{})
	f.note("write %s=%s via %s over %v: %v", key, value, id, seen, err)
	for _, v := range seen {
		f.replaced[v] = true
	}
	if err == nil {
		f.acked[key] = append(f.acked[key], value)
	}
}

func shown(a coordinator.Answer) []string {
	if a.Value != nil {
		return []string{string(a.Value.Bytes)}
	}
	var out []string
	for _, v := range a.Siblings {
		out = append(out, string(v.Bytes))
	}
	return out
}

// fault does one bad thing, or ends one.
func (f *faultRun) fault() {
	switch f.rng.IntN(4) {
	case 0:
		k := 1 + f.rng.IntN(len(f.ids)-1)
		order := slices.Clone(f.ids)
		f.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		f.note("cut %v | %v", order[:k], order[k:])
		f.c.Cut(order[:k], order[k:])
	case 1:
		f.note("heal")
		f.c.Heal()
	case 2:
		id := f.up()
		f.note("crash %s", id)
		if err := f.c.Crash(f.ctx, id, f.rng.IntN(101)); err != nil {
			f.note("close after the power is gone: %v", err)
		}
		if err := f.c.Start(f.ctx, id); err != nil {
			f.t.Fatal(err)
		}
	case 3:
		faults := peer.Faults{MinDelay: 50 * time.Microsecond, MaxDelay: time.Duration(1+f.rng.IntN(100)) * time.Millisecond, Loss: 0.05 * float64(f.rng.IntN(3)), Duplicate: 0.05 * float64(f.rng.IntN(3))}
		f.note("network %+v", faults)
		f.c.Network.SetFaults(faults)
	}
}

// check brings the cluster to rest and compares every replica with the history.
func (f *faultRun) check() {
	f.c.Heal()
	f.c.Network.SetFaults(peer.Faults{MinDelay: 50 * time.Microsecond, MaxDelay: time.Millisecond})
	time.Sleep(30 * time.Second)
	for i := range 4 {
		key := fmt.Sprint("k", i)
		for range 2 { // the second read sees what the first one repaired
			get(f.t, f.ctx, f.c, f.ids[0], "notes", key, coordinator.Options{R: coordinator.QuorumAll})
			time.Sleep(5 * time.Second)
		}
		a := get(f.t, f.ctx, f.c, f.ids[1], "notes", key, coordinator.Options{})
		there := shown(a)
		for _, v := range f.acked[key] {
			if !slices.Contains(there, v) && !f.replaced[v] {
				f.t.Errorf("%s: %s was acknowledged and is gone; there are %v", key, v, there)
			}
		}
		e, err := f.c.Node(f.ids[0]).Requests().Explain(f.ctx, "notes", []byte(key))
		if err != nil {
			f.t.Fatal(err)
		}
		f.compare(key, e)
	}
}

// compare asks that the primaries hold the same.
func (f *faultRun) compare(key string, e coordinator.Explanation) {
	for _, r := range e.Replicas {
		if r.HintFor != "" {
			f.t.Errorf("%s: %s still keeps a hint for %s", key, r.Node, r.HintFor)
			continue
		}
		if fmt.Sprint(r.Context, r.Versions) != fmt.Sprint(e.Replicas[0].Context, e.Replicas[0].Versions) {
			f.t.Errorf("%s: %s and %s differ:\n%v\n%v", key, r.Node, e.Replicas[0].Node, r.Versions, e.Replicas[0].Versions)
		}
	}
}

// TestRandomFaults plays random writes, cuts, crashes that lose what was not synced, and a network that
// delays, loses and doubles. Afterwards every acknowledged write is there or was replaced by one that
// had seen it, and all replicas are equal.
func TestRandomFaults(t *testing.T) {
	for seed := range *seeds {
		nodes := 3 + int(seed%3)
		t.Run(fmt.Sprintf("seed %d, %d nodes", seed, nodes), func(t *testing.T) {
			inBubble(t, nodes, seed, func(t *testing.T, ctx context.Context, c *Cluster) {
				f := &faultRun{t: t, ctx: ctx, c: c, rng: rand.New(rand.NewPCG(seed, 2)), history: history{acked: map[string][]string{}, replaced: map[string]bool{}}}
				for i := range nodes {
					f.ids = append(f.ids, fmt.Sprint("n", i+1))
				}
				for range 80 {
					if f.rng.IntN(6) == 0 {
						f.fault()
					}
					f.write()
				}
				f.check()
				acked := 0
				for _, vs := range f.acked {
					acked += len(vs)
				}
				t.Logf("%d of 80 writes acknowledged", acked)
				if acked == 0 {
					t.Error("nothing was acknowledged: the run tests nothing")
				}
				if t.Failed() {
					for _, l := range f.log {
						t.Log(l)
					}
				}
			}, keyspace("notes", config.PolicySiblings))
		})
	}
}

// TestOldCopyTakesANewIdentity: a node that comes back from a copy of its disk made earlier must not mint
// under the identity that it has used since.
func TestOldCopyTakesANewIdentity(t *testing.T) {
	inBubble(t, 3, 42, func(t *testing.T, ctx context.Context, c *Cluster) {
		if err := c.Stop(ctx, "n1"); err != nil {
			t.Fatal(err)
		}
		backup := c.Backup("n1")
		if err := c.Start(ctx, "n1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		put(t, ctx, c, "n1", "notes", "k", "after the backup", "", coordinator.Options{})
		if err := c.Stop(ctx, "n1"); err != nil {
			t.Fatal(err)
		}
		c.Restore("n1", backup)
		if err := c.Start(ctx, "n1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		put(t, ctx, c, "n1", "notes", "k", "after the restore", "", coordinator.Options{})
		time.Sleep(time.Second)
		got := shown(get(t, ctx, c, "n2", "notes", "k", coordinator.Options{R: coordinator.QuorumAll}))
		slices.Sort(got)
		if fmt.Sprint(got) != "[after the backup after the restore]" {
			t.Fatalf("siblings %q", got)
		}
		time.Sleep(time.Second)
		e, err := c.Node("n2").Requests().Explain(ctx, "notes", []byte("k"))
		if err != nil || len(e.Replicas[0].Context) != 2 {
			t.Fatalf("the restored disk minted with its old actor: %+v, %v", e.Replicas[0].Context, err)
		}
	}, keyspace("notes", config.PolicySiblings))
}

// A write that is forwarded to a slow primary, and then to the next, is carried out once: whoever deletes
// what it was told of has deleted it.
func TestForwardedWriteIsMintedOnce(t *testing.T) {
	for seed := range uint64(6) {
		inBubble(t, 5, 100+seed, func(t *testing.T, ctx context.Context, c *Cluster) {
			const first, proxy = "n2", "n5"
			slow := peer.Faults{MinDelay: 150 * time.Millisecond, MaxDelay: 700 * time.Millisecond, Duplicate: 0.5}
			c.Network.SetLink(proxy, first, slow)
			c.Network.SetLink(first, proxy, slow)
			var keys []string
			for i := 0; len(keys) < 6; i++ {
				key := fmt.Sprint("k", i)
				at, err := c.Node("n1").Requests().Locate("notes", []byte(key))
				if err != nil {
					t.Fatal(err)
				}
				if at.PreferenceList[0] != first || slices.Contains(at.PreferenceList[:3], proxy) {
					continue
				}
				keys = append(keys, key)
				token := put(t, ctx, c, proxy, "notes", key, "v", "", coordinator.Options{})
				put(t, ctx, c, at.PreferenceList[1], "notes", key, "", token, coordinator.Options{})
				time.Sleep(3 * time.Second) // for the slow one to be asked again
			}
			c.Heal()
			equal(t, c)
			for _, key := range keys {
				if a := get(t, ctx, c, "n1", "notes", key, coordinator.Options{R: 3}); a.Found() {
					t.Errorf("seed %d: %s is back after its delete: %+v", seed, key, a)
				}
			}
		}, keyspace("notes", config.PolicySiblings))
	}
}
