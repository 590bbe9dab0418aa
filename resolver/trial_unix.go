//go:build linux || darwin

package resolver

import (
	"fmt"
	"syscall"
)

// limitProcess limits this process for the rest of its life. The limit is on data, not on address space, of
// which the Go runtime reserves far more than it uses.
func limitProcess(memoryBytes, cpuSeconds uint64) error {
	if err := syscall.Setrlimit(syscall.RLIMIT_DATA, &syscall.Rlimit{Cur: memoryBytes, Max: memoryBytes}); err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	// At the hard limit, the signal is one that the Go runtime cannot take notice of.
	if err := syscall.Setrlimit(syscall.RLIMIT_CPU, &syscall.Rlimit{Cur: cpuSeconds, Max: cpuSeconds}); err != nil {
		return fmt.Errorf("processor time: %w", err)
	}
	return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}
