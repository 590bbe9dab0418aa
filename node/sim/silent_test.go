package sim

import (
	"context"
	"fmt"
	"testing"
	"time"

	"dynamo/node/config"
	"dynamo/node/coordinator"
)

// TestSilentNodeIsAvoided: a node that gossip hears and requests do not. No write fails, after a second none
// is slow, and after its return the node takes part again within a second.
func TestSilentNodeIsAvoided(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			inBubble(t, 5, seed, func(t *testing.T, ctx context.Context, c *Cluster) {
				silent := fmt.Sprint("n", 1+seed)
				var others []string
				for i := range 5 {
					if id := fmt.Sprint("n", 1+i); id != silent {
						others = append(others, id)
					}
				}
				round := func(i int) time.Duration {
					id, key := others[i%4], fmt.Sprint("k", i%40)
					start := time.Now()
					put(t, ctx, c, id, "notes", key, "v", "", coordinator.Options{})
					get(t, ctx, c, id, "notes", key, coordinator.Options{})
					return time.Since(start)
				}
				for _, id := range others {
					c.Network.Cut(silent, id)
				}
				cut := time.Now()
				for i := 0; time.Since(cut) < 4*time.Second; i++ {
					if took := round(i); took > 50*time.Millisecond && time.Since(cut) > 1500*time.Millisecond {
						t.Errorf("%v after the cut a put and a get take %v", time.Since(cut), took)
					}
					time.Sleep(5 * time.Millisecond)
				}
				c.Network.Heal()
				time.Sleep(time.Second)
				for i := range 40 {
					if took := round(i); took > 50*time.Millisecond {
						t.Errorf("after the heal a put and a get take %v", took)
					}
				}
				if a := get(t, ctx, c, others[0], "notes", "k1", coordinator.Options{R: coordinator.QuorumAll, PrimariesOnly: true}); !a.Found() {
					t.Error("not all primaries take part again")
				}
			}, keyspace("notes", config.PolicyLWW))
		})
	}
}
