package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// Module is a compiled resolver. It is safe for concurrent use.
type Module struct {
	runtime  *Runtime
	info     Info
	engine   wazero.Runtime
	compiled wazero.CompiledModule
	cache    wazero.CompilationCache // nil without a cache

	// Merges hold the read lock while they run, so that the code is not freed
	// under them.
	mu struct {
		sync.RWMutex
		closed bool
	}
}

// SHA256 returns the hash of the module as it was given, which names it.
func (m *Module) SHA256() [32]byte { return m.info.SHA256 }

// Info returns what Check said of the module.
func (m *Module) Info() Info { return m.info }

// WantsDeleted says that concurrent deletes are to be among the siblings.
func (m *Module) WantsDeleted() bool { return m.info.WantsDeleted }

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
	return m.free(ctx)
}

func (m *Module) free(ctx context.Context) error {
	var errs []error
	if m.engine != nil {
		errs = append(errs, m.engine.Close(ctx))
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

// Merge calls the module in a fresh instance. A nil error means a response of
// StatusValue (content type filled in), StatusDeleted, or StatusSelect of a
// sibling that is not the ancestor. Otherwise the siblings are to be kept and
// the error is an *Error; for CodeGuestError and CodeKeep the response is set
// too. A value has at most maxOutputBytes bytes, and no more than the limit of
// the runtime, which alone counts when maxOutputBytes is 0 or less.
//
// The time limit starts when a turn is free; ctx counts from the beginning.
func (m *Module) Merge(ctx context.Context, req Request, maxOutputBytes int) (Response, Outcome, error) {
	r := m.runtime
	select {
	case r.turns <- struct{}{}:
		defer func() { <-r.turns }()
	case <-ctx.Done():
		return Response{}, Outcome{}, &Error{Code: CodeCanceled, Message: "waiting for a turn", Err: ctx.Err()}
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mu.closed {
		return Response{}, Outcome{}, failf(CodeClosed, "the module is closed")
	}
	if size := requestSize(req); uint64(size) > r.limits.MemoryBytes {
		return Response{}, Outcome{}, failf(CodeMemory, "request of %d bytes, memory of %d", size, r.limits.MemoryBytes)
	}
	frame := AppendRequest(nil, req)
	limit := r.limits.OutputBytes
	if maxOutputBytes > 0 {
		limit = min(limit, maxOutputBytes)
	}
	w := newWorld(req, frame)
	start := r.now()
	resp, memory, err := m.run(ctx, w, frame, len(req.Siblings), limit)
	outcome := Outcome{Duration: r.now().Sub(start), MemoryBytes: memory}
	if len(w.log) > 0 {
		r.log.Info("resolver says", slog.String("module", fmt.Sprintf("%x", m.info.SHA256[:8])),
			slog.String("keyspace", req.Keyspace), slog.String("text", strings.ToValidUTF8(string(w.log), "\ufffd")))
	}
	if err != nil {
		return Response{}, outcome, err
	}
	resp, err = settle(resp, req)
	return resp, outcome, err
}

// run brings up an instance, calls it and takes it down again.
func (m *Module) run(ctx context.Context, w *world, frame []byte, siblings, limit int) (_ Response, memory uint64, err error) {
	over := failf(CodeTimeout, "the time limit of %v is over", m.runtime.limits.Timeout)
	ctx, cancel := context.WithTimeoutCause(context.WithValue(ctx, worldKey{}, w), m.runtime.limits.Timeout, over)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = failf(CodeInternal, "the engine panicked: %v", p)
		}
	}()
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions()
	inst, err := m.engine.InstantiateModule(ctx, m.compiled, config)
	if err != nil {
		return Response{}, 0, failure(ctx, "start", err)
	}
	// Closing frees what the instance holds in the engine. The memory's last
	// size is read before.
	defer func() {
		memory = uint64(inst.Memory().Size())
		_ = inst.Close(context.WithoutCancel(ctx)) // an instance without files has nothing to fail on
	}()
	out, err := call(ctx, inst, frame, limit)
	if err != nil {
		return Response{}, 0, err
	}
	resp, err := DecodeResponse(out, siblings, limit)
	return resp, 0, err
}

// call hands the frame over and returns the response, which lies in the
// instance's memory: copy it before the instance is closed.
func call(ctx context.Context, inst api.Module, frame []byte, limit int) ([]byte, error) {
	if f := inst.ExportedFunction(exportInitialize); f != nil {
		if _, err := f.Call(ctx); err != nil {
			return nil, failure(ctx, exportInitialize, err)
		}
	}
	size := uint64(len(frame))
	results, err := inst.ExportedFunction(exportAlloc).Call(ctx, size)
	if err != nil {
		return nil, failure(ctx, exportAlloc, err)
	}
	at := uint32(results[0])
	if !inst.Memory().Write(at, frame) {
		return nil, failf(CodeInvalidOutput, "%s gave %d bytes at %#x, outside of memory", exportAlloc, size, at)
	}
	results, err = inst.ExportedFunction(exportResolve).Call(ctx, uint64(at), size)
	if err != nil {
		return nil, failure(ctx, exportResolve, err)
	}
	at, n := uint32(results[0]>>32), uint32(results[0])
	// A message may be longer than a value: it is cut, not refused.
	if most := 12 + maxContentTypeBytes + max(limit, 64<<10); uint64(n) > uint64(most) {
		return nil, failf(CodeOversize, "response of %d bytes, limit %d", n, most)
	}
	out, ok := inst.Memory().Read(at, n)
	if !ok {
		return nil, failf(CodeInvalidOutput, "response of %d bytes at %#x, outside of memory", n, at)
	}
	return out, nil
}

// settle turns an answer without a result into an error and fills in what the
// module left to the host.
func settle(resp Response, req Request) (Response, error) {
	switch resp.Status {
	case StatusError:
		return resp, failf(CodeGuestError, "%s", guestText(resp.Payload))
	case StatusKeep:
		return resp, failf(CodeKeep, "the module keeps the siblings")
	case StatusSelect:
		if req.Siblings[resp.Index].Ancestor {
			return Response{}, failf(CodeInvalidOutput, "the ancestor was selected")
		}
	case StatusValue:
		if resp.ContentType == "" {
			resp.ContentType = newestContentType(req.Siblings)
		}
	}
	return resp, nil
}

// newestContentType is that of the sibling with the largest time, of equal ones
// the last. Ancestor and deletes do not count.
func newestContentType(siblings []Sibling) string {
	var newest Sibling
	for _, s := range siblings {
		if !s.Ancestor && !s.Deleted && s.TimeMs >= newest.TimeMs {
			newest = s
		}
	}
	return newest.ContentType
}
