package resolver

import (
	"errors"
	"io/fs"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
)

// executableMappings counts the pieces of machine code in memory that belong to no file.
func executableMappings(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 5 && strings.Contains(f[1], "x") {
			n++
		}
	}
	return n
}

// watchMemory returns a function that tells how much more memory the process took, at most, since now.
func watchMemory(t *testing.T) func() int {
	t.Helper()
	debug.FreeOSMemory()
	switch err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o600); { // the peak is now
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission): // a kernel, or a container, without
		t.Log("how much memory this takes is not known:", err)
		return func() int { return 0 }
	case err != nil:
		t.Fatal(err)
	}
	before := statusKB(t, "VmRSS")
	return func() int { return (statusKB(t, "VmHWM") - before) << 10 }
}

func statusKB(t *testing.T, what string) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), what+":")
	n, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// reservedBytes is the process's address space.
func reservedBytes(t *testing.T) int {
	t.Helper()
	return statusKB(t, "VmSize") << 10
}
