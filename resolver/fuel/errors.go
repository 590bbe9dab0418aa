package fuel

import (
	"fmt"
	"strings"
)

// Code says why a module was refused. The values are stable.
type Code string

// Codes of a refused module.
const (
	CodeMalformed   Code = "malformed"   // not a WebAssembly binary module, or not a valid one
	CodeTooLarge    Code = "too_large"   // more bytes than Options.ModuleBytes
	CodeTooComplex  Code = "too_complex" // would cost too much to compile
	CodeUnsupported Code = "unsupported" // threads, several memories, imports other than functions, or the like
	CodeReserved    Code = "reserved"    // uses a name that belongs to the host
	CodeMemory      Code = "memory"      // starts with more memory than Options.MemoryPages
)

// Error is a refused module and where it went wrong.
type Error struct {
	Code     Code
	Section  string // name of the section, or ""
	Function int    // number of the function whose body was read, or -1
	Offset   int    // in bytes from the beginning of the module
	Message  string
}

// Error tells a person what is wrong and where.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s (", e.Code, e.Message)
	if e.Section != "" {
		fmt.Fprintf(&b, "%s section, ", e.Section)
	}
	if e.Function >= 0 {
		fmt.Fprintf(&b, "function %d, ", e.Function)
	}
	fmt.Fprintf(&b, "byte %d)", e.Offset)
	return b.String()
}
