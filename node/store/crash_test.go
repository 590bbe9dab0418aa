package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"dynamo/node/disk"
)

// The machine loses power at any moment while 8 writers work: what was acknowledged is there, and the
// next boot mints under another incarnation.
func TestCrashUnderVirtualTime(t *testing.T) {
	for _, unsynced := range []int{0, 50, 100} {
		t.Run(fmt.Sprintf("%d percent of the unsynced data survives", unsynced), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(uint64(unsynced), 1))
				fs := vfs.NewCrashableMem()
				var swift atomic.Bool
				s := mustOpen(t, testOptions(slowLog(fs, &swift), 1))
				was := s.Identity()
				actor, err := s.NewActor()
				must(t, err)

				// acked[i] is the highest value known to be durable under key i.
				var acked [8]atomic.Int64
				var wg sync.WaitGroup
				ctx, stop := context.WithCancel(t.Context())
				for i := range acked {
					wg.Go(func() {
						for n := int64(1); ctx.Err() == nil; n++ {
							d := Durability(n % 2) // every other write is Sync
							_, err := s.Update(context.Background(), own(0, 1, numbered(i)), d, write(fmt.Sprint(n)))
							if err != nil {
								t.Error(err)
								return
							}
							if d == Sync {
								acked[i].Store(n)
							}
						}
					})
				}
				// Virtual time, at whatever moment of a sync.
				time.Sleep(50*syncTime + time.Duration(rng.Int64N(int64(syncTime))))
				var floor [8]int64
				for i := range acked {
					floor[i] = acked[i].Load()
				}
				crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rng})
				stop()
				wg.Wait()
				swift.Store(true)

				after := mustOpen(t, testOptions(crashed, 2))
				id := after.Identity()
				if id.Node != was.Node || id.Incarnation <= was.Incarnation || id.Boot != was.Boot+1 || after.CleanBoot() || after.Owns(actor) {
					t.Errorf("identity %+v after %+v, clean %t", id, was, after.CleanBoot())
				}
				for i := range floor {
					n, err := strconv.ParseInt(valueOf(t, after, own(0, 1, numbered(i))), 10, 64)
					if err != nil || n < floor[i] || floor[i] < 20 {
						t.Errorf("key %d is at %d, %d was acknowledged (%v)", i, n, floor[i], err)
					}
				}
			})
		})
	}
}

const syncTime = time.Millisecond

// slowLog makes a sync of the write-ahead log take time until swift is set. Close syncs under a lock of
// pebble's: nobody may sleep there, or whoever waits for that lock keeps virtual time from moving on.
func slowLog(fs FS, swift *atomic.Bool) FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if isLogSync(op) && !swift.Load() {
			time.Sleep(syncTime)
		}
		return nil
	}))
}

func isLogSync(op errorfs.Op) bool {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		return strings.HasSuffix(op.Path, ".log")
	}
	return false
}

func TestBufferedMayBeLostUntilASyncSawIt(t *testing.T) {
	survives := func(fs *vfs.MemFS, ref Ref) bool {
		return valueOf(t, mustOpen(t, testOptions(fs.CrashClone(vfs.CrashCloneCfg{}), 2)), ref) != ""
	}
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, testOptions(fs, 1))
	ref := own(0, 1, "k")
	mustUpdate(t, s, ref, Buffered, write("v"))
	if survives(fs, ref) {
		t.Fatal("a buffered write was synced: this test shows nothing")
	}
	// Another replica sends the same object and wants it durable.
	syncs := s.Stats().Syncs
	mustUpdate(t, s, ref, Sync, same)
	if !survives(fs, ref) {
		t.Error("acknowledged as durable, and lost")
	}
	if got := s.Stats().Syncs - syncs; got != 1 {
		t.Errorf("%d syncs", got)
	}
	// Once durable, nothing is synced any more.
	mustUpdate(t, s, ref, Sync, same)
	if got := s.Stats().Syncs - syncs; got != 1 {
		t.Errorf("%d syncs for what was durable", got)
	}
	// A removal, too.
	mustUpdate(t, s, ref, Buffered, func(Record) (Record, error) { return Record{}, nil })
	if !survives(fs, ref) {
		t.Fatal("a buffered removal was synced: this test shows nothing")
	}
	mustUpdate(t, s, ref, Sync, same)
	if survives(fs, ref) {
		t.Error("removed durably, and back")
	}
}

func TestDeletedHintStaysDeleted(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, testOptions(fs, 1))
	ref := hintFor("n2", 0, 1, "k")
	r := mustUpdate(t, s, ref, Sync, write("v"))
	if ok, err := s.DeleteHint(ref, r.Object.Hash()); !ok || err != nil {
		t.Fatal(ok, err)
	}
	after := mustOpen(t, testOptions(fs.CrashClone(vfs.CrashCloneCfg{}), 2))
	wantValue(t, after, ref, "")
	if st := after.HintStats(); len(st) != 0 {
		t.Errorf("stats %v", st)
	}
}

// gate holds up the syncs of the write-ahead log, or fails them.
type gate struct {
	closed atomic.Bool
	fail   atomic.Bool
	opened chan struct{}
}

func newGate() *gate { return &gate{opened: make(chan struct{})} }

func (g *gate) inject(op errorfs.Op) error {
	if !isLogSync(op) {
		return nil
	}
	if g.closed.Load() {
		<-g.opened
	}
	if g.fail.Load() {
		return syscall.EIO
	}
	return nil
}

func TestWaitsForTheSyncOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		s := mustOpen(t, testOptions(errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(g.inject)), 1))
		ref := own(0, 1, "k")
		g.closed.Store(true)
		var first, second, unchanged atomic.Bool
		go func() {
			mustUpdate(t, s, ref, Sync, write("a"))
			first.Store(true)
		}()
		synctest.Wait()
		// The lock is not held during the sync, and what is not durable yet is visible.
		wantValue(t, s, ref, "a")
		go func() {
			mustUpdate(t, s, ref, Sync, same)
			unchanged.Store(true)
		}()
		go func() {
			mustUpdate(t, s, ref, Sync, write("b"))
			second.Store(true)
		}()
		synctest.Wait()
		wantValue(t, s, ref, "b")
		if first.Load() || second.Load() || unchanged.Load() {
			t.Errorf("answered before the sync: first %t, second %t, unchanged %t", first.Load(), second.Load(), unchanged.Load())
		}
		mustUpdate(t, s, ref, Buffered, same)

		// The deadline bounds the wait; the write stands.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r, err := s.Update(ctx, own(0, 1, "other"), Sync, write("c"))
		if !errors.Is(err, context.DeadlineExceeded) || len(r.Object.Versions) != 1 {
			t.Errorf("%v, %v", r, err)
		}
		wantValue(t, s, own(0, 1, "other"), "c")

		g.closed.Store(false)
		close(g.opened)
		synctest.Wait()
		if !first.Load() || !second.Load() || !unchanged.Load() {
			t.Errorf("no answer after the sync: first %t, second %t, unchanged %t", first.Load(), second.Load(), unchanged.Load())
		}
	})
}

func TestFailedSyncStopsTheStore(t *testing.T) {
	for _, d := range []Durability{Sync, Buffered} {
		t.Run(fmt.Sprintf("durability %d", d), func(t *testing.T) {
			g := newGate()
			mem := vfs.NewCrashableMem()
			o := testOptions(errorfs.Wrap(mem, errorfs.InjectorFunc(g.inject)), 1)
			o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
			fatal := make(chan error, 9)
			var s *Store
			o.OnFatal = func(err error) {
				fatal <- err
				if err := s.Close(); !errors.Is(err, ErrFailed) {
					t.Errorf("Close from OnFatal: %v", err)
				}
			}
			s, err := Open(o)
			must(t, err)
			mustUpdate(t, s, own(0, 1, "before"), Sync, write("v"))
			g.fail.Store(true)
			if d == Sync {
				_, err := s.Update(t.Context(), own(0, 1, "k"), Sync, write("v"))
				if !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
					t.Errorf("update: %v", err)
				}
			} else {
				mustUpdate(t, s, own(0, 1, "k"), Buffered, write("v"))
				if err := s.Close(); !errors.Is(err, ErrFailed) {
					t.Errorf("close: %v", err)
				}
			}
			if err := <-fatal; !errors.Is(err, syscall.EIO) {
				t.Errorf("fatal: %v", err)
			}
			g.fail.Store(false) // the disk pretends that nothing was
			if _, err := s.Get(own(0, 1, "before")); !errors.Is(err, ErrFailed) && !errors.Is(err, ErrClosed) {
				t.Errorf("get: %v", err)
			}
			if err := s.Close(); !errors.Is(err, ErrFailed) {
				t.Errorf("close: %v", err)
			}
			if len(fatal) != 0 {
				t.Errorf("OnFatal was called again: %v", <-fatal)
			}
			after := mustOpen(t, testOptions(mem.CrashClone(vfs.CrashCloneCfg{}), 2))
			if after.CleanBoot() || after.Identity().Incarnation < 2 {
				t.Errorf("%+v, clean %t", after.Identity(), after.CleanBoot())
			}
			wantValue(t, after, own(0, 1, "before"), "v")
		})
	}
}

// Of a log that has failed pebble does not answer every sync. The simulator met a change of metadata that waited for
// ever on a full disk.
func TestNobodyWaitsForAFailedStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		o := testOptions(errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(g.inject)), 1)
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
		s, err := Open(o)
		must(t, err)
		g.closed.Store(true)
		answer := make(chan error, 1)
		go func() { answer <- s.PutMeta("record", []byte("v")) }()
		synctest.Wait()
		_ = s.fail(syscall.ENOSPC)
		select {
		case err := <-answer:
			if !errors.Is(err, ErrFailed) {
				t.Errorf("put of metadata: %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("a change of metadata waits for a sync that never ends")
		}
		close(g.opened)
		must(t, s.db.Close())
	})
}

// logWriteChild marks the process that TestFailedLogWriteStopsTheStore sacrifices.
const logWriteChild = "DYNAMO_TEST_LOG_WRITE_CHILD"

// A write error, as of a full disk, makes pebble panic at a later commit. Where that happens at the
// rotation of its log, pebble unlocks a mutex twice on the way and takes the whole process down, which
// nobody can catch: a loud stop as well. So it happens in a process of its own.
func TestFailedLogWriteStopsTheStore(t *testing.T) {
	if os.Getenv(logWriteChild) != "" {
		failLogWrites(t)
		return
	}
	c := exec.Command(os.Args[0], "-test.run=^TestFailedLogWriteStopsTheStore$", "-test.v")
	c.Env = append(os.Environ(), logWriteChild+"=1")
	out, err := c.CombinedOutput()
	if err == nil && bytes.Contains(out, []byte("PASS")) {
		return
	}
	if !bytes.Contains(out, []byte("unlock of unlocked mutex")) || bytes.Contains(out, []byte("--- FAIL")) {
		t.Fatalf("%v\n%s", err, out)
	}
}

func failLogWrites(t *testing.T) {
	t.Helper()
	var full atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && strings.HasSuffix(op.Path, ".log") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return syscall.ENOSPC
		}
		return nil
	}))
	fatal := make(chan error, 9)
	o := testOptions(fs, 1)
	o.OnFatal = func(err error) { fatal <- err }
	s, err := Open(o)
	must(t, err)
	full.Store(true)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			value := strings.Repeat("x", 4096)
			for n := 0; ; n++ {
				ref := own(0, 1, fmt.Sprint(i, " ", n%10))
				if _, err := s.Update(context.Background(), ref, Buffered, write(value)); err != nil {
					if !errors.Is(err, ErrFailed) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	wg.Wait()
	if len(fatal) != 1 {
		t.Errorf("OnFatal was called %d times", len(fatal))
	}
	if err := s.Close(); !errors.Is(err, ErrFailed) {
		t.Errorf("close: %v", err)
	}
}

func TestIdentityWriteFailureRefusesActors(t *testing.T) {
	var full atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && strings.Contains(op.Path, disk.IdentityName) {
			return syscall.ENOSPC
		}
		return nil
	}))
	s := mustOpen(t, testOptions(fs, 1))
	full.Store(true)
	id := s.Identity()
	if err := s.RenewIdentity(); !errors.Is(err, syscall.ENOSPC) || s.Identity() != id {
		t.Errorf("renew: %v", err)
	}
	n := 0
	var err error
	for ; err == nil && n <= disk.SeqLease; n++ {
		_, err = s.NewActor()
	}
	if !errors.Is(err, syscall.ENOSPC) || n != disk.SeqLease+1 {
		t.Errorf("after %d actors: %v", n, err)
	}
	full.Store(false)
	if a, err := s.NewActor(); err != nil || a.Seq != disk.SeqLease+1 {
		t.Errorf("once there is space again: %v, %v", a, err)
	}
}

// Pebble cannot go on when the MANIFEST fails; neither the flush that meets it nor Close may pretend.
func TestFailedManifestStopsTheStore(t *testing.T) {
	for _, when := range []string{"in the background", "in Close"} {
		t.Run(when, func(t *testing.T) {
			var broken atomic.Bool
			mem := vfs.NewCrashableMem()
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if broken.Load() && strings.Contains(op.Path, "MANIFEST") {
					return syscall.EIO
				}
				return nil
			}))
			fatal := make(chan error, 9)
			o := testOptions(fs, 1)
			o.OnFatal = func(err error) { fatal <- err }
			s, err := Open(o)
			must(t, err)
			mustUpdate(t, s, own(0, 1, "k"), Sync, write("v"))
			broken.Store(true)
			if when == "in the background" {
				_, err := s.db.AsyncFlush()
				must(t, err)
				<-fatal
				if _, err := s.Update(t.Context(), own(0, 1, "k"), Sync, write("w")); !errors.Is(err, ErrFailed) {
					t.Errorf("update: %v", err)
				}
			}
			if err := s.Close(); !errors.Is(err, ErrFailed) {
				t.Errorf("close: %v", err)
			}
			after := mustOpen(t, testOptions(mem.CrashClone(vfs.CrashCloneCfg{}), 2))
			if after.CleanBoot() {
				t.Error("marked clean")
			}
			wantValue(t, after, own(0, 1, "k"), "v")
		})
	}
}

// A disk that hangs in a sync is noticed after a second, and so is its return.
func TestStalledDisk(t *testing.T) {
	var hang atomic.Bool
	release := make(chan struct{})
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if hang.Load() && isLogSync(op) {
			<-release
		}
		return nil
	}))
	var clock atomic.Int64
	clock.Store(time.Now().UnixNano())
	o := testOptions(fs, 1)
	o.Now = func() time.Time { return time.Unix(0, clock.Load()) }
	s := mustOpen(t, o)
	mustUpdate(t, s, own(0, 1, "k"), Sync, write("v"))
	clock.Add(int64(time.Hour))
	if err := s.Stalled(); err != nil {
		t.Fatalf("an idle disk: %v", err)
	}
	hang.Store(true)
	done := make(chan error, 1)
	go func() {
		_, err := s.Update(context.Background(), own(0, 1, "k"), Sync, write("w"))
		done <- err
	}()
	for s.Stalled() == nil {
		clock.Add(int64(10 * time.Millisecond)) // until the write waits, and then for a second
	}
	hang.Store(false)
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := s.Stalled(); err != nil {
		t.Fatalf("a disk that syncs again: %v", err)
	}
}
