//go:build linux && (amd64 || arm64)

package memory

import (
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// image is a snapshot as a file without a name, which all homes map.
type image struct {
	fd    int
	bytes int
}

// newImage puts a snapshot into a file of so many bytes.
func newImage(s *Snapshot, size int) (_ *image, err error) {
	if page := os.Getpagesize(); size < 2*page || size%page != 0 || page%pageBytes != 0 {
		return nil, errNoHome
	}
	fd, err := newFile()
	if err != nil {
		return nil, err
	}
	i := &image{fd: fd, bytes: size}
	err = syscall.Ftruncate(fd, int64(size))
	for _, r := range s.runs {
		if err == nil {
			err = i.write(r)
		}
	}
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("image", err), i.close())
	}
	return i, nil
}

// newFile returns a file in memory.
func newFile() (int, error) {
	name, err := syscall.BytePtrFromString("wasm")
	if err != nil {
		return 0, err
	}
	number := uintptr(319) // memfd_create, which package syscall does not know
	if runtime.GOARCH == "arm64" {
		number = 279
	}
	const closeOnExec = 1
	fd, _, errno := syscall.Syscall(number, uintptr(unsafe.Pointer(name)), closeOnExec, 0)
	if errno != 0 {
		return 0, os.NewSyscallError("memfd_create", errno)
	}
	return int(fd), nil
}

func (i *image) write(r run) error {
	for done := 0; done < len(r.bytes); {
		n, err := syscall.Pwrite(i.fd, r.bytes[done:], int64(r.at+done))
		if err != nil {
			return err
		}
		done += n
	}
	return nil
}

// close leaves the homes alone.
func (i *image) close() error { return os.NewSyscallError("close", syscall.Close(i.fd)) }

// pagemap tells which pages of a mapping are copies. Each home has one of its own: all processors would write to what
// the kernel counts the users of a shared one with.
type pagemap struct {
	fd      int
	entries []byte
}

func openPagemap() (*pagemap, error) {
	fd, err := syscall.Open("/proc/self/pagemap", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open pagemap", err)
	}
	return &pagemap{fd: fd}, nil
}

func (m *pagemap) close() error { return os.NewSyscallError("close", syscall.Close(m.fd)) }

// mapImage returns memory that equals the image, and which nobody else sees.
func (i *image) mapImage() ([]byte, error) {
	const noReserve = 0x4000
	b, err := syscall.Mmap(i.fd, 0, i.bytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|noReserve)
	return b, os.NewSyscallError("mmap", err)
}

func unmap(b []byte) error { return os.NewSyscallError("munmap", syscall.Munmap(b)) }

// forget makes all of a mapping equal to the image again.
func forget(b []byte) error {
	const dontNeed = 4 // MADV_DONTNEED
	return os.NewSyscallError("madvise", syscall.Madvise(b, dontNeed))
}

// Of an entry of the pagemap, see Documentation/admin-guide/mm/pagemap.rst.
const (
	entryBytes = 8
	entryFile  = 1 << 61 // a page of the file
	entrySwap  = 1 << 62
	entryThere = 1 << 63
)

// written calls each with the pieces of b, which is the beginning of a mapping, that are no longer pages of the image.
func (m *pagemap) written(b []byte, each func(from, to int)) error {
	page := os.Getpagesize()
	n := (len(b) + page - 1) / page
	if len(m.entries) < n*entryBytes {
		m.entries = make([]byte, n*entryBytes)
	}
	list := m.entries[:n*entryBytes]
	first := int64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) / int64(page)
	got, err := syscall.Pread(m.fd, list, first*entryBytes)
	if err != nil || got != len(list) {
		return errors.Join(errNoHome, err)
	}
	from := -1
	for p := range n {
		e := binary.LittleEndian.Uint64(list[p*entryBytes:])
		switch copied := e&(entrySwap|entryThere) != 0 && e&entryFile == 0; {
		case copied && from < 0:
			from = p * page
		case !copied && from >= 0:
			each(from, p*page)
			from = -1
		}
	}
	if from >= 0 {
		each(from, len(b))
	}
	return nil
}
