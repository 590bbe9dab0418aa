package resolver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/tetratelabs/wazero/sys"

	"dynamo/resolver/frame"
	"dynamo/resolver/wasi"
)

// Merge calls the module in its first state: what earlier merges did is gone.
// A nil error means a response of
// StatusValue (content type filled in), StatusDeleted, or StatusSelect of a
// sibling that is not the ancestor. Otherwise the siblings are to be kept and
// the error is an *Error; for CodeGuestError and CodeKeep the response is set
// too. A value has at most maxOutputBytes bytes, and no more than the limit of
// the runtime, which alone counts when maxOutputBytes is 0 or less.
//
// The time limit starts when a turn is free; ctx counts from the beginning.
func (m *Module) Merge(ctx context.Context, req Request, maxOutputBytes int) (Response, Outcome, error) {
	r := m.runtime
	if err := r.wait(ctx); err != nil {
		return Response{}, Outcome{}, err
	}
	defer func() { <-r.turns }()
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mu.closed {
		return Response{}, Outcome{}, failf(CodeClosed, "the module is closed")
	}
	if m.away != nil {
		return m.away.Merge(ctx, req, maxOutputBytes)
	}
	if size := frame.RequestSize(req); uint64(size) > r.limits.MemoryBytes {
		return Response{}, Outcome{}, failf(CodeMemory, "request of %d bytes, memory of %d", size, r.limits.MemoryBytes)
	}
	limit := r.limits.OutputBytes
	if maxOutputBytes > 0 {
		limit = min(limit, maxOutputBytes)
	}
	start := r.now()
	resp, outcome, err := m.run(ctx, req, limit)
	outcome.Duration = r.now().Sub(start)
	if err != nil {
		return Response{}, outcome, err
	}
	resp, err = settle(resp, req)
	return resp, outcome, err
}

// wait waits for a turn.
func (r *Runtime) wait(ctx context.Context) error {
	select {
	case r.turns <- struct{}{}:
		return nil
	default: // there is none, or there are others who want one
	}
	select {
	case r.turns <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &Error{Code: CodeCanceled, Message: "waiting for a turn", Err: ctx.Err()}
	}
}

// run brings up an instance, calls it and puts it away again.
func (m *Module) run(ctx context.Context, req Request, limit int) (_ Response, cost Outcome, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = failf(CodeInternal, "the engine panicked: %v", p)
		}
	}()
	in, monotonicNs, err := m.fresh(ctx)
	if err != nil {
		return Response{}, Outcome{}, err
	}
	sound := false
	defer func() { m.reuse(ctx, in, sound) }()
	o := wasi.Options{WallMs: newestMs(req.Siblings), MonotonicNs: monotonicNs}
	if m.info.ABI == ABICommand {
		in.frame = frame.AppendJSONRequest(in.frame[:0], req)
		o.Stdin, o.MaxStdout = in.frame, frame.JSONResponseBytes(limit)
	} else {
		in.frame = frame.AppendRequest(in.frame[:0], req)
	}
	o.Seed = in.frame
	in.begin(ctx, m.runtime.limits, o)
	if in.turn.Err() != nil { // a short merge does not look
		sound = true
		return Response{}, Outcome{}, ended(&in.turn, "start")
	}
	var resp Response
	var answer error
	if m.info.ABI == ABICommand {
		if err = in.command(); err == nil {
			out, _ := in.turn.world.Stdout()
			resp, answer = frame.DecodeJSONAnswer(out, req.Siblings, limit)
		}
	} else {
		var out []byte
		if out, err = in.function(in.frame, limit); err == nil {
			resp, answer = frame.DecodeAnswer(out, req.Siblings, limit)
		}
	}
	sound = err == nil
	cost = Outcome{Fuel: in.turn.meter.Used(int64(in.turn.fuel.Get())), MemoryBytes: uint64(in.pages.Size())}
	m.say(req.Keyspace, &in.turn.world)
	if err == nil && answer != nil {
		err = outputError(answer)
	}
	return resp, cost, err
}

// newestMs is where the wall clock stands.
func newestMs(siblings []Sibling) uint64 {
	var newest uint64
	for _, s := range siblings {
		newest = max(newest, s.TimeMs)
	}
	return newest
}

// function hands the frame over and returns the response, which lies in the
// instance's memory: copy it before the instance is used again.
func (in *instance) function(request []byte, limit int) ([]byte, error) {
	at, err := in.give(request)
	if err != nil {
		return nil, err
	}
	answer, err := in.run(&in.main, at, uint64(len(request)))
	if err != nil {
		return nil, failure(&in.turn, exportResolve, err)
	}
	from, n := uint32(answer>>32), uint32(answer)
	// A message may be longer than a value: it is cut, not refused.
	if most := frame.ResponseBytes(max(limit, 64<<10)); uint64(n) > uint64(most) {
		return nil, failf(CodeOversize, "response of %d bytes, limit %d", n, most)
	}
	out, ok := in.pages.Read(from, n)
	if !ok {
		return nil, failf(CodeInvalidOutput, "response of %d bytes at %#x, outside of memory", n, from)
	}
	return out, nil
}

// command runs the program from its beginning to its end.
func (in *instance) command() error {
	_, err := in.run(&in.main, 0, 0)
	if _, overflowed := in.turn.world.Stdout(); overflowed {
		return failf(CodeOversize, "the program printed more than the largest value takes")
	}
	if exit, ok := errors.AsType[*sys.ExitError](err); ok && exit.ExitCode() == 0 && in.turn.Err() == nil {
		return nil
	}
	if err != nil {
		return failure(&in.turn, exportStart, err)
	}
	return nil
}

// outputError gives the code for an answer that cannot be decoded.
func outputError(err error) *Error {
	if errors.Is(err, frame.ErrOversize) {
		return &Error{Code: CodeOversize, Err: err}
	}
	return &Error{Code: CodeInvalidOutput, Err: err}
}

// say logs what the module said.
func (m *Module) say(keyspace string, w *wasi.World) {
	if text := w.Log(); len(text) > 0 {
		m.runtime.log.Info("resolver says", slog.String("module", fmt.Sprintf("%x", m.id[:8])),
			slog.String("keyspace", keyspace), slog.String("text", strings.ToValidUTF8(string(text), "\ufffd")))
	}
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
