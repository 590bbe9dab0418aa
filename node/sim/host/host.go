// Package host runs the simulator as a WebAssembly module on a machine of its own making: its clock moves only when
// every goroutine waits, its randomness comes from the seed, and nothing else of the world is there. The Go runtime inside
// is single-threaded and draws its scheduling from that randomness, so that a seed gives one schedule of all
// goroutines, every time and on every machine.
package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"dynamo/node/sim/merger"
	"dynamo/node/sim/storm"
)

// Machine holds the compiled simulator. It is safe for concurrent use; close it.
type Machine struct {
	runtime wazero.Runtime
	cache   wazero.CompilationCache
	module  wazero.CompiledModule
	merges  *merger.Server
	memory  memories
}

// New compiles the simulator. Machine code is kept in cacheDir, unless that is "": compiling takes seconds.
func New(ctx context.Context, module []byte, cacheDir string) (*Machine, error) {
	m := &Machine{merges: merger.NewServer(slog.New(slog.DiscardHandler))}
	config := wazero.NewRuntimeConfig()
	if cacheDir != "" {
		cache, err := wazero.NewCompilationCacheWithDir(cacheDir)
		if err != nil {
			return nil, fmt.Errorf("simulator: %w", err)
		}
		m.cache, config = cache, config.WithCompilationCache(cache)
	}
	m.runtime = wazero.NewRuntimeWithConfig(ctx, config)
	_, err := wasi_snapshot_preview1.Instantiate(ctx, m.runtime)
	if err == nil {
		err = installMerges(ctx, m.runtime, m.merges)
	}
	if err == nil {
		m.module, err = m.runtime.CompileModule(experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0)), module)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("simulator: %w", err), m.Close(ctx))
	}
	return m, nil
}

// Close frees the machine. No run may be under way.
func (m *Machine) Close(ctx context.Context) error {
	err := errors.Join(m.runtime.Close(ctx), m.merges.Close(ctx))
	if m.cache != nil {
		err = errors.Join(err, m.cache.Close(ctx))
	}
	return err
}

// epoch is when every simulation begins.
const epoch = 1_893_456_000 // 2030-01-01 in Unix seconds

// clock is the time of one run. It moves when every goroutine sleeps, and by a nanosecond at each look at it, so that
// no two events happen at once. Work costs no time otherwise; but who looks at it again and again without ever sleeping
// works very long, or in circles that only time can end, and so time must go on.
type clock struct {
	ctx context.Context
	ns  int64
	// looks counts those since everybody last slept.
	looks int64
}

const (
	// busyLooks are so many looks without sleep as mean very long work; a boot takes a few thousand. After them each look
	// takes busyLook.
	busyLooks = 1 << 16
	busyLook  = int64(20 * time.Microsecond)
)

func (c *clock) look() int64 {
	c.ns++
	if c.looks++; c.looks > busyLooks {
		c.ns += busyLook
		if c.looks%busyLooks == 0 {
			c.mayGoOn()
		}
	}
	return c.ns
}

func (c *clock) sleep(ns int64) {
	if ns > 0 {
		c.ns += ns
		c.looks = 0
	}
	c.mayGoOn()
}

// mayGoOn ends the run if nobody waits for it any more. Wazero hands the panic of a host function on as an error; its own
// checks of the context would cost every loop of the guest.
func (c *clock) mayGoOn() {
	if err := c.ctx.Err(); err != nil {
		panic(err)
	}
}

// Run makes one run. Lines that the simulator prints on its way go to trace, which may be nil.
func (m *Machine) Run(ctx context.Context, q storm.Request, trace io.Writer) (storm.Report, error) {
	in, err := json.Marshal(q)
	if err != nil {
		return storm.Report{}, err
	}
	if trace == nil {
		trace = io.Discard
	}
	c := clock{ctx: ctx}
	var seed [32]byte
	copy(seed[:], fmt.Sprintf("%032d", q.Plan.Seed))
	var said bytes.Buffer
	out := &lastLine{to: trace}
	config := wazero.NewModuleConfig().WithName("").WithArgs("simulator").WithEnv("GOGC", "400").WithEnv("GODEBUG", "adaptivestackstart=0").
		WithStdin(bytes.NewReader(in)).WithStdout(out).WithStderr(&limited{b: &said}).
		WithRandSource(rand.NewChaCha8(seed)).
		WithWalltime(func() (int64, int32) {
			ns := c.look()
			return epoch + ns/int64(time.Second), int32(ns % int64(time.Second))
		}, sys.ClockResolution(1)).
		WithNanotime(c.look, sys.ClockResolution(1)).
		WithNanosleep(c.sleep).
		WithOsyield(func() {})
	within := experimental.WithMemoryAllocator(context.WithValue(ctx, callsOf{}, &calls{}), &m.memory)
	instance, err := m.runtime.InstantiateModule(within, m.module, config)
	if exit := (*sys.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == storm.ExitRequest {
		return storm.Report{}, fmt.Errorf("%w%s", storm.ErrRequest, strings.TrimPrefix(strings.TrimSpace(said.String()), storm.ErrRequest.Error()))
	}
	if err != nil {
		return storm.Report{}, fmt.Errorf("the simulator failed: %w\n%s", err, strings.TrimSpace(said.String()))
	}
	defer func() { _ = instance.Close(ctx) }() // it has ended
	var r storm.Report
	if err := json.Unmarshal(out.line, &r); err != nil {
		return storm.Report{}, fmt.Errorf("the simulator's report: %w", err)
	}
	return r, nil
}

// lastLine passes all lines on but the last.
type lastLine struct {
	to   io.Writer
	line []byte
}

// Write implements io.Writer.
func (l *lastLine) Write(b []byte) (int, error) {
	l.line = append(l.line, b...)
	for {
		i := bytes.IndexByte(l.line, '\n')
		if i < 0 || i == len(l.line)-1 {
			return len(b), nil
		}
		if _, err := l.to.Write(l.line[:i+1]); err != nil {
			return 0, err
		}
		l.line = append(l.line[:0], l.line[i+1:]...)
	}
}

// limited keeps the beginning of what a failing guest says.
type limited struct{ b *bytes.Buffer }

// Write implements io.Writer.
func (l *limited) Write(b []byte) (int, error) {
	const most = 1 << 20
	if room := most - l.b.Len(); room > 0 {
		l.b.Write(b[:min(len(b), room)])
	}
	return len(b), nil
}
