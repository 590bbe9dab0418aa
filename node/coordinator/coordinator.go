package coordinator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"dynamo/node/causal"
	"dynamo/node/cluster"
	"dynamo/node/config"
	"dynamo/node/conflict"
	"dynamo/node/peer"
	"dynamo/node/replica"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// Transport reaches the replicas; a call to this node itself is served in place.
type Transport interface {
	Call(ctx context.Context, node string, m wire.Message) (wire.Message, error)
}

// Local is this node's own replica.
type Local interface {
	Read(t wire.Target, hints bool) (causal.Object, error)
	Unsure() bool
	Write(ctx context.Context, w replica.Write) (replica.Written, error)
	Apply(ctx context.Context, t wire.Target, o causal.Object, hintFor string, d store.Durability) error
}

// Members says who belongs to the cluster and who can be reached now.
type Members interface {
	View() *cluster.View
	Reachable(id string) bool
	Observe(id string, err error)
}

// Settings wire a Coordinator. All fields are required.
type Settings struct {
	Self      string
	Members   Members
	Transport Transport
	Local     Local
	Settler   *conflict.Settler
	// Flights counts the objects that requests have in hand.
	Flights *replica.Flights
	Tokens  causal.TokenKey
	Limits  config.Limits
	// Stale is told of a replica that a read saw behind; it must not block.
	Stale func(node string, t wire.Target, o causal.Object)
	// Foreground is told how long clients' requests took; it must not block.
	Foreground func(d time.Duration)
	Now        func() time.Time
	Logger     *slog.Logger
}

// Coordinator is safe for concurrent use. Close waits for what its requests left running.
type Coordinator struct {
	s Settings
	// background is the life of work that outlives its request: replication and read repair after the
	// answer. Every piece of it has the request's deadline.
	background context.Context
	stop       context.CancelFunc
	claims     claims
	arrivals   arrivals
	// mu guards the group: once closing, no request begins; once closed, nothing is added, so that Wait cannot
	// race with Add.
	mu struct {
		sync.Mutex
		closing, closed bool
		group           sync.WaitGroup
	}
}

// New returns a Coordinator; Close it.
func New(s Settings) *Coordinator {
	c := &Coordinator{s: s}
	c.claims.init(s.Now())
	c.arrivals.init()
	c.background, c.stop = context.WithCancel(context.Background())
	return c
}

// drainTimeout is how long Close lets requests under way come to their end.
const drainTimeout = 3 * time.Second

// Close lets no request begin, gives those under way a while to end - whoever forwarded one of them could
// not tell whether it was carried out - and then stops what is left and waits for it.
func (c *Coordinator) Close() {
	c.mu.Lock()
	c.mu.closing = true
	c.mu.Unlock()
	drained := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Go(func() {
		c.mu.group.Wait()
		close(drained)
	})
	patience := time.NewTimer(drainTimeout)
	defer patience.Stop()
	select {
	case <-drained:
	case <-patience.C:
	}
	c.mu.Lock()
	c.mu.closed = true
	c.mu.Unlock()
	c.stop()
	waiting.Wait()
	c.mu.group.Wait()
}

// begin counts a request in, so that Close waits for its end; false after Close.
func (c *Coordinator) begin() (end func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closing {
		return nil, false
	}
	c.mu.group.Add(1)
	flight := c.s.Flights.Begin()
	return func() {
		c.s.Flights.End(flight)
		c.mu.group.Done()
	}, true
}

func stopping() *Error {
	return &Error{Code: CodeNotReady, Detail: "the node is stopping", Retryable: true}
}

func (c *Coordinator) observeForeground(began time.Time) { c.s.Foreground(c.s.Now().Sub(began)) }

// spawn runs f in the coordinator's group; it reports false after Close.
func (c *Coordinator) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return false
	}
	c.mu.group.Go(f)
	return true
}

// detach returns a context with ctx's deadline that survives the request.
func (c *Coordinator) detach(ctx context.Context) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(c.background, deadline)
	}
	return context.WithTimeout(c.background, c.s.Limits.RequestTimeout)
}

// plan is one request's view of the world, taken once: whatever changes meanwhile, the request goes on
// with what it began with.
type plan struct {
	view     *cluster.View
	keyspace cluster.Keyspace
	target   wire.Target
	// list is the preference list: the first N are the primaries.
	list []string
	r, w int
	// sloppy lets fallbacks stand in for primaries that cannot be reached.
	sloppy bool
	policy conflict.Policy
}

func (p plan) primaries() []string { return p.list[:min(p.keyspace.N, len(p.list))] }
func (p plan) fallbacks() []string { return p.list[min(p.keyspace.N, len(p.list)):] }

func (p plan) durability() store.Durability {
	if p.keyspace.Durability == config.DurabilityBuffered {
		return store.Buffered
	}
	return store.Sync
}

// plan resolves names and quorums of a request.
func (c *Coordinator) plan(keyspace string, key []byte, o Options) (plan, error) {
	v := c.s.Members.View()
	ks, ok := v.Keyspace(keyspace)
	if !ok {
		return plan{}, UnknownKeyspace(keyspace)
	}
	if n := len(key); n == 0 || n > c.s.Limits.MaxKeyBytes {
		return plan{}, &Error{Code: CodeBadKey, Detail: fmt.Sprintf("a key has 1 to %d bytes, not %d", c.s.Limits.MaxKeyBytes, n)}
	}
	p := plan{
		view: v, keyspace: ks, sloppy: !o.PrimariesOnly,
		target: wire.Target{Keyspace: ks.Name, KeyspaceID: ks.ID(), Key: key},
		policy: replica.PolicyOf(v, ks),
	}
	p.list = v.Ring.PreferenceList(replica.Ref(v, p.target, "").Partition)
	var err error
	if p.r, err = quorum("r", o.R, ks.R, ks.N); err != nil {
		return plan{}, err
	}
	if p.w, err = quorum("w", o.W, ks.W, ks.N); err != nil {
		return plan{}, err
	}
	return p, nil
}

// UnknownKeyspace is the answer to a name that no keyspace has.
func UnknownKeyspace(name string) error {
	return &Error{Code: CodeKeyspaceUnknown, Detail: fmt.Sprintf("there is no keyspace %q", name)}
}

// quorum resolves a client's R or W against the keyspace's default and N.
func quorum(name string, q Quorum, def, n int) (int, error) {
	switch {
	case q == QuorumDefault:
		return def, nil
	case q == QuorumMajority:
		return n/2 + 1, nil
	case q == QuorumAll:
		return n, nil
	case q < 0 || int(q) > n:
		return 0, &Error{Code: CodeBadRequest, Detail: fmt.Sprintf("%s=%d is not within 1 and N=%d", name, q, n)}
	}
	return int(q), nil
}

// seen opens the client's token.
func (c *Coordinator) seen(token string, t wire.Target) (causal.Basis, error) {
	if token == "" {
		return causal.Basis{}, nil
	}
	b, err := c.s.Tokens.Open(token, t.Keyspace, t.Key, c.s.Now(), c.s.Limits.ContextLifetime)
	if err != nil {
		return causal.Basis{}, &Error{Code: CodeBadContext, Detail: err.Error(), Err: err}
	}
	return b, nil
}

func (c *Coordinator) seal(t wire.Target, b causal.Basis) string {
	if b.IsZero() {
		return ""
	}
	return c.s.Tokens.Seal(t.Keyspace, t.Key, b, c.s.Now())
}

// AsError maps what a replica or another coordinator answered to what the client is told.
func AsError(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if pe, ok := errors.AsType[*peer.Error](err); ok {
		return &Error{Code: Code(pe.Code), Detail: pe.Detail, Retryable: pe.Retryable, MaybeStored: pe.MaybeStored, Err: err}
	}
	switch {
	case errors.Is(err, replica.ErrTooManySiblings):
		return &Error{Code: CodeTooManySiblings, Err: err, Detail: "the key holds too many siblings; read it and write with the context of that read"}
	case errors.Is(err, replica.ErrDropped):
		return &Error{Code: CodeKeyspaceUnknown, Detail: "the keyspace was dropped", Err: err}
	case errors.Is(err, store.ErrHintsFull):
		return &Error{Code: CodeOverloaded, Detail: "this node has no more room for hints; try another one", Retryable: true, Err: err}
	case errors.Is(err, store.ErrStalled):
		return &Error{Code: CodeNotReady, Detail: "the disk of this node does not sync", Retryable: true, Err: err}
	case errors.Is(err, store.ErrDiskFull):
		return &Error{Code: CodeDiskFull, Detail: err.Error(), Retryable: true, Err: err}
	case errors.Is(err, store.ErrFailed):
		// A sync that failed may have left the write on the disk all the same, and it is read again after the next boot.
		return &Error{Code: CodeNotReady, Detail: "the disk of this node failed; the node stops", Retryable: true, MaybeStored: true, Err: err}
	case errors.Is(err, store.ErrClosed):
		return &Error{Code: CodeNotReady, Detail: "the node is stopping", Retryable: true, Err: err}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &Error{Code: CodeQuorumUnmet, Detail: "the deadline passed", Retryable: true, MaybeStored: true, Err: err}
	}
	return &Error{Code: CodeInternal, Detail: "internal error", Err: err}
}
