package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"dynamo/node/causal"
	"dynamo/node/record"
)

func TestUpdate(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(), 1))
	ref := own(3, 9, "cart")
	if r, err := s.Get(ref); err != nil || !r.Object.IsZero() || !r.Own.IsZero() {
		t.Fatalf("a key never written: %v, %v", r, err)
	}
	got := mustUpdate(t, s, ref, Sync, write("a"))
	if got.Own != someActor(7) {
		t.Errorf("own = %v", got.Own)
	}
	wantValue(t, s, ref, "a")

	boom := errors.New("boom")
	if _, err := s.Update(t.Context(), ref, Sync, func(Record) (Record, error) { return Record{}, boom }); !errors.Is(err, boom) {
		t.Errorf("error of fn: %v", err)
	}
	wantValue(t, s, ref, "a")

	mustUpdate(t, s, ref, Buffered, write("b"))
	wantValue(t, s, ref, "b")
	if got, err := s.Get(own(3, 9, "car")); err != nil || !got.Object.IsZero() {
		t.Errorf("a prefix of the key: %v, %v", got, err)
	}
	// An own without an object is nothing.
	if r := mustUpdate(t, s, ref, Sync, func(r Record) (Record, error) { return Record{Own: r.Own}, nil }); !r.Own.IsZero() {
		t.Errorf("removed, but own = %v", r.Own)
	}
	wantValue(t, s, ref, "")
	if st := s.Stats(); st.Keys != 0 || st.Updates != 3 {
		t.Errorf("stats %+v", st)
	}
}

func TestUpdatePanicReleasesTheKey(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(), 1))
	ref := own(0, 1, "k")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("panic swallowed")
			}
		}()
		_, _ = s.Update(t.Context(), ref, Sync, func(Record) (Record, error) { panic("bug in fn") })
	}()
	mustUpdate(t, s, ref, Sync, write("a"))
}

func TestUnchangedWritesNothing(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(), 1))
	ref := own(0, 1, "k")
	mustUpdate(t, s, ref, Sync, write("a"))
	before := s.Stats()
	for range 10 {
		mustUpdate(t, s, ref, Sync, same)
		mustUpdate(t, s, own(0, 1, "absent"), Sync, same)
	}
	after := s.Stats()
	if after.Unchanged-before.Unchanged != 20 || after.Updates != before.Updates || after.WALBytes != before.WALBytes || after.Syncs != before.Syncs {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
	// Own alone is a change, too.
	mustUpdate(t, s, ref, Sync, func(r Record) (Record, error) { r.Own = someActor(9); return r, nil })
	if r, err := s.Get(ref); err != nil || r.Own != someActor(9) {
		t.Errorf("own = %v, %v", r.Own, err)
	}
}

func TestEndedContext(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(), 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	called := false
	_, err := s.Update(ctx, own(0, 1, "k"), Sync, func(r Record) (Record, error) { called = true; return r, nil })
	if !errors.Is(err, context.Canceled) || called {
		t.Errorf("%v, called %t", err, called)
	}
}

func TestIncrementsAreNotLost(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(), 1))
	const writers, each, keys = 64, 20, 3
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				ref := own(0, 1, numbered(i%keys))
				d := Durability((w + i) % 2)
				_, err := s.Update(t.Context(), ref, d, func(r Record) (Record, error) {
					n := 0
					if len(r.Object.Versions) > 0 {
						n, _ = strconv.Atoi(string(r.Object.Versions[0].Bytes))
					}
					return withValue(r, strconv.Itoa(n+1)), nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	total := 0
	for i := range keys {
		n, _ := strconv.Atoi(valueOf(t, s, own(0, 1, numbered(i))))
		total += n
	}
	if total != writers*each {
		t.Errorf("counted %d, want %d", total, writers*each)
	}
	if got := s.Stats().Keys; got != keys {
		t.Errorf("keys = %d, want %d", got, keys)
	}
}

func TestLargeRecord(t *testing.T) {
	t.Parallel()
	// More than half a memtable goes another way through pebble, which forgets the batch's contents.
	fs := vfs.NewMem()
	s := mustOpen(t, testOptions(fs, 1))
	ref := own(0, 1, "k")
	big := string(bytes.Repeat([]byte("0123456789abcdef"), memTableBytes/16*5/8))
	mustUpdate(t, s, ref, Sync, write(big))
	mustUpdate(t, s, ref, Sync, same)
	mustClose(t, s)
	s = mustOpen(t, testOptions(fs, 1))
	wantValue(t, s, ref, big)
}

func TestScan(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(), 1))
	for _, k := range []string{"a", "b", "ba", "bb", "bb\xff", "c", "\xff"} {
		mustUpdate(t, s, own(2, 5, k), Buffered, write("v-"+k))
	}
	// Neighbours on all sides.
	for _, r := range []Ref{own(1, 5, "b"), own(3, 5, "b"), own(2, 4, "\xff\xff"), own(2, 6, ""), hintFor("n2", 2, 5, "b")} {
		mustUpdate(t, s, r, Buffered, write("other"))
	}
	for _, c := range []struct {
		prefix, after string
		limit         int
		want          []string
	}{
		{"", "", 99, []string{"a", "b", "ba", "bb", "bb\xff", "c", "\xff"}},
		{"b", "", 99, []string{"b", "ba", "bb", "bb\xff"}},
		{"b", "b", 99, []string{"ba", "bb", "bb\xff"}},
		{"b", "bb", 1, []string{"bb\xff"}},
		{"", "b", 2, []string{"ba", "bb"}},
		{"b", "a", 99, []string{"b", "ba", "bb", "bb\xff"}},
		{"b", "c", 99, nil},
		{"\xff", "", 99, []string{"\xff"}},
		{"d", "", 99, nil},
	} {
		t.Run(fmt.Sprintf("%q after %q", c.prefix, c.after), func(t *testing.T) {
			var after []byte
			if c.after != "" {
				after = []byte(c.after)
			}
			var got []string
			err := s.Scan(2, 5, []byte(c.prefix), after, func(key []byte, r Record) bool {
				got = append(got, string(key))
				if v := string(r.Object.Versions[0].Bytes); v != "v-"+string(key) {
					t.Errorf("%q has %q", key, v)
				}
				return len(got) < c.limit
			})
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestScanAfterTheEmptyKey(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(), 1))
	mustUpdate(t, s, own(0, 1, ""), Buffered, write("v"))
	for _, c := range []struct {
		after []byte
		want  int
	}{{nil, 1}, {[]byte{}, 0}} {
		n := 0
		if err := s.Scan(0, 1, nil, c.after, func([]byte, Record) bool { n++; return true }); err != nil || n != c.want {
			t.Errorf("after %v: %d, %v", c.after, n, err)
		}
	}
}

func TestHints(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, testOptions(fs, 1))
	a, b := hintFor("n2", 1, 5, "a"), hintFor("n3", 1, 5, "a")
	mustUpdate(t, s, own(1, 5, "a"), Sync, write("mine"))
	ra := mustUpdate(t, s, a, Sync, write("for n2"))
	mustUpdate(t, s, b, Sync, write("for n3"))
	mustUpdate(t, s, hintFor("n", 1, 5, "2a"), Sync, write("for n"))

	collect := func(node string) (got []string) {
		var bytes int64
		err := s.ScanHints(node, func(h Hint) bool {
			got = append(got, h.Ref.HintFor+"/"+string(h.Ref.Key)+"="+string(h.Record.Object.Versions[0].Bytes))
			bytes += int64(h.Bytes)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		want := HintStat{}
		for n, st := range s.HintStats() {
			if node == "" || n == node {
				want.Count += st.Count
				want.Bytes += st.Bytes
			}
		}
		if want.Count != int64(len(got)) || want.Bytes != bytes {
			t.Errorf("stats %v, scanned %d of %d bytes", s.HintStats(), len(got), bytes)
		}
		return got
	}
	if got := collect("n2"); !slices.Equal(got, []string{"n2/a=for n2"}) {
		t.Errorf("%q", got)
	}
	if got := collect(""); len(got) != 3 {
		t.Errorf("%q", got)
	}

	// A hint that grew meanwhile stays.
	grown := mustUpdate(t, s, a, Sync, write("more for n2"))
	if ok, err := s.DeleteHint(a, ra.Object.Hash()); ok || err != nil {
		t.Errorf("deleted a hint that grew: %t, %v", ok, err)
	}
	collect("n2")
	if ok, err := s.DeleteHint(a, grown.Object.Hash()); !ok || err != nil {
		t.Errorf("delete: %t, %v", ok, err)
	}
	if ok, err := s.DeleteHint(a, grown.Object.Hash()); ok || err != nil {
		t.Errorf("delete twice: %t, %v", ok, err)
	}
	if _, err := s.DeleteHint(own(1, 5, "a"), causal.Hash{}); err == nil {
		t.Error("DeleteHint took an own copy")
	}
	wantValue(t, s, own(1, 5, "a"), "mine")
	if _, ok := s.HintStats()["n2"]; ok {
		t.Errorf("stats %v", s.HintStats())
	}

	want := s.HintStats()
	mustClose(t, s)
	s = mustOpen(t, testOptions(fs, 1))
	if got := s.HintStats(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("rebuilt %v, want %v", got, want)
	}
	if got := s.Stats(); got.Keys != 1 || got.Hints != 2 {
		t.Errorf("stats %+v", got)
	}
}

func TestDropKeyspace(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, testOptions(fs, 1))
	for p := range 4 {
		for _, ks := range []uint64{7, 1<<64 - 1} {
			mustUpdate(t, s, own(1, ks, numbered(p)), Buffered, write("v"))
			mustUpdate(t, s, hintFor("n"+strconv.Itoa(p), 1, ks, "h"), Buffered, write("v"))
		}
	}
	if err := s.DropKeyspaces([]uint64{1<<64 - 1}); err != nil {
		t.Fatal(err)
	}
	check := func(s *Store) {
		t.Helper()
		for p := range 4 {
			wantValue(t, s, own(1, 7, numbered(p)), "v")
			wantValue(t, s, own(1, 1<<64-1, numbered(p)), "")
			wantValue(t, s, hintFor("n"+strconv.Itoa(p), 1, 7, "h"), "v")
			wantValue(t, s, hintFor("n"+strconv.Itoa(p), 1, 1<<64-1, "h"), "")
		}
		if st := s.Stats(); st.Keys != 4 || st.Hints != 4 {
			t.Errorf("keys %d, hints %d", st.Keys, st.Hints)
		}
	}
	check(s)
	crashed := mustOpen(t, testOptions(fs.CrashClone(vfs.CrashCloneCfg{}), 1))
	for p := range 4 {
		wantValue(t, crashed, own(1, 1<<64-1, numbered(p)), "")
		wantValue(t, crashed, hintFor("n"+strconv.Itoa(p), 1, 1<<64-1, "h"), "")
	}
	wal := s.Stats().WALBytes
	if err := s.DropKeyspaces([]uint64{1<<64 - 1}); err != nil || s.Stats().WALBytes != wal {
		t.Errorf("dropping again wrote something, or failed: %v", err)
	}
	check(s)
}

func TestMetaAndModules(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, testOptions(fs, 1))
	if _, ok, err := s.Meta("x"); ok || err != nil {
		t.Errorf("missing meta: %t, %v", ok, err)
	}
	for _, v := range []string{"", "one", "two"} {
		if err := s.PutMeta("members", []byte(v)); err != nil {
			t.Fatal(err)
		}
		if got, ok, err := s.Meta("members"); !ok || err != nil || string(got) != v {
			t.Errorf("meta %q, %t, %v", got, ok, err)
		}
	}
	var want [][32]byte
	for i := range 3 {
		b := bytes.Repeat([]byte{byte(i)}, 1000*i)
		sha := sha256.Sum256(b)
		if err := s.PutModule(sha, b); err != nil {
			t.Fatal(err)
		}
		want = append(want, sha)
	}
	slices.SortFunc(want, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	if err := s.PutModule(want[0], []byte("not it")); err == nil {
		t.Error("module under another's hash taken")
	}
	s = mustOpen(t, testOptions(fs.CrashClone(vfs.CrashCloneCfg{}), 1))
	if got, err := s.Modules(); err != nil || !slices.Equal(got, want) {
		t.Errorf("modules %x, %v", got, err)
	}
	for _, sha := range want {
		if b, ok, err := s.Module(sha); !ok || err != nil || sha256.Sum256(b) != sha {
			t.Errorf("module %x: %t, %v", sha, ok, err)
		}
	}
	if _, ok, err := s.Module([32]byte{1}); ok || err != nil {
		t.Errorf("missing module: %t, %v", ok, err)
	}
	for range 2 { // the second time it is not there
		if err := s.DeleteModule(want[1]); err != nil {
			t.Fatal(err)
		}
	}
	s = mustOpen(t, testOptions(fs.CrashClone(vfs.CrashCloneCfg{}), 1))
	if got, ok, err := s.Meta("members"); !ok || err != nil || string(got) != "two" {
		t.Errorf("meta after a crash %q, %t, %v", got, ok, err)
	}
}

func TestCorruptRecords(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(), 1))
	bad, good := own(0, 1, "bad"), own(0, 1, "good")
	mustUpdate(t, s, bad, Sync, write("v"))
	mustUpdate(t, s, good, Sync, write("v"))
	raw, err := s.value(mustKey(t, good))
	if err != nil {
		t.Fatal(err)
	}
	putRaw(t, s, mustKey(t, bad), raw) // sound bytes in the wrong place

	isCorrupt := func(what string, err error) {
		t.Helper()
		var c *CorruptError
		if !errors.Is(err, ErrCorrupt) || !errors.As(err, &c) || string(c.Ref.Key) != "bad" {
			t.Errorf("%s: %v", what, err)
		}
	}
	r, err := s.Get(bad)
	isCorrupt("get", err)
	if !r.Object.IsZero() {
		t.Errorf("get returned %v", r)
	}
	_, err = s.Update(t.Context(), bad, Sync, func(Record) (Record, error) { t.Error("fn called"); return Record{}, nil })
	isCorrupt("update", err)
	seen := 0
	isCorrupt("scan", s.Scan(0, 1, nil, nil, func([]byte, Record) bool { seen++; return true }))
	if seen != 1 {
		t.Errorf("scan showed %d, want the sound one", seen)
	}
	if got := s.Stats().Corrupt; got != 3 {
		t.Errorf("counted %d, want 3", got)
	}
	if ok, err := s.DiscardCorrupt(good); ok || err != nil {
		t.Errorf("discarded a sound record: %t, %v", ok, err)
	}
	if ok, err := s.DiscardCorrupt(bad); !ok || err != nil {
		t.Errorf("discard: %t, %v", ok, err)
	}
	wantValue(t, s, bad, "")
	mustUpdate(t, s, bad, Sync, write("again"))

	hint := hintFor("n2", 0, 1, "bad")
	mustUpdate(t, s, hint, Sync, write("v"))
	putRaw(t, s, mustKey(t, hint), []byte{1, 2})
	_, err = s.DeleteHint(hint, causal.Hash{})
	isCorrupt("delete hint", err)
	isCorrupt("scan hints", s.ScanHints("", func(Hint) bool { return true }))

	putRaw(t, s, metaKey("m"), []byte("garbage"))
	if _, ok, err := s.Meta("m"); ok || !errors.Is(err, ErrCorrupt) {
		t.Errorf("meta: %t, %v", ok, err)
	}
	key := moduleKey([32]byte{1})
	putRaw(t, s, key, record.AppendBlob(nil, key, []byte("another module")))
	if b, ok, err := s.Module([32]byte{1}); ok || b != nil || !errors.Is(err, ErrCorrupt) {
		t.Errorf("module: %t, %v", ok, err)
	}
}

func TestClosed(t *testing.T) {
	s, err := Open(testOptions(vfs.NewMem(), 1))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				_, err := s.Update(t.Context(), own(0, 1, numbered(i%50)), Durability(i%2), write("v"))
				if errors.Is(err, ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for s.Stats().Updates < 100 {
		if _, err := s.NewActor(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		mustClose(t, s)
	}
	wg.Wait()
	for name, f := range map[string]func() error{
		"Get":            func() error { _, err := s.Get(own(0, 1, "k")); return err },
		"Update":         func() error { _, err := s.Update(t.Context(), own(0, 1, "k"), Sync, same); return err },
		"Scan":           func() error { return s.Scan(0, 1, nil, nil, func([]byte, Record) bool { return true }) },
		"ScanHints":      func() error { return s.ScanHints("", func(Hint) bool { return true }) },
		"DeleteHint":     func() error { _, err := s.DeleteHint(hintFor("n", 0, 1, "k"), causal.Hash{}); return err },
		"DiscardCorrupt": func() error { _, err := s.DiscardCorrupt(own(0, 1, "k")); return err },
		"DropKeyspaces":  func() error { return s.DropKeyspaces([]uint64{1}) },
		"PutMeta":        func() error { return s.PutMeta("m", nil) },
		"Meta":           func() error { _, _, err := s.Meta("m"); return err },
		"PutModule":      func() error { return s.PutModule(sha256.Sum256(nil), nil) },
		"Module":         func() error { _, _, err := s.Module([32]byte{}); return err },
		"DeleteModule":   func() error { return s.DeleteModule([32]byte{}) },
		"Modules":        func() error { _, err := s.Modules(); return err },
		"NewActor":       func() error { _, err := s.NewActor(); return err },
		"RenewIdentity":  s.RenewIdentity,
	} {
		if err := f(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	_ = s.Stats()
}
