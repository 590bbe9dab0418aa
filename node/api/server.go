// Package api is the HTTP door of a node: routes, roles, limits, problems and the forms of answers. It
// decides nothing about values; that is the coordinator's.
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
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"dynamo/node/config"
	"dynamo/node/coordinator"
)

// KV reads and writes keys.
type KV interface {
	Get(ctx context.Context, r coordinator.ReadRequest) (coordinator.Answer, error)
	Write(ctx context.Context, r coordinator.WriteRequest) (coordinator.Answer, error)
	List(ctx context.Context, r coordinator.ListRequest) (coordinator.ListPage, error)
	Explain(ctx context.Context, keyspace string, key []byte) (coordinator.Explanation, error)
}

// Keyspaces administers keyspaces.
type Keyspaces interface {
	Keyspaces() []coordinator.KeyspaceInfo
	Keyspace(name string) (coordinator.KeyspaceInfo, error)
	PutKeyspace(ctx context.Context, name string, c coordinator.KeyspaceChange) (coordinator.KeyspaceInfo, bool, error)
	DropKeyspace(ctx context.Context, name string) error
}

// Resolvers administers resolvers.
type Resolvers interface {
	Upload(ctx context.Context, keyspace string, module []byte, check string) (coordinator.ResolverUpload, error)
	UploadBuiltin(ctx context.Context, keyspace, name, check string) (coordinator.ResolverUpload, error)
	Status(keyspace string) (coordinator.ResolverStatus, error)
	Module(ctx context.Context, keyspace string) ([]byte, error)
	Rollback(ctx context.Context, keyspace string, version int) (coordinator.ResolverVersion, error)
	Remove(ctx context.Context, keyspace string) error
	Try(ctx context.Context, keyspace, candidate string, r coordinator.TryRequest) (coordinator.TryResult, error)
}

// Cluster shows the cluster.
type Cluster interface {
	Info() coordinator.ClusterInfo
	Ring() coordinator.RingInfo
	Locate(keyspace string, key []byte) (coordinator.Location, error)
}

// Faults is fault injection.
type Faults interface {
	Cut(nodes []string) error
}

// Options configure a Server. All fields but Tokens and Faults are required.
type Options struct {
	// Node is the id in X-Dynamo-Node.
	Node      string
	Listener  net.Listener
	KV        KV
	Keyspaces Keyspaces
	Resolvers Resolvers
	Cluster   Cluster
	// Faults opens PUT /v1/debug/cut.
	Faults Faults
	Limits config.Limits
	// Tokens are who may call; none: everybody may do everything.
	Tokens []config.Token
	// Ready is nil once the node can coordinate.
	Ready func() error
	// Metrics is what /metrics shows, Registerer where the server puts its own.
	Metrics    prometheus.Gatherer
	Registerer prometheus.Registerer
	Now        func() time.Time
	// Rand yields request ids.
	Rand   io.Reader
	Logger *slog.Logger
}

// Server serves until Close.
type Server struct {
	o       Options
	http    *fasthttp.Server
	routes  []route
	metrics *metrics
	// inflight has a place for every request that may run at once.
	inflight chan struct{}
	ctx      context.Context
	stop     context.CancelFunc
	wg       sync.WaitGroup
	// rand guards Options.Rand.
	rand sync.Mutex
}

// maxConnectionsPerIP is left to the operating system.
const concurrencyHeadroom = 64

// Serve starts a server on the listener, which it closes in the end.
func Serve(o Options) (*Server, error) {
	s := &Server{o: o, inflight: make(chan struct{}, o.Limits.MaxInflightRequests)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.routes = s.table()
	var err error
	if s.metrics, err = newMetrics(o.Registerer); err != nil {
		return nil, err
	}
	s.http = &fasthttp.Server{
		Handler: s.handle, ErrorHandler: s.badFrame, ExpectHandler: s.expect,
		Name: "dynamo", Concurrency: o.Limits.MaxConnections + concurrencyHeadroom,
		ReadBufferSize: o.Limits.MaxHeaderBytes, ReadTimeout: o.Limits.ClientTimeout, WriteTimeout: o.Limits.ClientTimeout,
		IdleTimeout:        4 * o.Limits.ClientTimeout,
		MaxRequestBodySize: 64 << 10, StreamRequestBody: true, DisablePreParseMultipartForm: true,
		NoDefaultContentType: true, NoDefaultServerHeader: true, DisableHeaderNamesNormalizing: false,
		CloseOnShutdown: true, Logger: quiet{o.Logger},
	}
	l := &limitListener{Listener: o.Listener, server: s, free: make(chan struct{}, o.Limits.MaxConnections)}
	s.wg.Go(func() {
		if err := s.http.Serve(l); err != nil && s.ctx.Err() == nil {
			o.Logger.Error("http server stopped", "err", err)
		}
	})
	return s, nil
}

// Close lets running requests end within ctx and closes what is left.
func (s *Server) Close(ctx context.Context) error {
	s.stop()
	err := s.http.ShutdownWithContext(ctx)
	s.wg.Wait()
	return err
}

// quiet sends the library's complaints about clients to the debug log.
type quiet struct{ log *slog.Logger }

// Printf implements fasthttp.Logger.
func (q quiet) Printf(format string, args ...any) {
	q.log.Debug("http: " + strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// request is one call on its way through the server.
type request struct {
	*fasthttp.RequestCtx
	s      *Server
	id     string
	route  *route
	target target
	params *params
	who    config.Token
}

// handle is the way of every request: id, route, role, limits, call, answer.
func (s *Server) handle(fc *fasthttp.RequestCtx) {
	start := s.o.Now()
	r := &request{RequestCtx: fc, s: s, id: s.requestID(fc)}
	defer func() {
		if p := recover(); p != nil {
			s.o.Logger.Error("panic in a request", "request", r.id, "panic", p, "stack", string(debug.Stack()))
			r.fail(&coordinator.Error{Code: coordinator.CodeInternal, Detail: "internal error"})
		}
		r.finish(start)
	}()
	if err := r.serve(); err != nil {
		r.fail(err)
	}
}

func (r *request) serve() error {
	h := &r.Request.Header
	if h.ContentLength() == -1 && len(h.Peek("Content-Length")) > 0 {
		return badRequest("Content-Length together with Transfer-Encoding")
	}
	var err error
	if r.target, err = parseTarget(h.RequestURI()); err != nil {
		code := coordinator.CodeBadRequest
		if errors.Is(err, errEscape) {
			code = coordinator.CodeBadKey
		}
		return &coordinator.Error{Code: code, Detail: err.Error()}
	}
	if r.route, err = r.find(); err != nil {
		return err
	}
	if err := r.authorise(); err != nil {
		return err
	}
	r.params = parseParams(r.target.query)
	if !r.route.open {
		select {
		case r.s.inflight <- struct{}{}:
			defer func() { <-r.s.inflight }()
		default:
			return &coordinator.Error{Code: coordinator.CodeOverloaded, Detail: "too many requests are running on this node", Retryable: true}
		}
	}
	ctx, cancel := r.deadline()
	defer cancel()
	return r.route.serve(ctx, r)
}

// deadline reads the timeout every call may have.
func (r *request) deadline() (context.Context, context.CancelFunc) {
	l := r.s.o.Limits
	def := l.RequestTimeout
	if r.route.slow {
		def = l.MaxTimeout
	}
	return context.WithTimeout(r.s.ctx, r.params.duration("timeout", def, l.MaxTimeout))
}

func (s *Server) requestID(fc *fasthttp.RequestCtx) string {
	if id := fc.Request.Header.Peek("X-Request-Id"); isToken(id) {
		return string(id)
	}
	var b [8]byte
	s.rand.Lock()
	_, err := io.ReadFull(s.o.Rand, b[:])
	s.rand.Unlock()
	if err != nil {
		s.o.Logger.Error("random source failed", "err", err)
	}
	return hex.EncodeToString(b[:])
}

// finish sets what every answer bears, and counts and logs the request.
func (r *request) finish(start time.Time) {
	h := &r.Response.Header
	h.Set("X-Dynamo-Node", r.s.o.Node)
	h.Set("X-Request-Id", r.id)
	if r.bodyLeft() {
		r.SetConnectionClose()
	}
	route := "none"
	if r.route != nil {
		route = r.route.name
	}
	took := r.s.o.Now().Sub(start)
	status := r.Response.StatusCode()
	r.s.metrics.observe(route, string(r.Method()), status, took, len(r.Response.Body()))
	level := slog.LevelDebug
	if r.route != nil && r.route.role == config.RoleAdmin && status < 400 && !r.IsGet() {
		level = slog.LevelInfo
	}
	r.s.o.Logger.Log(r.s.ctx, level, "request", "request", r.id, "method", string(r.Method()), "route", route, "status", status, "took", took)
}

// bodyLeft reports whether the client is still sending what nobody read.
func (r *request) bodyLeft() bool {
	b := r.RequestBodyStream()
	if b == nil {
		return false
	}
	var one [1]byte
	if r.Request.Header.ContentLength() >= 0 && r.Response.StatusCode() < 400 {
		return false
	}
	if r.Response.StatusCode() < 400 {
		n, _ := b.Read(one[:])
		return n > 0
	}
	return r.Request.Header.ContentLength() != 0
}

// expect refuses a body that is too large before the client sends it.
func (s *Server) expect(fc *fasthttp.RequestCtx) int {
	r := &request{RequestCtx: fc, s: s}
	var err error
	if r.target, err = parseTarget(fc.Request.Header.RequestURI()); err != nil {
		return fasthttp.StatusContinue
	}
	if r.route, err = r.find(); err != nil {
		return fasthttp.StatusContinue
	}
	if n := fc.Request.Header.ContentLength(); n > r.bodyLimit() {
		return fasthttp.StatusRequestEntityTooLarge
	}
	return fasthttp.StatusContinue
}

// badFrame answers what is no HTTP request.
func (s *Server) badFrame(fc *fasthttp.RequestCtx, err error) {
	r := &request{RequestCtx: fc, s: s, id: s.requestID(fc)}
	status, detail := fasthttp.StatusBadRequest, "the request is not well-formed HTTP"
	var small *fasthttp.ErrSmallBuffer
	var netErr net.Error
	switch {
	case errors.As(err, &small):
		status, detail = fasthttp.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("the request's header is larger than %d bytes", s.o.Limits.MaxHeaderBytes)
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		status, detail = fasthttp.StatusRequestEntityTooLarge, "the body is too large"
	case errors.As(err, &netErr) && netErr.Timeout():
		status, detail = fasthttp.StatusRequestTimeout, "the request did not arrive in time"
	}
	code := coordinator.CodeBadRequest
	if status == fasthttp.StatusRequestEntityTooLarge {
		code = coordinator.CodeTooLarge
	}
	r.problem(status, &coordinator.Error{Code: code, Detail: detail})
	r.Response.Header.Set("X-Dynamo-Node", s.o.Node)
	r.Response.Header.Set("X-Request-Id", r.id)
	r.SetConnectionClose()
}

// limitListener turns connections away beyond the limit, with an answer that says so.
type limitListener struct {
	net.Listener
	server *Server
	free   chan struct{}
}

// Accept implements net.Listener.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.free <- struct{}{}:
			return &limitedConn{Conn: c, release: sync.OnceFunc(func() { <-l.free })}, nil
		default:
			l.refuse(c)
		}
	}
}

const refusalTimeout = time.Second

func (l *limitListener) refuse(c net.Conn) {
	body := `{"type":"about:blank","status":503,"title":"Service Unavailable","detail":"too many connections","code":"overloaded","retryable":true}`
	l.server.wg.Go(func() {
		defer c.Close() //nolint:errcheck // the connection is being refused
		if err := c.SetDeadline(l.server.o.Now().Add(refusalTimeout)); err != nil {
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"+
			"X-Dynamo-Node: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", l.server.o.Node, len(body), body)
	})
}

type limitedConn struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	c.release()
	return c.Conn.Close()
}
