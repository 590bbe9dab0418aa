package storm

import (
	"slices"
	"strings"
	"testing"
	"time"

	"dynamo/node/sim/plan"
	"dynamo/plugins"
	"dynamo/resolver/laws"
)

// echo is a resolver whose merge is the whole request: what it is asked for twice is in there twice.
func echo(t *testing.T) []byte {
	section := func(id byte, content []byte) []byte { return slices.Concat([]byte{id, byte(len(content))}, content) }
	export := func(name string, kind, index byte) []byte {
		return slices.Concat([]byte{byte(len(name))}, []byte(name), []byte{kind, index})
	}
	merge := []byte{
		0x41, 0x0c, 0x20, 1, 0x36, 2, 0, // the length of the payload, at 12: the request lies behind it
		0x42, 0x80, 0x80, 0x80, 0x80, 0xc0, 0, // 4 << 32, where the response begins
		0x20, 1, 0x41, 0x0c, 0x6a, 0xad, 0x84, // and how long it is
	}
	m, err := laws.WithSamples(slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		section(1, []byte{2, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 2, 0x7f, 0x7f, 1, 0x7e}),
		section(3, []byte{2, 0, 1}),
		section(5, []byte{1, 0, 1}),
		section(7, slices.Concat([]byte{3}, export("memory", 2, 0), export("dynamo_alloc", 0, 0), export("dynamo_resolve_v1", 0, 1))),
		section(10, slices.Concat([]byte{2, 4, 0, 0x41, 16, 0x0b, byte(len(merge) + 2), 0}, merge, []byte{0x0b})),
	), [][]byte{[]byte("a"), []byte("b"), []byte("c")})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestUsersResolver(t *testing.T) {
	lawful, _ := plugins.Module("json-merge")
	for name, c := range map[string]struct {
		module []byte
		want   string
	}{
		"lawful":   {lawful, ""},
		"unlawful": {echo(t), "the resolver is lawful"},
	} {
		r := storm(t, Request{Plan: plan.Draw(7, 3, 10*time.Second), Resolver: c.module})
		if w := r.Workloads[user]; w.Acked == 0 || w.Reads == 0 {
			t.Errorf("%s: nobody used it: %+v", name, w)
		}
		var all strings.Builder
		for _, v := range r.Violations {
			all.WriteString(v.Promise + ": " + v.Detail + "\n")
		}
		if (c.want == "") != (all.String() == "") || !strings.Contains(all.String(), c.want) {
			t.Errorf("%s: %s", name, all.String())
		}
	}
}

func TestResolverWithoutSamples(t *testing.T) {
	if _, err := samplesOf([]byte("\x00asm\x01\x00\x00\x00")); err == nil {
		t.Error("there is nothing to write")
	}
}
