package sim

import (
	"context"
	"fmt"
	"testing"
	"time"

	"dynamo/node/config"
	"dynamo/node/coordinator"
)

func conflicts(t *testing.T, ctx context.Context, c *Cluster, id string, req coordinator.ConflictRequest) coordinator.ConflictPage {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	page, err := c.Node(id).Requests().Conflicts(ctx, req)
	if err != nil {
		t.Fatalf("conflicts via %s: %v", id, err)
	}
	return page
}

// TestConflictList: each node lists the conflicts of the whole cluster, a member that is away is named, and a
// covering write takes a key off the list.
func TestConflictList(t *testing.T) {
	inBubble(t, 5, 31, func(t *testing.T, ctx context.Context, c *Cluster) {
		all := coordinator.Options{W: coordinator.QuorumAll}
		for i := range 12 {
			key := fmt.Sprintf("k%02d", i)
			put(t, ctx, c, "n1", "notes", key, "a", "", all)
			if i%3 == 0 {
				put(t, ctx, c, "n2", "notes", key, "b", "", all)
			}
		}
		put(t, ctx, c, "n1", "notes", "\xff", "a", "", all)
		put(t, ctx, c, "n1", "notes", "\xff", "", put(t, ctx, c, "n2", "notes", "\xff", "b", "", all), all)
		put(t, ctx, c, "n1", "notes", "\xfe", "a", "", all)
		put(t, ctx, c, "n2", "notes", "\xfe", "b", "", all)
		time.Sleep(time.Minute)
		for _, id := range []string{"n1", "n4"} {
			var got []string
			req := coordinator.ConflictRequest{Keyspace: "notes", Limit: 2}
			for {
				page := conflicts(t, ctx, c, id, req)
				if len(page.Entries) > 2 || len(page.Unheard) > 0 {
					t.Fatalf("%+v", page)
				}
				for _, e := range page.Entries {
					got = append(got, fmt.Sprintf("%q %d %s", e.Key, e.Count, e.Why))
					if age := time.Since(e.Since); age < time.Minute || age > 2*time.Minute {
						t.Errorf("%q has stood for %v", e.Key, age)
					}
				}
				if page.Next == nil {
					break
				}
				req.After = page.Next
			}
			want := `["k00" 2 no_resolver "k03" 2 no_resolver "k06" 2 no_resolver "k09" 2 no_resolver "\xfe" 2 no_resolver]`
			if fmt.Sprint(got) != want {
				t.Fatalf("%s lists %v", id, got)
			}
		}
		for _, e := range conflicts(t, ctx, c, "n3", coordinator.ConflictRequest{Keyspace: "carts", Limit: 10}).Entries {
			t.Errorf("a conflict where nothing was written: %q", e.Key)
		}
		put(t, ctx, c, "n2", "carts", "good", apples, "", all)
		put(t, ctx, c, "n2", "carts", "good", pears, "", all)
		put(t, ctx, c, "n2", "carts", "bad", apples, "", all)
		put(t, ctx, c, "n2", "carts", "bad", "no cart", "", all)
		page := conflicts(t, ctx, c, "n3", coordinator.ConflictRequest{Keyspace: "carts", Limit: 10})
		if len(page.Entries) != 2 || page.Entries[0].Why != "guest_error" || page.Entries[1].Merged == "" || page.Entries[1].Why != "" {
			t.Fatalf("%+v", page)
		}
		if page = conflicts(t, ctx, c, "n3", coordinator.ConflictRequest{Keyspace: "carts", Limit: 10, Unmerged: true}); len(page.Entries) != 1 {
			t.Fatalf("%+v", page)
		}
		if err := c.Stop(ctx, "n5"); err != nil {
			t.Fatal(err)
		}
		page = conflicts(t, ctx, c, "n1", coordinator.ConflictRequest{Keyspace: "carts", Limit: 10})
		if len(page.Entries) != 2 || fmt.Sprint(page.Unheard) != "[n5]" {
			t.Fatalf("with n5 down: %+v", page)
		}
		put(t, ctx, c, "n1", "carts", "bad", apples, get(t, ctx, c, "n1", "carts", "bad", coordinator.Options{}).Token, coordinator.Options{})
		if page = conflicts(t, ctx, c, "n1", coordinator.ConflictRequest{Keyspace: "carts", Limit: 10}); len(page.Entries) != 1 {
			t.Fatalf("after a covering write: %+v", page)
		}
	}, keyspace("notes", config.PolicySiblings), keyspace("carts", config.PolicyResolver))
}
