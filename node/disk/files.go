package disk

import (
	"errors"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is a file system: the disk, or memory in a simulation.
type FS = vfs.FS

// ReadFile reads at most limit bytes of a file.
func ReadFile(fs FS, path string, limit int64) ([]byte, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit))
	return b, errors.Join(err, f.Close())
}

// ReplaceFile puts a file in its place so that after a crash it has the old content or the new: written
// beside, synced, renamed, directory synced.
func ReplaceFile(fs FS, dir, name string, b []byte) error {
	tmp := fs.PathJoin(dir, name+".tmp")
	f, err := fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(tmp, fs.PathJoin(dir, name)); err != nil {
		return err
	}
	return SyncDir(fs, dir)
}

// MakeDir makes dir and its parents and syncs whatever names a new one, so that a crash does not leave
// a synced file in a directory that nothing leads to.
func MakeDir(fs FS, dir string) error {
	var parents []string
	for p := fs.PathDir(dir); ; p = fs.PathDir(p) {
		parents = append(parents, p)
		if _, err := fs.Stat(p); err == nil || fs.PathDir(p) == p {
			break
		}
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range parents {
		if err := SyncDir(fs, p); err != nil {
			return err
		}
	}
	return nil
}

// SyncDir makes the names in a directory durable.
func SyncDir(fs FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Allocate makes a file of n bytes that take their place on the disk, beside its place at first. Preallocation
// is at liberty to do nothing, so what it did is looked up, and bytes are written where it did not.
func Allocate(fs FS, dir, name string, n int64, free func() (int64, error)) (err error) {
	tmp := fs.PathJoin(dir, name+".tmp")
	before, err := free()
	if err != nil {
		return err
	}
	f, err := fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, fs.Remove(tmp))
		}
	}()
	err = f.Preallocate(0, n)
	after, unseen := free()
	if err != nil || unseen != nil || before-after < n/2 {
		err = fill(f, n)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(tmp, fs.PathJoin(dir, name)); err != nil {
		return err
	}
	return SyncDir(fs, dir)
}

// fill writes n bytes that do not compress.
func fill(f vfs.File, n int64) error {
	block := make([]byte, 1<<16)
	for x := uint64(1); n > 0; n -= int64(len(block)) {
		for i := range block { // xorshift64 (Marsaglia 2003)
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			block[i] = byte(x)
		}
		if _, err := f.Write(block[:min(int64(len(block)), n)]); err != nil {
			return err
		}
	}
	return nil
}
