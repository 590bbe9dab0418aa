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

const noReserve = syscall.MAP_NORESERVE

// reserve returns zeros, of which the machine gives memory to those pages only that are written; nil if it cannot. They
// are not the garbage collector's: release them.
func reserve(size uint64) []byte {
	b, err := syscall.Mmap(-1, 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|noReserve)
	if err != nil {
		return nil
	}
	const noHugePage = 15              // MADV_NOHUGEPAGE: the first byte of a small memory would take 2 MiB, where huge pages are the rule
	_ = syscall.Madvise(b, noHugePage) // fails where there are none
	return b
}

// release gives back what reserve returned, and what was mapped over it.
func release(b []byte) { _ = syscall.Munmap(b) } // fails for what is no mapping, which this is

// discard gives the memory of whole pages back, which then are what they were when they were mapped.
func discard(b []byte) error {
	return os.NewSyscallError("madvise", syscall.Madvise(b, syscall.MADV_DONTNEED))
}

// image is a snapshot as a file without a name, which all homes map, and the snapshot itself reads.
type image struct {
	fd    int
	bytes []byte
}

// newImage puts a snapshot into a file of so many bytes, and makes sure that the kernel's answers make sense.
func newImage(runs []run, size int) (_ *image, err error) {
	if page := os.Getpagesize(); size < 2*page || size%page != 0 || page%pageBytes != 0 {
		return nil, errNoHome
	}
	fd, err := newFile()
	if err != nil {
		return nil, err
	}
	i := &image{fd: fd}
	err = syscall.Ftruncate(fd, int64(size))
	for _, r := range runs {
		if err == nil {
			err = i.write(r)
		}
	}
	if err == nil {
		err = i.probe(size)
	}
	if err == nil {
		i.bytes, err = syscall.Mmap(fd, 0, size, syscall.PROT_READ, syscall.MAP_SHARED)
	}
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("image", err), syscall.Close(fd))
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

// probe writes one page of a mapping, reads another, and wants to be told.
func (i *image) probe(size int) (err error) {
	b, err := syscall.Mmap(i.fd, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|noReserve)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, syscall.Munmap(b)) }()
	m, err := openPagemap()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	b[0] = b[len(b)-1] ^ 1
	told := false
	err = m.written(b, func(from, to int) { told = from == 0 && to == os.Getpagesize() })
	if err == nil && !told {
		err = errNoHome
	}
	return err
}

// mapOver makes of the beginning of a mapping a private mapping of the image. After an error it is not known what is there.
func (i *image) mapOver(b []byte) error {
	_, _, errno := syscall.Syscall6(syscall.SYS_MMAP, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_FIXED|noReserve, uintptr(i.fd), 0)
	if errno != 0 {
		return os.NewSyscallError("mmap", errno)
	}
	return nil
}

// close leaves the homes alone.
func (i *image) close() error {
	return errors.Join(os.NewSyscallError("munmap", syscall.Munmap(i.bytes)), os.NewSyscallError("close", syscall.Close(i.fd)))
}

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
