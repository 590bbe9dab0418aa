package resolver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// Options of a Runtime. The zero value of a field means its default.
type Options struct {
	// Limits of modules and merges; the zero value means DefaultLimits.
	Limits Limits
	// Logger gets what modules print; default slog.Default.
	Logger *slog.Logger
	// Now is the clock that Outcome.Duration is measured with. Without it,
	// durations are 0. Modules never see it.
	Now func() time.Time
	// Parallel is the number of merges that run at once, the others wait;
	// default GOMAXPROCS. Each may take Limits.MemoryBytes, and some 8 KiB
	// for each level of Limits.CallDepth, at worst.
	Parallel int
	// CacheDir is a directory of machine code, so that the next process need not compile the same module
	// again; empty: none. Processes may share it. It is made when first needed, holds at most 512 MiB (the
	// oldest goes), and never fails a compilation: code that is damaged, or cannot be read or written, is
	// compiled. Whoever may write to it may run code in this process.
	CacheDir string
	// IdleBytes bounds the memory of all instances that wait for the next merge; default 256 MiB. When it
	// is too small, merges pay for new instances.
	IdleBytes uint64
	// IdleTime is how long such an instance is kept, give or take a factor of two; default one minute.
	IdleTime time.Duration
	// Trial says how a module is compiled for the first time; nil: in this process, at once.
	Trial *Trial
	// Verdicts remembers how trials went; nil: each module is tried again by each Runtime.
	Verdicts Verdicts
	// Engine compiles and runs the modules; nil: this process.
	Engine Engine
}

// Runtime compiles modules and bounds their merges. It is safe for concurrent use.
type Runtime struct {
	limits   Limits
	log      *slog.Logger
	now      func() time.Time
	cache    codeCache // without a directory: none
	pool     *pool
	trial    *Trial
	verdicts Verdicts
	engine   Engine // nil: this process

	turns     chan struct{} // as many tokens as merges run
	compiling chan struct{} // a token while a module is compiled: one at a time bounds the memory

	mu struct {
		sync.Mutex
		closed bool
		// Not yet closed. Empty once closed is set.
		modules map[*Module]struct{}
	}
}

// New returns a Runtime. Close it.
func New(o Options) (*Runtime, error) {
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits()
	}
	if err := o.Limits.validate(); err != nil {
		return nil, fmt.Errorf("resolver limits: %w", err)
	}
	if _, err := engineConfig(); err != nil {
		return nil, err
	}
	if o.Parallel < 0 {
		return nil, errors.New("resolver: Parallel is negative")
	}
	if o.Parallel == 0 {
		o.Parallel = runtime.GOMAXPROCS(0)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = func() time.Time { return time.Time{} }
	}
	if o.IdleBytes == 0 {
		o.IdleBytes = 256 << 20
	}
	if o.IdleTime <= 0 {
		o.IdleTime = time.Minute
	}
	r := &Runtime{
		limits:    o.Limits,
		log:       o.Logger,
		now:       o.Now,
		cache:     codeCache{dir: o.CacheDir, limit: maxCacheBytes},
		pool:      newPool(o.Parallel, o.IdleBytes, o.IdleTime),
		trial:     o.Trial,
		verdicts:  o.Verdicts,
		engine:    o.Engine,
		turns:     make(chan struct{}, o.Parallel),
		compiling: make(chan struct{}, 1),
	}
	r.mu.modules = map[*Module]struct{}{}
	return r, nil
}

// Close waits for running merges and frees all modules; both then answer
// CodeClosed.
func (r *Runtime) Close(ctx context.Context) error {
	r.mu.Lock()
	modules := r.mu.modules
	r.mu.modules, r.mu.closed = nil, true
	r.mu.Unlock()
	var errs []error
	for m := range modules {
		errs = append(errs, m.Close(ctx))
	}
	r.pool.close()
	return errors.Join(errs...)
}

// Check is Check under the limits of the runtime.
func (r *Runtime) Check(module []byte) (Info, error) {
	if r.engine != nil {
		return r.engine.Check(r.limits, module)
	}
	return Check(module, r.limits)
}

// Load checks and compiles a module. With a configuration, the module is also started and given it, so that
// one it refuses is known at once. Errors have a Code. ctx ends the waiting for a turn and for the trial; the
// compiler itself heeds no deadline: Check keeps its time within bounds. Close the Module.
func (r *Runtime) Load(ctx context.Context, module, config []byte) (*Module, error) {
	m := &Module{runtime: r, id: Identity(module, config), config: bytes.Clone(config)}
	if err := m.load(ctx, module); err != nil {
		return nil, m.abandon(ctx, err)
	}
	r.mu.Lock()
	closed := r.mu.closed
	if !closed {
		r.mu.modules[m] = struct{}{}
	}
	r.mu.Unlock()
	if closed {
		r.pool.drop(m)
		return nil, m.abandon(ctx, failf(CodeClosed, "the runtime is closed"))
	}
	return m, nil
}

// load checks and compiles, and starts what has a configuration.
func (m *Module) load(ctx context.Context, module []byte) (err error) {
	r := m.runtime
	if r.engine != nil {
		m.away, m.info, err = r.engine.Load(ctx, r.limits, module, m.config)
		return err
	}
	if m.prepared, err = inspect(module, r.limits); err != nil {
		return err
	}
	if err := m.acceptsConfig(m.config, r.limits); err != nil {
		return err
	}
	select {
	case r.compiling <- struct{}{}:
	case <-ctx.Done():
		return &Error{Code: CodeCanceled, Message: "waiting to compile", Err: context.Cause(ctx)}
	}
	err = m.compileOnTrial(ctx, module)
	<-r.compiling
	m.code = nil
	if err == nil && len(m.config) > 0 {
		err = m.start(ctx)
	}
	return err
}

// start brings up the first instance.
func (m *Module) start(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = failf(CodeInternal, "the engine panicked: %v", p)
		}
	}()
	in, _, err := m.fresh(ctx)
	if err == nil {
		m.reuse(ctx, in, true)
	}
	return err
}

// Idle counts the instances that wait for merges, and their memory in bytes.
func (r *Runtime) Idle() (instances int, bytes uint64) { return r.pool.stats() }

// compile compiles the code or takes it from the cache. Only compiling itself can fail.
func (m *Module) compile(ctx context.Context, cache codeCache) error {
	code := m.code
	if cache.dir == "" {
		return m.compileIn(ctx, code, "")
	}
	entry := entryName(code, m.runtime.limits.pages())
	cacheErr := m.compileCached(ctx, code, cache, entry)
	if m.compiled == nil {
		// Whether the code or the cache is to blame, compiling without it tells.
		if err := m.compileIn(ctx, code, ""); err != nil {
			return err
		}
	}
	if cacheErr != nil {
		m.runtime.log.Warn("machine code is not cached", slog.String("dir", cache.dir), slog.Any("err", cacheErr))
	}
	return nil
}

// compileCached compiles with the cache. It sets m.compiled if that went well, even when it returns an
// error of the cache.
func (m *Module) compileCached(ctx context.Context, code []byte, cache codeCache, entry string) error {
	s, err := cache.open(entry)
	if err != nil {
		return err
	}
	if err = m.compileIn(ctx, code, s.dir); err == nil {
		err = cache.save(entry, s)
	} else {
		err = errors.Join(m.abandon(ctx, err), cache.drop(entry, s))
		m.engine, m.compiled, m.cache = nil, nil, nil
	}
	return errors.Join(err, s.remove())
}

// engineConfig chooses the engine. All nodes of a cluster must have the same one: interpreter and machine code
// may differ in the bits of a NaN. A whole cluster simulated in WebAssembly interprets everywhere.
func engineConfig() (wazero.RuntimeConfig, error) {
	switch runtime.GOARCH {
	case "amd64", "arm64":
		return wazero.NewRuntimeConfigCompiler(), nil
	case "wasm":
		return wazero.NewRuntimeConfigInterpreter(), nil
	}
	return nil, errors.New("resolver: modules are compiled for amd64 and arm64 only, and " + runtime.GOARCH + " would run them otherwise")
}

// compileIn gives the module an engine of its own: what an engine keeps for ever, such as function types,
// goes with the module. The engine looks for machine code below dir, and puts it there, unless dir is "".
func (m *Module) compileIn(ctx context.Context, code []byte, dir string) (err error) {
	// The engine's decoder and compiler have panicked on input before. They run
	// on this goroutine alone, else a panic could not be caught.
	defer func() {
		if p := recover(); p != nil {
			err = failf(CodeCompile, "the compiler panicked: %v", p)
		}
	}()
	config, err := engineConfig()
	if err != nil {
		return err
	}
	config = config.WithCoreFeatures(api.CoreFeaturesV2).
		WithMemoryLimitPages(m.runtime.limits.pages()).
		WithCloseOnContextDone(false). // yield does, at less cost
		WithDebugInfoEnabled(false)
	if dir != "" {
		if m.cache, err = wazero.NewCompilationCacheWithDir(dir); err != nil {
			return &Error{Code: CodeInternal, Message: "compilation cache", Err: err}
		}
		config = config.WithCompilationCache(m.cache)
	}
	m.engine = wazero.NewRuntimeWithConfig(ctx, config)
	if err := installHost(ctx, m.engine); err != nil {
		return &Error{Code: CodeInternal, Message: "host functions", Err: err}
	}
	m.compiled, err = m.engine.CompileModule(ctx, code)
	if err != nil {
		m.compiled = nil
		return &Error{Code: CodeCompile, Err: errors.New(guestText([]byte(err.Error())))}
	}
	return nil
}
