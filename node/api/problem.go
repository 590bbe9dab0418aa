package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/valyala/fasthttp"

	"dynamo/node/coordinator"
)

// problem is an error answer (RFC 9457).
type problem struct {
	Type        string           `json:"type"`
	Status      int              `json:"status"`
	Title       string           `json:"title"`
	Detail      string           `json:"detail"`
	Code        coordinator.Code `json:"code"`
	Retryable   *bool            `json:"retryable,omitempty"`
	MaybeStored *bool            `json:"maybe_stored,omitempty"`
	RequestID   string           `json:"request_id"`
}

// retryAfterSeconds is what clients are told to wait when the node is overloaded or not ready.
const retryAfterSeconds = "1"

// statusError is a failure whose status is not that of its code.
type statusError struct {
	status int
	cause  coordinator.Error
}

// Error implements error.
func (e *statusError) Error() string { return e.cause.Error() }

// Unwrap gives the failure without its status.
func (e *statusError) Unwrap() error { return &e.cause }

// statusOf is the HTTP status of a code, 500 for one that is not in the table.
func statusOf(c coordinator.Code) int {
	switch c {
	case coordinator.CodeBadRequest, coordinator.CodeBadContext, coordinator.CodeBadKey:
		return fasthttp.StatusBadRequest
	case coordinator.CodeUnauthorized:
		return fasthttp.StatusUnauthorized
	case coordinator.CodeForbidden:
		return fasthttp.StatusForbidden
	case coordinator.CodeNotFound, coordinator.CodeKeyspaceUnknown:
		return fasthttp.StatusNotFound
	case coordinator.CodeMethodNotAllowed:
		return fasthttp.StatusMethodNotAllowed
	case coordinator.CodeConflict, coordinator.CodeTooManySiblings:
		return fasthttp.StatusConflict
	case coordinator.CodePreconditionFailed:
		return fasthttp.StatusPreconditionFailed
	case coordinator.CodeTooLarge:
		return fasthttp.StatusRequestEntityTooLarge
	case coordinator.CodeUnsupportedMedia:
		return fasthttp.StatusUnsupportedMediaType
	case coordinator.CodeResolverInvalid, coordinator.CodeResolverUnlawful:
		return fasthttp.StatusUnprocessableEntity
	case coordinator.CodeOverloaded, coordinator.CodeQuorumUnmet, coordinator.CodeNotReady:
		return fasthttp.StatusServiceUnavailable
	case coordinator.CodeDiskFull:
		return fasthttp.StatusInsufficientStorage
	}
	return fasthttp.StatusInternalServerError
}

// describe turns an error into what the client is told and what the log keeps. A write that failed
// without a word on it may be stored.
func (s *Server) describe(err error, id string, isWrite bool) problem {
	p := problem{Type: "about:blank", RequestID: id}
	var e coordinator.Error
	if se, ok := errors.AsType[*statusError](err); ok {
		e, p.Status = se.cause, se.status
	} else {
		e = failure(err, isWrite)
		p.Status = statusOf(e.Code)
	}
	if p.Status == fasthttp.StatusInternalServerError {
		s.log.Error("request failed", "request_id", id, "err", err, "cause", e.Err)
		if e.Code != coordinator.CodeInternal || e.Detail == "" {
			e.Code, e.Detail = coordinator.CodeInternal, "internal error; the log of node "+s.o.Node+" has more under this request id"
		}
	} else if e.Err != nil && p.Status > fasthttp.StatusInternalServerError {
		s.log.Debug("request failed", "request_id", id, "code", e.Code, "detail", e.Detail, "cause", e.Err)
	}
	p.Title, p.Detail, p.Code = fasthttp.StatusMessage(p.Status), e.Detail, e.Code
	if e.Retryable || p.Status >= fasthttp.StatusInternalServerError {
		p.Retryable = &e.Retryable
	}
	if e.MaybeStored || (isWrite && p.Status >= fasthttp.StatusInternalServerError) {
		p.MaybeStored = &e.MaybeStored
	}
	return p
}

// failure is the coordinator's error in err, or what stands for another one.
func failure(err error, isWrite bool) coordinator.Error {
	if e, ok := errors.AsType[*coordinator.Error](err); ok {
		return *e
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return coordinator.Error{
			Code: coordinator.CodeQuorumUnmet, Detail: "the deadline passed before enough replicas answered",
			Retryable: true, MaybeStored: isWrite, Err: err,
		}
	case errors.Is(err, context.Canceled):
		return coordinator.Error{Code: coordinator.CodeNotReady, Detail: "the node is stopping", Retryable: true, MaybeStored: isWrite, Err: err}
	}
	return coordinator.Error{Code: coordinator.CodeInternal, MaybeStored: isWrite, Err: err}
}

// write puts a problem into a response. Headers that were set before it stay.
func (p problem) write(r *fasthttp.Response) {
	r.SetStatusCode(p.Status)
	r.Header.SetContentType("application/problem+json")
	if p.Code == coordinator.CodeOverloaded || p.Code == coordinator.CodeNotReady {
		r.Header.Set("Retry-After", retryAfterSeconds)
	}
	r.SetBodyRaw(p.bytes())
}

func (p problem) bytes() []byte {
	b, err := encodeJSON(p)
	if err != nil {
		return []byte(`{"type":"about:blank","status":500,"code":"internal"}` + "\n")
	}
	return b
}

// encodeJSON ends in a newline and leaves '<', '>' and '&' as they are.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// logger shows fasthttp's own lines at debug level: what it has to say is about clients.
type logger struct{ log *slog.Logger }

// Printf implements fasthttp.Logger.
func (l logger) Printf(format string, args ...any) {
	l.log.Debug("http", "message", fmt.Sprintf(format, args...))
}
