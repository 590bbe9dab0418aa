package replica

import (
	"fmt"
	"slices"
	"testing"

	"dynamo/node/causal"
	"dynamo/node/wire"
)

func TestConflictsPages(t *testing.T) {
	f := newFixture(t)
	var want []string
	for i := range 60 {
		key := fmt.Sprintf("k%02d", i)
		target := f.target("notes", key)
		for v := range 1 + i%2 {
			if _, err := f.Write(t.Context(), Write{Target: target, Policy: siblings(), Value: causal.Value{Bytes: []byte{byte(v)}, TimeMs: 1}}); err != nil {
				t.Fatal(err)
			}
		}
		if i%2 == 1 {
			want = append(want, key)
		}
	}
	var got []string
	l := &wire.List{KeyspaceID: f.target("notes", "k").KeyspaceID, Limit: 7, Conflicts: true}
	for {
		m, handled, err := f.Handle(t.Context(), "n2", l)
		r, ok := m.(*wire.ListReply)
		if err != nil || !handled || !ok || len(r.Entries) > l.Limit {
			t.Fatalf("%+v, %v", m, err)
		}
		for _, e := range r.Entries {
			got = append(got, string(e.Key))
		}
		if !r.More {
			break
		}
		l.After = r.Entries[len(r.Entries)-1].Key
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got %q\nwant %q", got, want)
	}
	l.After, l.Prefix, l.Limit = nil, []byte("k1"), -1
	if r, err := f.Conflicts(t.Context(), l); err != nil || len(r.Entries) != 1 || !r.More || string(r.Entries[0].Key) != "k11" {
		t.Fatalf("%+v, %v", r, err)
	}
}
