package conflict

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"dynamo/resolver"
)

// refetchAfter is how long a module that could not be had is left alone, restartAfter one whose start ran out of
// wall-clock time: that says as much of the machine as of the module, but the next attempt may cost as much.
const (
	refetchAfter = time.Second
	restartAfter = 10 * time.Second
)

// modules holds the compiled modules of this node by hash. Compilation belongs to the registry, not to
// the request that needs it first: the request waits no longer than its own deadline, the compilation
// goes on for the next one.
type modules struct {
	o    Options
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
	// mu guards byID. Invariant: an entry's fields are written before done is closed and never after.
	mu struct {
		sync.Mutex
		byID   map[[32]byte]*loaded
		closed bool
	}
}

type loaded struct {
	done   chan struct{}
	module *resolver.Module
	err    error
	retry  time.Time
}

func newModules(o Options) *modules {
	m := &modules{o: o}
	m.ctx, m.stop = context.WithCancel(context.Background())
	m.mu.byID = make(map[[32]byte]*loaded)
	return m
}

var errClosed = errors.New("conflict: closed")

// get returns a compiled module, fetching and compiling it if need be.
func (m *modules) get(ctx context.Context, sha [32]byte) (*resolver.Module, error) {
	l, err := m.start(sha)
	if err != nil {
		return nil, err
	}
	select {
	case <-l.done:
		return l.module, l.err
	case <-ctx.Done():
		return nil, fmt.Errorf("module %s is still being compiled: %w", hex.EncodeToString(sha[:8]), ctx.Err())
	}
}

// soon is get for a read, whose client would rather have the siblings than wait for a compiler.
func (m *modules) soon(ctx context.Context, sha [32]byte) (*resolver.Module, error) {
	if m.o.Patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, m.o.Patience)
		defer cancel()
	}
	return m.get(ctx, sha)
}

func (m *modules) start(sha [32]byte) (*loaded, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.closed {
		return nil, errClosed
	}
	if l, ok := m.mu.byID[sha]; ok && !m.stale(l) {
		return l, nil
	}
	l := &loaded{done: make(chan struct{})}
	m.mu.byID[sha] = l
	m.wg.Go(func() {
		defer close(l.done)
		l.module, l.err = m.load(sha)
		pause := refetchAfter
		if resolver.CodeOf(l.err) == resolver.CodeTimeout {
			pause = restartAfter
		}
		l.retry = m.o.Now().Add(pause)
	})
	return l, nil
}

// stale reports whether l failed for want of the bytes, of a process to compile in, or of time, long enough ago to
// try again. A module that does not compile stays failed until retry.
func (m *modules) stale(l *loaded) bool {
	select {
	case <-l.done:
	default:
		return false
	}
	if l.err == nil {
		return false
	}
	switch code := resolver.CodeOf(l.err); code {
	case "", resolver.CodeUnavailable, resolver.CodeCanceled, resolver.CodeTimeout:
		return m.o.Now().After(l.retry)
	}
	return false
}

// retry forgets that a module failed.
func (m *modules) retry(sha [32]byte) error {
	if err := m.o.Runtime.Retry(sha); err != nil {
		return fmt.Errorf("retry module %s: %w", hex.EncodeToString(sha[:8]), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if l, ok := m.mu.byID[sha]; ok {
		select {
		case <-l.done:
			if l.err != nil {
				delete(m.mu.byID, sha)
			}
		default:
		}
	}
	return nil
}

func (m *modules) load(sha [32]byte) (*resolver.Module, error) {
	module, config, err := Parts(m.ctx, m.o.Fetch, sha)
	if err != nil {
		return nil, err
	}
	return m.o.Runtime.Load(m.ctx, module, config)
}

// Parts returns the module of a version, and its configuration if it has one. fetch verifies what it returns.
func Parts(ctx context.Context, fetch func(context.Context, [32]byte) ([]byte, error), id [32]byte) (module, config []byte, err error) {
	get := func(sha [32]byte) []byte {
		if err != nil {
			return nil
		}
		var b []byte
		if b, err = fetch(ctx, sha); err != nil {
			err = fmt.Errorf("fetch module %s: %w", hex.EncodeToString(sha[:8]), err)
		}
		return b
	}
	module = get(id)
	if m, c, ok := resolver.ParseManifest(module); ok {
		module, config = get(m), get(c)
	}
	return module, config, err
}

// ready reports whether the module is compiled.
func (m *modules) ready(sha [32]byte) bool {
	m.mu.Lock()
	l, ok := m.mu.byID[sha]
	m.mu.Unlock()
	if !ok {
		return false
	}
	select {
	case <-l.done:
		return l.err == nil
	default:
		return false
	}
}

func (m *modules) close(ctx context.Context) error {
	m.mu.Lock()
	m.mu.closed = true
	m.mu.Unlock()
	m.stop()
	m.wg.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, l := range m.mu.byID {
		if l.module != nil {
			errs = append(errs, l.module.Close(ctx))
		}
	}
	clear(m.mu.byID)
	return errors.Join(errs...)
}

// Forget frees a module that is not to be used any more. Merges that are under way are waited for; one that begins
// later compiles it anew.
func (s *Settler) Forget(ctx context.Context, sha [32]byte) error { return s.modules.forget(ctx, sha) }

func (m *modules) forget(ctx context.Context, sha [32]byte) error {
	m.mu.Lock()
	l, ok := m.mu.byID[sha]
	if ok {
		select {
		case <-l.done:
			delete(m.mu.byID, sha)
		default:
			ok = false // somebody wants it right now
		}
	}
	m.mu.Unlock()
	if !ok || l.module == nil {
		return nil
	}
	return l.module.Close(ctx)
}

// Check says whether a module is a resolver; errors are those of resolver.Check.
func (s *Settler) Check(module []byte) error {
	_, err := s.o.Runtime.Check(module)
	return err
}

// Load compiles a module ahead of its first use and reports whether it can be used. It is what an
// upload and a boot call.
func (s *Settler) Load(ctx context.Context, sha [32]byte) (*resolver.Module, error) {
	return s.modules.get(ctx, sha)
}

// Retry forgets that a module failed to compile, here and on disk, so that it is tried once more.
func (s *Settler) Retry(sha [32]byte) error { return s.modules.retry(sha) }

// Preload starts compiling without waiting.
func (s *Settler) Preload(sha [32]byte) {
	if _, err := s.modules.start(sha); err != nil {
		s.o.Logger.Debug("module not preloaded", "err", err)
	}
}

// Loaded reports whether the module is compiled on this node.
func (s *Settler) Loaded(sha [32]byte) bool { return s.modules.ready(sha) }
