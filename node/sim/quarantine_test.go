package sim

import (
	"context"
	"fmt"
	"testing"
	"time"

	"dynamo/node/config"
	"dynamo/node/conflict"
	"dynamo/node/coordinator"
)

// TestCostlyModuleIsReleasedEverywhere: a module that burns all its fuel is in quarantine after five keys, on each node by
// itself, over restarts; a release on any node ends that on all, and on a member that is away when it is back.
func TestCostlyModuleIsReleasedEverywhere(t *testing.T) {
	little := func(l *config.Limits) { l.ResolverFuel = 100_000 }
	inTunedBubble(t, 4, 61, little, func(t *testing.T, ctx context.Context, c *Cluster) {
		if _, err := c.Node("n1").Resolvers().Upload(ctx, "notes", coordinator.Upload{Module: endlessModule(), Check: coordinator.CheckOff}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		for i := range 8 {
			for _, id := range []string{"n1", "n2"} {
				put(t, ctx, c, id, "notes", fmt.Sprint("k", i), "by "+id, "", coordinator.Options{W: coordinator.QuorumAll})
			}
		}
		why := func(id string, key int) string {
			t.Helper()
			a := get(t, ctx, c, id, "notes", fmt.Sprint("k", key), coordinator.Options{})
			if len(a.Siblings) != 2 {
				t.Fatalf("%s answers %+v", id, a)
			}
			return a.ResolverError
		}
		burn := func(id string) {
			t.Helper()
			for i := range 5 {
				if got := why(id, i); got != "fuel" {
					t.Fatalf("%s, conflict %d: %s", id, i, got)
				}
			}
			if got := why(id, 5); got != conflict.CodeQuarantined {
				t.Fatalf("%s after 5 merges that burnt all: %s", id, got)
			}
		}
		burn("n1")
		burn("n2")
		if got := why("n3", 6); got != "fuel" {
			t.Fatalf("n3 saw one: %s", got)
		}
		for _, id := range []string{"n1", "n2"} {
			st, err := c.Node(id).Resolvers().Status("notes")
			if err != nil || st.Quarantine == nil || st.Quarantine.Code != "fuel" || st.Errors["fuel"] != 5 {
				t.Fatalf("%s: %+v, %v", id, st, err)
			}
			if err := c.Stop(ctx, id); err != nil {
				t.Fatal(err)
			}
			if err := c.Start(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second)
		for _, id := range []string{"n1", "n2"} {
			if got := why(id, 7); got != conflict.CodeQuarantined {
				t.Fatalf("%s after a restart: %s", id, got)
			}
		}
		if err := c.Stop(ctx, "n2"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		res, err := c.Node("n4").Resolvers().Release(ctx, "notes")
		if err != nil || fmt.Sprint(res.Released) != "[n1]" || fmt.Sprint(res.Unheard) != "[n2]" {
			t.Fatalf("%+v, %v", res, err)
		}
		if got := why("n1", 7); got != "fuel" {
			t.Fatalf("n1 after the release: %s", got)
		}
		if err := c.Start(ctx, "n2"); err != nil {
			t.Fatal(err)
		}
		within(t, time.Minute, "n2 does not hear of the release", func() bool {
			st, err := c.Node("n2").Resolvers().Status("notes")
			return err == nil && st.Quarantine == nil
		})
		burn("n2") // it calls it again, and is not let off what comes after it
		for _, id := range []string{"n1", "n2"} {
			if st, err := c.Node(id).Resolvers().Status("notes"); err != nil || (st.Quarantine != nil) != (id == "n2") {
				t.Fatalf("%s: %+v, %v", id, st, err)
			}
		}
		time.Sleep(5 * time.Minute)
		if got := why("n2", 7); got != conflict.CodeQuarantined {
			t.Fatalf("the old release ended a new quarantine: %s", got)
		}
	}, keyspace("notes", config.PolicySiblings))
}
