package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	mib       = 1 << 20
	diskTotal = 1 << 30
	// 5 % of the disk, which is less than 1 GiB.
	diskMark = diskTotal / 100 * 5
)

// setFree makes a memory file system say how much is left of it.
func setFree(fs *vfs.MemFS, free uint64) {
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: free, TotalBytes: diskTotal, UsedBytes: diskTotal - free})
}

func guarded(fs FS, seed byte) Options {
	o := testOptions(fs, seed)
	o.Space = SpaceLimits{MinFreeBytes: 1 << 30, MinFreePercent: 5}
	return o
}

func ballastBytes(t *testing.T, f FS) int64 {
	t.Helper()
	info, err := f.Stat(testDir + "/" + ballastName)
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	must(t, err)
	return info.Size()
}

func TestFullDiskRefusesWritesUntilThereIsSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		setFree(disk, 500*mib)
		s := mustOpen(t, guarded(disk, 1))
		synctest.Wait()
		must(t, s.Room(1000))
		if got := ballastBytes(t, disk); got != diskTotal/ballastShare || s.Space().Ballast != got {
			t.Fatalf("ballast of %d bytes, %+v", got, s.Space())
		}
		hint := hintFor("n2", 0, 1, "h")
		r := mustUpdate(t, s, hint, Sync, write("v"))

		setFree(disk, diskMark-mib)
		time.Sleep(spaceEvery)
		synctest.Wait()
		if err := s.Room(1); !errors.Is(err, ErrDiskFull) {
			t.Fatalf("below the watermark: %v", err)
		}
		if st := s.Space(); !st.Full || st.Refused != 1 || st.Watermark != diskMark || st.Ballast == 0 {
			t.Errorf("%+v", st)
		}
		// What frees space works on.
		if ok, err := s.DeleteHint(hint, r.Object.Hash()); !ok || err != nil {
			t.Errorf("delete hint: %t, %v", ok, err)
		}

		setFree(disk, diskMark/criticalShare-mib)
		time.Sleep(spaceEvery)
		synctest.Wait()
		if got := ballastBytes(t, disk); got != 0 || s.Space().Ballast != 0 {
			t.Errorf("ballast of %d bytes on a disk that is critically low", got)
		}

		// Space that only the missing ballast makes is none.
		setFree(disk, diskMark+mib)
		time.Sleep(5 * spaceEvery)
		synctest.Wait()
		if err := s.Room(1); !errors.Is(err, ErrDiskFull) {
			t.Errorf("without the ballast's space: %v", err)
		}

		setFree(disk, diskMark+20*mib)
		start := time.Now()
		for s.Room(1) != nil && time.Since(start) < 10*time.Second {
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("took writes again after %v", took)
		}
		if ballastBytes(t, disk) == 0 {
			t.Error("the ballast was not made again")
		}
	})
}

// Writes count what they take, so that they cannot run through the margin between two looks.
func TestWritesDoNotOutrunTheGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		setFree(disk, diskMark+4*mib) // no room for a ballast
		s := mustOpen(t, guarded(disk, 1))
		synctest.Wait()
		value := strings.Repeat("x", 64<<10)
		n := 0
		for ; n < 1000 && s.Room(len(value)) == nil; n++ { // virtual time stands still: no tick comes
			mustUpdate(t, s, own(0, 1, numbered(n)), Sync, write(value))
		}
		if taken := n * len(value); taken < mib || taken > 4*mib {
			t.Errorf("took %d KiB with 4 MiB above the watermark", taken>>10)
		}
		if err := s.Room(diskTotal); !errors.Is(err, ErrDiskFull) {
			t.Errorf("a write larger than the disk: %v", err)
		}
	})
}

func TestGuardIsOffWithoutLimitsOrFigures(t *testing.T) {
	for name, o := range map[string]Options{
		"no figures": guarded(vfs.NewMem(), 1),
		"no limits":  testOptions(vfs.NewMem(), 1),
	} {
		s := mustOpen(t, o)
		if err := s.Room(1 << 40); err != nil || s.Space().Guarded {
			t.Errorf("%s: %v, %+v", name, err, s.Space())
		}
	}
}

func TestCriticallyLowDiskOpensAndCloses(t *testing.T) {
	disk := vfs.NewMem()
	setFree(disk, 500*mib)
	s := mustOpen(t, guarded(disk, 1))
	mustUpdate(t, s, own(0, 1, "k"), Sync, write("v"))
	mustClose(t, s)
	if ballastBytes(t, disk) == 0 {
		t.Fatal("no ballast: this test shows nothing")
	}
	setFree(disk, mib)
	s = mustOpen(t, guarded(disk, 2))
	if ballastBytes(t, disk) != 0 {
		t.Error("the ballast was kept")
	}
	if err := s.Room(1); !errors.Is(err, ErrDiskFull) {
		t.Errorf("right after the boot: %v", err)
	}
	wantValue(t, s, own(0, 1, "k"), "v")
	mustClose(t, s)
	s = mustOpen(t, guarded(disk, 3))
	if !s.CleanBoot() {
		t.Error("the stop was not clean")
	}
}

// On a real disk the ballast takes real blocks.
func TestBallastIsAllocated(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, Options{Dir: dir, Rand: seeded(1), Now: time.Now, CacheBytes: mib, Space: SpaceLimits{MinFreeBytes: 8 * mib, MinFreePercent: 50}})
	limit := time.NewTimer(10 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.Space().Ballast == 0 {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("no ballast: %+v", s.Space())
		}
	}
	info, err := os.Stat(dir + "/" + ballastName)
	must(t, err)
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Blocks*512 < 2*mib {
		t.Errorf("the ballast has %+v blocks, want 2 MiB", info.Sys())
	}
	must(t, s.Room(1000))
	if fmt.Sprint(s.Space().Refused) != "0" {
		t.Errorf("%+v", s.Space())
	}
}
