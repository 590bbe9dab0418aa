package fuel_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"dynamo/resolver/fuel"
)

// machine is a wazero runtime with WASI and the host's side of the fuel.
type machine struct {
	t testing.TB
	r wazero.Runtime
}

type meterKey struct{}

var errDeep = errors.New("too deep")

// newMachine keeps machine code in dir, unless that is "".
func newMachine(t testing.TB, interruptible bool, dir string) machine {
	t.Helper()
	ctx := context.Background()
	config := wazero.NewRuntimeConfigCompiler()
	if raced && dir != "" {
		// To compile a large guest takes a minute under the race detector.
		config = wazero.NewRuntimeConfigInterpreter()
	}
	config = config.WithCoreFeatures(api.CoreFeaturesV2).
		WithMemoryLimitPages(1024).WithCloseOnContextDone(interruptible).WithDebugInfoEnabled(false)
	if dir != "" {
		cache, err := wazero.NewCompilationCacheWithDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cache.Close(ctx) })
		config = config.WithCompilationCache(cache)
	}
	r := wazero.NewRuntimeWithConfig(ctx, config)
	t.Cleanup(func() {
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, r); err != nil {
		t.Fatal(err)
	}
	_, err := r.NewHostModuleBuilder(fuel.ImportModule).NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(yield), nil, nil).Export(fuel.ImportYield).Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.NewHostModuleBuilder("dynamo").NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(func(context.Context, api.Module, []uint64) {}), []api.ValueType{api.ValueTypeI32, api.ValueTypeI32}, nil).
		Export("log").Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return machine{t, r}
}

// yield is what the host does for ImportYield.
func yield(ctx context.Context, m api.Module, _ []uint64) {
	if err := ctx.Err(); err != nil {
		panic(err)
	}
	g := m.ExportedGlobal(fuel.GlobalFuel).(api.MutableGlobal)
	next, err := ctx.Value(meterKey{}).(*fuel.Meter).Yield(int64(g.Get()))
	g.Set(uint64(next))
	if err != nil {
		panic(err)
	}
}

func (m machine) compile(module []byte) wazero.CompiledModule {
	m.t.Helper()
	c, err := m.tryCompile(module)
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

// tryCompile turns a panic of the compiler into an error.
func (m machine) tryCompile(module []byte) (c wazero.CompiledModule, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("compiler: %v", p)
		}
	}()
	return m.r.CompileModule(context.Background(), module)
}

func moduleConfig() wazero.ModuleConfig {
	return wazero.NewModuleConfig().WithName("").WithStartFunctions().WithStderr(os.Stderr).
		WithRandSource(rand.NewChaCha8([32]byte{1}))
}

// run is an instance with its fuel.
type run struct {
	api.Module
	ctx   context.Context
	meter *fuel.Meter
}

// instantiate starts a module, rewritten or not.
func (m machine) instantiate(c wazero.CompiledModule, units, slice uint64) (run, error) {
	meter := fuel.NewMeter(units, slice)
	ctx := context.WithValue(context.Background(), meterKey{}, meter)
	inst, err := m.r.InstantiateModule(ctx, c, moduleConfig())
	return run{inst, ctx, meter}, err
}

func (m machine) mustInstantiate(c wazero.CompiledModule, units, slice uint64) run {
	m.t.Helper()
	r, err := m.instantiate(c, units, slice)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = r.Close(context.Background()) })
	return r
}

func (r run) call(name string, args ...uint64) ([]uint64, error) {
	out, err := r.ExportedFunction(name).Call(r.ctx, args...)
	if g := r.ExportedGlobal(fuel.GlobalFuel); g != nil && err == nil {
		var next int64
		next, err = r.meter.Yield(int64(g.Get()))
		g.(api.MutableGlobal).Set(uint64(next))
	}
	if err != nil && r.deep() {
		err = fmt.Errorf("%w: %w", errDeep, err)
	}
	return out, err
}

func (r run) deep() bool {
	g := r.ExportedGlobal(fuel.GlobalDepth)
	return g != nil && int32(g.Get()) < 0
}

func (r run) used() uint64 { return r.meter.Used(int64(r.ExportedGlobal(fuel.GlobalFuel).Get())) }

// state is a hash of the memory.
func (r run) state() [32]byte {
	mem := r.Memory()
	if mem == nil {
		return [32]byte{}
	}
	b, _ := mem.Read(0, mem.Size())
	return sha256.Sum256(b)
}

// merge speaks the function form: every field of the frame as in resolver.AppendRequest.
func (r run) merge(frame []byte) ([]byte, error) {
	if r.ExportedFunction("_initialize") != nil {
		if _, err := r.call("_initialize"); err != nil {
			return nil, err
		}
	}
	return r.again(frame)
}

// again merges with an instance that has merged before.
func (r run) again(frame []byte) ([]byte, error) {
	at, err := r.call("dynamo_alloc", uint64(len(frame)))
	if err != nil {
		return nil, err
	}
	if !r.Memory().Write(uint32(at[0]), frame) {
		return nil, errors.New("bad address")
	}
	out, err := r.call("dynamo_resolve_v1", at[0], uint64(len(frame)))
	if err != nil {
		return nil, err
	}
	b, ok := r.Memory().Read(uint32(out[0]>>32), uint32(out[0]))
	if !ok {
		return nil, errors.New("bad answer")
	}
	return bytes.Clone(b), nil
}

func cartModule(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("../../examples/cart-merge/cart.wasm")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sharedCache keeps the machine code of large guests: it takes seconds to make.
func sharedCache() string { return filepath.Join(os.TempDir(), "dynamo-test-fuel") }

func mustRewrite(t testing.TB, module []byte, o fuel.Options) fuel.Result {
	t.Helper()
	res, err := fuel.Rewrite(module, o)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func options() fuel.Options { return fuel.Options{} }
