package versions

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"dynamo/node/coordinator"
	"dynamo/node/wire"
	"dynamo/resolver"
)

const hour = time.Hour

// sweep has the sweep come after a while, and returns how many modules are left.
func (f *fixture) sweep(t *testing.T, after time.Duration) int {
	t.Helper()
	f.late += after
	if err := f.Sweep(t.Context(), func([32]byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	return len(f.blobs.byID)
}

func (f *fixture) has(module []byte) bool {
	_, ok, _ := f.blobs.Module(sha256.Sum256(module))
	return ok
}

func (f *fixture) candidate(t *testing.T, module []byte) string {
	t.Helper()
	up, err := f.Upload(t.Context(), "notes", coordinator.Upload{Module: module, Check: coordinator.CheckOff, Inactive: true})
	if err != nil {
		t.Fatal(err)
	}
	return up.SHA256
}

// TestSweepKeepsWhatIsNeeded: the active version, the history, and the candidate that runs as a shadow stay for as
// long as they are that; a candidate for a week from when it was wanted last.
func TestSweepKeepsWhatIsNeeded(t *testing.T) {
	f := newFixture(t)
	for i := range byte(2) {
		if err := f.upload(t, selecting(i)); err != nil {
			t.Fatal(err)
		}
	}
	f.candidate(t, selecting(2))
	shadow := f.candidate(t, selecting(3))
	if err := f.state.Shadow(t.Context(), "notes", sha256.Sum256(selecting(3))); err != nil {
		t.Fatal(err)
	}
	if n := f.sweep(t, 0); n != 4 {
		t.Fatalf("%d left", n)
	}
	if n := f.sweep(t, CandidateLife-hour); n != 4 || !f.has(selecting(2)) {
		t.Fatalf("%d left before the week is over", n)
	}
	if n := f.sweep(t, hour); n != 3 || f.has(selecting(2)) {
		t.Fatalf("%d left after a week", n)
	}
	if f.s.Settler.Loaded(sha256.Sum256(selecting(2))) {
		t.Error("still in memory")
	}
	// A shadow that ends is a candidate again.
	if err := f.state.Shadow(t.Context(), "notes", [32]byte{}); err != nil {
		t.Fatal(err)
	}
	f.sweep(t, 100*CandidateLife)
	for name, want := range map[string]func() error{
		"tried": func() error {
			_, err := f.Try(t.Context(), "notes", shadow, coordinator.TryRequest{Key: "k", Siblings: []coordinator.TrySibling{{Value: []byte("a")}, {Value: []byte("b")}, {Value: []byte("c")}, {Value: []byte("d")}}})
			return err
		},
		"uploaded again": func() error { f.candidate(t, selecting(3)); return nil },
		"fetched by peers": func() error {
			_, _, err := f.Serve(t.Context(), &wire.ModuleGet{SHA256: sha256.Sum256(selecting(3))})
			return err
		},
	} {
		f.sweep(t, CandidateLife-hour)
		if err := want(); err != nil {
			t.Fatal(err)
		}
		if f.sweep(t, CandidateLife-hour); !f.has(selecting(3)) {
			t.Fatalf("removed though it was %s", name)
		}
		f.candidate(t, selecting(3))
	}
	if n := f.sweep(t, CandidateLife); n != 2 || f.has(selecting(3)) || !f.has(selecting(0)) || !f.has(selecting(1)) {
		t.Fatalf("%d left", n)
	}
	// What was removed can come again, and back to what is kept one can always go.
	f.candidate(t, selecting(2))
	if _, err := f.Rollback(t.Context(), "notes", 1); err != nil {
		t.Fatal(err)
	}
	if err := f.state.DropKeyspace(t.Context(), "notes"); err != nil {
		t.Fatal(err)
	}
	f.sweep(t, 0)
	if n := f.sweep(t, CandidateLife); n != 0 {
		t.Fatalf("%d left of a dropped keyspace", n)
	}
}

// TestSweepKeepsPartsTogether: a version with a configuration is three things on the disk, which go together; the
// module alone may be needed by another version.
func TestSweepKeepsPartsTogether(t *testing.T) {
	f := newFixture(t)
	module, config := selecting(1), []byte("A1")
	manifest := resolver.Manifest(module, config)
	for _, b := range [][]byte{module, config, manifest} {
		if err := f.blobs.PutModule(sha256.Sum256(b), b); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.state.Shadow(t.Context(), "notes", sha256.Sum256(manifest)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if n := f.sweep(t, 10*CandidateLife); n != 3 {
			t.Fatalf("%d left of what is needed", n)
		}
	}
	if err := f.state.Shadow(t.Context(), "notes", [32]byte{}); err != nil {
		t.Fatal(err)
	}
	if n := f.sweep(t, hour); n != 3 {
		t.Fatalf("%d left at once", n)
	}
	if n := f.sweep(t, CandidateLife-hour); n != 3 {
		t.Fatalf("%d left before the week is over", n)
	}
	if err := f.upload(t, module); err != nil {
		t.Fatal(err)
	}
	if n := f.sweep(t, 2*hour); n != 1 || !f.has(module) {
		t.Fatalf("%d left", n)
	}
}

// TestHistoryIsKeptSoFar: of a long history the latest modules can be gone back to; an older one is said to be gone.
func TestHistoryIsKeptSoFar(t *testing.T) {
	f := newFixture(t)
	for i := range byte(keptVersions + 2) {
		if err := f.upload(t, selecting(i)); err != nil {
			t.Fatal(err)
		}
	}
	f.sweep(t, 0)
	if n := f.sweep(t, CandidateLife); n != keptVersions || f.has(selecting(1)) || !f.has(selecting(2)) {
		t.Fatalf("%d left", n)
	}
	if _, err := f.Rollback(t.Context(), "notes", 3); err != nil {
		t.Fatal(err)
	}
	f.others.answers["n2"] = func(context.Context, wire.Message) (wire.Message, error) { return &wire.ModuleReply{}, nil }
	f.others.answers["n3"] = f.others.answers["n2"]
	_, err := f.Rollback(t.Context(), "notes", 1)
	e, ok := errors.AsType[*coordinator.Error](err)
	if !ok || e.Code != coordinator.CodeNotFound || !strings.Contains(e.Detail, "no member has it") {
		t.Fatalf("%v", err)
	}
}

func TestUnusedGolden(t *testing.T) {
	b, err := unused{"ab": 1700000000000}.append(nil)
	if err != nil || string(b) != "\x01"+`{"ab":1700000000000}` {
		t.Fatalf("%q, %v", b, err)
	}
	if got, err := decodeUnused(b); err != nil || got["ab"] != 1700000000000 {
		t.Fatalf("%v, %v", got, err)
	}
	for _, bad := range []string{"\x02{}", "\x01", "\x01[]", "\x01null"} {
		if _, err := decodeUnused([]byte(bad)); !errors.Is(err, errUnused) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzUnused(f *testing.F) {
	f.Add([]byte("\x01{\"ab\":7}"))
	f.Add([]byte("\x01null"))
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := decodeUnused(b)
		if err != nil {
			return
		}
		again, err := u.append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeUnused(again); err != nil || len(back) != len(u) {
			t.Fatalf("%v became %v, %v", u, back, err)
		}
	})
}
