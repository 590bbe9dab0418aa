package store

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"dynamo/node/causal"
	"dynamo/node/disk"
)

// reboot closes, or crashes, and opens again.
func reboot(t *testing.T, s *Store, fs *vfs.MemFS, crash bool) (*Store, *vfs.MemFS) {
	t.Helper()
	if crash {
		fs = fs.CrashClone(vfs.CrashCloneCfg{})
	} else {
		mustClose(t, s)
	}
	return mustOpen(t, testOptions(fs, 99)), fs
}

func TestBootRule(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, testOptions(fs, 1))
	node := s.Identity().Node
	if id := s.Identity(); id.Incarnation != 1 || id.Boot != 1 || node == (causal.NodeID{}) || s.CleanBoot() {
		t.Fatalf("first boot %+v, clean %t", id, s.CleanBoot())
	}
	for i, crash := range []bool{
		false, true,
		true, // nothing was written between: a crash all the same
		false, false,
	} {
		was := s.Identity()
		if i%2 == 0 {
			mustUpdate(t, s, own(0, 1, numbered(i)), Sync, write("v"))
		}
		s, fs = reboot(t, s, fs, crash)
		is := s.Identity()
		if is.Node != node || is.Boot != was.Boot+1 || s.CleanBoot() == crash || is.Incarnation > was.Incarnation != crash {
			t.Fatalf("step %d: %+v after %+v, clean %t", i, is, was, s.CleanBoot())
		}
	}
}

// A machine that is set back to a snapshot boots twice from the same state, and may meet nobody who knows.
func TestOneStateBootsUnderTwoIncarnations(t *testing.T) {
	fs := vfs.NewCrashableMem()
	mustUpdate(t, mustOpen(t, testOptions(fs, 1)), own(0, 1, "k"), Sync, write("v"))
	snapshot := fs.CrashClone(vfs.CrashCloneCfg{})
	a := mustOpen(t, testOptions(fs.CrashClone(vfs.CrashCloneCfg{}), 2)).Identity()
	b := mustOpen(t, testOptions(snapshot, 3)).Identity()
	if a.Node != b.Node || a.Incarnation == b.Incarnation {
		t.Errorf("%+v and %+v", a, b)
	}
}

func TestActorsAreNeverHandedOutTwice(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, testOptions(fs, 1))
	seen := make(map[causal.Actor]bool)
	var mu sync.Mutex
	draw := func(s *Store, n int) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range n {
					a, err := s.NewActor()
					mu.Lock()
					if err != nil || seen[a] || a.Seq == 0 || !s.Owns(a) {
						t.Errorf("actor %v (seen %t, owned %t), %v", a, seen[a], s.Owns(a), err)
					}
					seen[a] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	last := causal.Actor{}
	for i := range 6 {
		draw(s, []int{1, disk.SeqLease/4 + 3, 10}[i%3])
		if i == 3 {
			if err := s.RenewIdentity(); err != nil {
				t.Fatal(err)
			}
			draw(s, 10)
		}
		if !last.IsZero() && s.Owns(last) != s.CleanBoot() {
			t.Errorf("boot %d: owns the last boot's actor: %t, clean %t", i, s.Owns(last), s.CleanBoot())
		}
		var err error
		if last, err = s.NewActor(); err != nil {
			t.Fatal(err)
		}
		seen[last] = true
		s, fs = reboot(t, s, fs, i%2 == 0)
	}
}

func TestRenewIdentity(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, testOptions(fs, 1))
	was := s.Identity()
	a, err := s.NewActor()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RenewIdentity(); err != nil {
		t.Fatal(err)
	}
	is := s.Identity()
	b, err := s.NewActor()
	if err != nil || is.Node == was.Node || is.Incarnation != 1 || s.Owns(a) || !s.Owns(b) || b.Node != is.Node {
		t.Errorf("was %+v, is %+v, owns old %t, new %t, %v", was, is, s.Owns(a), s.Owns(b), err)
	}
	s, _ = reboot(t, s, fs, true)
	if got := s.Identity(); got.Node != is.Node {
		t.Errorf("after a crash %+v, want the node of %+v", got, is)
	}
}

func TestLostOrCorruptDirectoryTakesANewUUID(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, fs *vfs.MemFS){
		"everything gone":    func(t *testing.T, fs *vfs.MemFS) { must(t, fs.RemoveAll(testDir)) },
		"identity gone":      func(t *testing.T, fs *vfs.MemFS) { must(t, fs.Remove(testDir+"/identity")) },
		"database gone":      func(t *testing.T, fs *vfs.MemFS) { must(t, fs.RemoveAll(testDir+"/db")) },
		"identity corrupt":   func(t *testing.T, fs *vfs.MemFS) { flip(t, fs, testDir+"/identity", 20) },
		"identity truncated": func(t *testing.T, fs *vfs.MemFS) { rewrite(t, fs, testDir+"/identity", nil) },
		"identity of a later version": func(t *testing.T, fs *vfs.MemFS) {
			rewrite(t, fs, testDir+"/identity", append([]byte{2}, make([]byte, 100)...))
		},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			s := mustOpen(t, testOptions(fs, 1))
			mustUpdate(t, s, own(0, 1, "k"), Sync, write("v"))
			was := s.Identity()
			mustClose(t, s)
			damage(t, fs)
			s = mustOpen(t, testOptions(fs, 2))
			if id := s.Identity(); id.Node == was.Node || id.Incarnation != 1 || id.Boot != 1 || s.CleanBoot() {
				t.Errorf("was %+v, is %+v, clean %t", was, id, s.CleanBoot())
			}
			if strings.HasPrefix(name, "identity") {
				wantValue(t, s, own(0, 1, "k"), "v")
			}
		})
	}
}

// A copy of a cleanly stopped directory cannot be told from the original by itself: both are the same
// disk, incarnation and boot, and only peers that meet both see it.
func TestClonedDirectory(t *testing.T) {
	fs := vfs.NewCrashableMem()
	mustClose(t, mustOpen(t, testOptions(fs, 1)))
	copied := clone(t, fs)
	a, b := mustOpen(t, testOptions(fs, 2)), mustOpen(t, testOptions(copied, 3))
	if a.Identity() != b.Identity() || !a.CleanBoot() || !b.CleanBoot() {
		t.Errorf("%+v and %+v", a.Identity(), b.Identity())
	}
	must(t, b.RenewIdentity())
	if a.Identity().Node == b.Identity().Node {
		t.Error("renewed to the same node")
	}
}

func TestRolledBackDirectory(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, testOptions(fs, 1))
	mustUpdate(t, s, own(0, 1, "k"), Sync, write("old"))
	mustClose(t, s)
	backup := clone(t, fs)
	for range 2 {
		s = mustOpen(t, testOptions(fs, 2))
		mustUpdate(t, s, own(0, 1, "k"), Sync, write("new"))
		mustClose(t, s)
	}
	newest := s.Identity()

	whole := mustOpen(t, testOptions(clone(t, backup), 3))
	if id := whole.Identity(); id.Node != newest.Node || id.Boot >= newest.Boot {
		t.Errorf("restored %+v, newest %+v: peers could not tell", id, newest)
	}
	// Only one half restored: the fingerprint tells.
	for _, half := range []string{"db", "identity"} {
		t.Run("only "+half, func(t *testing.T) {
			mixed := clone(t, fs)
			must(t, mixed.RemoveAll(testDir+"/"+half))
			ok, err := vfs.Clone(backup, mixed, testDir+"/"+half, testDir+"/"+half, vfs.CloneSync)
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			s := mustOpen(t, testOptions(mixed, 4))
			if id := s.Identity(); s.CleanBoot() || (id.Node == newest.Node && id.Incarnation <= newest.Incarnation) {
				t.Errorf("%+v, clean %t; newest %+v", id, s.CleanBoot(), newest)
			}
		})
	}
}

func TestTamperedLogIsNotAContinuation(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, testOptions(fs, 1))
	mustUpdate(t, s, own(0, 1, "k"), Sync, write("v"))
	mustClose(t, s)
	must(t, fs.RemoveAll(anyFile(t, fs, ".log")))
	s = mustOpen(t, testOptions(fs, 1))
	if s.CleanBoot() || s.Identity().Incarnation < 2 {
		t.Errorf("%+v, clean %t", s.Identity(), s.CleanBoot())
	}
	wantValue(t, s, own(0, 1, "k"), "v") // Close left nothing in the log
}

func TestLocked(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, testOptions(fs, 1))
	id := s.Identity()
	for range 2 {
		_, err := Open(testOptions(fs, 2))
		if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), testDir) {
			t.Fatalf("second open: %v", err)
		}
	}
	mustClose(t, s)
	s = mustOpen(t, testOptions(fs, 2))
	if got := s.Identity(); got.Boot != id.Boot+1 || !s.CleanBoot() {
		t.Errorf("the refused open left its mark: %+v after %+v", got, id)
	}
}

func TestLockedOnDisk(t *testing.T) {
	o := Options{Dir: t.TempDir(), Rand: seeded(1), Now: time.Now, CacheBytes: 1 << 20}
	s := mustOpen(t, o)
	if _, err := Open(o); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: %v", err)
	}
	mustUpdate(t, s, own(0, 1, "k"), Sync, write("v"))
	id := s.Identity()
	mustClose(t, s)
	s = mustOpen(t, o)
	if got := s.Identity(); got.Node != id.Node || got.Incarnation != 1 || got.Boot != 2 {
		t.Errorf("%+v after %+v", got, id)
	}
	wantValue(t, s, own(0, 1, "k"), "v")
	if free, total, err := s.DiskSpace(); err != nil || free == 0 || total < free {
		t.Errorf("disk space %d of %d, %v", free, total, err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{}, {Dir: "/x"}, {Rand: seeded(1), Now: time.Now}} {
		if _, err := Open(o); err == nil {
			t.Errorf("%+v taken", o)
		}
	}
}

func TestUnusableDatabase(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, fs *vfs.MemFS){
		"table truncated": func(t *testing.T, fs *vfs.MemFS) { rewrite(t, fs, anyFile(t, fs, ".sst"), []byte("short")) },
		"table gone":      func(t *testing.T, fs *vfs.MemFS) { must(t, fs.Remove(anyFile(t, fs, ".sst"))) },
		"manifest gone": func(t *testing.T, fs *vfs.MemFS) {
			d, err := pebble.Peek(testDir+"/db", fs)
			must(t, err)
			must(t, fs.Remove(d.ManifestFilename))
		},
		"manifest garbage": func(t *testing.T, fs *vfs.MemFS) {
			d, err := pebble.Peek(testDir+"/db", fs)
			must(t, err)
			rewrite(t, fs, d.ManifestFilename, bytes.Repeat([]byte("garbage"), 100))
		},
		// The file that says which MANIFEST counts, once called CURRENT.
		"no current manifest": func(t *testing.T, fs *vfs.MemFS) {
			names, err := fs.List(testDir + "/db")
			must(t, err)
			for _, n := range names {
				if strings.HasPrefix(n, "marker.manifest.") {
					must(t, fs.Remove(testDir+"/db/"+n))
				}
			}
		},
		"marked": func(t *testing.T, fs *vfs.MemFS) { rewrite(t, fs, testDir+"/db/"+unusableName, []byte("why")) },
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			s := mustOpen(t, testOptions(fs, 1))
			mustUpdate(t, s, own(0, 1, "k"), Sync, write("v"))
			was := s.Identity()
			mustClose(t, s)
			damage(t, fs)
			before, err := fs.List(testDir + "/db")
			must(t, err)
			for range 2 { // the lock is free again
				_, err = Open(testOptions(fs, 2))
				var u *UnusableError
				if !errors.Is(err, ErrUnusable) || !errors.As(err, &u) || u.Dir != testDir+"/db" {
					t.Fatalf("open: %v", err)
				}
			}
			after, err := fs.List(testDir + "/db")
			must(t, err)
			if len(after) < len(before) {
				t.Errorf("had %q, has %q", before, after)
			}
			// The two ways out that the error names.
			for _, byHand := range []bool{true, false} {
				fs := clone(t, fs)
				o := testOptions(fs, 3)
				if byHand {
					must(t, fs.Rename(testDir+"/db", testDir+"/db.aside"))
				} else {
					o.SetAside = "db.aside"
				}
				s = mustOpen(t, o)
				if s.Identity().Node == was.Node || s.CleanBoot() {
					t.Errorf("came back empty as the same disk, clean %t", s.CleanBoot())
				}
				wantValue(t, s, own(0, 1, "k"), "")
				if aside, err := fs.List(testDir + "/db.aside"); err != nil || len(aside) < len(before) {
					t.Errorf("had %q, kept %q, %v", before, aside, err)
				}
				mustUpdate(t, s, own(0, 1, "k"), Sync, write("again"))
				mustClose(t, s)
				s = mustOpen(t, o) // the flag of a database that is sound does nothing
				wantValue(t, s, own(0, 1, "k"), "again")
			}
		})
	}
}

// Without its metadata a node cannot start: that is no matter of single records.
func TestUnreadableMetadataIsUnusable(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, testOptions(fs, 1))
	must(t, s.PutMeta("cluster", []byte("state")))
	putRaw(t, s, metaKey("cluster"), []byte("garbage"))
	mustClose(t, s)
	o := testOptions(fs, 2)
	if _, err := Open(o); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "cluster") {
		t.Errorf("%v", err)
	}
	o.SetAside = "db.aside"
	s = mustOpen(t, o)
	if _, ok, err := s.Meta("cluster"); ok || err != nil {
		t.Errorf("%t, %v", ok, err)
	}
}

// A name that is taken is no place to move a database to.
func TestSetAsideNeverOverwrites(t *testing.T) {
	fs := vfs.NewCrashableMem()
	mustClose(t, mustOpen(t, testOptions(fs, 1)))
	rewrite(t, fs, testDir+"/db/"+unusableName, []byte("why"))
	must(t, fs.MkdirAll(testDir+"/db.aside", 0o755))
	o := testOptions(fs, 2)
	o.SetAside = "db.aside"
	if _, err := Open(o); !errors.Is(err, ErrUnusable) || !strings.Contains(err.Error(), "taken") {
		t.Errorf("%v", err)
	}
}

// Bits that flip in the log, at its end or before, may cost what it held: then the boot is not a clean one,
// and the disk mints under the next incarnation, or not at all.
func TestFlippedBitsOfTheLog(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, testOptions(fs, 1))
	for i := range 100 {
		mustUpdate(t, s, own(0, 1, numbered(i)), Sync, write(strings.Repeat("v", 1000)))
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	path := anyFile(t, crashed, ".log")
	info, err := crashed.Stat(path)
	must(t, err)
	lost := 0
	for _, fromEnd := range []int64{1, 40, 500, 3000, 20_000, 33_000, 50_000, 90_000, info.Size() - 20} {
		fs := crashed.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
		flip(t, fs, path, int(info.Size()-fromEnd))
		after, err := Open(testOptions(fs, 2))
		if errors.Is(err, ErrUnusable) {
			continue // said so
		}
		must(t, err)
		if id := after.Identity(); after.CleanBoot() || id.Node != s.Identity().Node || id.Incarnation < 2 {
			t.Errorf("%d bytes from the end: %+v, clean %t", fromEnd, id, after.CleanBoot())
		}
		for i := range 100 {
			if valueOf(t, after, own(0, 1, numbered(i))) == "" {
				lost++
			}
		}
		mustClose(t, after)
	}
	if lost == 0 {
		t.Error("no bit cost anything: this test shows nothing")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// anyFile returns the first file of the database with that ending.
func anyFile(t *testing.T, fs FS, ext string) string {
	t.Helper()
	names, err := fs.List(testDir + "/db")
	must(t, err)
	for _, n := range names {
		if strings.HasSuffix(n, ext) {
			return testDir + "/db/" + n
		}
	}
	t.Fatalf("no %s in %q", ext, names)
	return ""
}

func rewrite(t *testing.T, fs FS, path string, b []byte) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	must(t, err)
	_, err = f.Write(b)
	must(t, errors.Join(err, f.Sync(), f.Close()))
}

func flip(t *testing.T, fs FS, path string, at int) {
	t.Helper()
	f, err := fs.Open(path)
	must(t, err)
	b, err := io.ReadAll(f)
	must(t, errors.Join(err, f.Close()))
	b[at] ^= 1
	rewrite(t, fs, path, b)
}
