package memory

import "syscall"

// reserve returns zeros, of which the machine gives memory to those pages only that are written; nil if it cannot. They
// are not the garbage collector's: release them.
func reserve(size uint64) []byte {
	b, err := syscall.Mmap(-1, 0, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return nil
	}
	return b
}

// discard makes zeros of whole pages, gives their memory back, and reports whether that was possible.
func discard(b []byte) bool { return len(b) == 0 || syscall.Madvise(b, syscall.MADV_DONTNEED) == nil }

// release gives back what reserve returned.
func release(b []byte) { _ = syscall.Munmap(b) } // fails for what is no mapping, which this is
