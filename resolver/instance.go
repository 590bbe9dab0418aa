package resolver

import (
	"context"
	"errors"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/sys"

	"dynamo/resolver/fuel"
	"dynamo/resolver/memory"
	"dynamo/resolver/wasi"
)

// instance is a module with a memory of its own. It is for one goroutine at a time.
type instance struct {
	module  api.Module
	memory  *memory.Linear
	globals []api.MutableGlobal
	fuel    api.MutableGlobal // see package fuel
	depth   api.MutableGlobal
	sweep   uint64 // the pool's count of sweeps when it came to rest
}

// state is all that can change in an instance, as it is before each merge: after _initialize and
// dynamo_configure_v1. It is immutable, and the same for all instances of a module.
type state struct {
	memory      *memory.Snapshot
	initial     memory.Extent // of an instance before _initialize
	globals     []uint64
	monotonicNs uint64 // where the monotonic clock stands
}

// instantiate makes an instance and runs its start section.
func (m *Module) instantiate(ctx context.Context) (_ *instance, err error) {
	in := &instance{memory: memory.NewLinear(uint64(m.pages) * pageBytes)}
	ctx = experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(func(_, _ uint64) experimental.LinearMemory {
		return in.memory
	}))
	in.module, err = m.engine.InstantiateModule(ctx, m.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err != nil {
		in.memory.Free()
		return nil, failure(ctx, "start", err)
	}
	for _, name := range append([]string{fuel.GlobalFuel, fuel.GlobalDepth}, m.globals...) {
		g, ok := in.module.ExportedGlobal(name).(api.MutableGlobal)
		if !ok {
			in.close(ctx)
			return nil, failf(CodeInternal, "no mutable global %q", name)
		}
		in.globals = append(in.globals, g)
	}
	in.fuel, in.depth, in.globals = in.globals[0], in.globals[1], in.globals[2:]
	return in, nil
}

// begin makes an instance ready for a turn with a new meter. Whatever came before counts no more.
func (in *instance) begin(l Limits) {
	in.fuel.Set(0)
	in.depth.Set(uint64(uint32(l.CallDepth)))
}

// call calls an export of the module. In a turn with too little fuel it fails even if the module has
// returned or ended itself: between two looks at the fuel, it may have overdrawn it.
func (in *instance) call(ctx context.Context, name string, args ...uint64) ([]uint64, error) {
	results, err := in.module.ExportedFunction(name).Call(ctx, args...)
	if _, exited := errors.AsType[*sys.ExitError](err); err == nil || exited && ctx.Err() == nil {
		if over := turnOf(ctx).take(in.fuel, 0); over != nil {
			err = over
		}
	}
	if err != nil && int32(uint32(in.depth.Get())) < 0 && !errors.Is(err, fuel.ErrExhausted) {
		return nil, &Error{Code: CodeStack, Message: name + ": the calls went too deep"}
	}
	return results, err
}

// close frees what the engine holds for the instance.
func (in *instance) close(ctx context.Context) {
	_ = in.module.Close(context.WithoutCancel(ctx)) // an instance without files has nothing to fail on
	in.memory.Free()
}

// bytes is the memory that the instance takes while it is idle.
func (in *instance) bytes() uint64 { return uint64(in.memory.Bytes()) + instanceBytes }

// instanceBytes is about what the engine keeps for an instance beside its memory.
const instanceBytes = 16 << 10

// maxStateBytes is the largest memory, zeros aside, that is kept of a module for its next instances: nobody counts it. A
// module that starts with more starts anew for each merge.
const maxStateBytes = 24 << 20

// keep completes the state with what the instance holds now, and keeps it for the next ones, if it is not too large.
func (m *Module) keep(in *instance, s *state, initial memory.Extent) *state {
	now := in.memory.Extent(in.module.Memory())
	if now.Bytes() > maxStateBytes {
		m.large.Store(true)
		return s
	}
	if s.initial = initial; !m.boots() {
		s.initial = now
	}
	s.memory = in.memory.Take(in.module.Memory(), now)
	for _, g := range in.globals {
		s.globals = append(s.globals, g.Get())
	}
	m.state.CompareAndSwap(nil, s)
	return s
}

// restore brings an instance to a saved state and reports whether that was possible.
func (in *instance) restore(s *state) bool {
	in.setGlobals(s)
	return in.memory.Restore(in.module.Memory(), s.memory)
}

// restoreNew does so with an instance that was just made.
func (in *instance) restoreNew(s *state) bool {
	in.setGlobals(s)
	return in.memory.RestoreNew(in.module.Memory(), s.memory, s.initial)
}

func (in *instance) setGlobals(s *state) {
	for i, g := range in.globals {
		g.Set(s.globals[i])
	}
}

// fresh returns an instance in the module's first state, and where its monotonic clock stands: an idle
// one, or a new one. Code other than a merge's runs in a world that depends on the module alone, so that all
// instances start equal.
func (m *Module) fresh(ctx context.Context) (*instance, uint64, error) {
	s := m.state.Load()
	if s != nil {
		if in := m.runtime.pool.take(m); in != nil {
			return in, s.monotonicNs, nil
		}
	}
	over := failf(CodeTimeout, "the time limit of %v is over", m.runtime.limits.Timeout)
	w := wasi.New(wasi.Options{Seed: m.id[:]})
	t := &turn{world: w, meter: fuel.NewMeter(m.runtime.limits.Fuel, 0)}
	ctx, cancel := context.WithTimeoutCause(context.WithValue(ctx, turnKey{}, t), m.runtime.limits.Timeout, over)
	defer cancel()
	in, err := m.instantiate(ctx)
	if err != nil {
		return nil, 0, err
	}
	var initial memory.Extent
	keeps := m.restorable && !m.large.Load()
	if s == nil && keeps && m.boots() {
		initial = in.memory.Extent(in.module.Memory())
	}
	if s != nil {
		if !in.restoreNew(s) {
			err = failf(CodeInternal, "a new instance cannot be brought to its first state")
		}
	} else if err = m.boot(ctx, in); err == nil {
		s = &state{monotonicNs: w.MonotonicNs()}
		if keeps {
			s = m.keep(in, s, initial)
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

// boots reports whether something runs before the first merge, beside the start section.
func (m *Module) boots() bool {
	_, init := m.export(exportInitialize)
	return m.info.ABI == ABIFunction && (init || len(m.config) > 0)
}

// boot runs what comes before the first merge.
func (m *Module) boot(ctx context.Context, in *instance) error {
	if m.info.ABI != ABIFunction {
		return nil
	}
	if in.module.ExportedFunction(exportInitialize) != nil {
		if _, err := in.call(ctx, exportInitialize); err != nil {
			return failure(ctx, exportInitialize, err)
		}
	}
	if len(m.config) == 0 {
		return nil
	}
	at, err := in.give(ctx, m.config)
	if err != nil {
		return err
	}
	results, err := in.call(ctx, exportConfigure, at, uint64(len(m.config)))
	if err != nil {
		return failure(ctx, exportConfigure, err)
	}
	if code := int32(uint32(results[0])); code != 0 {
		return failf(CodeConfig, "%s answered %d", exportConfigure, code)
	}
	return nil
}

// give puts bytes where the module wants them.
func (in *instance) give(ctx context.Context, b []byte) (uint64, error) {
	results, err := in.call(ctx, exportAlloc, uint64(len(b)))
	if err != nil {
		return 0, failure(ctx, exportAlloc, err)
	}
	at := uint32(results[0])
	if !in.module.Memory().Write(at, b) {
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
