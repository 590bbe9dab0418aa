package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"dynamo/node/causal"
	"dynamo/node/record"
	"dynamo/node/store/background"
)

// heard collects what OnCorrupt is told.
type heard struct {
	mu   sync.Mutex
	refs []string
}

func (h *heard) note(r Ref) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refs = append(h.refs, r.String())
}

func TestReplaceCorrupt(t *testing.T) {
	var h heard
	fs := vfs.NewCrashableMem()
	o := testOptions(fs, 1)
	o.OnCorrupt = h.note
	s := mustOpen(t, o)
	bad, good, none := own(0, 1, "bad"), own(0, 1, "good"), own(0, 1, "none")
	was := mustUpdate(t, s, bad, Sync, write("v"))
	mustUpdate(t, s, good, Sync, write("v"))
	keys := s.Stats().Keys
	putRaw(t, s, mustKey(t, bad), []byte("garbage of some length"))
	if _, err := s.Get(bad); !errors.Is(err, ErrCorrupt) || len(h.refs) != 1 || h.refs[0] != bad.String() {
		t.Errorf("get: %v, heard %q", err, h.refs)
	}
	theirs := withValue(Record{Own: someActor(9)}, "theirs").Object
	for _, ref := range []Ref{good, none} {
		if ok, err := s.ReplaceCorrupt(t.Context(), ref, theirs); ok || err != nil {
			t.Errorf("%s: %t, %v", ref, ok, err)
		}
	}
	if ok, err := s.ReplaceCorrupt(t.Context(), bad, causal.Object{}); ok || err == nil {
		t.Errorf("replaced by nothing: %t, %v", ok, err)
	}
	if ok, err := s.ReplaceCorrupt(t.Context(), bad, theirs); !ok || err != nil {
		t.Fatalf("%t, %v", ok, err)
	}
	wantValue(t, s, good, "v")
	wantValue(t, s, none, "")
	// It is durable, and nobody goes on with the actor that the lost record had.
	after := mustOpen(t, testOptions(fs.CrashClone(vfs.CrashCloneCfg{}), 2))
	for _, s := range []*Store{s, after} {
		wantValue(t, s, bad, "theirs")
		if r, err := s.Get(bad); err != nil || !r.Own.IsZero() || r.Own == was.Own {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if got := s.Stats().Keys; got != keys {
		t.Errorf("%d keys, want %d", got, keys)
	}
}

const tableKeys = 400

// withCorruptTable returns a disk whose one table has a flipped bit in its data.
func withCorruptTable(t *testing.T) *vfs.MemFS {
	t.Helper()
	return withCorrupt(t, 100_000, func(i int) Ref { return own(0, 1, numbered(i)) })
}

func withCorrupt(t *testing.T, at int, ref func(int) Ref) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, testOptions(fs, 1))
	noise := rand.NewChaCha8([32]byte{5})
	for i := range tableKeys {
		b := make([]byte, 1000)
		_, _ = noise.Read(b) // never fails; it must not compress
		mustUpdate(t, s, ref(i), Buffered, write(string(b)))
	}
	mustClose(t, s)
	flip(t, fs, anyFile(t, fs, ".sst"), at)
	return fs
}

// A bad block makes every key in it a failed read, never an absent one; each can be replaced.
func TestCorruptBlock(t *testing.T) {
	fs := withCorruptTable(t)
	s := mustOpen(t, testOptions(fs, 2))
	theirs := withValue(Record{Own: someActor(9)}, "theirs").Object
	bad := 0
	for i := range tableKeys {
		ref := own(0, 1, numbered(i))
		r, err := s.Get(ref)
		if err == nil && len(r.Object.Versions) == 1 {
			continue
		}
		if !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s: %v, %v", ref, r, err)
		}
		bad++
		if ok, err := s.ReplaceCorrupt(t.Context(), ref, theirs); !ok || err != nil {
			t.Fatalf("%s: %t, %v", ref, ok, err)
		}
		wantValue(t, s, ref, "theirs")
	}
	if bad == 0 || bad > tableKeys/4 {
		t.Errorf("%d of %d keys were in the bad block", bad, tableKeys)
	}
	if err := s.Scan(0, 1, nil, nil, func([]byte, Record) bool { return true }); !errors.Is(err, ErrCorrupt) {
		t.Errorf("scan: %v", err)
	}
}

// A table that cannot be compacted stops the store, and stays out of use until it is moved aside.
func TestUncompactableTableStopsTheStore(t *testing.T) {
	fs := withCorruptTable(t)
	fatal := make(chan error, 9)
	o := testOptions(fs, 2)
	o.OnFatal = func(err error) { fatal <- err }
	s, err := Open(o)
	must(t, err)
	id := s.Identity()
	theirs := withValue(Record{Own: someActor(9)}, "theirs").Object
	ref := own(0, 1, numbered(0))
	for i := 0; ref.Key != nil && i < tableKeys; i++ {
		ref = own(0, 1, numbered(i))
		if _, err := s.Get(ref); errors.Is(err, ErrCorrupt) {
			break
		}
	}
	_, err = s.ReplaceCorrupt(t.Context(), ref, theirs)
	must(t, err)
	must(t, s.db.Flush())
	for i := 0; i <= impassablePatience && s.failure() == nil; i++ {
		if err := s.db.Compact(t.Context(), []byte{0}, []byte{255}, false); !pebble.IsCorruptionError(err) {
			t.Fatalf("compaction: %v", err)
		}
	}
	if err := <-fatal; !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), ".sst") {
		t.Errorf("fatal: %v", err)
	}
	if _, err := s.Get(own(0, 1, "k")); !errors.Is(err, ErrFailed) {
		t.Errorf("get: %v", err)
	}
	if err := s.Close(); !errors.Is(err, ErrFailed) {
		t.Errorf("close: %v", err)
	}
	later := fs.CrashClone(vfs.CrashCloneCfg{})
	if _, err := Open(testOptions(later, 3)); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "cannot be read whole") {
		t.Errorf("open: %v", err)
	}
	o = testOptions(later, 4)
	o.SetAside = "db.aside"
	s = mustOpen(t, o)
	if s.Identity().Node == id.Node {
		t.Error("came back as the same disk")
	}
	wantValue(t, s, own(0, 1, numbered(1)), "")
}

// Pebble would try a compaction that failed again at once, for ever.
func TestFailedStoreCompactsNoMore(t *testing.T) {
	s, err := Open(testOptions(withCorruptTable(t), 2))
	must(t, err)
	mustUpdate(t, s, own(0, 1, numbered(0)), Buffered, write("over a table, which is not moved then but made anew"))
	c := background.NewScheduler(s.failure)
	c.Register(1, s.db)
	ok, handle := c.TrySchedule()
	if full, _ := c.TrySchedule(); !ok || full {
		t.Fatalf("one may run: %t, then %t", ok, full)
	}
	handle.Done()
	if ok, handle = c.TrySchedule(); !ok {
		t.Fatal("none may run when one has ended")
	}
	must(t, s.db.Flush())
	for i := 0; s.failure() == nil; i++ {
		if err := s.db.Compact(t.Context(), []byte{0}, []byte{255}, false); !pebble.IsCorruptionError(err) || i > impassablePatience {
			t.Fatalf("compaction: %v", err)
		}
	}
	handle.Done()
	if ok, _ = c.TrySchedule(); ok {
		t.Error("a compaction may run after the store failed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.db.Compact(ctx, []byte{0}, []byte{255}, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a compaction of the failed store: %v", err)
	}
}

// What is discarded is gone, although its old bytes are below and cannot be read.
func TestDiscardFromBadBlock(t *testing.T) {
	discard := func(s *Store, ref Ref) {
		t.Helper()
		if _, err := s.Get(ref); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s: %v", ref, err)
		}
		if ok, err := s.DiscardCorrupt(ref); !ok || err != nil {
			t.Fatalf("discard %s: %t, %v", ref, ok, err)
		}
		wantValue(t, s, ref, "")
		if ok, err := s.DiscardCorrupt(ref); ok || err != nil {
			t.Errorf("discard %s again: %t, %v", ref, ok, err)
		}
		mustUpdate(t, s, ref, Sync, write("again"))
		wantValue(t, s, ref, "again")
	}
	for name, ref := range map[string]func(int) Ref{
		"hint": func(i int) Ref { return hintFor("n2", 0, 1, numbered(i)) },
		"own":  func(i int) Ref { return own(0, 1, numbered(i)) },
	} {
		s, bad := mustOpen(t, testOptions(withCorrupt(t, 100_000, ref), 2)), 0
		for i := range tableKeys {
			if _, err := s.Get(ref(i)); errors.Is(err, ErrCorrupt) && bad < 3 {
				discard(s, ref(i))
				bad++
			}
		}
		if bad < 3 {
			t.Errorf("%s: %d keys were in the bad block", name, bad)
		}
	}
}

// A record that cannot be read can be filled again, or discarded, although its entry in the index cannot be read either.
func TestMendWithoutIndex(t *testing.T) {
	theirs := withValue(Record{Own: someActor(9)}, "theirs").Object
	for name, mend := range map[string]func(*Store, Ref) (bool, error){
		"theirs": func(s *Store, ref Ref) (bool, error) { return s.ReplaceCorrupt(t.Context(), ref, theirs) },
		"":       (*Store).DiscardCorrupt,
	} {
		s, ref := mustOpen(t, testOptions(vfs.NewMem(), 1)), own(0, 1, "k")
		mustUpdate(t, s, ref, Sync, write("v"))
		mustUpdate(t, s, own(0, 1, "other"), Sync, write("v"))
		must(t, s.TreesChecked())
		putRaw(t, s, mustKey(t, ref), []byte{1, 2})
		putRaw(t, s, record.IndexKey(ref.Tree(), ref.Key), []byte{1, 2})
		if ok, err := mend(s, ref); !ok || err != nil {
			t.Fatalf("%q: %t, %v", name, ok, err)
		}
		wantValue(t, s, ref, name)
		if !s.TreesInDoubt() {
			t.Error("no doubt of a tree whose index could not be read")
		}
		checkAll(t, s)
		mustAgree(t, s)
	}
}

// Trees that cannot be checked cannot be compared: a store that will never get past a bad block says so.
func TestUncheckableTableStopsTheStore(t *testing.T) {
	fatal := make(chan error, 9)
	o := testOptions(withCorruptTable(t), 2)
	o.OnFatal = func(err error) { fatal <- err }
	s, err := Open(o)
	must(t, err)
	id := own(0, 1, "k").Tree()
	for range impassablePatience {
		must(t, s.failure())
		if _, err := s.CheckTree(t.Context(), id, func(int) {}); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("check: %v", err)
		}
	}
	if err := <-fatal; !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), ".sst") {
		t.Errorf("fatal: %v", err)
	}
}
