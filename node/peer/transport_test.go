package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dynamo/node/causal"
	"dynamo/node/wire"
)

type handlerFunc func(ctx context.Context, from string, m wire.Message) (wire.Message, error)

func (f handlerFunc) Handle(ctx context.Context, from string, m wire.Message) (wire.Message, error) {
	return f(ctx, from, m)
}

// echo answers every kind of request with what it said.
func echo(_ context.Context, from string, m wire.Message) (wire.Message, error) {
	switch m := m.(type) {
	case *wire.Read:
		return &wire.ReadReply{Hash: m.Known, Object: []byte(from + " " + string(m.Key))}, nil
	case *wire.Apply:
		return &wire.Ack{}, nil
	case *wire.Write:
		return &wire.WriteReply{Object: m.Value.Bytes, Token: m.Token}, nil
	case *wire.Inspect:
		return &wire.InspectReply{Own: m.Key}, nil
	case *wire.List:
		return &wire.ListReply{Entries: []wire.ListEntry{{Key: m.Prefix}}}, nil
	case *wire.MetaSync:
		return &wire.MetaSyncReply{Digest: m.Digest, State: m.State}, nil
	case *wire.ModuleGet:
		return &wire.ModuleReply{Found: true, Module: m.SHA256[:]}, nil
	case *wire.ModulePut:
		return &wire.Ack{}, nil
	}
	return nil, fmt.Errorf("unexpected %s", m.Kind())
}

// spec is a node that a test starts.
type spec struct {
	id          string
	cluster     string
	partitions  int
	handler     handlerFunc
	admit       func(Hello) error
	maxInflight int
	// blocked nodes take as long as this to fail; others need it only on a busy machine.
	dialTimeout time.Duration
}

func (s spec) hello() Hello {
	h := Hello{Cluster: "demo", Partitions: 256, Node: s.id, Disk: causal.NodeID{s.id[len(s.id)-1]}, Boot: 1}
	if s.cluster != "" {
		h.Cluster = s.cluster
	}
	if s.partitions != 0 {
		h.Partitions = s.partitions
	}
	return h
}

type testNode interface {
	Transport
	Close() error
	Stats() Stats
}

// fabric is a kind of network: the suite runs over each.
type fabric interface {
	start(t *testing.T, s spec) testNode
	// stop closes a node and leaves nobody at its address.
	stop(t *testing.T, n testNode)
	cut(a, b string)
	heal()
}

type memoryFabric struct {
	n *Network
}

func (f *memoryFabric) start(t *testing.T, s spec) testNode {
	if f.n == nil {
		f.n = NewNetwork(NetworkOptions{UnreachableAfter: 100 * time.Millisecond, SilenceTimeout: time.Second, MaxInflight: s.maxInflight})
	}
	e := f.n.Attach(s.hello, s.handler, s.admit)
	t.Cleanup(func() { e.Close() })
	return e
}

func (f *memoryFabric) stop(t *testing.T, n testNode) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

func (f *memoryFabric) cut(a, b string) { f.n.Cut(a, b) }
func (f *memoryFabric) heal()           { f.n.Heal() }

type tcpFabric struct {
	mu    sync.Mutex
	addrs map[string]string
	nodes map[string]*TCP
}

func (f *tcpFabric) address(node string) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, ok := f.addrs[node]
	return a, ok
}

func (f *tcpFabric) options(s spec) Options {
	orElse(&s.dialTimeout, 10*time.Second)
	return Options{
		Addr: "127.0.0.1:0", Hello: s.hello, Secret: "open sesame", Address: f.address, Handler: s.handler, Admit: s.admit,
		MaxInflight: s.maxInflight, DialTimeout: s.dialTimeout, HandshakeTimeout: 10 * time.Second, MinBackoff: 10 * time.Millisecond, MaxBackoff: 50 * time.Millisecond,
	}
}

func (f *tcpFabric) start(t *testing.T, s spec) testNode { return f.listen(t, f.options(s)) }

func (f *tcpFabric) listen(t *testing.T, o Options) *TCP {
	t.Helper()
	tr, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.addrs == nil {
		f.addrs, f.nodes = map[string]string{}, map[string]*TCP{}
	}
	f.addrs[tr.self] = tr.Addr().String()
	f.nodes[tr.self] = tr
	return tr
}

// stop leads callers to a port where nothing listens; the old one may be another test's soon.
func (f *tcpFabric) stop(t *testing.T, n testNode) {
	t.Helper()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	f.route(n.(*TCP).self, "127.0.0.1:1")
}

func (f *tcpFabric) cut(a, b string) {
	f.nodes[a].Block([]string{b})
	f.nodes[b].Block([]string{a})
}

func (f *tcpFabric) heal() {
	for _, n := range f.nodes {
		n.Block(nil)
	}
}

// await returns what comes from a handler, and fails the test if its call ends before.
func await[T any](t *testing.T, entered <-chan T, ended <-chan error) T {
	t.Helper()
	select {
	case v := <-entered:
		return v
	case err := <-ended:
		t.Fatalf("the call ended before it was handled: %v", err)
		panic("unreachable")
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}

func read(key string) *wire.Read {
	return &wire.Read{Target: wire.Target{Keyspace: "ks", Key: []byte(key)}}
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestConformance(t *testing.T) {
	cases := map[string]func(t *testing.T, f fabric){
		"echo":         conformEcho,
		"concurrency":  conformConcurrency,
		"deadline":     conformDeadline,
		"cancellation": conformCancellation,
		"failures":     conformFailures,
		"overload":     conformOverload,
		"close":        conformClose,
		"unreachable":  conformUnreachable,
		"refusals":     conformRefusals,
		"restart":      conformRestart,
		"cut and heal": conformCut,
	}
	fabrics := map[string]func() fabric{
		"tcp":    func() fabric { return &tcpFabric{} },
		"memory": func() fabric { return &memoryFabric{} },
	}
	for name, newFabric := range fabrics {
		for what, test := range cases {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				test(t, newFabric())
			})
		}
	}
}

func conformEcho(t *testing.T, f fabric) {
	n1 := f.start(t, spec{id: "n1", handler: echo})
	n2 := f.start(t, spec{id: "n2", handler: echo})
	ctx := within(t, 10*time.Second)
	digest := [32]byte{5}
	for _, c := range []struct{ request, want wire.Message }{
		{&wire.Ping{}, &wire.Ack{}},
		{&wire.Read{Target: wire.Target{Key: []byte("k")}, Known: causal.Hash{1}}, &wire.ReadReply{Hash: causal.Hash{1}, Object: []byte("FROM k")}},
		{&wire.Apply{Object: []byte("o")}, &wire.Ack{}},
		{&wire.Write{Value: causal.Value{Bytes: []byte("v")}, Token: "t"}, &wire.WriteReply{Object: []byte("v"), Token: "t"}},
		{&wire.Inspect{Target: wire.Target{Key: []byte("k")}}, &wire.InspectReply{Own: []byte("k")}},
		{&wire.List{Prefix: []byte("p")}, &wire.ListReply{Entries: []wire.ListEntry{{Key: []byte("p")}}}},
		{&wire.MetaSync{Digest: digest, State: []byte("s")}, &wire.MetaSyncReply{Digest: digest, State: []byte("s")}},
		{&wire.ModuleGet{SHA256: digest}, &wire.ModuleReply{Found: true, Module: digest[:]}},
		{&wire.ModulePut{Module: []byte("m")}, &wire.Ack{}},
	} {
		for _, to := range []string{"n1", "n2"} {
			for from, n := range map[string]testNode{"n1": n1, "n2": n2} {
				want := c.want
				if r, ok := want.(*wire.ReadReply); ok {
					want = &wire.ReadReply{Hash: r.Hash, Object: bytes.Replace(r.Object, []byte("FROM"), []byte(from), 1)}
				}
				got, err := n.Call(ctx, to, c.request)
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%s to %s: %s gives %+v, %v; want %+v", from, to, c.request.Kind(), got, err, want)
				}
			}
		}
	}
	if s := n1.Stats(); s.Calls != 18 || s.Failures != 0 || s.Requests != 18 || s.BytesIn == 0 || s.BytesOut == 0 {
		t.Errorf("stats %+v", s)
	}
}

func conformConcurrency(t *testing.T, f fabric) {
	n1 := f.start(t, spec{id: "n1", handler: echo})
	f.start(t, spec{id: "n2", handler: echo})
	ctx := within(t, 30*time.Second)
	var wg sync.WaitGroup
	for caller := range 64 {
		wg.Go(func() {
			for round := range 4 {
				size := 1 << ((caller + 5*round) % 21)
				payload := bytes.Repeat([]byte{byte(caller)}, size)
				payload[size-1] = byte(round)
				reply, err := n1.Call(ctx, "n2", &wire.Write{Value: causal.Value{Bytes: payload}})
				if err != nil {
					t.Error(err)
					return
				}
				if !bytes.Equal(reply.(*wire.WriteReply).Object, payload) {
					t.Errorf("caller %d got the answer to another call", caller)
				}
			}
		})
	}
	wg.Wait()
}

func conformDeadline(t *testing.T, f fabric) {
	entered := make(chan time.Duration, 1)
	handler := func(ctx context.Context, _ string, m wire.Message) (wire.Message, error) {
		d, _ := ctx.Deadline()
		entered <- time.Until(d)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	n1 := f.start(t, spec{id: "n1", handler: handler})
	f.start(t, spec{id: "n2", handler: handler})
	// The deadline is not for the connection to be made.
	if _, err := n1.Call(within(t, 10*time.Second), "n2", &wire.Ping{}); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"n1", "n2"} {
		_, err := n1.Call(within(t, 500*time.Millisecond), to, read("k"))
		var pe *Error
		if !errors.Is(err, context.DeadlineExceeded) && !(errors.As(err, &pe) && pe.Code == CodeTimeout) {
			t.Errorf("to %s: %v", to, err)
		}
		if left := <-entered; left <= 0 || left > 501*time.Millisecond {
			t.Errorf("to %s: the handler had %v", to, left)
		}
		over, cancel := context.WithTimeout(t.Context(), -1)
		defer cancel()
		if _, err := n1.Call(over, to, read("k")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("to %s after the deadline: %v", to, err)
		}
	}
}

func conformCancellation(t *testing.T, f fabric) {
	entered, release := make(chan context.Context, 1), make(chan struct{})
	handler := func(ctx context.Context, from string, m wire.Message) (wire.Message, error) {
		if string(m.(*wire.Read).Key) == "wait" {
			entered <- ctx
			<-release
		}
		return echo(ctx, from, m)
	}
	n1 := f.start(t, spec{id: "n1", handler: handler})
	f.start(t, spec{id: "n2", handler: handler})
	for _, to := range []string{"n1", "n2"} {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := n1.Call(ctx, to, read("wait"))
			done <- err
		}()
		inHandler := await(t, entered, done)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("to %s: %v", to, err)
		}
		if inHandler.Err() != nil {
			t.Errorf("to %s: the handler was interrupted: %v", to, inHandler.Err())
		}
		// The late answer must not reach the next call.
		release <- struct{}{}
		for i := range 20 {
			key := fmt.Sprint("next", i)
			reply, err := n1.Call(within(t, 10*time.Second), to, read(key))
			if err != nil || string(reply.(*wire.ReadReply).Object) != "n1 "+key {
				t.Fatalf("to %s: the call after a cancelled one: %+v, %v", to, reply, err)
			}
		}
	}
}

func conformFailures(t *testing.T, f fabric) {
	want := &Error{Code: "conflict", Detail: "no", Retryable: true, MaybeStored: true}
	handler := func(ctx context.Context, _ string, m wire.Message) (wire.Message, error) {
		switch string(m.(*wire.Read).Key) {
		case "typed":
			return nil, fmt.Errorf("wrapped: %w", want)
		case "plain":
			return nil, errors.New("disk on fire")
		case "panic":
			panic("bug")
		case "nothing":
			return nil, nil
		}
		return &wire.Ack{}, nil
	}
	n1 := f.start(t, spec{id: "n1", handler: handler})
	f.start(t, spec{id: "n2", handler: handler})
	for _, to := range []string{"n1", "n2"} {
		for key, code := range map[string]string{
			"typed": "conflict", "plain": CodeInternal, "panic": CodeInternal, "nothing": CodeInternal, "other kind": CodeInternal,
		} {
			reply, err := n1.Call(within(t, 10*time.Second), to, read(key))
			got, ok := errors.AsType[*Error](err)
			if !ok || got.Code != code || reply != nil {
				t.Errorf("to %s, %s: %v, %v", to, key, reply, err)
				continue
			}
			if key == "typed" && *got != *want {
				t.Errorf("to %s: got %+v, want %+v", to, got, want)
			}
			if key == "plain" && !strings.Contains(got.Detail, "disk on fire") {
				t.Errorf("to %s: %+v", to, got)
			}
			if errors.Is(err, ErrUnreachable) {
				t.Errorf("to %s: a failure is no unreachable node", to)
			}
		}
	}
	// A request that is no request is refused by the far side, not handled.
	if _, err := n1.Call(within(t, 10*time.Second), "n2", &wire.Ack{}); err == nil || !strings.Contains(err.Error(), CodeBadRequest) {
		t.Errorf("an answer sent as a request: %v", err)
	}
}

func conformOverload(t *testing.T, f fabric) {
	const limit = 8
	var running atomic.Int64
	release := make(chan struct{})
	handler := func(ctx context.Context, from string, m wire.Message) (wire.Message, error) {
		running.Add(1)
		<-release
		return echo(ctx, from, m)
	}
	n1 := f.start(t, spec{id: "n1", handler: handler, maxInflight: limit})
	f.start(t, spec{id: "n2", handler: handler, maxInflight: limit})
	for _, to := range []string{"n1", "n2"} {
		running.Store(0)
		errs := make(chan error, limit)
		for range limit {
			go func() {
				_, err := n1.Call(t.Context(), to, read("k"))
				errs <- err
			}()
		}
		eventually(t, "all are running", func() bool { return running.Load() == limit })
		_, err := n1.Call(within(t, 10*time.Second), to, read("k"))
		pe, ok := errors.AsType[*Error](err)
		if !ok || pe.Code != CodeOverloaded || !pe.Retryable || pe.MaybeStored {
			t.Errorf("to %s beyond the bound: %v", to, err)
		}
		for range limit {
			release <- struct{}{}
		}
		for range limit {
			if err := <-errs; err != nil {
				t.Errorf("to %s within the bound: %v", to, err)
			}
		}
	}
	if n1.Stats().Overloaded == 0 {
		t.Error("overload is not counted")
	}
}

func conformClose(t *testing.T, f fabric) {
	entered := make(chan struct{}, 3)
	var ended atomic.Int64
	handler := func(ctx context.Context, _ string, m wire.Message) (wire.Message, error) {
		entered <- struct{}{}
		<-ctx.Done()
		ended.Add(1)
		return nil, ctx.Err()
	}
	n1 := f.start(t, spec{id: "n1", handler: handler})
	n2 := f.start(t, spec{id: "n2", handler: handler})
	n3 := f.start(t, spec{id: "n3", handler: handler})
	errs := make(chan error, 3)
	call := func(n testNode, to string) {
		go func() {
			_, err := n.Call(t.Context(), to, read("k"))
			errs <- err
		}()
		await(t, entered, errs)
	}
	call(n1, "n2")
	call(n2, "n2")
	call(n2, "n3")
	if err := n2.Close(); err != nil {
		t.Error(err)
	}
	if got := ended.Load(); got != 2 {
		t.Errorf("Close did not wait for its handlers: %d of 2 ended", got)
	}
	for range 3 {
		err := <-errs
		u, ok := errors.AsType[*UnreachableError](err)
		if !ok || !errors.Is(err, ErrUnreachable) || !u.MaybeSent {
			t.Errorf("a call pending at Close: %v", err)
		}
	}
	for _, to := range []string{"n2", "n3"} {
		if _, err := n2.Call(t.Context(), to, read("k")); !errors.Is(err, ErrUnreachable) || !errors.Is(err, ErrClosed) {
			t.Errorf("a call to %s after Close: %v", to, err)
		}
	}
	if err := n2.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := n3.Close(); err != nil {
		t.Error(err)
	}
}

func conformUnreachable(t *testing.T, f fabric) {
	n1 := f.start(t, spec{id: "n1", handler: echo})
	n2 := f.start(t, spec{id: "n2", handler: echo})
	f.stop(t, n2)
	for _, to := range []string{"n2", "nobody"} {
		for range 2 {
			_, err := n1.Call(within(t, 10*time.Second), to, read("k"))
			u, ok := errors.AsType[*UnreachableError](err)
			if !ok || !errors.Is(err, ErrUnreachable) || u.MaybeSent || u.Node != to {
				t.Errorf("%s: %v", to, err)
			}
		}
	}
	if s := n1.Stats(); s.Failures != 4 {
		t.Errorf("stats %+v", s)
	}
}

type staleError struct{}

func (staleError) Error() string { return "this directory is an old copy" }
func (staleError) Stale() bool   { return true }

func conformRefusals(t *testing.T, f fabric) {
	admit := func(h Hello) error {
		switch h.Node {
		case "n5":
			return fmt.Errorf("admission: %w", staleError{})
		case "n6":
			return errors.New("never heard of it")
		}
		return nil
	}
	handled := func(context.Context, string, wire.Message) (wire.Message, error) {
		t.Error("a refused node was served")
		return &wire.Ack{}, nil
	}
	f.start(t, spec{id: "n1", handler: handled, admit: admit})
	for _, c := range []struct {
		s      spec
		reason string
		stale  bool
	}{
		{spec{id: "n3", cluster: "other"}, `it belongs to cluster "demo", this node to "other"`, false},
		{spec{id: "n4", partitions: 64}, "its ring has 256 partitions, this node's has 64", false},
		{spec{id: "n5"}, "old copy", true},
		{spec{id: "n6"}, "never heard of it", false},
		{spec{id: "n7", admit: func(Hello) error { return errors.New("not with you") }}, "not with you", false},
	} {
		c.s.handler = handled
		n := f.start(t, c.s)
		for range 2 {
			_, err := n.Call(within(t, 10*time.Second), "n1", read("k"))
			r, ok := errors.AsType[*Refused](err)
			if !ok || !errors.Is(err, ErrUnreachable) || !strings.Contains(r.Reason, c.reason) || r.Stale != c.stale || r.Node != "n1" || r.ByPeer != (c.s.id != "n7") {
				t.Errorf("%s: %v (%+v)", c.s.id, err, r)
			}
		}
		if n.Stats().Refused == 0 {
			t.Errorf("%s: the refusal is not counted", c.s.id)
		}
	}
}

func conformRestart(t *testing.T, f fabric) {
	n1 := f.start(t, spec{id: "n1", handler: echo})
	n2 := f.start(t, spec{id: "n2", handler: echo})
	ctx := within(t, 20*time.Second)
	for range 3 {
		if _, err := n1.Call(ctx, "n2", read("k")); err != nil {
			t.Fatal(err)
		}
		f.stop(t, n2)
		if _, err := n1.Call(ctx, "n2", read("k")); !errors.Is(err, ErrUnreachable) {
			t.Fatalf("while it is away: %v", err)
		}
		n2 = f.start(t, spec{id: "n2", handler: echo})
		eventually(t, "the restarted node answers", func() bool {
			_, err := n1.Call(ctx, "n2", read("k"))
			return err == nil
		})
		if _, err := n2.Call(ctx, "n1", read("k")); err != nil {
			t.Fatal(err)
		}
	}
}

func conformCut(t *testing.T, f fabric) {
	release := make(chan struct{})
	entered := make(chan struct{}, 1)
	handler := func(ctx context.Context, from string, m wire.Message) (wire.Message, error) {
		if string(m.(*wire.Read).Key) == "wait" {
			entered <- struct{}{}
			<-release
		}
		return echo(ctx, from, m)
	}
	n1 := f.start(t, spec{id: "n1", handler: handler, dialTimeout: 200 * time.Millisecond})
	n2 := f.start(t, spec{id: "n2", handler: handler, dialTimeout: 200 * time.Millisecond})
	n3 := f.start(t, spec{id: "n3", handler: handler, dialTimeout: 200 * time.Millisecond})
	for from, to := range map[testNode]string{n1: "n2", n2: "n1", n3: "n2"} {
		eventually(t, "connected", func() bool {
			_, err := from.Call(within(t, 10*time.Second), to, &wire.Ping{})
			return err == nil
		})
	}
	pending := make(chan error, 1)
	go func() {
		_, err := n1.Call(t.Context(), "n2", read("wait"))
		pending <- err
	}()
	await(t, entered, pending)
	f.cut("n1", "n2")
	close(release)
	if err := <-pending; !errors.Is(err, ErrUnreachable) {
		t.Errorf("a call under way at the cut: %v", err)
	}
	for range 2 {
		if _, err := n1.Call(within(t, 10*time.Second), "n2", read("k")); !errors.Is(err, ErrUnreachable) {
			t.Errorf("across the cut: %v", err)
		}
		if _, err := n2.Call(within(t, 10*time.Second), "n1", read("k")); !errors.Is(err, ErrUnreachable) {
			t.Errorf("back across the cut: %v", err)
		}
	}
	if _, err := n1.Call(within(t, 10*time.Microsecond), "n2", read("k")); err == nil {
		t.Error("across the cut with a short deadline: no error")
	}
	eventually(t, "beside the cut", func() bool {
		_, err := n1.Call(within(t, 10*time.Second), "n3", read("k"))
		return err == nil
	})
	if _, err := n3.Call(within(t, 10*time.Second), "n2", read("k")); err != nil {
		t.Errorf("beside the cut: %v", err)
	}
	f.heal()
	eventually(t, "both ways work again", func() bool {
		_, err1 := n1.Call(within(t, 10*time.Second), "n2", read("k"))
		_, err2 := n2.Call(within(t, 10*time.Second), "n1", read("k"))
		return err1 == nil && err2 == nil
	})
}

// logLines collects what is logged.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

func (l *logLines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, s := range l.lines {
		if strings.Contains(s, part) {
			n++
		}
	}
	return n
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func dialRaw(t *testing.T, tr *TCP) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", tr.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc
}
