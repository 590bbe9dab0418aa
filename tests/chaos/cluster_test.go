package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dynamo/client"
)

// The keyspaces: sets are united by a resolver, plain shows siblings, in newest the last write wins.
const (
	sets   = "sets"
	plain  = "plain"
	newest = "default"
)

const (
	replication = 3
	partitions  = 64
	// readyWithin bounds the start of a node, whatever happens around it.
	readyWithin = 30 * time.Second
)

// server is one node's process. Its fields are written by one goroutine at a time, that of the nemesis.
type server struct {
	id, http, peer, gossip string
	client                 *client.Client

	cmd    *exec.Cmd
	paused bool
	ended  chan struct{} // closed when the process is gone
	// expected is closed before somebody ends the process.
	expected chan struct{}
}

func (s *server) running() bool { return s.cmd != nil }

// cluster is five real processes of the real binary.
type cluster struct {
	t           testing.TB
	dir, binary string
	servers     []*server
	network     network
	waiters     sync.WaitGroup

	mu struct {
		sync.Mutex
		// deaths are nodes that ended by themselves.
		deaths  []string
		slowest time.Duration // of all starts until ready
	}
}

// buildBinary compiles dynamo once for a test.
func buildBinary(t testing.TB, dir string) string {
	t.Helper()
	if *binaryFlag != "" {
		return *binaryFlag
	}
	binary := filepath.Join(dir, "dynamo")
	args := []string{"build", "-o", binary}
	if *raceFlag {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "dynamo/cmd/dynamo")...).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

func newCluster(t testing.TB, binary, dir string, n int) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: dir, binary: binary}
	c.network = newNetwork(t, c, n)
	module := filepath.Join(dir, "union.wasm")
	if err := os.WriteFile(module, unionModule(), 0o600); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "cluster: chaos-%d\npartitions: %d\ninsecure: true\nreplication: {n: %d, r: 2, w: 2}\nnodes:\n", os.Getpid(), partitions, replication)
	for i, a := range c.network.addresses() {
		s := &server{id: fmt.Sprintf("n%d", i+1), http: a[0], peer: a[1], gossip: a[2]}
		var err error
		if s.client, err = client.New(client.Options{Endpoints: []string{"http://" + s.http}}); err != nil {
			t.Fatal(err)
		}
		c.servers = append(c.servers, s)
		fmt.Fprintf(&b, "  - {id: %s, zone: z%d, http: '%s', peer: '%s', gossip: '%s', data: %s}\n", s.id, i, s.http, s.peer, s.gossip, c.data(s))
	}
	fmt.Fprintf(&b, "keyspaces:\n  - {name: %s, conflict: resolver, resolver: '%s'}\n  - {name: %s, conflict: siblings}\n", sets, module, plain)
	if err := os.WriteFile(c.file(), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cluster) file() string          { return filepath.Join(c.dir, "cluster.yaml") }
func (c *cluster) data(s *server) string { return filepath.Join(c.dir, "data-"+s.id) }
func (c *cluster) log(s *server) string  { return filepath.Join(c.dir, s.id+".log") }

func (c *cluster) server(id string) *server {
	return c.servers[slices.IndexFunc(c.servers, func(s *server) bool { return s.id == id })]
}

// launch starts a process and does not wait until it is ready.
func (c *cluster) launch(s *server) error {
	log, err := os.OpenFile(c.log(s), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the process has its own descriptor
	cmd := c.network.command(s, c.binary, "serve", "-f", c.file(), "--node", s.id, "--fault-injection")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd, s.paused = cmd, false
	s.ended, s.expected = make(chan struct{}), make(chan struct{})
	ended, expected := s.ended, s.expected
	c.waiters.Go(func() {
		err := cmd.Wait()
		select {
		case <-expected:
		default:
			c.mu.Lock()
			c.mu.deaths = append(c.mu.deaths, fmt.Sprintf("%s ended by itself: %v, see %s", s.id, err, c.log(s)))
			c.mu.Unlock()
		}
		close(ended)
	})
	return nil
}

// start starts a process and waits until it is ready.
func (c *cluster) start(ctx context.Context, s *server) error {
	began := time.Now()
	if err := c.launch(s); err != nil {
		return err
	}
	if err := await(ctx, readyWithin, s.answers); err != nil {
		return fmt.Errorf("%s does not answer: %w", s.id, err)
	}
	if err := c.network.restore(ctx, s); err != nil {
		return err
	}
	if err := await(ctx, readyWithin, s.ready); err != nil {
		return fmt.Errorf("%s is not ready: %w", s.id, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.slowest = max(c.mu.slowest, time.Since(began))
	return nil
}

func (s *server) answers(ctx context.Context) error {
	_, err := s.plain(ctx, "/healthz")
	return err
}

func (s *server) ready(ctx context.Context) error {
	_, err := s.plain(ctx, "/readyz")
	return err
}

// plain asks for a path outside the API proper.
func (s *server) plain(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := s.client.Do(ctx, client.Request{Method: http.MethodGet, Path: path})
	if err != nil {
		return "", err
	}
	return string(r.Body), nil
}

// end ends a process by a signal and waits for it.
func (c *cluster) end(s *server, signal syscall.Signal, within time.Duration) error {
	if s.cmd == nil {
		return nil
	}
	cmd := s.cmd
	s.cmd = nil
	close(s.expected)
	err := cmd.Process.Signal(signal)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-s.ended:
	case <-timer.C:
		_ = cmd.Process.Kill()
		<-s.ended
		return fmt.Errorf("%s did not end within %v of %v", s.id, within, signal)
	}
	if code := cmd.ProcessState.ExitCode(); signal == syscall.SIGTERM && code != 0 {
		return fmt.Errorf("%s ended with status %d after SIGTERM", s.id, code)
	}
	return nil
}

func (c *cluster) kill(s *server) error { return c.end(s, syscall.SIGKILL, 10*time.Second) }

func (c *cluster) pause(s *server) error {
	s.paused = true
	return s.cmd.Process.Signal(syscall.SIGSTOP)
}

func (c *cluster) resume(s *server) error {
	s.paused = false
	return s.cmd.Process.Signal(syscall.SIGCONT)
}

// startAll starts what is not running.
func (c *cluster) startAll(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, len(c.servers))
	for i, s := range c.servers {
		if !s.running() {
			wg.Go(func() { errs[i] = c.start(ctx, s) })
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (c *cluster) close() {
	for _, s := range c.servers {
		if err := c.kill(s); err != nil {
			c.t.Error(err)
		}
	}
	c.waiters.Wait()
	c.network.close()
}

// await polls until f succeeds.
func await(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err // rather than that the context ended
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not within %v: %w", limit, last)
		}
	}
}

// metrics adds up the samples of a metric, by server. Labels are given as they are written, or none.
func (s *server) metrics(ctx context.Context, name, label string) (float64, error) {
	body, err := s.plain(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for line := range strings.Lines(body) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' || !strings.Contains(rest, label) {
			continue
		}
		fields := strings.Fields(rest)
		v, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s: %w", line, err)
		}
		sum += v
	}
	return sum, nil
}

// drained says that nobody keeps hints.
func (c *cluster) drained(ctx context.Context) error {
	for _, s := range c.servers {
		n, err := s.metrics(ctx, "dynamo_hints", "")
		if err != nil {
			return fmt.Errorf("%s: %w", s.id, err)
		}
		if n > 0 {
			return fmt.Errorf("%s keeps %.0f hints", s.id, n)
		}
	}
	return nil
}

// explanation is what the tests need of GET /v1/explain.
type explanation struct {
	Replicas []struct {
		Node, Role string
		Reachable  bool
		Context    json.RawMessage
		Versions   []struct {
			Dots, Live json.RawMessage
			Time       time.Time
			Deleted    bool
			Size       int
			SHA256     string
		}
	}
	raw []byte
}

func (c *cluster) explain(ctx context.Context, keyspace, key string) (explanation, error) {
	var e explanation
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := c.servers[len(key)%len(c.servers)].client.Do(ctx, client.Request{Method: http.MethodGet, Path: client.Path("explain", keyspace, key)})
	if err != nil {
		return e, err
	}
	e.raw = r.Body
	return e, json.Unmarshal(r.Body, &e)
}

// equal says that all primaries hold the same versions under the same context.
func (e explanation) equal() error {
	var first string
	primaries := 0
	for _, r := range e.Replicas {
		if r.Role != "primary" {
			return fmt.Errorf("%s stands in as %s", r.Node, r.Role)
		}
		if !r.Reachable {
			return fmt.Errorf("%s is out of reach", r.Node)
		}
		b, err := json.Marshal([]any{r.Context, r.Versions})
		if err != nil {
			return err
		}
		primaries++
		if primaries == 1 {
			first = string(b)
		}
		if string(b) != first {
			return fmt.Errorf("%s holds %s, %s holds %s", e.Replicas[0].Node, first, r.Node, b)
		}
	}
	if primaries != replication {
		return fmt.Errorf("%d primaries answered", primaries)
	}
	return nil
}

func (e explanation) primaries() []string {
	var out []string
	for _, r := range e.Replicas {
		if r.Role == "primary" {
			out = append(out, r.Node)
		}
	}
	return out
}

// keyName is a key in its keyspace.
type keyName struct{ keyspace, key string }

// replicasEqual says that all copies of everything are byte-equal: by the sums that the nodes keep for each partition,
// or, of nodes without such sums, key by key.
func (c *cluster) replicasEqual(ctx context.Context, keys []keyName) error {
	err := c.sumsEqual(ctx)
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != http.StatusNotFound {
		return err
	}
	return parallel(keys, func(k keyName) error {
		e, err := c.explain(ctx, k.keyspace, k.key)
		if err == nil {
			err = e.equal()
		}
		if err != nil {
			return fmt.Errorf("%s/%s: %w", k.keyspace, k.key, err)
		}
		return nil
	})
}

// partitionSum is one node's own copies of one partition.
type partitionSum struct {
	Keyspace  string
	Partition int
	Count     int
	Sum       string
	// Sound is false while the node cannot vouch for the sum.
	Sound bool
}

func (c *cluster) sumsEqual(ctx context.Context) error {
	type id struct {
		keyspace  string
		partition int
	}
	held := map[id]map[string]partitionSum{}
	for _, s := range c.servers {
		var body struct {
			Partitions []partitionSum
		}
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := s.client.JSON(ctx, client.Request{Method: http.MethodGet, Path: client.Path("debug", "partitions")}, &body)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", s.id, err)
		}
		for _, p := range body.Partitions {
			k := id{p.Keyspace, p.Partition}
			if held[k] == nil {
				held[k] = map[string]partitionSum{}
			}
			held[k][s.id] = p
		}
	}
	return compareSums(held)
}

func compareSums[K comparable](held map[K]map[string]partitionSum) error {
	if len(held) == 0 {
		return errors.New("no node has a partition")
	}
	for k, by := range held {
		var first partitionSum
		n := 0
		for id, p := range by {
			if n++; n == 1 {
				first = p
			}
			if !p.Sound {
				return fmt.Errorf("partition %v: %s is not sure of its sum", k, id)
			}
			if p.Count != first.Count || p.Sum != first.Sum {
				return fmt.Errorf("partition %v: %s has %d keys with sum %s, another %d with %s", k, id, p.Count, p.Sum, first.Count, first.Sum)
			}
		}
		if n != replication && first.Count > 0 {
			return fmt.Errorf("partition %v: %d nodes have it", k, n)
		}
	}
	return nil
}

// parallel calls f for everything, a few at a time, and returns the first error.
func parallel[T any](items []T, f func(T) error) error {
	const workers = 8
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(items); i += workers {
				if errs[w] = f(items[i]); errs[w] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
