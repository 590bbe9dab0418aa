package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"dynamo/node/admission"
	"dynamo/node/config"
	"dynamo/node/coordinator"
)

// KV reads and writes values. Errors that are no *coordinator.Error are answered with 500, but for those
// of the context.
type KV interface {
	Get(ctx context.Context, r coordinator.ReadRequest) (coordinator.Answer, error)
	// Write puts or deletes.
	Write(ctx context.Context, r coordinator.WriteRequest) (coordinator.Answer, error)
	List(ctx context.Context, r coordinator.ListRequest) (coordinator.ListPage, error)
	Explain(ctx context.Context, keyspace string, key []byte) (coordinator.Explanation, error)
	Conflicts(ctx context.Context, r coordinator.ConflictRequest) (coordinator.ConflictPage, error)
}

// Keyspaces administers keyspaces.
type Keyspaces interface {
	Keyspaces() []coordinator.KeyspaceInfo
	Keyspace(name string) (coordinator.KeyspaceInfo, error)
	PutKeyspace(ctx context.Context, name string, c coordinator.KeyspaceChange) (info coordinator.KeyspaceInfo, created bool, err error)
	DropKeyspace(ctx context.Context, name string) error
}

// Resolvers administers the resolver modules of keyspaces.
type Resolvers interface {
	Upload(ctx context.Context, keyspace string, u coordinator.Upload) (coordinator.ResolverUpload, error)
	Status(keyspace string) (coordinator.ResolverStatus, error)
	Module(ctx context.Context, keyspace string) ([]byte, error)
	Rollback(ctx context.Context, keyspace string, version int) (coordinator.ResolverVersion, error)
	Remove(ctx context.Context, keyspace string) error
	Release(ctx context.Context, keyspace string) (coordinator.ResolverRelease, error)
	Shadow(ctx context.Context, keyspace, candidate string) (coordinator.ShadowStart, error)
	ShadowStatus(ctx context.Context, keyspace string) (coordinator.ShadowStatus, error)
	StopShadow(ctx context.Context, keyspace string) error
	Promote(ctx context.Context, keyspace, candidate, check string) (coordinator.ResolverUpload, error)
	Try(ctx context.Context, keyspace, candidate string, r coordinator.TryRequest) (coordinator.TryResult, error)
}

// Cluster shows members and ring as this node sees them.
type Cluster interface {
	Info() coordinator.ClusterInfo
	Ring() coordinator.RingInfo
	Locate(keyspace string, key []byte) (coordinator.Location, error)
}

// Faults is for tests: it injects network faults and shows what a node holds.
type Faults interface {
	// Cut lets nothing go to or come from nodes until Cut(nil).
	Cut(nodes []string) error
	// Partitions returns what this node holds of the partitions that it is a primary of.
	Partitions() []coordinator.PartitionCopy
}

// queueTime is how long a request waits for its turn at most: a client that is told early can ask another
// node.
const queueTime = 500 * time.Millisecond

// abortTime is how long Close waits for requests that were cut off.
const abortTime = 5 * time.Second

// Options of a Server. All but Faults, Tokens, Metrics and Registerer are required.
type Options struct {
	// Node is this node's id, told to clients in X-Dynamo-Node.
	Node string
	// Listener is closed by Close, but not if Serve fails.
	Listener  net.Listener
	KV        KV
	Keyspaces Keyspaces
	Resolvers Resolvers
	Cluster   Cluster
	// Faults is nil unless the node was started with fault injection.
	Faults Faults
	Limits config.Limits
	// Tokens authenticate clients; none = every client may do everything.
	Tokens []config.Token
	// Ready says why the node cannot coordinate yet, nil if it can.
	Ready func() error
	// Metrics is shown at /metrics, Registerer takes the server's own. Without them it shows its own only.
	Metrics    prometheus.Gatherer
	Registerer prometheus.Registerer
	// Now is the wall clock, for logs and latencies; deadlines run on the runtime's timers.
	Now func() time.Time
	// Rand yields request ids and multipart boundaries. It is read by one goroutine at a time.
	Rand   io.Reader
	Logger *slog.Logger
}

// Server serves the HTTP API of one node until it is closed.
type Server struct {
	o       Options
	log     *slog.Logger
	http    *fasthttp.Server
	door    *door
	guard   guard
	routes  []resource
	metrics *metrics
	// gate bounds the requests at work and waiting, bodies the bytes of theirs.
	// Batches and listings have a gate of their own, for each is the work of many.
	gate, heavy *admission.Gate
	bodies      *admission.Budget
	// base is the parent of all requests' contexts.
	base context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
	err  chan error

	random struct {
		sync.Mutex
		source io.Reader
		// serial stands in when the source fails.
		serial atomic.Uint64
	}
}

// Serve starts a server on o.Listener and returns at once. Close it.
func Serve(o Options) (*Server, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Registerer == nil {
		reg := prometheus.NewRegistry()
		o.Registerer = reg
		if o.Metrics == nil {
			o.Metrics = reg
		}
	}
	s := &Server{
		o: o, log: o.Logger, guard: newGuard(o.Tokens), err: make(chan error, 1),
		gate: newGate(o.Limits, 1), heavy: newGate(o.Limits, batchLanes),
		bodies: admission.NewBudget(o.Limits.MaxInflightBytes),
	}
	s.random.source = o.Rand
	s.base, s.stop = context.WithCancel(context.Background())
	s.routes = s.table()
	s.door = newDoor(o.Listener, o.Limits.MaxConnections, s.refusal, func() { s.metrics.refused.Inc() }, o.Logger)
	var err error
	if s.metrics, err = newMetrics(o.Registerer, s); err != nil {
		s.stop()
		return nil, err
	}
	s.http = s.newHTTP()
	s.wg.Go(func() { s.err <- s.http.Serve(s.door) })
	return s, nil
}

func (o Options) check() error {
	switch {
	case o.Node == "" || o.Listener == nil || o.Logger == nil:
		return errors.New("api: Node, Listener and Logger are required")
	case o.KV == nil || o.Keyspaces == nil || o.Resolvers == nil || o.Cluster == nil:
		return errors.New("api: KV, Keyspaces, Resolvers and Cluster are required")
	case o.Ready == nil || o.Now == nil || o.Rand == nil:
		return errors.New("api: Ready, Now and Rand are required")
	}
	if err := o.Limits.Check(); err != nil {
		return fmt.Errorf("api: limits: %w", err)
	}
	return nil
}

// newGate is for requests that are each the work of so many.
func newGate(l config.Limits, each int) *admission.Gate {
	return admission.New(admission.Options{Work: l.MaxInflightRequests / each, Queue: l.MaxQueuedRequests / each, Patience: queueTime})
}

// newHTTP sets fasthttp up. Whatever it would do to a path, a body or a header on its own is off.
func (s *Server) newHTTP() *fasthttp.Server {
	l := s.o.Limits
	return &fasthttp.Server{
		Handler: s.serve, HeaderReceived: s.headerReceived, ErrorHandler: s.unreadable, ConnState: connState,
		Logger: logger{s.log}, SecureErrorLogMessage: true,
		NoDefaultServerHeader: true, NoDefaultContentType: true,
		StreamRequestBody: true, DisablePreParseMultipartForm: true,
		ReadBufferSize: l.MaxHeaderBytes,
		ReadTimeout:    l.ClientTimeout, WriteTimeout: l.ClientTimeout,
		// Longer than what clients use, so that it is the client that ends an idle connection.
		IdleTimeout: 2 * l.ClientTimeout,
		// The door counts connections; a worker may still be winding up one that it has counted out.
		Concurrency:     2*l.MaxConnections + maxRefusing,
		CloseOnShutdown: true,
	}
}

// Close stops accepting, lets requests that are at work finish while ctx lasts, then cuts them off and
// waits for them. It may be called more than once.
func (s *Server) Close(ctx context.Context) error {
	errs := []error{s.door.shut()}
	if err := s.http.ShutdownWithContext(ctx); err != nil {
		errs = append(errs, fmt.Errorf("api: requests were cut off: %w", err))
	}
	select {
	case <-s.door.mu.empty:
	case <-ctx.Done():
		s.stop()
		s.door.abort()
		t := time.NewTimer(abortTime)
		defer t.Stop()
		select {
		case <-s.door.mu.empty:
		case <-t.C:
			errs = append(errs, fmt.Errorf("api: %d requests do not end", s.door.count()))
		}
	}
	s.stop()
	s.wg.Wait()
	s.door.wg.Wait()
	select {
	case err := <-s.err:
		errs = append(errs, err)
	default:
	}
	s.metrics.unregister()
	return errors.Join(errs...)
}

// randomBytes fills b from the random source, or numbers it.
func (s *Server) randomBytes(b []byte) {
	s.random.Lock()
	defer s.random.Unlock()
	if _, err := io.ReadFull(s.random.source, b); err != nil {
		s.log.Error("random source failed", "err", err)
		n := s.random.serial.Add(1)
		for i := range b {
			b[i] = byte(n >> (8 * (i % 8)))
		}
	}
}
