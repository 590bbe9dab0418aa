package sim

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"dynamo/node/config"
	"dynamo/node/conflict"
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

// configured is a module that takes configurations which begin with an A. Its every merge traps.
func configured() []byte { return assembled(0x20, 0, 0x2d, 0, 0, 0x41, 0xc1, 0, 0x47) }

// trapModule is a module whose every merge traps.
func trapModule() []byte { return assembled(0x41, 0) }

// assembled returns a module whose every merge traps, and which answers a configuration with the given code.
func assembled(code ...byte) []byte {
	section := func(id byte, content []byte) []byte { return slices.Concat([]byte{id, byte(len(content))}, content) }
	export := func(name string, kind, index byte) []byte {
		return slices.Concat([]byte{byte(len(name))}, []byte(name), []byte{kind, index})
	}
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		section(1, []byte{3, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 2, 0x7f, 0x7f, 1, 0x7e, 0x60, 2, 0x7f, 0x7f, 1, 0x7f}),
		section(3, []byte{3, 0, 1, 2}),
		section(5, []byte{1, 0, 1}),
		section(7, slices.Concat([]byte{4}, export("memory", 2, 0), export("dynamo_alloc", 0, 0), export("dynamo_resolve_v1", 0, 1), export("dynamo_configure_v1", 0, 2))),
		section(10, slices.Concat([]byte{3, 4, 0, 0x41, 16, 0x0b, 3, 0, 0, 0x0b, byte(len(code) + 2), 0}, code, []byte{0x0b})),
	)
}

// TestQuarantineSurvivesARestart: a module that always traps is called no more by the node that saw it, until it is
// released or another version is activated.
func TestQuarantineSurvivesARestart(t *testing.T) {
	inBubble(t, 3, 32, func(t *testing.T, ctx context.Context, c *Cluster) {
		cart, err := os.ReadFile("../../examples/cart-merge/cart.wasm")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Node("n1").Resolvers().Upload(ctx, "notes", coordinator.Upload{Module: trapModule(), Check: coordinator.CheckOff}); err != nil {
			t.Fatal(err)
		}
		for i := range 22 {
			key := fmt.Sprint("k", i)
			put(t, ctx, c, "n1", "notes", key, apples, "", coordinator.Options{})
			put(t, ctx, c, "n2", "notes", key, pears, "", coordinator.Options{})
		}
		failing := func(id, key string) string {
			a := get(t, ctx, c, id, "notes", key, coordinator.Options{})
			if len(a.Siblings) != 2 {
				t.Fatalf("%s answers %+v", id, a)
			}
			return a.ResolverError
		}
		for i := range 20 {
			if why := failing("n1", fmt.Sprint("k", i)); why != "trap" {
				t.Fatalf("conflict %d: %s", i, why)
			}
		}
		if why := failing("n1", "k20"); why != conflict.CodeQuarantined {
			t.Fatalf("after 20 traps: %s", why)
		}
		if why := failing("n2", "k20"); why != "trap" {
			t.Fatalf("n2 saw one conflict: %s", why)
		}
		if err := c.Stop(ctx, "n1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if err := c.Start(ctx, "n1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if why := failing("n1", "k20"); why != conflict.CodeQuarantined {
			t.Fatalf("after a restart and ten minutes: %s", why)
		}
		st, err := c.Node("n1").Resolvers().Status("notes")
		if err != nil || st.Quarantine == nil || st.Quarantine.Code != "trap" {
			t.Fatalf("%+v, %v", st, err)
		}
		res, err := c.Node("n3").Resolvers().Release(ctx, "notes")
		if err != nil || fmt.Sprint(res.Released) != "[n1]" || len(res.Unheard) > 0 {
			t.Fatalf("%+v, %v", res, err)
		}
		if why := failing("n1", "k20"); why != "trap" {
			t.Fatalf("after the release: %s", why)
		}
		for i := range 20 {
			failing("n1", fmt.Sprint("k", i))
		}
		if why := failing("n1", "k21"); why != conflict.CodeQuarantined {
			t.Fatalf("after 20 more traps: %s", why)
		}
		if _, err := c.Node("n2").Resolvers().Upload(ctx, "notes", coordinator.Upload{Module: cart, Check: coordinator.CheckOff}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if a := get(t, ctx, c, "n1", "notes", "k21", coordinator.Options{}); a.Value == nil || string(a.Value.Bytes) != both {
			t.Fatalf("with another version: %+v", a)
		}
	}, keyspace("notes", config.PolicySiblings))
}

// TestLateNodeCompilesBeforeItMerges: an upload goes through while a member is down, and is compiled by all that are
// up when it is done; the late one fetches module and configuration when it is back.
func TestLateNodeCompilesBeforeItMerges(t *testing.T) {
	inBubble(t, 3, 33, func(t *testing.T, ctx context.Context, c *Cluster) {
		if err := c.Stop(ctx, "n3"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		up, err := c.Node("n1").Resolvers().Upload(ctx, "notes", coordinator.Upload{Module: configured(), Config: []byte("A1"), Check: coordinator.CheckWarn})
		if err != nil || up.Version != 1 || up.ConfigSize != 2 {
			t.Fatalf("%+v, %v", up, err)
		}
		loaded := func(id string) bool {
			st, err := c.Node(id).Resolvers().Status("notes")
			return err == nil && st.Active != nil && st.Active.SHA256 == up.SHA256 && st.Loaded
		}
		if !loaded("n1") || !loaded("n2") {
			t.Fatal("activated before all had compiled it")
		}
		if err := c.Start(ctx, "n3"); err != nil {
			t.Fatal(err)
		}
		for range 60 {
			if loaded("n3") {
				break
			}
			time.Sleep(time.Second)
		}
		if !loaded("n3") {
			t.Fatal("the late node has not compiled it after a minute")
		}
		if got, err := c.Node("n3").Resolvers().Module(ctx, "notes"); err != nil || !slices.Equal(got, configured()) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		for i, id := range []string{"n1", "n3"} {
			put(t, ctx, c, id, "notes", "k", fmt.Sprint(i), "", coordinator.Options{W: coordinator.QuorumAll})
		}
		if a := get(t, ctx, c, "n3", "notes", "k", coordinator.Options{}); a.ResolverError != "trap" {
			t.Fatalf("%+v", a)
		}
		for _, bad := range []coordinator.Upload{
			{Module: configured(), Config: []byte("B"), Check: coordinator.CheckOff},
			{Module: []byte("no module"), Check: coordinator.CheckOff},
			{Builtin: "none", Check: coordinator.CheckOff},
		} {
			if _, err := c.Node("n2").Resolvers().Upload(ctx, "notes", bad); !isCode(err, coordinator.CodeResolverInvalid) {
				t.Errorf("%q: %v", bad.Config, err)
			}
		}
		candidate, err := c.Node("n2").Resolvers().Upload(ctx, "notes", coordinator.Upload{Module: configured(), Config: []byte("A2"), Check: coordinator.CheckOff, Inactive: true})
		if err != nil || candidate.Version != 0 || candidate.SHA256 == up.SHA256 || !loaded("n2") {
			t.Fatalf("%+v, %v", candidate, err)
		}
		res, err := c.Node("n1").Resolvers().Try(ctx, "notes", candidate.SHA256, coordinator.TryRequest{
			Key: "k", Siblings: []coordinator.TrySibling{{Value: []byte("a")}, {Value: []byte("b")}},
		})
		if err != nil || res.Error != "trap" {
			t.Fatalf("%+v, %v", res, err)
		}
	}, keyspace("notes", config.PolicySiblings))
}

// TestShadowAndPromote: a candidate runs on all nodes beside the active version, answers nobody, and takes over when
// it is promoted.
func TestShadowAndPromote(t *testing.T) {
	inBubble(t, 3, 34, func(t *testing.T, ctx context.Context, c *Cluster) {
		cart, err := os.ReadFile("../../examples/cart-merge/cart.wasm")
		if err != nil {
			t.Fatal(err)
		}
		off := coordinator.CheckOff
		if _, err := c.Node("n1").Resolvers().Upload(ctx, "notes", coordinator.Upload{Module: configured(), Check: off}); err != nil {
			t.Fatal(err)
		}
		candidate, err := c.Node("n1").Resolvers().Upload(ctx, "notes", coordinator.Upload{Module: cart, Check: off, Inactive: true})
		if err != nil {
			t.Fatal(err)
		}
		start, err := c.Node("n2").Resolvers().Shadow(ctx, "notes", candidate.SHA256)
		if err != nil || len(start.Nodes) != 3 {
			t.Fatalf("%+v, %v", start, err)
		}
		for i := range 6 {
			key := fmt.Sprint("k", i)
			put(t, ctx, c, "n1", "notes", key, apples, "", coordinator.Options{})
			put(t, ctx, c, "n2", "notes", key, pears, "", coordinator.Options{})
			if a := get(t, ctx, c, fmt.Sprint("n", 1+i%3), "notes", key, coordinator.Options{}); a.ResolverError != "trap" {
				t.Fatalf("%+v", a)
			}
		}
		time.Sleep(time.Second)
		st, err := c.Node("n3").Resolvers().ShadowStatus(ctx, "notes")
		if err != nil || st.Calls != 6 || st.ActiveFailures != 6 || st.Failures != 0 || len(st.Nodes) != 3 || len(st.Unheard) > 0 {
			t.Fatalf("%+v, %v", st, err)
		}
		up, err := c.Node("n3").Resolvers().Promote(ctx, "notes", "", off)
		if err != nil || up.Version != 2 || up.SHA256 != candidate.SHA256 {
			t.Fatalf("%+v, %v", up, err)
		}
		if _, err := c.Node("n1").Resolvers().ShadowStatus(ctx, "notes"); !isCode(err, coordinator.CodeNotFound) {
			t.Fatalf("the shadow goes on: %v", err)
		}
		time.Sleep(5 * time.Second)
		for _, id := range []string{"n1", "n2", "n3"} {
			if a := get(t, ctx, c, id, "notes", "k0", coordinator.Options{}); a.Value == nil || string(a.Value.Bytes) != both {
				t.Fatalf("%s after the promotion: %+v", id, a)
			}
		}
		if _, err := c.Node("n1").Resolvers().Shadow(ctx, "notes", fmt.Sprintf("%064x", 1)); !isCode(err, coordinator.CodeNotFound) {
			t.Fatalf("a candidate that nobody has: %v", err)
		}
	}, keyspace("notes", config.PolicySiblings))
}

// TestShadowSurvivesARestart: the candidate is in the metadata, so a member that restarts runs it again and says since
// when, one that was down when it began runs it, too, and one that was down when it ended does not.
func TestShadowSurvivesARestart(t *testing.T) {
	inBubble(t, 3, 35, func(t *testing.T, ctx context.Context, c *Cluster) {
		off := coordinator.CheckOff
		if _, err := c.Node("n1").Resolvers().Upload(ctx, "notes", coordinator.Upload{Module: trapModule(), Check: off}); err != nil {
			t.Fatal(err)
		}
		candidate, err := c.Node("n1").Resolvers().Upload(ctx, "notes", coordinator.Upload{Module: selecting(0), Check: off, Inactive: true})
		if err != nil {
			t.Fatal(err)
		}
		down := func(id string, during func()) {
			t.Helper()
			if err := c.Stop(ctx, id); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			during()
			if err := c.Start(ctx, id); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		conflict := func(id, key string) {
			t.Helper()
			put(t, ctx, c, "n1", "notes", key, apples, "", coordinator.Options{})
			put(t, ctx, c, "n2", "notes", key, pears, "", coordinator.Options{})
			if a := get(t, ctx, c, id, "notes", key, coordinator.Options{}); a.ResolverError != "trap" {
				t.Fatalf("%+v", a)
			}
			time.Sleep(time.Second)
		}
		var began time.Time
		down("n3", func() {
			start, err := c.Node("n1").Resolvers().Shadow(ctx, "notes", candidate.SHA256)
			if err != nil || fmt.Sprint(start.Nodes) != "[n1 n2]" || fmt.Sprint(start.Unheard) != "[n3]" {
				t.Fatalf("%+v, %v", start, err)
			}
			began = time.Now()
			conflict("n2", "before")
		})
		down("n2", func() {})
		conflict("n2", "after")
		conflict("n3", "late")
		st, err := c.Node("n1").Resolvers().ShadowStatus(ctx, "notes")
		if err != nil || len(st.Nodes) != 3 || st.Calls != 2 || st.ActiveFailures != 2 {
			t.Fatalf("%+v, %v", st, err)
		}
		if r := st.Nodes["n2"]; r.Calls != 1 || !r.Since.After(began.Add(time.Minute)) || r.SHA256 != candidate.SHA256 {
			t.Fatalf("%+v", r)
		}
		if r := st.Nodes["n1"]; r.Since.After(began.Add(time.Second)) {
			t.Fatalf("n1 went on from the start: %+v", r)
		}
		down("n3", func() {
			if err := c.Node("n1").Resolvers().StopShadow(ctx, "notes"); err != nil {
				t.Fatal(err)
			}
		})
		if st, err := c.Node("n3").Resolvers().ShadowStatus(ctx, "notes"); !isCode(err, coordinator.CodeNotFound) {
			t.Fatalf("goes on: %+v, %v", st, err)
		}
	}, keyspace("notes", config.PolicySiblings))
}
