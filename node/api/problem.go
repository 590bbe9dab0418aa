package api

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/valyala/fasthttp"

	"dynamo/node/coordinator"
)

// problem is RFC 9457.
type problemJSON struct {
	Type        string `json:"type"`
	Status      int    `json:"status"`
	Title       string `json:"title"`
	Detail      string `json:"detail"`
	Code        string `json:"code"`
	Retryable   *bool  `json:"retryable,omitempty"`
	MaybeStored *bool  `json:"maybe_stored,omitempty"`
	RequestID   string `json:"request_id"`
}

// statusOf maps codes to HTTP.
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

// fail answers with a problem; what is not the client's or the world's is a bug and logged as one.
func (r *request) fail(err error) {
	e, ok := errors.AsType[*coordinator.Error](err)
	switch {
	case ok:
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e = &coordinator.Error{Code: coordinator.CodeQuorumUnmet, Detail: "the deadline passed", Retryable: true, MaybeStored: true, Err: err}
	default:
		e = &coordinator.Error{Code: coordinator.CodeInternal, Detail: "internal error", Err: err}
	}
	status := statusOf(e.Code)
	if status == fasthttp.StatusInternalServerError {
		r.s.o.Logger.Error("internal error", "request", r.id, "method", string(r.Method()), "uri", string(r.Request.Header.RequestURI()), "detail", e.Detail, "err", e.Err)
	}
	r.problem(status, e)
}

func (r *request) problem(status int, e *coordinator.Error) {
	p := problemJSON{
		Type: "about:blank", Status: status, Title: fasthttp.StatusMessage(status), Detail: e.Detail, Code: string(e.Code), RequestID: r.id,
	}
	if status >= 500 {
		p.Retryable, p.MaybeStored = &e.Retryable, &e.MaybeStored
	}
	if e.Code == coordinator.CodeOverloaded {
		r.Response.Header.Set("Retry-After", "1")
	}
	b, err := json.Marshal(p)
	if err != nil {
		r.s.o.Logger.Error("a problem cannot be encoded", "err", err)
	}
	r.SetStatusCode(status)
	r.Response.Header.SetContentType("application/problem+json")
	r.Response.SetBodyRaw(b)
}

// json answers with a document.
func (r *request) json(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	r.Response.Header.SetContentType("application/json")
	r.Response.SetBodyRaw(append(b, '\n'))
	return nil
}
