package resolver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tetratelabs/wazero/sys"

	"dynamo/resolver/frame"
	"dynamo/resolver/fuel"
)

// Code says why a module was refused or a merge failed. The values are stable:
// metrics, conflict lists and quarantine go by them.
type Code string

// Codes of a refused module.
const (
	CodeMalformed     Code = "malformed"      // not a WebAssembly binary module
	CodeTooLarge      Code = "too_large"      // more bytes than Limits.ModuleBytes
	CodeTooComplex    Code = "too_complex"    // would cost too much to compile
	CodeUnsupported   Code = "unsupported"    // threads, several memories, or the like
	CodeReserved      Code = "reserved"       // exports a name that belongs to the host
	CodeMissingExport Code = "missing_export" // an export of the ABI is absent or of another type
	CodeUnknownImport Code = "unknown_import" // an import that the host does not give
	CodeCompile       Code = "compile"        // refused by the compiler, or not compiled within limits
	CodeConfig        Code = "config"         // the module refused its configuration
	CodeUnavailable   Code = "unavailable"    // the host cannot compile it now; it is no fault of the module
)

// Codes of a failed merge. CodeMemory may also refuse a module.
const (
	CodeTrap          Code = "trap"           // unreachable, out of bounds, division by zero, ...
	CodeStack         Code = "stack"          // calls went deeper than Limits.CallDepth
	CodeFuel          Code = "fuel"           // needs more fuel than Limits.Fuel
	CodeExit          Code = "exit"           // the module ended itself
	CodeTimeout       Code = "timeout"        // ran longer than Limits.Timeout
	CodeCanceled      Code = "canceled"       // the caller gave up
	CodeMemory        Code = "memory"         // needs more than Limits.MemoryBytes
	CodeOversize      Code = "oversize"       // the result is larger than allowed
	CodeInvalidOutput Code = "invalid_output" // an address or a frame makes no sense
	CodeGuestError    Code = "guest_error"    // the module answered StatusError
	CodeKeep          Code = "keep"           // the module answered StatusKeep
	CodeClosed        Code = "closed"         // the module or the runtime was closed
	CodeInternal      Code = "internal"       // a bug in the host
)

// Error is a refused module or a merge without a result.
type Error struct {
	Code    Code
	Message string
	Err     error // the cause, or nil
}

// Error returns the code, the message and the cause.
func (e *Error) Error() string {
	switch {
	case e.Err == nil:
		return "resolver: " + string(e.Code) + ": " + e.Message
	case e.Message == "":
		return "resolver: " + string(e.Code) + ": " + e.Err.Error()
	default:
		return "resolver: " + string(e.Code) + ": " + e.Message + ": " + e.Err.Error()
	}
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the Code of the *Error in err's chain, or "" when there is none.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

func failf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Outcome is what a merge cost, whether it succeeded or not.
type Outcome struct {
	Duration time.Duration // from the start of the instance to the answer, without waiting for a turn; 0 without Options.Now
	// Fuel is what the merge used, Limits.Fuel if that was not enough. It is the same on all machines, and
	// without what the module did before its first merge.
	Fuel uint64
	// MemoryBytes is the size of the linear memory at the end.
	MemoryBytes uint64
}

// ended gives the code for a turn that is over.
func ended(t *turn, what string) *Error {
	if t.late {
		return failf(CodeTimeout, "%s: the time limit of %v is over", what, t.limit)
	}
	return &Error{Code: CodeCanceled, Message: what, Err: context.Cause(t.caller)}
}

// failure gives the code for err, which a call into a module returned.
func failure(t *turn, what string, err error) *Error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	// The lines after the first are a stack trace of function numbers and of
	// names that the module chose.
	text, _, _ := strings.Cut(err.Error(), "\n")
	exit, exited := errors.AsType[*sys.ExitError](err)
	switch {
	case errors.Is(err, fuel.ErrExhausted):
		return &Error{Code: CodeFuel, Message: what, Err: fuel.ErrExhausted}
	case exited && t.Err() != nil:
		return ended(t, what)
	case exited:
		return failf(CodeExit, "%s: exit code %d", what, exit.ExitCode())
	case strings.Contains(text, "(recovered by wazero)"):
		return failf(CodeInternal, "%s: %s", what, text)
	case strings.HasSuffix(text, "stack overflow"):
		return failf(CodeStack, "%s: stack overflow", what)
	}
	text = strings.TrimPrefix(text, "wasm error: ")
	return failf(CodeTrap, "%s: %s", what, guestText([]byte(text)))
}

// guestText makes printable text of what a module said.
func guestText(b []byte) string {
	return strings.ToValidUTF8(string(b[:min(len(b), frame.MaxMessageBytes)]), "\ufffd")
}
