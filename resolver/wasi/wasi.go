// Package wasi is the outside as a module sees it: the part of wasi_snapshot_preview1 that makes sense
// without files, environment, network, or clock and randomness of its own. It is pure: what a World
// answers is a function of what it was made of and of the calls before.
package wasi

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/rand/v2"
)

// Module is the name that modules import the functions from.
const Module = "wasi_snapshot_preview1"

// WASI error numbers.
const (
	wasiSuccess = 0
	wasiBadFD   = 8
	wasiFault   = 21
	wasiInvalid = 28
	wasiNoSys   = 52
	wasiPipe    = 70 // cannot seek
)

const (
	// MaxLogBytes is how much of a module's words is kept for the log.
	MaxLogBytes = 4 << 10
	// maxVectors bounds the buffers of one read or write and the
	// subscriptions of one poll, as IOV_MAX does.
	maxVectors = 1024
	// clockTick is the time, in ns, that each look at the monotonic clock
	// takes: a guest that waits for time to pass must not wait for ever.
	clockTick = 1000
	// maxKeptBytes is how large a buffer may be that Reset keeps.
	maxKeptBytes = 64 << 10
	// exitOutput is the exit code of a module that printed more than it may.
	exitOutput = 125
)

// Memory is the linear memory of the module that calls. Each method reports whether the bytes lie in it.
type Memory interface {
	Read(at, n uint32) ([]byte, bool)
	Write(at uint32, b []byte) bool
	WriteUint32Le(at, v uint32) bool
	WriteUint64Le(at uint32, v uint64) bool
}

// Options are what a World is made of.
type Options struct {
	// WallMs is where the wall clock stands, in ms since 1970.
	WallMs uint64
	// MonotonicNs is where the monotonic clock starts, in ns; 0 means its first tick.
	MonotonicNs uint64
	// Seed is what random bytes are derived from; it is not copied.
	Seed []byte
	// Stdin is what standard input gives; it is not copied.
	Stdin []byte
	// MaxStdout is how many bytes standard output keeps. With 0 they go to the log instead.
	MaxStdout int
}

// World is all that an instance sees of the outside during one run. It is for one goroutine.
type World struct {
	wallNs      uint64
	monotonicNs uint64
	seed        []byte
	random      *rand.ChaCha8 // nil until it is first needed
	seeded      bool          // random is from seed
	stdin       []byte        // what is left of it
	stdout      []byte
	maxStdout   int
	overflowed  bool
	log         []byte
	list        []byte // the vectors of the call that runs
}

// New returns a World.
func New(o Options) *World {
	w := &World{}
	w.Reset(o)
	return w
}

// Reset makes a World what New would return, and uses its memory again: what Stdout and Log returned is gone.
func (w *World) Reset(o Options) {
	const msNs = 1_000_000
	*w = World{
		wallNs:      min(o.WallMs, math.MaxInt64/msNs) * msNs,
		monotonicNs: max(o.MonotonicNs, clockTick),
		seed:        o.Seed, random: w.random, stdin: o.Stdin, stdout: w.stdout[:0], maxStdout: o.MaxStdout, log: w.log[:0], list: w.list,
	}
	if cap(w.stdout) > maxKeptBytes {
		w.stdout = nil
	}
}

// Bytes is how much memory is held for the next Reset.
func (w *World) Bytes() int { return cap(w.stdout) + cap(w.log) + cap(w.list) }

// MonotonicNs returns where the monotonic clock stands.
func (w *World) MonotonicNs() uint64 { return w.monotonicNs }

// Stdout returns what was printed; overflowed says that it is not all, and that the module was stopped.
func (w *World) Stdout() (out []byte, overflowed bool) { return w.stdout, w.overflowed }

// Log returns the first MaxLogBytes of what the module said.
func (w *World) Log() []byte { return w.log }

// Say adds text to the log.
func (w *World) Say(p []byte) {
	w.log = append(w.log, p[:min(len(p), MaxLogBytes-len(w.log))]...)
}

// print takes what goes to standard output and reports whether there was room.
func (w *World) print(p []byte) bool {
	if w.maxStdout == 0 {
		w.Say(p)
		return true
	}
	if len(p) > w.maxStdout-len(w.stdout) {
		w.overflowed = true
		return false
	}
	w.stdout = append(w.stdout, p...)
	return true
}

// Stop ends the module: it asked for it, or printed too much.
type Stop struct{ ExitCode uint32 }

// call is one function: args are its parameters, memory is the caller's. It returns a WASI error
// number, or what ends the module.
type call func(w *World, memory Memory, args []uint64) (uint32, *Stop)

// Function is one of the functions.
type Function struct {
	// Params are its parameters: i = i32, I = i64.
	Params string
	// Returns says that the result is an i32, the error number; otherwise there is none.
	Returns bool
	call    call
	// Work counts the bytes that a call works on, at most, from the same arguments. It is nil where they are few.
	Work func(memory Memory, args []uint64) uint64
}

// Call runs the function in a world. i32 parameters must have no upper half. A Stop ends the module.
func (f Function) Call(w *World, memory Memory, args []uint64) (errno uint32, stop *Stop) {
	return f.call(w, memory, args)
}

// Functions returns all functions by name. The engine's own WASI serves files and sockets, which no
// resolver may have, and some of its calls run for long without looking at the time limit.
func Functions() map[string]Function {
	plain := func(f func(*World, Memory, []uint64) uint32) call {
		return func(w *World, memory Memory, args []uint64) (uint32, *Stop) { return f(w, memory, args), nil }
	}
	badFD := func(*World, Memory, []uint64) uint32 { return wasiBadFD }
	succeed := func(*World, Memory, []uint64) uint32 { return wasiSuccess }
	missing := func(*World, Memory, []uint64) uint32 { return wasiNoSys }
	return map[string]Function{
		"args_get":                {"ii", true, plain(succeed), nil},
		"args_sizes_get":          {"ii", true, plain(emptyList), nil},
		"environ_get":             {"ii", true, plain(succeed), nil},
		"environ_sizes_get":       {"ii", true, plain(emptyList), nil},
		"clock_res_get":           {"ii", true, plain(clockResolution), nil},
		"clock_time_get":          {"iIi", true, plain(clockTime), nil},
		"fd_advise":               {"iIIi", true, plain(badFD), nil},
		"fd_allocate":             {"iII", true, plain(badFD), nil},
		"fd_close":                {"i", true, plain(badFD), nil},
		"fd_datasync":             {"i", true, plain(badFD), nil},
		"fd_fdstat_get":           {"ii", true, plain(fdStat), nil},
		"fd_fdstat_set_flags":     {"ii", true, plain(fdSetFlags), nil},
		"fd_fdstat_set_rights":    {"iII", true, plain(badFD), nil},
		"fd_filestat_get":         {"ii", true, plain(badFD), nil},
		"fd_filestat_set_size":    {"iI", true, plain(badFD), nil},
		"fd_filestat_set_times":   {"iIIi", true, plain(badFD), nil},
		"fd_pread":                {"iiiIi", true, plain(badFD), nil},
		"fd_prestat_get":          {"ii", true, plain(badFD), nil},
		"fd_prestat_dir_name":     {"iii", true, plain(badFD), nil},
		"fd_pwrite":               {"iiiIi", true, plain(badFD), nil},
		"fd_read":                 {"iiii", true, plain(fdRead), sizeOfVectors},
		"fd_readdir":              {"iiiIi", true, plain(badFD), nil},
		"fd_renumber":             {"ii", true, plain(badFD), nil},
		"fd_seek":                 {"iIii", true, plain(fdSeek), nil},
		"fd_sync":                 {"i", true, plain(badFD), nil},
		"fd_tell":                 {"ii", true, plain(badFD), nil},
		"fd_write":                {"iiii", true, write, sizeOfVectors},
		"path_create_directory":   {"iii", true, plain(badFD), nil},
		"path_filestat_get":       {"iiiii", true, plain(badFD), nil},
		"path_filestat_set_times": {"iiiiIIi", true, plain(badFD), nil},
		"path_link":               {"iiiiiii", true, plain(badFD), nil},
		"path_open":               {"iiiiiIIii", true, plain(badFD), nil},
		"path_readlink":           {"iiiiii", true, plain(badFD), nil},
		"path_remove_directory":   {"iii", true, plain(badFD), nil},
		"path_rename":             {"iiiiii", true, plain(badFD), nil},
		"path_symlink":            {"iiiii", true, plain(badFD), nil},
		"path_unlink_file":        {"iii", true, plain(badFD), nil},
		"poll_oneoff":             {"iiii", true, plain(poll), sizeOfPoll},
		"proc_exit":               {"i", false, exit, nil},
		"proc_raise":              {"i", true, plain(missing), nil},
		"random_get":              {"ii", true, plain(random), SizeOfSecond},
		"sched_yield":             {"", true, plain(succeed), nil},
		"sock_accept":             {"iii", true, plain(badFD), nil},
		"sock_recv":               {"iiiiii", true, plain(badFD), nil},
		"sock_send":               {"iiiii", true, plain(badFD), nil},
		"sock_shutdown":           {"ii", true, plain(badFD), nil},
	}
}

// SizeOfSecond is the Work of a function whose arguments are an address and a number of bytes. Those that do
// not lie in memory are no work.
func SizeOfSecond(memory Memory, args []uint64) uint64 {
	b, _ := memory.Read(uint32(args[0]), uint32(args[1]))
	return uint64(len(b))
}

// sizeOfVectors adds up the buffers of a read or write.
func sizeOfVectors(memory Memory, args []uint64) uint64 {
	if args[2] > maxVectors {
		return 0
	}
	list, ok := memory.Read(uint32(args[1]), uint32(args[2])*8)
	if !ok {
		return 0
	}
	size := uint64(len(list))
	for ; len(list) > 0; list = list[8:] {
		b, _ := memory.Read(binary.LittleEndian.Uint32(list), binary.LittleEndian.Uint32(list[4:]))
		size += uint64(len(b))
	}
	return size
}

// sizeOfPoll is that of the subscriptions, and of copying them.
func sizeOfPoll(_ Memory, args []uint64) uint64 { return min(args[2], maxVectors) * 100 }

// putU32 and its like write little-endian numbers, or report a bad address.
func putU32(memory Memory, at uint64, v uint32) uint32 {
	if !memory.WriteUint32Le(uint32(at), v) {
		return wasiFault
	}
	return wasiSuccess
}

func putU64(memory Memory, at, v uint64) uint32 {
	if !memory.WriteUint64Le(uint32(at), v) {
		return wasiFault
	}
	return wasiSuccess
}

// emptyList answers that there are no arguments, or no environment.
func emptyList(_ *World, memory Memory, args []uint64) uint32 {
	return max(putU32(memory, args[0], 0), putU32(memory, args[1], 0))
}

const (
	clockRealtime  = 0
	clockMonotonic = 1
)

func clockResolution(_ *World, memory Memory, args []uint64) uint32 {
	switch args[0] {
	case clockRealtime:
		return putU64(memory, args[1], 1_000_000)
	case clockMonotonic:
		return putU64(memory, args[1], clockTick)
	}
	return wasiInvalid
}

func clockTime(w *World, memory Memory, args []uint64) uint32 {
	switch args[0] {
	case clockRealtime:
		return putU64(memory, args[2], w.wallNs)
	case clockMonotonic:
		now := w.monotonicNs
		w.sleep(clockTick)
		return putU64(memory, args[2], now)
	}
	return wasiInvalid
}

// sleep lets the monotonic clock jump: nobody waits.
func (w *World) sleep(ns uint64) {
	w.monotonicNs = min(w.monotonicNs+min(ns, math.MaxInt64), math.MaxInt64)
}

func random(w *World, memory Memory, args []uint64) uint32 {
	b, ok := memory.Read(uint32(args[0]), uint32(args[1]))
	if !ok {
		return wasiFault
	}
	switch {
	case w.random == nil:
		w.random = rand.NewChaCha8(sha256.Sum256(w.seed))
	case !w.seeded:
		w.random.Seed(sha256.Sum256(w.seed))
	}
	w.seeded = true
	_, _ = w.random.Read(b) // never fails
	return wasiSuccess
}

func exit(_ *World, _ Memory, args []uint64) (uint32, *Stop) {
	return wasiSuccess, &Stop{ExitCode: uint32(args[0])}
}

// The standard streams are character devices; there are no other descriptors.
func fdStat(_ *World, memory Memory, args []uint64) uint32 {
	const characterDevice, rightRead, rightWrite = 2, 1 << 1, 1 << 6
	if args[0] > 2 {
		return wasiBadFD
	}
	var stat [24]byte
	stat[0] = characterDevice
	rights := uint64(rightRead)
	if args[0] > 0 {
		rights = rightWrite
	}
	binary.LittleEndian.PutUint64(stat[8:], rights)
	if !memory.Write(uint32(args[1]), stat[:]) {
		return wasiFault
	}
	return wasiSuccess
}

func fdSetFlags(_ *World, _ Memory, args []uint64) uint32 {
	if args[0] > 2 {
		return wasiBadFD
	}
	return wasiSuccess
}

func fdSeek(_ *World, _ Memory, args []uint64) uint32 {
	if args[0] > 2 {
		return wasiBadFD
	}
	return wasiPipe
}

// vectors returns the addresses and lengths that a read or write is about.
func (w *World) vectors(memory Memory, args []uint64) ([]byte, uint32) {
	if args[2] > maxVectors {
		return nil, wasiInvalid
	}
	list, ok := memory.Read(uint32(args[1]), uint32(args[2])*8)
	if !ok {
		return nil, wasiFault
	}
	w.list = append(w.list[:0], list...) // a read may overwrite it
	return w.list, wasiSuccess
}

// fdRead reads from standard input, as much as there is room for.
func fdRead(w *World, memory Memory, args []uint64) uint32 {
	if args[0] != 0 {
		return wasiBadFD
	}
	list, errno := w.vectors(memory, args)
	if errno != wasiSuccess {
		return errno
	}
	taken := uint32(0)
	for ; len(list) > 0 && len(w.stdin) > 0; list = list[8:] {
		into, ok := memory.Read(binary.LittleEndian.Uint32(list), binary.LittleEndian.Uint32(list[4:]))
		if !ok {
			return wasiFault
		}
		n := copy(into, w.stdin)
		w.stdin = w.stdin[n:]
		taken += uint32(n)
	}
	return putU32(memory, args[3], taken)
}

// write takes what a module prints: standard output is its answer, if it has the command form, the rest
// goes to the log.
func write(w *World, memory Memory, args []uint64) (uint32, *Stop) {
	if args[0] != 1 && args[0] != 2 {
		return wasiBadFD, nil
	}
	list, errno := w.vectors(memory, args)
	if errno != wasiSuccess {
		return errno, nil
	}
	written := uint32(0)
	for ; len(list) > 0; list = list[8:] {
		text, ok := memory.Read(binary.LittleEndian.Uint32(list), binary.LittleEndian.Uint32(list[4:]))
		if !ok {
			return wasiFault, nil
		}
		if args[0] == 2 {
			w.Say(text)
		} else if !w.print(text) {
			return wasiSuccess, &Stop{ExitCode: exitOutput}
		}
		written += uint32(len(text))
	}
	return putU32(memory, args[3], written), nil
}

// poll waits for the earliest of several events. Descriptors are always ready;
// without any, the monotonic clock jumps to the first alarm.
func poll(w *World, memory Memory, args []uint64) uint32 {
	const subscriptionBytes, eventBytes, absolute = 48, 32, 1
	n := args[2]
	if n == 0 || n > maxVectors {
		return wasiInvalid
	}
	in, ok := memory.Read(uint32(args[0]), uint32(n*subscriptionBytes))
	if !ok {
		return wasiFault
	}
	in = append([]byte{}, in...) // events may overlap it
	wait := make([]uint64, n)
	first := uint64(math.MaxUint64)
	for i := range wait {
		s := in[i*subscriptionBytes:]
		if s[8] == 0 { // a clock
			wait[i] = binary.LittleEndian.Uint64(s[24:])
			if s[40]&absolute != 0 {
				wait[i] -= min(wait[i], w.clock(binary.LittleEndian.Uint32(s[16:])))
			}
		}
		first = min(first, wait[i])
	}
	w.sleep(first)
	events := uint32(0)
	for i := range wait {
		if wait[i] > first {
			continue
		}
		var event [eventBytes]byte
		s := in[i*subscriptionBytes:]
		copy(event[:8], s[:8]) // user data
		event[10] = s[8]
		if s[8] != 0 {
			event[16] = 1 // bytes ready
		}
		if !memory.Write(uint32(args[1])+events*eventBytes, event[:]) {
			return wasiFault
		}
		events++
	}
	return putU32(memory, args[3], events)
}

func (w *World) clock(id uint32) uint64 {
	if id == clockRealtime {
		return w.wallNs
	}
	return w.monotonicNs
}
