package resolver

import (
	"context"
	"errors"
	"reflect"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"dynamo/resolver/fuel"
	"dynamo/resolver/memory"
	"dynamo/resolver/wasi"
)

// instance is a module with a memory of its own. It is for one goroutine at a time. What a merge needs beside
// that is kept with it, so that the next one need not allocate.
type instance struct {
	module  api.Module
	pages   api.Memory // the engine's side of memory
	memory  *memory.Linear
	globals []api.MutableGlobal
	depth   api.MutableGlobal // see package fuel
	turn    turn              // the run it is in
	frame   []byte            // the last request
	alloc   entry
	main    entry     // dynamo_resolve_v1 or _start
	slots   [2]uint64 // parameters and results of a call
	sweep   uint64    // the pool's count of sweeps when it came to rest
	size    uint64    // bytes at that time
}

// state is all that can change in an instance, as it is before each merge: after _initialize and
// dynamo_configure_v1. It is immutable, and the same for all instances of a module.
type state struct {
	memory      *memory.Snapshot
	globals     []uint64
	monotonicNs uint64 // where the monotonic clock stands
}

// instantiate makes an instance and runs its start section, as part of the turn that begins here.
func (m *Module) instantiate(ctx context.Context) (_ *instance, err error) {
	in := &instance{memory: memory.NewLinear(uint64(m.pages) * pageBytes), alloc: entry{name: exportAlloc}, main: entry{name: exportResolve}}
	if m.info.ABI == ABICommand {
		in.main.name = exportStart
	}
	// Code other than a merge's runs in a world that depends on the module alone, so that all instances start equal.
	in.turn.begin(ctx, m.runtime.limits, wasi.Options{Seed: m.id[:]})
	ctx = experimental.WithMemoryAllocator(&in.turn, experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory {
		return in.memory
	}))
	in.module, err = m.engine.InstantiateModule(ctx, m.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		in.memory.Free()
		return nil, failure(&in.turn, "start", err)
	}
	in.pages = in.module.Memory()
	for _, name := range append([]string{fuel.GlobalFuel, fuel.GlobalDepth}, m.globals...) {
		g, ok := in.module.ExportedGlobal(name).(api.MutableGlobal)
		if !ok {
			in.close(ctx)
			return nil, failf(CodeInternal, "no mutable global %q", name)
		}
		in.globals = append(in.globals, g)
	}
	in.turn.fuel, in.depth, in.globals = in.globals[0], in.globals[1], in.globals[2:]
	return in, nil
}

// begin makes an instance ready for a turn with new fuel. Whatever came before counts no more.
func (in *instance) begin(ctx context.Context, l Limits, o wasi.Options) {
	in.turn.begin(ctx, l, o)
	in.turn.fuel.Set(uint64(in.turn.meter.First()))
	in.depth.Set(uint64(uint32(l.CallDepth)))
}

// entry is an export as the engine calls it. The stack for its calls belongs to it, so that it is kept.
type entry struct {
	name string
	call api.Function // nil: not looked up yet
	// stack is the field that holds the stack in what call points to.
	stack int
}

const (
	// hiddenStack is the stack of an entry that cannot be seen.
	hiddenStack = -1
	// maxStackBytes is how large a stack may be that is kept.
	maxStackBytes = 64 << 10
)

// lookUp finds the function.
func (e *entry) lookUp(m api.Module) {
	e.call, e.stack = m.ExportedFunction(e.name), hiddenStack
	if t := reflect.TypeOf(e.call); t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct {
		if f, ok := t.Elem().FieldByName("stack"); ok && f.Type.Kind() == reflect.Slice && len(f.Index) == 1 {
			e.stack = f.Index[0]
		}
	}
}

// trim forgets a function whose stack is too large to be kept, or cannot be seen. Stacks grow with the depth of
// calls, up to some megabytes, and the engine neither shrinks them nor tells their size.
func (e *entry) trim() {
	if e.stack == hiddenStack || e.bytes() > maxStackBytes {
		e.call = nil
	}
}

// bytes is how large the stack is.
func (e *entry) bytes() int {
	if e.call == nil || e.stack == hiddenStack {
		return 0
	}
	return reflect.ValueOf(e.call).Elem().Field(e.stack).Len()
}

// run calls an export of the module with up to two arguments, and returns its result if it has one. In a turn with
// too little fuel it fails even if the module has returned or ended itself: between two looks at the fuel, it may
// have overdrawn it.
func (in *instance) run(e *entry, a, b uint64) (uint64, error) {
	if e.call == nil {
		e.lookUp(in.module)
	}
	in.slots = [2]uint64{a, b}
	err := e.call.CallWithStack(&in.turn, in.slots[:])
	if err == nil || in.exited(err) {
		if over := in.turn.take(0); over != nil {
			err = over
		}
	}
	if err != nil && int32(uint32(in.depth.Get())) < 0 && !errors.Is(err, fuel.ErrExhausted) {
		return 0, &Error{Code: CodeStack, Message: e.name + ": the calls went too deep"}
	}
	return in.slots[0], err
}

// exited says that the module ended itself, and was not stopped.
func (in *instance) exited(err error) bool {
	_, ok := errors.AsType[*sys.ExitError](err)
	return ok && in.turn.Err() == nil
}

// close frees what the engine holds for the instance.
func (in *instance) close(ctx context.Context) {
	_ = in.module.Close(context.WithoutCancel(ctx)) // an instance without files has nothing to fail on
	in.memory.Free()
}

// bytes is the memory that the instance takes while it is idle.
func (in *instance) bytes() uint64 {
	return instanceBytes + uint64(in.memory.Bytes()+in.alloc.bytes()+in.main.bytes()+cap(in.frame)+in.turn.world.Bytes())
}

const (
	// maxKeptBytes is how large the buffer for requests may be that is kept from one merge to the next.
	maxKeptBytes = 64 << 10
	// instanceBytes is about what the engine keeps for an instance beside its memory and the stacks.
	instanceBytes = 16 << 10
)

// maxStateBytes is the largest memory, zeros aside, that is kept of a module for its next instances: nobody counts it. A
// module that starts with more starts anew for each merge.
const maxStateBytes = 24 << 20

// keep completes the state with what the instance holds now, and keeps it for the next ones, if it is not too large.
func (m *Module) keep(in *instance, s *state) {
	if s.memory = in.memory.Take(in.pages, maxStateBytes); s.memory == nil {
		m.large.Store(true)
		return
	}
	for _, g := range in.globals {
		s.globals = append(s.globals, g.Get())
	}
	if !m.state.CompareAndSwap(nil, s) {
		_ = s.memory.Close() // another instance was first
	}
}

// restore brings an instance to a saved state and reports whether that was possible.
func (in *instance) restore(s *state) bool {
	for i, g := range in.globals {
		g.Set(s.globals[i])
	}
	in.alloc.trim()
	in.main.trim()
	in.turn.rest()
	if cap(in.frame) > maxKeptBytes {
		in.frame = nil
	}
	return in.memory.Restore(in.pages, s.memory)
}

// fresh returns an instance in the module's first state, and where its monotonic clock stands: an idle
// one, or a new one.
func (m *Module) fresh(ctx context.Context) (*instance, uint64, error) {
	s := m.state.Load()
	if s != nil {
		if in := m.runtime.pool.take(m); in != nil {
			return in, s.monotonicNs, nil
		}
	}
	in, err := m.instantiate(ctx)
	if err != nil {
		return nil, 0, err
	}
	if s != nil {
		if !in.restore(s) {
			err = failf(CodeInternal, "a new instance cannot be brought to its first state")
		}
	} else if err = m.boot(in); err == nil {
		w := &in.turn.world
		s = &state{monotonicNs: w.MonotonicNs()}
		if m.restorable && !m.large.Load() {
			m.keep(in, s)
		}
		if !m.spoke.Swap(true) {
			m.say("", w)
		}
	}
	if err != nil {
		in.close(ctx)
		return nil, 0, err
	}
	return in, s.monotonicNs, nil
}

// boot runs what comes before the first merge.
func (m *Module) boot(in *instance) error {
	if m.info.ABI != ABIFunction {
		return nil
	}
	if in.module.ExportedFunction(exportInitialize) != nil {
		if _, err := in.run(&entry{name: exportInitialize}, 0, 0); err != nil {
			return failure(&in.turn, exportInitialize, err)
		}
	}
	if len(m.config) == 0 {
		return nil
	}
	at, err := in.give(m.config)
	if err != nil {
		return err
	}
	answer, err := in.run(&entry{name: exportConfigure}, at, uint64(len(m.config)))
	if err != nil {
		return failure(&in.turn, exportConfigure, err)
	}
	if code := int32(uint32(answer)); code != 0 {
		return failf(CodeConfig, "%s answered %d", exportConfigure, code)
	}
	return nil
}

// give puts bytes where the module wants them.
func (in *instance) give(b []byte) (uint64, error) {
	answer, err := in.run(&in.alloc, uint64(len(b)), 0)
	if err != nil {
		return 0, failure(&in.turn, exportAlloc, err)
	}
	at := uint32(answer)
	if !in.pages.Write(at, b) {
		return 0, failf(CodeInvalidOutput, "%s gave %d bytes at %#x, outside of memory", exportAlloc, len(b), at)
	}
	return uint64(at), nil
}

// reuse takes an instance back after a merge. One that stopped in the middle, or cannot be brought back to the
// first state, is closed.
func (m *Module) reuse(ctx context.Context, in *instance, sound bool) {
	s := m.state.Load()
	if !sound || s == nil || !in.restore(s) || !m.runtime.pool.put(m, in) {
		in.close(ctx)
	}
}
