package sim

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrDisk is what a drive answers while it fails.
var ErrDisk = errors.New("sim: input/output error")

// DiskFault is how a drive fails.
type DiskFault int

// The ways.
const (
	// Healthy is a drive that does not fail.
	Healthy DiskFault = iota
	// FailSync fails every sync of a log. What was written may be there after a crash.
	FailSync
	// FailRead fails every read of a table.
	FailRead
	// NoSpace fails every write and every new file with ENOSPC; of logs, the syncs.
	NoSpace
)

// drive is the file system of one node: memory, with faults. It is safe for concurrent use.
type drive struct {
	*vfs.MemFS
	// mu guards the faults. held is there while the drive stands still, and is closed in the end; reserved is
	// what files that are preallocated take of free; shot is the disk as it was shotIn operations after snapshotAfter.
	mu struct {
		sync.Mutex
		held     chan struct{}
		fault    DiskFault
		hits     int
		dead     chan struct{}
		sized    bool
		free     int64
		reserved map[string]int64
		shotIn   int
		clone    func() *vfs.MemFS
		shot     *vfs.MemFS
	}
}

func newDrive(m *vfs.MemFS) *drive {
	d := &drive{MemFS: m}
	d.mu.reserved = map[string]int64{}
	return d
}

// replaced returns a drive with other content, of the same size.
func (d *drive) replaced(m *vfs.MemFS) *drive {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := newDrive(m)
	next.mu.sized, next.mu.free, next.mu.fault = d.mu.sized, d.mu.free, d.mu.fault
	return next
}

// hold makes syncs and writes of logs wait. Other files do not: the store may hold locks meanwhile, and a goroutine
// that waits for a lock keeps virtual time from passing.
func (d *drive) hold() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.held == nil {
		d.mu.held = make(chan struct{})
	}
}

func (d *drive) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.held != nil {
		close(d.mu.held)
		d.mu.held = nil
	}
}

// die keeps a database from going on that nobody can close, because its log failed: its process would be gone. Tables are
// made without locks.
func (d *drive) die() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.fault = Healthy
	if d.mu.dead == nil {
		d.mu.dead = make(chan struct{})
	}
}

// alive returns the drive, or one of the same content if it died with its process.
func (d *drive) alive() *drive {
	d.mu.Lock()
	dead := d.mu.dead != nil
	d.mu.Unlock()
	if dead {
		return d.replaced(d.MemFS)
	}
	return d
}

func (d *drive) setFault(f DiskFault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.dead == nil {
		d.mu.fault = f
	}
}

// snapshotAfter keeps what a crash would leave after so many more writes and syncs.
func (d *drive) snapshotAfter(operations int, clone func() *vfs.MemFS) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.shotIn, d.mu.clone = operations, clone
}

func (d *drive) snapshot() *vfs.MemFS {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.shot
}

// tick is called before each operation that changes the disk.
func (d *drive) tick() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.clone == nil {
		return
	}
	if d.mu.shotIn--; d.mu.shotIn < 0 {
		d.mu.shot, d.mu.clone = d.mu.clone(), nil
	}
}

// failurePause is how long the making of a table takes that fails.
const failurePause = 10 * time.Millisecond

// failing says what an operation answers, nil if nothing is wrong.
func (d *drive) failing(path string, kind DiskFault) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	log := strings.HasSuffix(path, ".log")
	switch {
	case d.mu.fault == FailSync && kind == FailSync && log && !rotates(),
		d.mu.fault == FailRead && kind == FailRead && strings.HasSuffix(path, ".sst"):
		d.mu.hits++
		return fmt.Errorf("%w: %s", ErrDisk, path)
	case d.mu.fault == NoSpace && log && kind == FailSync && !rotates(),
		d.mu.fault == NoSpace && !log && (kind == NoSpace || kind == FailSync && strings.Contains(path, "/db/")):
		d.mu.hits++
		return fmt.Errorf("%s: %w", path, syscall.ENOSPC)
	}
	return nil
}

// rotates reports whether its caller goes on to the next log. Pebble ends the process, which here is that of all nodes, if that
// fails, so such faults wait for what comes next.
func rotates() bool {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs[:])])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, ".rotateWAL") {
			return true
		}
		if !more {
			return false
		}
	}
}

// faults is how often the drive failed.
func (d *drive) faults() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.hits
}

// await waits while the drive stands still.
func (d *drive) await(path string) {
	d.mu.Lock()
	held := d.mu.held
	d.mu.Unlock()
	if held != nil && strings.HasSuffix(path, ".log") {
		<-held
	}
}

// diskBytes is the size of a drive that has one.
const diskBytes = 1 << 30

// setFree gives the drive a size and says how much is left of it.
func (d *drive) setFree(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.sized, d.mu.free = true, bytes
}

// GetDiskUsage implements vfs.FS.
func (d *drive) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.mu.sized {
		return d.MemFS.GetDiskUsage(path)
	}
	free := d.mu.free
	for _, n := range d.mu.reserved {
		free -= n
	}
	free = max(free, 0)
	return vfs.DiskUsage{AvailBytes: uint64(free), TotalBytes: diskBytes, UsedBytes: uint64(diskBytes - free)}, nil
}

func (d *drive) wrap(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &driveFile{File: f, d: d, path: name}, nil
}

// Create implements vfs.FS.
func (d *drive) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	d.tick()
	d.mu.Lock()
	dead := d.mu.dead
	d.mu.Unlock()
	if dead != nil && strings.HasSuffix(name, ".sst") {
		<-dead
	}
	if err := d.failing(name, NoSpace); err != nil {
		if strings.HasSuffix(name, ".sst") {
			time.Sleep(failurePause) // pebble tries again at once, and time would stand still
		}
		return nil, err
	}
	f, err := d.MemFS.Create(name, c)
	return d.wrap(name, f, err)
}

// Open implements vfs.FS.
func (d *drive) Open(name string, _ ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.MemFS.Open(name)
	return d.wrap(name, f, err)
}

// OpenReadWrite implements vfs.FS.
func (d *drive) OpenReadWrite(name string, c vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.MemFS.OpenReadWrite(name, c)
	return d.wrap(name, f, err)
}

// OpenDir implements vfs.FS.
func (d *drive) OpenDir(name string) (vfs.File, error) {
	f, err := d.MemFS.OpenDir(name)
	return d.wrap(name, f, err)
}

// ReuseForWrite implements vfs.FS.
func (d *drive) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	d.tick()
	f, err := d.MemFS.ReuseForWrite(from, to, c)
	return d.wrap(to, f, err)
}

// Rename implements vfs.FS.
func (d *drive) Rename(from, to string) error {
	d.tick()
	d.mu.Lock()
	if n, ok := d.mu.reserved[from]; ok {
		delete(d.mu.reserved, from)
		d.mu.reserved[to] = n
	}
	d.mu.Unlock()
	return d.MemFS.Rename(from, to)
}

// Remove implements vfs.FS.
func (d *drive) Remove(name string) error {
	d.tick()
	d.mu.Lock()
	delete(d.mu.reserved, name)
	d.mu.Unlock()
	return d.MemFS.Remove(name)
}

// driveFile is an open file of a drive.
type driveFile struct {
	vfs.File
	d    *drive
	path string
}

func (f *driveFile) change(kind DiskFault) error {
	f.d.tick()
	f.d.await(f.path)
	return f.d.failing(f.path, kind)
}

// Write implements vfs.File.
func (f *driveFile) Write(b []byte) (int, error) {
	if err := f.change(NoSpace); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}

// Sync implements vfs.File.
func (f *driveFile) Sync() error {
	if err := f.change(FailSync); err != nil {
		return err
	}
	return f.File.Sync()
}

// SyncData implements vfs.File.
func (f *driveFile) SyncData() error {
	if err := f.change(FailSync); err != nil {
		return err
	}
	return f.File.SyncData()
}

// SyncTo implements vfs.File.
func (f *driveFile) SyncTo(n int64) (bool, error) {
	if err := f.change(FailSync); err != nil {
		return false, err
	}
	return f.File.SyncTo(n)
}

// Read implements vfs.File.
func (f *driveFile) Read(b []byte) (int, error) {
	if err := f.d.failing(f.path, FailRead); err != nil {
		return 0, err
	}
	return f.File.Read(b)
}

// ReadAt implements vfs.File.
func (f *driveFile) ReadAt(b []byte, at int64) (int, error) {
	if err := f.d.failing(f.path, FailRead); err != nil {
		return 0, err
	}
	return f.File.ReadAt(b, at)
}

// Preallocate takes the room for files whose purpose that is, without the memory.
func (f *driveFile) Preallocate(offset, n int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.mu.sized && strings.Contains(f.path, "ballast") {
		f.d.mu.reserved[f.path] = offset + n
	}
	return nil
}

// flip turns bits round in the files of a directory whose names end so, one in each, and returns how many.
func (d *drive) flip(dir, suffix string, r *rand.Rand) (int, error) {
	names, err := d.List(dir)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, name := range names {
		if !strings.HasSuffix(name, suffix) {
			continue
		}
		path := dir + "/" + name
		f, err := d.MemFS.Open(path)
		if err != nil {
			return n, err
		}
		b, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			return n, err
		}
		if len(b) == 0 {
			continue
		}
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		w, err := d.MemFS.Create(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			return n, err
		}
		_, err = w.Write(b)
		if err := errors.Join(err, w.Sync(), w.Close()); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
