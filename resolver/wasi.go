package resolver

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"
)

// Names of the host's modules.
const (
	wasiModule = "wasi_snapshot_preview1"
	hostModule = "dynamo"
)

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
	// maxLogBytes is how much of a module's words goes to the log in one merge.
	maxLogBytes = 4 << 10
	// maxVectors bounds the buffers of one read or write and the
	// subscriptions of one poll, as IOV_MAX does.
	maxVectors = 1024
	// clockTick is the time, in ns, that each look at the monotonic clock
	// takes: a guest that waits for time to pass must not wait for ever.
	clockTick = 1000
)

// world is all that an instance sees of the outside during one merge: a pure
// function of its request.
type world struct {
	wallNs      uint64
	monotonicNs uint64
	random      *rand.ChaCha8
	log         []byte
}

// newWorld makes the world of a request, given as its frame too: the wall clock
// stands at the newest sibling, random bytes flow from the frame's hash.
func newWorld(r Request, frame []byte) *world {
	var newest uint64
	for _, s := range r.Siblings {
		newest = max(newest, s.TimeMs)
	}
	const msNs = 1_000_000
	return &world{
		wallNs:      min(newest, math.MaxInt64/msNs) * msNs,
		monotonicNs: clockTick,
		random:      rand.NewChaCha8(sha256.Sum256(frame)),
	}
}

func (w *world) write(p []byte) {
	w.log = append(w.log, p[:min(len(p), maxLogBytes-len(w.log))]...)
}

type worldKey struct{}

// hostCall is one function of the host: args are its parameters, memory is the
// caller's. It returns a WASI error number, if it returns at all.
type hostCall func(w *world, memory api.Memory, args []uint64) uint32

type hostFunction struct {
	params string // i = i32, I = i64
	call   hostCall
}

// wasiFunctions is the part of WASI that makes sense without files: clocks,
// random bytes, standard streams. A nil call stands for "not implemented".
// Wazero's own WASI serves files and sockets, which no resolver may have, and
// some of its calls run for long without looking at the time limit.
func wasiFunctions() map[string]hostFunction {
	badFD := func(*world, api.Memory, []uint64) uint32 { return wasiBadFD }
	return map[string]hostFunction{
		"args_get":                {"ii", func(*world, api.Memory, []uint64) uint32 { return wasiSuccess }},
		"args_sizes_get":          {"ii", emptyList},
		"environ_get":             {"ii", func(*world, api.Memory, []uint64) uint32 { return wasiSuccess }},
		"environ_sizes_get":       {"ii", emptyList},
		"clock_res_get":           {"ii", clockResolution},
		"clock_time_get":          {"iIi", clockTime},
		"fd_advise":               {"iIIi", badFD},
		"fd_allocate":             {"iII", badFD},
		"fd_close":                {"i", badFD},
		"fd_datasync":             {"i", badFD},
		"fd_fdstat_get":           {"ii", fdStat},
		"fd_fdstat_set_flags":     {"ii", fdSetFlags},
		"fd_fdstat_set_rights":    {"iII", badFD},
		"fd_filestat_get":         {"ii", badFD},
		"fd_filestat_set_size":    {"iI", badFD},
		"fd_filestat_set_times":   {"iIIi", badFD},
		"fd_pread":                {"iiiIi", badFD},
		"fd_prestat_get":          {"ii", badFD},
		"fd_prestat_dir_name":     {"iii", badFD},
		"fd_pwrite":               {"iiiIi", badFD},
		"fd_read":                 {"iiii", fdRead},
		"fd_readdir":              {"iiiIi", badFD},
		"fd_renumber":             {"ii", badFD},
		"fd_seek":                 {"iIii", fdSeek},
		"fd_sync":                 {"i", badFD},
		"fd_tell":                 {"ii", badFD},
		"fd_write":                {"iiii", fdWrite},
		"path_create_directory":   {"iii", badFD},
		"path_filestat_get":       {"iiiii", badFD},
		"path_filestat_set_times": {"iiiiIIi", badFD},
		"path_link":               {"iiiiiii", badFD},
		"path_open":               {"iiiiiIIii", badFD},
		"path_readlink":           {"iiiiii", badFD},
		"path_remove_directory":   {"iii", badFD},
		"path_rename":             {"iiiiii", badFD},
		"path_symlink":            {"iiiii", badFD},
		"path_unlink_file":        {"iii", badFD},
		"poll_oneoff":             {"iiii", poll},
		"proc_exit":               {"i", exit},
		"proc_raise":              {"i", nil},
		"random_get":              {"ii", random},
		"sched_yield":             {"", func(*world, api.Memory, []uint64) uint32 { return wasiSuccess }},
		"sock_accept":             {"iii", badFD},
		"sock_recv":               {"iiiiii", badFD},
		"sock_send":               {"iiiii", badFD},
		"sock_shutdown":           {"ii", badFD},
	}
}

// hostSignature returns the type of the host's function, named "module.name".
func hostSignature(name string) (signature, bool) {
	if name == hostModule+".log" {
		return sig("ii", ""), true
	}
	wasi, ok := strings.CutPrefix(name, wasiModule+".")
	if !ok {
		return "", false
	}
	f, ok := wasiFunctions()[wasi]
	if wasi == "proc_exit" {
		return sig(f.params, ""), ok
	}
	return sig(f.params, "i"), ok
}

// installHost puts the host's modules into a runtime.
func installHost(ctx context.Context, r wazero.Runtime) error {
	wasi := r.NewHostModuleBuilder(wasiModule)
	for name, f := range wasiFunctions() {
		results := []api.ValueType{api.ValueTypeI32}
		if name == "proc_exit" {
			results = nil
		}
		wasi.NewFunctionBuilder().WithGoModuleFunction(f, valueTypes(f.params), results).Export(name)
	}
	if _, err := wasi.Instantiate(ctx); err != nil {
		return err
	}
	logger := hostFunction{"ii", logText}
	_, err := r.NewHostModuleBuilder(hostModule).NewFunctionBuilder().
		WithGoModuleFunction(logger, valueTypes(logger.params), nil).Export("log").Instantiate(ctx)
	return err
}

func valueTypes(params string) []api.ValueType {
	types := make([]api.ValueType, len(params))
	for i, p := range params {
		types[i] = api.ValueTypeI32
		if p == 'I' {
			types[i] = api.ValueTypeI64
		}
	}
	return types
}

// Call implements api.GoModuleFunction. Every call looks at the time limit,
// since a module can spend nearly all of its time here.
func (f hostFunction) Call(ctx context.Context, m api.Module, stack []uint64) {
	w, ok := ctx.Value(worldKey{}).(*world)
	if !ok || ctx.Err() != nil {
		panic(sys.NewExitError(sys.ExitCodeDeadlineExceeded))
	}
	for i, p := range f.params {
		if p == 'i' { // the engine leaves the upper half of an i32 undefined
			stack[i] = uint64(uint32(stack[i]))
		}
	}
	errno := uint32(wasiNoSys)
	if f.call != nil {
		errno = f.call(w, m.Memory(), stack[:len(f.params)])
	}
	if len(stack) > 0 {
		stack[0] = uint64(errno)
	}
}

// putU32 and its like write little-endian numbers, or report a bad address.
func putU32(memory api.Memory, at uint64, v uint32) uint32 {
	if !memory.WriteUint32Le(uint32(at), v) {
		return wasiFault
	}
	return wasiSuccess
}

func putU64(memory api.Memory, at, v uint64) uint32 {
	if !memory.WriteUint64Le(uint32(at), v) {
		return wasiFault
	}
	return wasiSuccess
}

// emptyList answers that there are no arguments, or no environment.
func emptyList(_ *world, memory api.Memory, args []uint64) uint32 {
	return max(putU32(memory, args[0], 0), putU32(memory, args[1], 0))
}

const (
	clockRealtime  = 0
	clockMonotonic = 1
)

func clockResolution(_ *world, memory api.Memory, args []uint64) uint32 {
	switch args[0] {
	case clockRealtime:
		return putU64(memory, args[1], 1_000_000)
	case clockMonotonic:
		return putU64(memory, args[1], clockTick)
	}
	return wasiInvalid
}

func clockTime(w *world, memory api.Memory, args []uint64) uint32 {
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
func (w *world) sleep(ns uint64) {
	w.monotonicNs = min(w.monotonicNs+min(ns, math.MaxInt64), math.MaxInt64)
}

func random(w *world, memory api.Memory, args []uint64) uint32 {
	b, ok := memory.Read(uint32(args[0]), uint32(args[1]))
	if !ok {
		return wasiFault
	}
	_, _ = w.random.Read(b) // never fails
	return wasiSuccess
}

// exit ends the module. The engine turns the panic into the call's error.
func exit(_ *world, _ api.Memory, args []uint64) uint32 {
	panic(sys.NewExitError(uint32(args[0])))
}

// The standard streams are character devices; there are no other descriptors.
func fdStat(_ *world, memory api.Memory, args []uint64) uint32 {
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

func fdSetFlags(_ *world, _ api.Memory, args []uint64) uint32 {
	if args[0] > 2 {
		return wasiBadFD
	}
	return wasiSuccess
}

func fdSeek(_ *world, _ api.Memory, args []uint64) uint32 {
	if args[0] > 2 {
		return wasiBadFD
	}
	return wasiPipe
}

// fdRead answers that standard input is at its end.
func fdRead(_ *world, memory api.Memory, args []uint64) uint32 {
	if args[0] != 0 {
		return wasiBadFD
	}
	return putU32(memory, args[3], 0)
}

// fdWrite takes what a module prints for the log.
func fdWrite(w *world, memory api.Memory, args []uint64) uint32 {
	if args[0] != 1 && args[0] != 2 {
		return wasiBadFD
	}
	if args[2] > maxVectors {
		return wasiInvalid
	}
	vectors, ok := memory.Read(uint32(args[1]), uint32(args[2])*8)
	if !ok {
		return wasiFault
	}
	written := uint32(0)
	for ; len(vectors) > 0; vectors = vectors[8:] {
		at, n := binary.LittleEndian.Uint32(vectors), binary.LittleEndian.Uint32(vectors[4:])
		text, ok := memory.Read(at, n)
		if !ok {
			return wasiFault
		}
		w.write(text)
		written += n
	}
	return putU32(memory, args[3], written)
}

// poll waits for the earliest of several events. Descriptors are always ready;
// without any, the monotonic clock jumps to the first alarm.
func poll(w *world, memory api.Memory, args []uint64) uint32 {
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

func (w *world) clock(id uint32) uint64 {
	if id == clockRealtime {
		return w.wallNs
	}
	return w.monotonicNs
}

// logText is dynamo.log(ptr, len). A bad address says nothing.
func logText(w *world, memory api.Memory, args []uint64) uint32 {
	if text, ok := memory.Read(uint32(args[0]), uint32(args[1])); ok {
		w.write(text)
		w.write([]byte("\n"))
	}
	return wasiSuccess
}
