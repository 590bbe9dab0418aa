package resolver

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"dynamo/resolver/fuel"
	"dynamo/resolver/wasi"
)

// running is what a call into a module runs with: the world it sees, and the fuel it has.
type running struct {
	world *wasi.World
	meter *fuel.Meter
}

type runningKey struct{}

// with gives calls under ctx a world, and fuel for one run.
func (m *Module) with(ctx context.Context, w *wasi.World) (context.Context, *running) {
	r := &running{world: w, meter: fuel.NewMeter(m.runtime.limits.Fuel, 0)}
	return context.WithValue(ctx, runningKey{}, r), r
}

// yield is called by the module whenever it has used a slice of its fuel: a millisecond or so of work. So
// this is where time is looked at, too.
func yield(ctx context.Context, m api.Module, _ []uint64) {
	r, ok := ctx.Value(runningKey{}).(*running)
	if !ok || ctx.Err() != nil {
		panic(sys.NewExitError(sys.ExitCodeDeadlineExceeded))
	}
	if err := r.charge(m, 0); err != nil {
		panic(err)
	}
}

// charge takes fuel for work that the host did for the module.
func (r *running) charge(m api.Module, units uint64) error {
	g, ok := m.ExportedGlobal(fuel.GlobalFuel).(api.MutableGlobal)
	if !ok {
		return errors.New("resolver: the module has no fuel")
	}
	left, err := r.meter.Charge(int64(g.Get()), units)
	g.Set(uint64(left))
	return err
}

// refuel readies an instance for a run of its own.
func (in *instance) refuel(depth uint64) {
	in.fuel.Set(0)
	in.depth.Set(depth)
}

// used is the fuel of the run so far.
func (in *instance) used(r *running) uint64 { return r.meter.Used(int64(in.fuel.Get())) }

// call calls an exported function of the module.
func (in *instance) call(ctx context.Context, name string, args ...uint64) ([]uint64, error) {
	results, err := in.invoke(ctx, name, args...)
	if err != nil {
		return nil, in.failure(ctx, name, err)
	}
	return results, nil
}

// invoke is call with the engine's own error.
func (in *instance) invoke(ctx context.Context, name string, args ...uint64) ([]uint64, error) {
	results, err := in.module.ExportedFunction(name).Call(ctx, args...)
	if err == nil {
		// Between two looks at the fuel a module may overdraw it a little.
		err = ctx.Value(runningKey{}).(*running).charge(in.module, 0)
	}
	return results, err
}

// failure gives the code for an error of invoke.
func (in *instance) failure(ctx context.Context, name string, err error) *Error {
	if int32(uint32(in.depth.Get())) < 0 {
		return failf(CodeStack, "%s: calls nested too deep", name)
	}
	return failure(ctx, name, err)
}

// hostUnits is what a call of a host function costs beyond its flat price, by the bytes that it moves: 16
// for a unit, as the module's own copies. Addresses outside of memory move nothing.
func hostUnits(name string, memory wasi.Memory, args []uint64) uint64 {
	const bytesShift = 4
	size := func(at, n uint32) uint64 {
		if _, ok := memory.Read(at, n); !ok {
			return 0
		}
		return uint64(n)
	}
	switch name {
	case "log", "random_get":
		return size(uint32(args[0]), uint32(args[1])) >> bytesShift
	case "fd_write":
		var bytes uint64
		vectors, ok := memory.Read(uint32(args[1]), uint32(min(8*(args[2]&0xffff_ffff), 1<<31)))
		for ; ok && len(vectors) > 0; vectors = vectors[8:] {
			bytes += 16 + size(binary.LittleEndian.Uint32(vectors), binary.LittleEndian.Uint32(vectors[4:]))
		}
		return bytes >> bytesShift
	}
	return 0
}
