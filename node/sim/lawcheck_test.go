package sim

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"dynamo/node/config"
	"dynamo/node/coordinator"
	"dynamo/resolver/laws"
)

// cartModule is the example's module without its samples.
func cartModule(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("../../examples/cart-merge/cart.wasm")
	if err == nil {
		b, err = laws.WithSamples(b, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// selecting returns a module whose every merge takes the sibling of the given index.
func selecting(index byte) []byte {
	return resolving([]byte{4, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, index, 0, 0, 0}, 0x42, 16)
}

// endlessModule is a module whose merges use up all their fuel.
func endlessModule() []byte { return resolving(nil, 0x03, 0x40, 0x0c, 0, 0x0b, 0x42, 16) }

// resolving returns a module whose merge is the given code, with a response at address 0.
func resolving(response []byte, code ...byte) []byte {
	section := func(id byte, content []byte) []byte { return slices.Concat([]byte{id, byte(len(content))}, content) }
	export := func(name string, kind, index byte) []byte {
		return slices.Concat([]byte{byte(len(name))}, []byte(name), []byte{kind, index})
	}
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		section(1, []byte{2, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 2, 0x7f, 0x7f, 1, 0x7e}),
		section(3, []byte{2, 0, 1}),
		section(5, []byte{1, 0, 1}),
		section(7, slices.Concat([]byte{3}, export("memory", 2, 0), export("dynamo_alloc", 0, 0), export("dynamo_resolve_v1", 0, 1))),
		// alloc gives 64.
		section(10, slices.Concat([]byte{2, 5, 0, 0x41, 0xc0, 0, 0x0b, byte(len(code) + 2), 0}, code, []byte{0x0b})),
		section(11, slices.Concat([]byte{1, 0, 0x41, 0, 0x0b, byte(len(response))}, response)),
	)
}

// TestUploadIsCheckedOnLiveConflicts: the siblings that a keyspace holds are what an upload is tested on, among
// however many values that the module refuses; without any there is nothing that speaks for it.
func TestUploadIsCheckedOnLiveConflicts(t *testing.T) {
	inBubble(t, 3, 41, func(t *testing.T, ctx context.Context, c *Cluster) {
		all := coordinator.Options{W: coordinator.QuorumAll}
		check := func(module []byte, how string) (coordinator.ResolverCheck, error) {
			t.Helper()
			up, err := c.Node("n1").Resolvers().Upload(ctx, "notes", coordinator.Upload{Module: module, Check: how, Inactive: true})
			return up.Check, err
		}
		if got, err := check(cartModule(t), coordinator.CheckStrict); err != nil || got.Outcome != "untested" || !strings.Contains(got.Detail, "neither") {
			t.Fatalf("an empty keyspace: %+v, %v", got, err)
		}
		for i := range 70 {
			put(t, ctx, c, "n1", "notes", fmt.Sprint("junk", i), fmt.Sprint("no cart ", i), "", all)
		}
		got, err := check(cartModule(t), coordinator.CheckStrict)
		if err != nil || got.Outcome != "untested" || got.Failed == 0 || !strings.Contains(got.Detail, "the module merged none") {
			t.Fatalf("nothing but refused values: %+v, %v", got, err)
		}
		for _, v := range []string{apples, pears, `{"items":{"apple":5,"fig":1}}`} {
			put(t, ctx, c, "n2", "notes", "cart", v, "", all)
		}
		if got, err = check(cartModule(t), coordinator.CheckStrict); err != nil || got.Outcome != "lawful" || got.Evidence == 0 {
			t.Fatalf("with a conflict of carts: %+v, %v", got, err)
		}
		if _, err = check(selecting(1), coordinator.CheckStrict); !isCode(err, coordinator.CodeResolverUnlawful) || !strings.Contains(err.Error(), laws.Commutative) {
			t.Fatalf("takes the last one: %v", err)
		}
	}, keyspace("notes", config.PolicySiblings))
}
