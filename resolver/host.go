package resolver

import (
	"context"
	"runtime"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"dynamo/resolver/fuel"
	"dynamo/resolver/wasi"
)

// hostModule is the name of the host's own module.
const hostModule = "dynamo"

// hostSignature returns the type of the host's function, named "module.name".
func hostSignature(name string) (fuel.Signature, bool) {
	if name == hostModule+".log" {
		return sig("ii", ""), true
	}
	short, ok := strings.CutPrefix(name, wasi.Module+".")
	if !ok {
		return "", false
	}
	f, ok := wasi.Functions()[short]
	if !f.Returns {
		return sig(f.Params, ""), ok
	}
	return sig(f.Params, "i"), ok
}

// installHost puts the host's modules into a runtime.
func installHost(ctx context.Context, r wazero.Runtime) error {
	builder := r.NewHostModuleBuilder(wasi.Module)
	for name, f := range wasi.Functions() {
		var results []api.ValueType
		if f.Returns {
			results = []api.ValueType{api.ValueTypeI32}
		}
		builder.NewFunctionBuilder().WithGoModuleFunction(hostFunction{f.Params, f.Call, f.Work, name == "random_get"}, valueTypes(f.Params), results).Export(name)
	}
	if _, err := builder.Instantiate(ctx); err != nil {
		return err
	}
	logger := hostFunction{"ii", logText, wasi.SizeOfSecond, false}
	if _, err := r.NewHostModuleBuilder(fuel.ImportModule).NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(yield), nil, nil).Export(fuel.ImportYield).Instantiate(ctx); err != nil {
		return err
	}
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

// hostFunction is a function of the host as the engine calls it.
type hostFunction struct {
	params string // i = i32, I = i64
	call   func(w *wasi.World, memory wasi.Memory, args []uint64) (uint32, *wasi.Stop)
	// work counts the bytes that a call works on, at most; nil: few.
	work func(memory wasi.Memory, args []uint64) uint64
	// divisible says that the work on so many bytes at an address can be done in pieces, one after the other: random
	// numbers are a stream.
	divisible bool
}

// yield is what modules call when their slice of fuel is used up, and between the pieces of long work. The engine
// turns a panic into the error of the call into the module.
func yield(ctx context.Context, m api.Module, _ []uint64) {
	// The engine's code cannot be preempted: this is where others get the processor, timers among them.
	runtime.Gosched()
	t := turnOf(ctx)
	t.counts(m)
	pay(t, 0)
}

// pay looks at the time limit, and takes fuel for work of the host.
func pay(t *turn, units uint64) {
	if t.Err() != nil {
		panic(sys.NewExitError(sys.ExitCodeDeadlineExceeded))
	}
	if err := t.take(units); err != nil {
		panic(err)
	}
}

// bytesPerUnit is how much work in the host a unit of fuel pays for. Random bytes, which are the most
// expensive, take about half a nanosecond each.
const bytesPerUnit = 2

// Call implements api.GoModuleFunction. Every call looks at the time limit,
// since a module can spend nearly all of its time here, and pays for its work in
// advance. The engine turns a panic into the error of the call into the module.
func (f hostFunction) Call(ctx context.Context, m api.Module, stack []uint64) {
	t := turnOf(ctx)
	t.counts(m)
	for i, p := range f.params {
		if p == 'i' { // the engine leaves the upper half of an i32 undefined
			stack[i] = uint64(uint32(stack[i]))
		}
	}
	args := stack[:len(f.params)]
	var work uint64
	if f.work != nil {
		work = f.work(m.Memory(), args)
	}
	if f.divisible {
		for ; work > pieceBytes; work -= pieceBytes {
			f.part(t, m, []uint64{args[0], pieceBytes}, pieceBytes)
			args[0], args[1] = args[0]+pieceBytes, args[1]-pieceBytes
		}
	}
	errno := f.part(t, m, args, work)
	if len(stack) > 0 {
		stack[0] = uint64(errno)
	}
}

// pieceBytes is a multiple of bytesPerUnit, and takes less than a millisecond.
const pieceBytes = 1 << 20

// part pays and does the work.
func (f hostFunction) part(t *turn, m api.Module, args []uint64, work uint64) (errno uint32) {
	units := work / bytesPerUnit
	if int64(t.fuel.Get()) < int64(units) { // a slice is over, and the module will not see it
		runtime.Gosched()
	}
	pay(t, units)
	errno, stop := f.call(&t.world, m.Memory(), args)
	if stop != nil {
		panic(sys.NewExitError(stop.ExitCode))
	}
	return errno
}

// logText is dynamo.log(ptr, len). A bad address says nothing.
func logText(w *wasi.World, memory wasi.Memory, args []uint64) (uint32, *wasi.Stop) {
	if text, ok := memory.Read(uint32(args[0]), uint32(args[1])); ok {
		w.Say(text)
		w.Say([]byte("\n"))
	}
	return 0, nil
}
