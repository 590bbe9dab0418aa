package cluster

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"dynamo/node/config"
)

// golden is the digest of the birth of file(3): binaries of different versions that start a cluster together must agree.
const golden = "7407ba13c280b3e230054e2aeb80dea04c9dc614bbb7b4c1ea159ad00c3b8d1e"

func TestBirthIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	h, f := newHub(), file(3)
	var disks [3]disk
	for i, id := range []string{"n1", "n2", "n3"} {
		s := h.open(t, id, f, &disks[i], &logs{})
		if got := hex.EncodeToString(s.View().Digest[:]); got != golden {
			t.Errorf("%s: digest %s, want %s", id, got, golden)
		}
	}
	if !bytes.Equal(disks[0].mu.b, disks[1].mu.b) || !bytes.Equal(disks[0].mu.b, disks[2].mu.b) || len(disks[0].mu.b) == 0 {
		t.Error("disks differ")
	}
	v := alone(t, f, &disks[0]).View()
	if len(v.Members) != 3 || v.Ring.Q() != 16 || v.Version != 3 {
		t.Errorf("%d members, Q %d, version %d", len(v.Members), v.Ring.Q(), v.Version)
	}
	if k, ok := v.Keyspace(config.DefaultKeyspace); !ok || k.Generation != 1 || k.N != 3 || k.Conflict != config.PolicyLWW {
		t.Errorf("%+v", k)
	}
	if m, ok := v.Member("n2"); !ok || m.Status != Up || m.Peer != "127.0.0.1:7202" || m.Joined != 1 {
		t.Errorf("%+v", m)
	}
}

func TestKeyspaceID(t *testing.T) {
	t.Parallel()
	if got := KeyspaceID("carts", 1); got != 0xe209e63de9b84096 {
		t.Errorf("%#x", got)
	}
	if KeyspaceID("carts", 1) == KeyspaceID("carts", 2) || (Keyspace{Name: "carts", Generation: 2}).ID() != KeyspaceID("carts", 2) {
		t.Error("generations share an id")
	}
}

func TestMetadataSurvivesRestart(t *testing.T) {
	t.Parallel()
	var d disk
	s := alone(t, file(3), &d)
	if _, err := s.PutKeyspace(t.Context(), keyspace("carts")); err != nil {
		t.Fatal(err)
	}
	bound, err := s.Bind(t.Context(), Binding{Keyspace: "carts", SHA256: [32]byte{7}, Builtin: "union", Size: 9, ABI: "wasi", Lawful: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Admit(Identity{Node: "n2", Disk: [16]byte{2}, Boot: 3}); err != nil {
		t.Fatal(err)
	}
	want := s.View()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutKeyspace(t.Context(), keyspace("late")); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	v := alone(t, file(3), &d).View()
	if v.Digest != want.Digest {
		t.Error("another digest after a restart")
	}
	if b, ok := v.Active("carts"); !ok || b != bound || b.Version != 1 || b.Epoch != 1 || b.Time == 0 {
		t.Errorf("%+v, want %+v", b, bound)
	}
	if err := alone(t, file(3), &d).Admit(Identity{Node: "n2", Disk: [16]byte{2}, Boot: 2}); !errors.Is(err, ErrStaleIdentity) {
		t.Errorf("the boot seen was forgotten: %v", err)
	}
}

func TestForeignDiskIsRefused(t *testing.T) {
	t.Parallel()
	var d disk
	alone(t, file(3), &d)
	other, wide := file(3), file(3)
	other.Name, wide.Partitions = "shop", 32
	open := func(f *config.Cluster, load func() ([]byte, bool, error)) error {
		_, err := Open(Options{Self: "n1", File: f, Load: load, Save: d.save, Now: time.Now, Logger: (&logs{}).logger()})
		return err
	}
	for _, f := range []*config.Cluster{other, wide} {
		if err := open(f, d.load); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), `cluster "demo" with 16 partitions`) {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	damaged := bytes.Clone(d.mu.b)
	damaged[20] ^= 1
	if err := open(file(3), func() ([]byte, bool, error) { return damaged, true, nil }); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
	if err := open(file(3), func() ([]byte, bool, error) { return nil, false, errCut }); !errors.Is(err, errCut) {
		t.Error(err)
	}
	_, err := Open(Options{Self: "n9", File: file(3), Load: d.load, Save: d.save, Now: time.Now, Logger: (&logs{}).logger()})
	if !errors.Is(err, ErrNotMember) {
		t.Error(err)
	}
}

func TestFileChangedAfterBirth(t *testing.T) {
	t.Parallel()
	h, d, l := newHub(), &disk{}, &logs{}
	s := h.open(t, "n1", file(3), d, l)
	ring := s.View().Ring
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f := file(4)
	f.Nodes[0].HTTP, f.Nodes[0].Weight, f.Nodes[1].Zone = "127.0.0.1:9999", 5, "z"
	f.Keyspaces = []config.Keyspace{f.NewKeyspace("new")}
	f.Nodes = slices.Delete(f.Nodes, 2, 3)
	s = h.open(t, "n1", f, d, l)
	v := s.View()
	if m, _ := v.Member("n1"); m.HTTP != "127.0.0.1:9999" || m.Weight != 1 {
		t.Errorf("own addresses, and nothing else, follow the file: %+v", m)
	}
	if r := v.doc.records["member/n1"]; r.version != 2 || r.writer != "n1" {
		t.Errorf("version %d by %q", r.version, r.writer)
	}
	if len(v.Members) != 3 || v.Ring.Tokens("n1") != ring.Tokens("n1") {
		t.Error("the file changed the members")
	}
	for _, want := range []string{"n4 is not a member", "member n3 is not in the file", "n1: weight is 1, not 5", "n2: zone is b, not z", "keyspace new was never created"} {
		if l.count(want, "through the API") != 1 {
			t.Errorf("no line says %q:\n%s", want, l)
		}
	}
	// While it was away somebody changed its record further: it insists on its addresses, and on nothing else.
	m, _ := v.Member("n1")
	m.HTTP, m.Zone = "127.0.0.1:1", "q"
	body, _ := json.Marshal(m)
	state, digest, err := document{"demo", 16, records{"member/n1": {version: 9, writer: "n3", body: body}}}.encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Sync(digest, state); err != nil {
		t.Fatal(err)
	}
	if m, _ := s.View().Member("n1"); m.HTTP != "127.0.0.1:9999" || m.Zone != "q" {
		t.Errorf("%+v", m)
	}
}

func TestKeyspaceLife(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), alone(t, file(3), &disk{})
	v, err := s.PutKeyspace(ctx, keyspace("carts"))
	if err != nil {
		t.Fatal(err)
	}
	ring := v.Ring
	k, ok := v.Keyspace("carts")
	if !ok || k.Generation != 1 || len(v.Keyspaces()) != 2 || v.DroppedIDs() != nil {
		t.Fatalf("%+v", k)
	}
	again, err := s.PutKeyspace(ctx, k)
	if err != nil || again.Digest != v.Digest {
		t.Errorf("putting the same is a change: %v", err)
	}
	k.W = 3
	if v, err = s.PutKeyspace(ctx, k); err != nil || v.Digest == again.Digest {
		t.Fatal(err)
	}
	bad := k
	bad.N = 2
	bad.W, bad.R = 1, 1
	if _, err := s.PutKeyspace(ctx, bad); !errors.Is(err, ErrImmutable) {
		t.Errorf("N changed: %v", err)
	}
	for _, bad := range []Keyspace{keyspace("Bad"), {Name: "x", N: 1, R: 2, W: 1, MaxValueBytes: 1}, {Name: "x"}} {
		if _, err := s.PutKeyspace(ctx, bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := s.Bind(ctx, Binding{Keyspace: "carts", SHA256: [32]byte{1}}); err != nil {
		t.Fatal(err)
	}
	if err := s.DropKeyspace(ctx, "carts"); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.View().Keyspace("carts"); ok || !slices.Equal(s.View().DroppedIDs(), []uint64{KeyspaceID("carts", 1)}) {
		t.Error("it is still there")
	}
	if err := s.DropKeyspace(ctx, "carts"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if _, err := s.Bind(ctx, Binding{Keyspace: "carts"}); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	if _, err := s.PutKeyspace(ctx, k); !errors.Is(err, ErrUnknown) {
		t.Errorf("an update brought a dropped keyspace back: %v", err)
	}
	k = keyspace("carts")
	k.N = 2
	if v, err = s.PutKeyspace(ctx, k); err != nil {
		t.Fatal(err)
	}
	if k, _ := v.Keyspace("carts"); k.Generation != 2 || k.N != 2 {
		t.Errorf("%+v", k)
	}
	if _, ok := v.Active("carts"); ok || len(v.Bindings("carts")) != 0 {
		t.Error("the new generation has the resolver of the old one")
	}
	if !slices.Equal(v.DroppedIDs(), []uint64{KeyspaceID("carts", 1)}) {
		t.Error(v.DroppedIDs())
	}
	if v.Ring != ring {
		t.Error("the ring was built again though no member changed")
	}
}

func TestResolverHistory(t *testing.T) {
	t.Parallel()
	ctx, s := t.Context(), alone(t, file(3), &disk{})
	if _, err := s.PutKeyspace(ctx, keyspace("carts")); err != nil {
		t.Fatal(err)
	}
	bind := func(sha byte, lawful bool) Binding {
		t.Helper()
		b, err := s.Bind(ctx, Binding{Keyspace: "carts", SHA256: [32]byte{sha}, Lawful: lawful})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	active := func(sha byte, version int, epoch uint64) {
		t.Helper()
		b, ok := s.View().Active("carts")
		if !ok || b.SHA256[0] != sha || b.Version != version || b.Epoch != epoch {
			t.Errorf("active is %v %x version %d epoch %d, want %x %d %d", ok, b.SHA256[0], b.Version, b.Epoch, sha, version, epoch)
		}
	}
	if first, again := bind(9, true), bind(9, true); first != again {
		t.Errorf("binding what is bound: %+v, %+v", first, again)
	}
	active(9, 1, 1)
	bind(5, true)
	active(5, 2, 2)
	bind(5, false) // the same module with another verdict
	active(5, 3, 3)
	if err := s.Activate(ctx, "carts", 1); err != nil {
		t.Fatal(err)
	}
	active(9, 4, 4)
	if err := s.Activate(ctx, "carts", 4); err != nil || len(s.View().Bindings("carts")) != 4 {
		t.Errorf("going back to the present: %v", err)
	}
	for _, version := range []int{0, 5, -1} {
		if err := s.Activate(ctx, "carts", version); !errors.Is(err, ErrUnknown) {
			t.Errorf("version %d: %v", version, err)
		}
	}
	if err := s.Unbind(ctx, "carts"); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.View().Active("carts"); ok || len(s.View().Bindings("carts")) != 4 {
		t.Error("unbind took the history, or nothing")
	}
	if err := s.Activate(ctx, "carts", 4); err != nil {
		t.Fatal(err)
	}
	active(9, 5, 5)
	if err := s.Unbind(ctx, "nope"); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

// The candidate beside the active binding is of a generation, too, and each member comes to hear of it.
func TestShadow(t *testing.T) {
	t.Parallel()
	s, peer := alone(t, file(3), &disk{}), alone(t, file(3), &disk{})
	shadow := func(candidate byte) {
		t.Helper()
		if err := s.Shadow(t.Context(), "carts", [32]byte{candidate}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := peer.Sync(s.View().Digest, s.View().encoded); err != nil {
			t.Fatal(err)
		}
		for _, v := range []*View{s.View(), peer.View()} {
			if got, ok := v.Shadow("carts"); got[0] != candidate || ok != (candidate != 0) {
				t.Fatalf("%x, %v, want %x", got, ok, candidate)
			}
		}
	}
	if err := s.Shadow(t.Context(), "carts", [32]byte{1}); !errors.Is(err, ErrUnknown) {
		t.Errorf("of no keyspace: %v", err)
	}
	if _, err := s.PutKeyspace(t.Context(), keyspace("carts")); err != nil {
		t.Fatal(err)
	}
	before := s.View()
	if shadow(0); s.View() != before {
		t.Error("ending what does not run is a change")
	}
	for _, candidate := range []byte{1, 2, 2, 0, 3} {
		shadow(candidate)
	}
	if err := s.DropKeyspace(t.Context(), "carts"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutKeyspace(t.Context(), keyspace("carts")); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.View().Shadow("carts"); ok {
		t.Error("the new generation has the candidate of the old one")
	}
	const golden = `{"keyspace":"carts","generation":1,"sha256":"0300000000000000000000000000000000000000000000000000000000000000"}`
	if got := string(s.View().doc.records["shadow/carts"].body); got != golden {
		t.Errorf("on disk %s", got)
	}
}

// Releases are counted for one binding, and each member comes to hear of them.
func TestRelease(t *testing.T) {
	t.Parallel()
	s, peer := alone(t, file(3), &disk{}), alone(t, file(3), &disk{})
	if err := s.Release(t.Context(), "default"); !errors.Is(err, ErrUnknown) {
		t.Errorf("of no binding: %v", err)
	}
	for sha := range byte(2) {
		if _, err := s.Bind(t.Context(), Binding{Keyspace: "default", SHA256: [32]byte{sha}}); err != nil {
			t.Fatal(err)
		}
		for n := range uint64(3) {
			if _, _, err := peer.Sync(s.View().Digest, s.View().encoded); err != nil {
				t.Fatal(err)
			}
			if got, there := s.View().Releases("default"), peer.View().Releases("default"); got != n || there != n {
				t.Fatalf("%d and %d releases, want %d", got, there, n)
			}
			if err := s.Release(t.Context(), "default"); err != nil {
				t.Fatal(err)
			}
		}
	}
	const golden = `{"keyspace":"default","generation":1,"epoch":2,"sha256":"0100000000000000000000000000000000000000000000000000000000000000","count":3}`
	if got := string(s.View().doc.records["release/default"].body); got != golden {
		t.Errorf("on disk %s", got)
	}
}

// Two sides that bind without hearing of each other keep both in the history, numbered alike.
func TestConcurrentBindings(t *testing.T) {
	t.Parallel()
	a, b := alone(t, file(3), &disk{}), alone(t, file(3), &disk{})
	for i, s := range []*State{a, b} {
		if _, err := s.Bind(t.Context(), Binding{Keyspace: "default", SHA256: [32]byte{byte(9 - i)}}); err != nil {
			t.Fatal(err)
		}
	}
	digest, state, err := b.Sync(a.View().Digest, a.View().encoded)
	if err != nil {
		t.Fatal(err)
	}
	if d, rest, err := a.Sync(digest, state); err != nil || d != digest || rest != nil {
		t.Fatal(err, rest)
	}
	history := a.View().Bindings("default")
	if len(history) != 2 || history[0].SHA256[0] != 8 || history[1].Version != 2 || history[1].Epoch != 1 {
		t.Errorf("%+v", history)
	}
	if x, ok := a.View().Active("default"); !ok || x.Version == 0 {
		t.Error("nothing is active")
	}
	bound, err := a.Bind(t.Context(), Binding{Keyspace: "default", SHA256: [32]byte{1}})
	if err != nil || bound.Epoch != 2 || bound.Version != 3 {
		t.Errorf("%+v %v", bound, err)
	}
}

// Records of a newer version are kept, passed on and saved.
func TestUnknownRecordsStay(t *testing.T) {
	t.Parallel()
	l, d, h := &logs{}, &disk{}, newHub()
	s := h.open(t, "n1", file(3), d, l)
	rs := maps.Clone(s.View().doc.records)
	rs["future/thing"] = record{version: 4, writer: "n2", body: []byte("?")}
	rs["keyspace/odd"] = record{version: 4, writer: "n2", body: []byte("?")}
	state, digest, err := document{"demo", 16, rs}.encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, rest, err := s.Sync(digest, state); err != nil || got != digest || rest != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(d.mu.b, state) || len(s.View().Keyspaces()) != 1 {
		t.Error("not saved as they came")
	}
	if l.count("cannot be read by this version", "keyspace/odd") != 1 {
		t.Error(l)
	}
}

func TestSyncRefusesWhatIsWrong(t *testing.T) {
	t.Parallel()
	d := &disk{}
	s := alone(t, file(3), d)
	before, saves := s.View(), d.mu.saves
	nobody := make(records)
	for key, r := range before.doc.records {
		if m := (Member{}); json.Unmarshal(r.body, &m) == nil && strings.HasPrefix(key, "member/") {
			m.Weight = -1
			r.body, _ = json.Marshal(m)
			r.version = 7
		}
		nobody[key] = r
	}
	for name, c := range map[string]struct {
		d    document
		want error
	}{
		"another cluster":   {document{"shop", 16, before.doc.records}, ErrForeign},
		"another Q":         {document{"demo", 32, before.doc.records}, ErrForeign},
		"a ring that isn't": {document{"demo", 16, nobody}, nil},
	} {
		state, digest, err := c.d.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Sync(digest, state); err == nil || (c.want != nil && !errors.Is(err, c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := s.Sync([32]byte{1}, []byte("garbage")); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
	if s.View() != before || d.mu.saves != saves {
		t.Error("something was taken over")
	}
	if digest, state, err := s.Sync([32]byte{1}, nil); err != nil || digest != before.Digest || !bytes.Equal(state, before.encoded) {
		t.Error("a comparison is answered with the metadata", err)
	}
}

// What is not on disk is neither shown nor told.
func TestNothingIsToldBeforeItIsDurable(t *testing.T) {
	t.Parallel()
	h, d := newHub(), &disk{}
	o := h.options("n1", file(3), d, &logs{})
	g := o.Gossip.(*fakeGossip)
	changes := 0
	o.OnChange = func(v *View) {
		changes++
		if b, _, _ := d.load(); !bytes.Equal(b, v.encoded) {
			t.Error("shown before it was saved")
		}
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	before, told := s.View(), len(g.set)
	d.breakDown(errCut)
	if _, err := s.PutKeyspace(context.Background(), keyspace("carts")); !errors.Is(err, errCut) {
		t.Error(err)
	}
	if s.View() != before || len(g.set) != told || changes != 0 {
		t.Error("a change that was not saved is visible")
	}
	d.breakDown(nil)
	v, err := s.PutKeyspace(t.Context(), keyspace("carts"))
	if err != nil || len(g.set) != told+1 || g.set[told] != v.Digest || changes != 1 {
		t.Error(err, changes)
	}
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	s := alone(t, file(3), &disk{})
	uuid, other := [16]byte{1}, [16]byte{2}
	a, b := [16]byte{0xa}, [16]byte{0xb}
	for _, c := range []struct {
		what string
		h    Identity
		want error
	}{
		{"unknown member", Identity{Node: "n9", Disk: uuid, Boot: 1}, ErrNotMember},
		{"no boot", Identity{Node: "n2", Disk: uuid}, ErrInvalid},
		{"first", Identity{Node: "n2", Disk: uuid, Boot: 5, Nonce: a}, nil},
		{"same process", Identity{Node: "n2", Disk: uuid, Boot: 5, Nonce: a}, nil},
		{"lower boot", Identity{Node: "n2", Disk: uuid, Boot: 4, Nonce: a}, ErrStaleIdentity},
		{"equal boot, other process", Identity{Node: "n2", Disk: uuid, Boot: 5, Nonce: b}, ErrStaleIdentity},
		{"disk of another node", Identity{Node: "n3", Disk: uuid, Boot: 9, Nonce: b}, ErrStaleIdentity},
		{"higher boot", Identity{Node: "n2", Disk: uuid, Boot: 6, Nonce: b}, nil},
		{"the process before", Identity{Node: "n2", Disk: uuid, Boot: 5, Nonce: a}, ErrStaleIdentity},
		{"new disk", Identity{Node: "n2", Disk: other, Boot: 1, Nonce: a}, nil},
	} {
		if err := s.Admit(c.h); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.what, err, c.want)
		}
	}
	// A boot that another node has seen counts here too.
	peer := alone(t, file(3), new(disk))
	if err := peer.Admit(Identity{Node: "n3", Disk: [16]byte{3}, Boot: 8}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Sync(peer.View().Digest, peer.View().encoded); err != nil {
		t.Fatal(err)
	}
	if err := s.Admit(Identity{Node: "n3", Disk: [16]byte{3}, Boot: 7}); !errors.Is(err, ErrStaleIdentity) {
		t.Error(err)
	}
}

func TestNodesBornFromDifferentFiles(t *testing.T) {
	t.Parallel()
	l, h, f := &logs{}, newHub(), file(3)
	f.Nodes[1].Weight = 2
	a, b := h.open(t, "n1", file(3), &disk{}, l), alone(t, f, &disk{})
	if _, _, err := a.Sync(b.View().Digest, b.View().encoded); err != nil {
		t.Fatal(err)
	}
	if l.count("cluster files that differ", "member/n2") != 1 {
		t.Error(l)
	}
}
