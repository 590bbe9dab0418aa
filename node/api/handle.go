package api

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"dynamo/node/admission"
	"dynamo/node/api/httptext"
	"dynamo/node/coordinator"
)

const (
	headerNode      = "X-Dynamo-Node"
	headerRequestID = "X-Request-Id"
	// headerRefused is set on a request by headerReceived, never by a client.
	headerRefused = "X-Dynamo-Refused"

	maxRequestIDBytes = 128
	// prefetchBytes is how much of a body fasthttp reads before the handler runs.
	prefetchBytes = 8 << 10
)

// call is one request on its way through.
type call struct {
	s *Server
	// ctx is nil while only the headers are there.
	ctx    *fasthttp.RequestCtx
	header *fasthttp.RequestHeader
	id     string
	// context carries the deadline.
	context context.Context

	framing  framing
	resource *resource
	endpoint *endpoint
	keyspace string
	key      []byte
	query    query
	grant    *grant
	body     []byte
	// isRead says that the whole body was read off the connection.
	isRead bool
	// isHeld says that the call has its place among the requests at work, taken what its body took.
	isHeld bool
	taken  int64
}

// headerReceived looks at a request before any of its body is read. A request that will be refused and
// has a body of more than a few bytes, or waits for "100 Continue", is made one without a body: fasthttp
// then neither asks for the body nor waits for it, and serve refuses the request with a proper answer.
func (s *Server) headerReceived(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
	h.Del(headerRefused)
	if s.mustRefuse(h) {
		h.Del("Expect")
		h.SetContentLength(0)
		h.Set(headerRefused, "1")
	}
	return fasthttp.RequestConfig{}
}

func (s *Server) mustRefuse(h *fasthttp.RequestHeader) (refuse bool) {
	defer func() {
		if v := recover(); v != nil {
			s.log.Error("panic at the headers of a request", "panic", v, "stack", string(debug.Stack()))
			refuse = true
		}
	}()
	f, err := framingOf(h)
	if err != nil {
		return true
	}
	if f.length >= 0 && f.length <= prefetchBytes && !f.expects {
		return false
	}
	c := &call{s: s, header: h}
	return c.open() != nil
}

// serve answers one request.
func (s *Server) serve(ctx *fasthttp.RequestCtx) {
	start := s.o.Now()
	s.metrics.inflight.Inc()
	defer s.metrics.inflight.Dec()
	c := &call{s: s, ctx: ctx, header: &ctx.Request.Header}
	c.id = s.requestID(string(c.header.Peek(headerRequestID)))
	err := c.guarded()
	if err != nil {
		p := s.describe(err, c.id, c.endpoint != nil && c.endpoint.isWrite)
		c.refuseHeaders(p.Code)
		p.write(&ctx.Response)
	}
	s.stamp(&ctx.Response, c.id)
	if c.framing.hasBody() && !c.isRead {
		ctx.SetConnectionClose()
		lingerOn(ctx.Conn())
	}
	if s.door.isShut() {
		ctx.SetConnectionClose()
	}
	s.account(c, start, err)
}

// guarded runs the call; a panic becomes an error.
func (c *call) guarded() (err error) {
	defer func() {
		if v := recover(); v != nil {
			c.ctx.Response.Reset()
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	defer c.release()
	return c.run()
}

// run is the way of every request: who is it, what does it want, is there room, its body, its deadline.
func (c *call) run() error {
	if err := c.open(); err != nil {
		return err
	}
	if len(c.header.Peek(headerRefused)) > 0 {
		return &coordinator.Error{Code: coordinator.CodeOverloaded, Detail: "the request was refused at its headers; send it again", Retryable: true}
	}
	// Not worth reading the body if there is no room; its place is taken once the body is there, so that
	// slow clients hold no places.
	if !c.endpoint.open && c.gate().Full() {
		return overloaded()
	}
	if err := c.readBody(); err != nil {
		return err
	}
	l := c.s.o.Limits
	d := l.MaxTimeout
	var err error
	switch c.endpoint.wait {
	case waitRequest:
		d, err = c.query.timeout(l.RequestTimeout, l.MaxTimeout)
	case waitLong:
		d, err = c.query.timeout(l.MaxTimeout, l.MaxTimeout)
	}
	if err != nil {
		return err
	}
	// The deadline covers the wait for a place, too.
	ctx, cancel := context.WithTimeout(c.s.base, d)
	defer cancel()
	c.context = ctx
	if err := c.hold(); err != nil {
		return err
	}
	return c.endpoint.handle(c)
}

// open does all that needs the headers only. What it finds before an error stays in c.
func (c *call) open() error {
	var err error
	if c.framing, err = framingOf(c.header); err != nil {
		c.framing.length = -1
		return err
	}
	path, rawQuery, err := splitTarget(c.header.RequestURI())
	if err != nil {
		return err
	}
	resource, keyspace, key, notFound := c.s.route(path)
	c.resource = resource
	if path == "/v1" || strings.HasPrefix(path, "/v1/") {
		if c.grant, err = c.s.guard.authenticate(string(c.header.Peek("Authorization"))); err != nil {
			return err
		}
	}
	if notFound != nil {
		return notFound
	}
	if c.endpoint, err = resource.endpoint(string(c.header.Method())); err != nil {
		return err
	}
	if err := c.names(keyspace, key); err != nil {
		return err
	}
	if !c.endpoint.open {
		if err := c.grant.allows(c.endpoint.role, c.keyspace); err != nil {
			return err
		}
	}
	if c.query, err = parseQuery(rawQuery, c.endpoint.params); err != nil {
		return err
	}
	return c.checkBody()
}

// names decodes keyspace and key.
func (c *call) names(keyspace, key string) error {
	if keyspace == "" {
		return nil
	}
	name, err := httptext.Unescape(keyspace, false)
	if err != nil || !isKeyspaceName(string(name)) {
		if c.resource.pattern == "/v1/keyspaces/{keyspace}" && c.endpoint.method == fasthttp.MethodPut {
			return badRequest("%q is no keyspace name: 1 to %d of a-z, 0-9, _ and -, and a letter first", keyspace, maxKeyspaceName)
		}
		return &coordinator.Error{Code: coordinator.CodeKeyspaceUnknown, Detail: fmt.Sprintf("there is no keyspace %q", keyspace)}
	}
	c.keyspace = string(name)
	if strings.HasSuffix(c.resource.pattern, "/{key}") {
		c.key, err = parseKey(key, c.s.o.Limits.MaxKeyBytes)
	}
	return err
}

// hold takes a place among the requests at work.
func (c *call) hold() error {
	if c.endpoint.open {
		return nil
	}
	if err := c.gate().Enter(c.context); err != nil {
		return overloaded()
	}
	c.isHeld = true
	return nil
}

func (c *call) gate() *admission.Gate {
	if p := c.resource.pattern; p == "/v1/kv/{keyspace}" || p == "/v1/conflicts/{keyspace}" {
		return c.s.heavy
	}
	return c.s.gate
}

// take takes memory for the body.
func (c *call) take(bytes int) bool {
	ok := c.s.bodies.Take(int64(bytes))
	if ok {
		c.taken += int64(bytes)
	}
	return ok
}

func (c *call) release() {
	if c.isHeld {
		c.gate().Leave()
	}
	c.s.bodies.Give(c.taken)
}

func overloaded() error {
	return &coordinator.Error{Code: coordinator.CodeOverloaded, Detail: "the node has as many requests as it may", Retryable: true}
}

// refuseHeaders sets what goes with some codes.
func (c *call) refuseHeaders(code coordinator.Code) {
	h := &c.ctx.Response.Header
	switch code {
	case coordinator.CodeUnauthorized:
		h.SetCanonical([]byte("WWW-Authenticate"), []byte(`Bearer realm="dynamo"`))
	case coordinator.CodeMethodNotAllowed:
		h.Set("Allow", c.resource.allow())
	}
}

// stamp sets what every answer bears.
func (s *Server) stamp(r *fasthttp.Response, id string) {
	r.Header.Set(headerNode, s.o.Node)
	r.Header.Set(headerRequestID, id)
}

// requestID is the client's if it is 1 to 128 printable ASCII characters, else a new one.
func (s *Server) requestID(own string) string {
	if own != "" && len(own) <= maxRequestIDBytes && httptext.IsPrintable(own) {
		return own
	}
	var b [12]byte
	s.randomBytes(b[:])
	return hex.EncodeToString(b[:])
}

// account logs and counts an answer.
func (s *Server) account(c *call, start time.Time, err error) {
	status, d := c.ctx.Response.StatusCode(), s.o.Now().Sub(start)
	route, method := "none", string(c.header.Method())
	if c.resource != nil {
		route = c.resource.pattern
	}
	s.metrics.observe(route, method, status, d, len(c.body), len(c.ctx.Response.Body()))
	level := slog.LevelDebug
	switch {
	case c.endpoint != nil && c.endpoint.open:
		// A node that is not ready says so to every probe.
	case status == fasthttp.StatusInternalServerError:
		level = slog.LevelError
	case status > fasthttp.StatusInternalServerError:
		// The world's fault: replicas that cannot be reached, too much load, a full disk.
		level = slog.LevelWarn
	case c.endpoint != nil && c.endpoint.isChange:
		level = slog.LevelInfo
	}
	if !s.log.Enabled(s.base, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", c.id), slog.String("method", method), slog.String("route", route),
		slog.Int("status", status), slog.Duration("duration", d), slog.String("client", c.ctx.RemoteAddr().String()),
	}
	if c.keyspace != "" {
		attrs = append(attrs, slog.String("keyspace", c.keyspace))
	}
	if c.grant != nil {
		attrs = append(attrs, slog.String("token", c.grant.name))
	}
	if err != nil {
		f := failure(err, false)
		attrs = append(attrs, slog.String("error", f.Error()))
	}
	s.log.LogAttrs(s.base, level, "request", attrs...)
}

// unreadable answers what fasthttp could not parse, or waited for in vain.
func (s *Server) unreadable(ctx *fasthttp.RequestCtx, err error) {
	e := &statusError{fasthttp.StatusBadRequest, coordinator.Error{Code: coordinator.CodeBadRequest, Detail: "the request is not HTTP/1.1 as this server reads it"}}
	switch {
	case isTimeout(err):
		e = timedOut(s.o.Limits.ClientTimeout)
	case isSmallBuffer(err):
		e.status, e.cause.Code = fasthttp.StatusRequestHeaderFieldsTooLarge, coordinator.CodeTooLarge
		e.cause.Detail = fmt.Sprintf("request line and headers exceed %d bytes", s.o.Limits.MaxHeaderBytes)
	case errors.Is(err, io.ErrUnexpectedEOF):
		e.cause.Detail = "the request ends before its length"
	case errors.Is(err, fasthttp.ErrDuplicateContentLength):
		e.cause.Detail = "Content-Length is given twice"
	case errors.Is(err, fasthttp.ErrUnsupportedTransferEncoding):
		e.cause.Detail = "the one known Transfer-Encoding is chunked, in HTTP/1.1"
	case strings.Contains(err.Error(), "content-length"):
		e.cause.Detail = "Content-Length is not a number of bytes"
	}
	s.log.Debug("unreadable request", "client", ctx.RemoteAddr(), "err", err)
	id := s.requestID("")
	ctx.Response.Reset()
	s.describe(e, id, false).write(&ctx.Response)
	s.stamp(&ctx.Response, id)
	s.metrics.observe("none", "other", e.status, 0, 0, len(ctx.Response.Body()))
	lingerOn(ctx.Conn())
}

func isSmallBuffer(err error) bool {
	_, ok := errors.AsType[*fasthttp.ErrSmallBuffer](err)
	return ok
}

func isTimeout(err error) bool {
	if ne, ok := errors.AsType[net.Error](err); ok {
		return ne.Timeout()
	}
	// fasthttp's error of a broken chunk does not unwrap.
	return err != nil && strings.HasSuffix(err.Error(), "i/o timeout")
}

func timedOut(after time.Duration) *statusError {
	return &statusError{fasthttp.StatusRequestTimeout, coordinator.Error{
		Code: coordinator.CodeBadRequest, Detail: fmt.Sprintf("the request did not arrive within %s", after), Retryable: true,
	}}
}

// refusal is the answer to a connection beyond the limit; nothing of it was read.
func (s *Server) refusal() []byte {
	id := s.requestID("")
	p := s.describe(&coordinator.Error{Code: coordinator.CodeOverloaded, Detail: "the node has as many connections as it may", Retryable: true}, id, false)
	body := p.bytes()
	return fmt.Appendf(nil, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n"+
		"Retry-After: %s\r\n%s: %s\r\n%s: %s\r\nConnection: close\r\n\r\n%s",
		len(body), retryAfterSeconds, headerNode, s.o.Node, headerRequestID, id, body)
}
