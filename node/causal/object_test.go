package causal

import (
	"cmp"
	"errors"
	"fmt"
	"testing"
)

func TestLastKeepsTheLargest(t *testing.T) {
	var o Object
	for i, v := range []string{"b", "c", "a"} {
		o, _ = o.Put(nil, Actor{NodeID{byte(i + 1)}, 1, 1}, Value{Bytes: []byte(v), TimeMs: uint64(min(i, 1))})
	}
	last := o.Last()
	if len(last.Versions) != 1 || string(last.Versions[0].Bytes) != "c" || !last.Context.Equal(o.Context) {
		t.Fatalf("%+v", last)
	}
	if j := last.Join(o); !j.Equal(last) {
		t.Fatal("what was dropped comes back")
	}
}

func TestCollapseIsBounded(t *testing.T) {
	var o Object
	if _, err := o.Collapse(Value{}, Provenance{}); !errors.Is(err, ErrNothingToCollapse) {
		t.Fatal(err)
	}
	for i := range 60 {
		o, _ = o.Put(nil, Actor{NodeID{byte(i + 1)}, 1, 1}, Value{})
	}
	if _, err := o.Collapse(Value{}, Provenance{Epoch: 1}); !errors.Is(err, ErrLabelTooLong) {
		t.Fatal(err)
	}
}

// wider names two versions of an object of which one's label is part of the other's.
func wider(o Object) string {
	for i, v := range o.Versions {
		for j, w := range o.Versions {
			if i != j && v.Label.SubsetOf(w.Label) {
				return fmt.Sprintf("%v is part of %v", v.Label, w.Label)
			}
		}
	}
	return ""
}

// TestJoinOfCollapsed: which of two forms of the same writes stays.
func TestJoinOfCollapsed(t *testing.T) {
	raw := siblings(1, 2)
	collapse := func(bytes string, epoch uint64, sha byte) Object {
		o, err := raw.Collapse(Value{Bytes: []byte(bytes)}, Provenance{epoch, [32]byte{sha}})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	third := siblings(3, 1)
	for name, c := range map[string]struct{ weak, strong Object }{
		"collapsed beats raw":                        {raw, collapse("m", 1, 1)},
		"higher epoch beats larger bytes":            {collapse("z", 1, 9), collapse("a", 2, 1)},
		"within an epoch the larger module":          {collapse("z", 1, 1), collapse("a", 1, 2)},
		"within a module the larger bytes":           {collapse("a", 1, 1), collapse("b", 1, 1)},
		"wider label beats the higher epoch":         {collapse("z", 9, 9), mustCollapse(t, raw.Join(third), "a", 1)},
		"what is superseded in one, is in the other": {raw, superseded(raw)},
	} {
		for _, j := range []Object{c.weak.Join(c.strong), c.strong.Join(c.weak)} {
			if !j.Equal(c.strong) {
				t.Errorf("%s: %+v", name, j)
			}
		}
	}

	// Labels that overlap, neither part of the other: both stay, for each stands for a write of its own.
	a := mustCollapse(t, raw, "12", 1)
	b := mustCollapse(t, siblings(2, 2), "23", 1)
	if j := a.Join(b); len(j.Versions) != 2 || !j.Equal(b.Join(a)) {
		t.Errorf("overlapping labels: %+v", j)
	}
	// A context that covers a part of a collapsed value leaves it whole.
	first := raw.Versions[0].Label
	o, d := a.Put(Context{Seen{first[0].Actor, 1}}, Actor{NodeID{7}, 1, 1}, Value{})
	if len(o.Versions) != 2 || o.Versions[0].Label.Compare(a.Versions[0].Label) != 0 || o.Versions[0].Live.Contains(Dot{first[0].Actor, 1}) {
		t.Errorf("partly covered: %+v", o)
	}
	if o, _ = o.Put(o.Context, d.Actor, Value{}); len(o.Versions) != 1 {
		t.Errorf("wholly covered: %+v", o)
	}
}

func mustCollapse(t *testing.T, o Object, bytes string, epoch uint64) Object {
	t.Helper()
	c, err := o.Collapse(Value{Bytes: []byte(bytes)}, Provenance{Epoch: epoch})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func superseded(o Object) Object {
	o, _ = o.Put(o.Context, Actor{NodeID{8}, 1, 1}, Value{Deleted: true})
	return o
}

func TestValueOrder(t *testing.T) {
	sorted := []Value{
		{}, {Deleted: true}, {TimeMs: 1}, {ContentType: "a"}, {ContentType: "b"}, {Bytes: []byte("a")}, {Bytes: []byte("a"), TimeMs: 3}, {Bytes: []byte("b")},
	}
	for i, v := range sorted {
		for j, w := range sorted {
			if got, want := v.Compare(w), cmp.Compare(i, j); got != want {
				t.Errorf("%+v to %+v: %d, want %d", v, w, got, want)
			}
		}
	}
}

func TestZeroObject(t *testing.T) {
	var o Object
	if !o.IsZero() || o.Hash() != (Hash{}) || !o.Live().Empty() || o.ValueBytes() != 0 || !(Basis{}).IsZero() || !(Basis{}).Covers(o) {
		t.Error("the zero object is a key never written")
	}
	gone := superseded(siblings(1, 2))
	if gone.IsZero() || gone.Hash() == (Hash{}) || gone.ValueBytes() != 0 || siblings(1, 2).ValueBytes() != 200 {
		t.Error("a tombstone is an object")
	}
}
