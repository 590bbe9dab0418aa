package resolver

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/tetratelabs/wazero"
)

// Module is a compiled resolver. It is safe for concurrent use.
type Module struct {
	runtime  *Runtime
	id       [32]byte
	config   []byte
	prepared // but for the code, once it is compiled

	state    atomic.Pointer[state] // nil before the first boot, and for ever if not restorable or large
	large    atomic.Bool           // the first state takes too much to be kept
	idle     idle                  // of the runtime's pool
	spoke    atomic.Bool           // what it says when it starts is logged once
	engine   wazero.Runtime
	compiled wazero.CompiledModule
	cache    wazero.CompilationCache // nil without a cache
	away     Merger                  // nil without another engine

	// Merges hold the read lock while they run, so that the code is not freed
	// under them.
	mu struct {
		sync.RWMutex
		closed bool
	}
}

// SHA256 returns what names the module with its configuration: see Identity.
func (m *Module) SHA256() [32]byte { return m.id }

// Info returns what Check said of the module.
func (m *Module) Info() Info { return m.info }

// WantsDeleted says that concurrent deletes are to be among the siblings.
func (m *Module) WantsDeleted() bool { return m.info.WantsDeleted }

// Closed reports whether merges fail with CodeClosed by now.
func (m *Module) Closed() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.mu.closed
}

// Close waits for running merges and frees the module. Later merges fail with
// CodeClosed.
func (m *Module) Close(ctx context.Context) error {
	m.runtime.mu.Lock()
	delete(m.runtime.mu.modules, m)
	m.runtime.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.closed {
		return nil
	}
	m.mu.closed = true
	m.runtime.pool.drop(m)
	return m.free(ctx)
}

func (m *Module) free(ctx context.Context) error {
	var errs []error
	if m.compiled != nil {
		errs = append(errs, m.compiled.Close(ctx))
	}
	if m.engine != nil {
		errs = append(errs, m.engine.Close(ctx))
	}
	if m.away != nil {
		errs = append(errs, m.away.Close(ctx))
	}
	if s := m.state.Load(); s != nil {
		errs = append(errs, s.memory.Close())
	}
	if m.cache != nil {
		errs = append(errs, m.cache.Close(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return &Error{Code: CodeInternal, Message: "close engine", Err: err}
	}
	return nil
}

// abandon frees a module that err kept from being used.
func (m *Module) abandon(ctx context.Context, err error) error {
	if freeErr := m.free(ctx); freeErr != nil {
		return errors.Join(err, freeErr)
	}
	return err
}
