package peer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dynamo/node/causal"
	"dynamo/node/wire"
)

// relay is a network path between two nodes that a test can freeze: bytes are taken and go nowhere.
type relay struct {
	l      net.Listener
	frozen atomic.Bool
	conns  atomic.Int64
	wg     sync.WaitGroup
}

func startRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{l: l}
	var mu sync.Mutex
	var open []net.Conn
	pump := func(dst, src net.Conn) {
		defer dst.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := src.Read(buf)
			if err != nil {
				return
			}
			if r.frozen.Load() {
				continue
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	r.wg.Go(func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", to)
			if err != nil {
				a.Close()
				continue
			}
			r.conns.Add(1)
			mu.Lock()
			open = append(open, a, b)
			mu.Unlock()
			r.wg.Go(func() { pump(a, b) })
			r.wg.Go(func() { pump(b, a) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		r.wg.Wait()
	})
	return r
}

func (f *tcpFabric) route(node, addr string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addrs[node] = addr
}

func TestHalfOpenConnectionIsFound(t *testing.T) {
	f := &tcpFabric{}
	o := f.options(spec{id: "n1", handler: echo})
	o.SilenceTimeout = 120 * time.Millisecond
	n1 := f.listen(t, o)
	slow := make(chan struct{})
	n2 := f.listen(t, f.options(spec{id: "n2", handler: func(ctx context.Context, from string, m wire.Message) (wire.Message, error) {
		if string(m.(*wire.Read).Key) == "slow" {
			<-slow
		}
		return echo(ctx, from, m)
	}}))
	r := startRelay(t, n2.Addr().String())
	f.route("n2", r.l.Addr().String())

	// A slow handler is no silence: pings are answered meanwhile.
	done := make(chan error, 1)
	go func() {
		_, err := n1.Call(t.Context(), "n2", read("slow"))
		done <- err
	}()
	before := n1.Stats().BytesIn
	eventually(t, "pings are answered", func() bool { return n1.Stats().BytesIn > before+3*(lengthBytes+replyHeadBytes) })
	close(slow)
	if err := <-done; err != nil {
		t.Fatalf("a slow answer over a good connection: %v", err)
	}

	r.frozen.Store(true)
	if _, err := n1.Call(within(t, 20*time.Millisecond), "n2", read("k")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a short deadline: %v", err)
	}
	_, err := n1.Call(t.Context(), "n2", read("k"))
	if u, ok := errors.AsType[*UnreachableError](err); !ok || !u.MaybeSent || !errors.Is(err, errSilent) {
		t.Errorf("over a half-open connection: %v", err)
	}
	r.frozen.Store(false)
	eventually(t, "a new connection", func() bool {
		_, err := n1.Call(t.Context(), "n2", read("k"))
		return err == nil
	})
}

func TestStalledReaderIsCutOff(t *testing.T) {
	f := &tcpFabric{}
	o := f.options(spec{id: "n1", handler: echo})
	o.StallTimeout = 100 * time.Millisecond
	n1 := f.listen(t, o)
	n2 := f.listen(t, f.options(spec{id: "n2", handler: echo}))
	// A far end that shakes hands and then reads nothing at all.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 2)
	go func() {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		h := n2.newHandshake(nc)
		if err := h.accept(&n2.rand); err != nil {
			t.Error(err)
		}
		accepted <- nc
	}()
	f.route("n2", l.Addr().String())
	_, err = n1.Call(within(t, 20*time.Second), "n2", &wire.ModulePut{Module: make([]byte, 32<<20)})
	if !errors.Is(err, errStalled) {
		t.Errorf("to a node that reads nothing: %v", err)
	}
	(<-accepted).Close()
}

func TestCallersShareADialAndBackOff(t *testing.T) {
	f := &tcpFabric{}
	o := f.options(spec{id: "n1", handler: echo})
	o.MinBackoff, o.MaxBackoff = time.Hour, time.Hour
	n1 := f.listen(t, o)
	n2 := f.listen(t, f.options(spec{id: "n2", handler: echo}))
	r := startRelay(t, n2.Addr().String())
	f.route("n2", r.l.Addr().String())
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if _, err := n1.Call(t.Context(), "n2", read("k")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s := n1.Stats(); s.Dials != 1 || r.conns.Load() != 1 || s.ConnectionsOut != 1 {
		t.Errorf("64 callers made %d dials, %d connections, %+v", s.Dials, r.conns.Load(), s)
	}
	// Bulk goes another way.
	if _, err := n1.Call(t.Context(), "n2", &wire.MetaSync{}); err != nil {
		t.Error(err)
	}
	if s := n1.Stats(); s.Dials != 2 || n2.Stats().ConnectionsIn != 2 {
		t.Errorf("a bulk call: %+v", s)
	}
	for range 5 {
		if _, err := n1.Call(t.Context(), "nobody", read("k")); !errors.Is(err, ErrUnreachable) {
			t.Error(err)
		}
	}
	if s := n1.Stats(); s.Dials != 3 || s.DialFailures != 1 {
		t.Errorf("5 calls in the pause after a failed dial: %+v", s)
	}
}

// handshakeLogs starts two nodes, lets the first call the second three times and returns what they log.
func handshakeLogs(t *testing.T, f *tcpFabric, caller, called Options, to string) (first, second *logLines, err error) {
	t.Helper()
	first, second = &logLines{}, &logLines{}
	caller.Logger, called.Logger = first.logger(), second.logger()
	n1, n2 := f.listen(t, caller), f.listen(t, called)
	f.route(to, n2.Addr().String())
	for range 3 {
		_, err = n1.Call(within(t, 10*time.Second), to, read("k"))
		if !errors.Is(err, ErrUnreachable) {
			t.Errorf("call: %v", err)
		}
		dials := n1.Stats().Dials
		eventually(t, "the next dial", func() bool {
			_, callErr := n1.Call(within(t, 10*time.Second), to, read("k"))
			return callErr != nil && n1.Stats().Dials > dials
		})
	}
	eventually(t, "both count it", func() bool { return n1.Stats().Refused > 0 && n2.Stats().Refused > 0 })
	return first, second, err
}

func TestRefusalsAreLoggedOnceOnBothSides(t *testing.T) {
	for name, c := range map[string]struct {
		change        func(caller, called *Options)
		to            string
		first, second string
	}{
		"cluster": {
			func(caller, _ *Options) { caller.Hello = spec{id: "n1", cluster: "x"}.hello },
			"n2",
			`it belongs to cluster \"demo\", this node to \"x\"`, `it belongs to cluster \"x\", this node to \"demo\"`,
		},
		"secret": {
			func(caller, _ *Options) { caller.Secret = "guess" },
			"n2", "the secrets of the two nodes differ", "the secrets of the two nodes differ",
		},
		"no secret": {
			func(caller, _ *Options) { caller.Secret = "" },
			"n2", "the secrets of the two nodes differ", "the secrets of the two nodes differ",
		},
		"wrong address": {
			func(*Options, *Options) {},
			"n9", `refused by peer n9 (127.0.0.1`, `node \"n9\" was looked for at the address of node \"n2\"`,
		},
		"own name": {
			func(caller, _ *Options) { caller.Hello = spec{id: "n2"}.hello },
			"n9", `both nodes call themselves \"n2\"`, `both nodes call themselves \"n2\"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &tcpFabric{}
			caller, called := f.options(spec{id: "n1", handler: echo}), f.options(spec{id: "n2", handler: echo})
			c.change(&caller, &called)
			first, second, err := handshakeLogs(t, f, caller, called, c.to)
			if first.count(c.first) != 1 || first.count("refused") != 1 {
				t.Errorf("the caller logs %q", first.lines)
			}
			if second.count(c.second) != 1 || second.count("refused") != 1 {
				t.Errorf("the called logs %q", second.lines)
			}
			if r, ok := errors.AsType[*Refused](err); !ok || r.Stale || r.Node != c.to {
				t.Errorf("the caller gets %v", err)
			}
		})
	}
}

func TestAcceptorLearnsThatItIsStale(t *testing.T) {
	f := &tcpFabric{}
	told := make(chan *Refused, 1)
	o := f.options(spec{id: "n2", handler: echo})
	o.OnRefused = func(r *Refused) { told <- r }
	f.listen(t, o)
	n1 := f.listen(t, f.options(spec{id: "n1", handler: echo, admit: func(Hello) error { return staleError{} }}))
	_, err := n1.Call(within(t, 10*time.Second), "n2", read("k"))
	if r, ok := errors.AsType[*Refused](err); !ok || r.Stale || r.ByPeer {
		t.Errorf("the dialler, who is not stale, gets %v", err)
	}
	if r := <-told; !r.Stale || !r.ByPeer || r.Node != "n1" {
		t.Errorf("the acceptor is told %+v", r)
	}
}

// An impostor without the secret can refuse, but not make a node give up its identity; nor does it
// get as far as Admit.
func TestStaleNeedsTheSecret(t *testing.T) {
	f := &tcpFabric{}
	o := f.options(spec{id: "n2", handler: echo, admit: func(Hello) error {
		t.Error("an impostor got as far as Admit")
		return nil
	}})
	o.Secret = "guess"
	impostor := f.listen(t, o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		h := impostor.newHandshake(nc)
		if _, err := h.read(recordHello, "dialler"); err != nil {
			t.Error(err)
		}
		h.refuse("acceptor", &refusal{there: "you are stale", stale: true})
	}()
	n1 := f.listen(t, f.options(spec{id: "n1", handler: echo}))
	f.route("n2", l.Addr().String())
	_, err = n1.Call(within(t, 10*time.Second), "n2", read("k"))
	if r, ok := errors.AsType[*Refused](err); !ok || r.Stale || !strings.Contains(r.Reason, "you are stale") {
		t.Errorf("got %v", err)
	}
	// The other way: n1 must not run its handlers for the impostor.
	if _, err := impostor.Call(within(t, 10*time.Second), "n1", read("k")); !errors.Is(err, ErrUnreachable) {
		t.Errorf("the impostor got through: %v", err)
	}
}

// A proof sent back to the one who made it, or one of another run, proves nothing.
func TestProofsCannotBeReflected(t *testing.T) {
	f := &tcpFabric{}
	n1 := f.listen(t, f.options(spec{id: "n1", handler: echo}))
	hello := appendHello(nil, spec{id: "n2"}.hello())
	nc := dialRaw(t, n1)
	h := n1.newHandshake(nc)
	opening := append(make([]byte, nonceBytes), wire.AppendBytes(wire.AppendBytes(nil, "n1"), hello)...)
	if err := h.write(recordHello, opening); err != nil {
		t.Fatal(err)
	}
	welcome, err := h.read(recordWelcome, "acceptor")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.write(recordProof, welcome[len(welcome)-macBytes:]); err != nil {
		t.Fatal(err)
	}
	_, err = h.read(recordAccepted, "acceptor")
	if r, ok := errors.AsType[*Refused](err); !ok || !strings.Contains(r.Reason, "secrets") {
		t.Errorf("a reflected proof: %v", err)
	}
}

func TestOtherProtocolVersionIsRefusedWithAReason(t *testing.T) {
	f := &tcpFabric{}
	log := &logLines{}
	o := f.options(spec{id: "n1", handler: echo})
	o.Logger = log.logger()
	n1 := f.listen(t, o)
	nc := dialRaw(t, n1)
	if _, err := nc.Write([]byte{0, 0, 0, 3, 9, recordHello, 0}); err != nil {
		t.Fatal(err)
	}
	h := n1.newHandshake(nc)
	_, err := h.read(recordWelcome, "acceptor")
	if r, ok := errors.AsType[*Refused](err); !ok || !strings.Contains(r.Reason, "version 1 of the peer protocol, this node version 9") {
		t.Errorf("told: %v", err)
	}
	eventually(t, "logged", func() bool { return log.count("version 9 of the peer protocol, this node version 1") == 1 })
}

func TestGarbageLeavesTheNodeHealthy(t *testing.T) {
	f := &tcpFabric{}
	log := &logLines{}
	o := f.options(spec{id: "n1", handler: echo})
	o.Logger, o.HandshakeTimeout = log.logger(), 100*time.Millisecond
	n1 := f.listen(t, o)
	n2 := f.listen(t, f.options(spec{id: "n2", handler: echo}))
	for _, garbage := range [][]byte{
		[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		bytes.Repeat([]byte{0xff}, 1<<20),
		make([]byte, 1<<20),
		{0, 0, 0, 2, protocolVersion, recordHello},
		{0, 0, 1, 0, protocolVersion, recordHello, 1},
		{0, 0, 0, 2, protocolVersion, recordProof},
		{},
	} {
		nc := dialRaw(t, n1)
		// The node may hang up while bytes are still under way.
		_, _ = nc.Write(garbage)
		if _, err := io.Copy(io.Discard, nc); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%.10q: %v", garbage, err)
		}
		nc.Close()
	}
	if _, err := n2.Call(within(t, 10*time.Second), "n1", read("k")); err != nil {
		t.Fatalf("after garbage: %v", err)
	}
	if log.count("handshake") != 1 {
		t.Errorf("garbage is logged once a minute: %q", log.lines)
	}
	eventually(t, "no connection is left over", func() bool {
		n1.mu.Lock()
		defer n1.mu.Unlock()
		return len(n1.mu.conns) == 1 && n1.shaking.Load() == 0
	})
}

// shake opens an authenticated connection by hand.
func shake(t *testing.T, as, to *TCP) *handshake {
	t.Helper()
	h := as.newHandshake(dialRaw(t, to))
	if err := h.dial(to.self, &as.rand); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestLyingLengthAllocatesLittle(t *testing.T) {
	var head [18]byte
	binary.BigEndian.PutUint32(head[:], 80<<20)
	head[4], head[5] = protocolVersion, byte(wire.KindModulePut)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(head[:]), strings.NewReader("few bytes")), 4096)
	if _, err := readFrame(r, true, 80<<20); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a frame cut short: %v", err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
		t.Errorf("80 MiB announced, 9 bytes sent, %d allocated", got)
	}
	f := &tcpFabric{}
	n1 := f.listen(t, f.options(spec{id: "n1", handler: echo}))
	n2 := f.listen(t, f.options(spec{id: "n2", handler: echo}))
	for _, length := range []uint32{0, 13, 80<<20 + 1, 1<<32 - 1} {
		h := shake(t, n2, n1)
		binary.BigEndian.PutUint32(head[:], length)
		if _, err := h.conn.Write(head[:]); err != nil {
			t.Fatal(err)
		}
		if _, err := h.r.ReadByte(); err == nil {
			t.Errorf("length %d: the connection lives on", length)
		}
	}
	if _, err := n2.Call(within(t, 10*time.Second), "n1", read("k")); err != nil {
		t.Error(err)
	}
}

func TestMalformedAndUnknownRequestsAreAnswered(t *testing.T) {
	f := &tcpFabric{}
	n1 := f.listen(t, f.options(spec{id: "n1", handler: echo}))
	n2 := f.listen(t, f.options(spec{id: "n2", handler: echo}))
	h := shake(t, n2, n1)
	for i, request := range []frame{{kind: wire.KindRead, payload: []byte("\xff")}, {kind: 200}, {kind: wire.KindPing}} {
		b := []byte{0, 0, 0, byte(requestHeadBytes + len(request.payload)), protocolVersion, byte(request.kind)}
		b = binary.BigEndian.AppendUint64(b, uint64(i))
		b = append(append(b, 0, 0, 0, 0), request.payload...)
		if _, err := h.conn.Write(b); err != nil {
			t.Fatal(err)
		}
		reply, err := readFrame(h.r, false, 1<<20)
		if err != nil || reply.id != uint64(i) {
			t.Fatalf("kind %d: %+v, %v", request.kind, reply, err)
		}
		m, err := wire.Decode(reply.kind, reply.payload)
		if fail, ok := m.(*wire.Failure); err != nil || (request.kind != wire.KindPing) != (ok && fail.Code == CodeBadRequest) {
			t.Errorf("kind %d is answered with %+v, %v", request.kind, m, err)
		}
	}
}

func TestTooLargeMessages(t *testing.T) {
	f := &tcpFabric{}
	small := f.options(spec{id: "n1", handler: echo})
	small.MaxFrameBytes = 64 << 10
	n1 := f.listen(t, small)
	large := small
	large.Hello = spec{id: "n2"}.hello
	large.Handler = handlerFunc(func(context.Context, string, wire.Message) (wire.Message, error) {
		return &wire.ReadReply{Object: make([]byte, 65<<10)}, nil
	})
	f.listen(t, large)
	for what, m := range map[string]wire.Message{"request": &wire.Apply{Object: make([]byte, 65<<10)}, "reply": read("k")} {
		_, err := n1.Call(within(t, 10*time.Second), "n2", m)
		if pe, ok := errors.AsType[*Error](err); !ok || pe.Code != CodeTooLarge {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := n1.Call(within(t, 10*time.Second), "n2", &wire.Ping{}); err != nil {
		t.Error(err)
	}
}

func TestInflightBytesAreBounded(t *testing.T) {
	f := &tcpFabric{}
	entered, release := make(chan struct{}, 1), make(chan struct{})
	o := f.options(spec{id: "n1", handler: func(context.Context, string, wire.Message) (wire.Message, error) {
		entered <- struct{}{}
		<-release
		return &wire.Ack{}, nil
	}})
	o.MaxInflightBytes = 1 << 10
	f.listen(t, o)
	n2 := f.listen(t, f.options(spec{id: "n2", handler: echo}))
	done := make(chan error, 1)
	go func() {
		_, err := n2.Call(t.Context(), "n1", &wire.Apply{Object: make([]byte, 4<<10)})
		done <- err
	}()
	await(t, entered, done)
	_, err := n2.Call(within(t, 10*time.Second), "n1", &wire.Apply{Object: make([]byte, 10)})
	if pe, ok := errors.AsType[*Error](err); !ok || pe.Code != CodeOverloaded {
		t.Errorf("beyond the bound: %v", err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Errorf("one alone is always taken: %v", err)
	}
}

func TestBlockedNodeGetsNoAnswer(t *testing.T) {
	f := &tcpFabric{}
	n1 := f.listen(t, f.options(spec{id: "n1", handler: echo, dialTimeout: 200 * time.Millisecond}))
	n2 := f.listen(t, f.options(spec{id: "n2", handler: echo, dialTimeout: 200 * time.Millisecond}))
	eventually(t, "connected", func() bool {
		_, err := n1.Call(within(t, 10*time.Second), "n2", read("k"))
		return err == nil
	})
	// One side alone is enough.
	n2.Block([]string{"n1"})
	eventually(t, "the connection is dropped", func() bool { return n1.Stats().ConnectionsOut == 0 && n2.Stats().ConnectionsIn == 0 })
	for _, c := range []struct {
		n  *TCP
		to string
	}{{n1, "n2"}, {n2, "n1"}} {
		_, err := c.n.Call(within(t, 10*time.Second), c.to, read("k"))
		if _, refused := errors.AsType[*Refused](err); refused || !errors.Is(err, ErrUnreachable) {
			t.Errorf("to %s: %v", c.to, err)
		}
	}
	n2.Block(nil)
	eventually(t, "healed", func() bool {
		_, err := n1.Call(within(t, 10*time.Second), "n2", read("k"))
		return err == nil
	})
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	f := &tcpFabric{}
	nodes := []*TCP{
		f.listen(t, f.options(spec{id: "n1", handler: echo})),
		f.listen(t, f.options(spec{id: "n2", handler: echo})),
	}
	for _, to := range []string{"n1", "n2", "n3"} {
		for _, n := range nodes {
			// n3 does not exist.
			if _, err := n.Call(within(t, 10*time.Second), to, read("k")); (err == nil) == (to == "n3") {
				t.Errorf("to %s: %v", to, err)
			}
		}
	}
	idle := dialRaw(t, nodes[0])
	defer idle.Close()
	for _, n := range nodes {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "all goroutines are gone", func() bool { return runtime.NumGoroutine() <= before })
}

func TestOptionsAreChecked(t *testing.T) {
	f := &tcpFabric{}
	good := f.options(spec{id: "n1", handler: echo})
	for name, change := range map[string]func(*Options){
		"hello":    func(o *Options) { o.Hello = nil },
		"address":  func(o *Options) { o.Address = nil },
		"handler":  func(o *Options) { o.Handler = nil },
		"frame":    func(o *Options) { o.MaxFrameBytes = 10 },
		"inflight": func(o *Options) { o.MaxInflight = -1 },
		"backoff":  func(o *Options) { o.MinBackoff = time.Hour },
		"addr":     func(o *Options) { o.Addr = "nonsense" },
	} {
		o := good
		change(&o)
		if n, err := Listen(o); err == nil {
			n.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

func TestQuietIsBounded(t *testing.T) {
	now := time.Unix(0, 0)
	q := quiet{now: func() time.Time { return now }}
	if !q.allow("a") || q.allow("a") || !q.allow("b") {
		t.Error("one line per remote")
	}
	now = now.Add(quietFor)
	if !q.allow("a") {
		t.Error("again after a minute")
	}
	for i := range 3 * quietRemotes {
		q.allow(string(binary.BigEndian.AppendUint32(nil, uint32(i))))
	}
	if n := len(q.mu.last); n > quietRemotes {
		t.Errorf("%d remotes remembered", n)
	}
}

// fakeConn lets a handshake read given bytes.
type fakeConn struct {
	net.Conn
	io.Reader
}

func (c fakeConn) Read(p []byte) (int, error)  { return c.Reader.Read(p) }
func (c fakeConn) Write(p []byte) (int, error) { return len(p), nil }

// Whatever arrives before the proof, the handshake ends with an error and without Admit.
func FuzzHandshake(f *testing.F) {
	hello := appendHello(nil, spec{id: "n2"}.hello())
	opening := append(make([]byte, nonceBytes), wire.AppendBytes(wire.AppendBytes(nil, "n1"), hello)...)
	record := binary.BigEndian.AppendUint32(nil, uint32(2+len(opening)))
	record = append(append(record, protocolVersion, recordHello), opening...)
	f.Add(record, true)
	f.Add(append(record[:len(record):len(record)], 0, 0, 0, 34, protocolVersion, recordProof), true)
	welcome := append(make([]byte, nonceBytes), wire.AppendBytes(nil, hello)...)
	welcome = append(welcome, make([]byte, macBytes)...)
	record = binary.BigEndian.AppendUint32(nil, uint32(2+len(welcome)))
	f.Add(append(append(record, protocolVersion, recordWelcome), welcome...), false)
	f.Add([]byte{0, 0, 0, 69, 1, recordRefusal}, false)
	f.Fuzz(func(t *testing.T, in []byte, accept bool) {
		m := &meter{Conn: fakeConn{Reader: bytes.NewReader(in)}}
		h := &handshake{
			conn: m, r: bufio.NewReader(m), key: handshakeKey("secret"), self: spec{id: "n1"}.hello(),
			admit:   func(Hello) error { panic("admitted without a proof") },
			blocked: func(string) bool { return false },
		}
		nonces := bytes.NewReader(bytes.Repeat([]byte{7}, nonceBytes))
		err := h.dial
		if accept {
			err = func(_ string, r io.Reader) error { return h.accept(r) }
		}
		if err("n2", nonces) == nil {
			t.Fatal("a handshake without the secret succeeded")
		}
	})
}

func FuzzReadFrame(f *testing.F) {
	f.Add(appendFrame(nil, 1, time.Second, &wire.ModulePut{Module: []byte("x")}), true)
	f.Add(appendFrame(nil, 1, -1, &wire.Ack{}), false)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, true)
	f.Fuzz(func(t *testing.T, in []byte, request bool) {
		r := bufio.NewReader(bytes.NewReader(in))
		total := 0
		for {
			fr, err := readFrame(r, request, 1<<20)
			if err != nil {
				return
			}
			head := lengthBytes + replyHeadBytes
			if request {
				head += 4
			}
			if total += head + len(fr.payload); total > len(in) {
				t.Fatal("more came out than went in")
			}
		}
	})
}

func TestGoldenFrames(t *testing.T) {
	request := hex.EncodeToString(appendFrame(nil, 7, 1500e6, &wire.ModulePut{Module: []byte("x")}))
	if request != "00000011"+"01"+"11"+"0000000000000007"+"000005dc"+"017800" {
		t.Errorf("request frame %s", request)
	}
	if reply := hex.EncodeToString(appendFrame(nil, 7, -1, &wire.Ack{})); reply != "0000000a"+"01"+"02"+"0000000000000007" {
		t.Errorf("reply frame %s", reply)
	}
	hello := hex.EncodeToString(appendHello(nil, Hello{
		Cluster: "demo", Partitions: 256, Node: "n1", Disk: causal.NodeID{1}, Incarnation: 2, Boot: 300, Nonce: [16]byte{3},
	}))
	if want := "04" + "64656d6f" + "8004" + "02" + "6e31" + "01000000000000000000000000000000" + "02" + "ac02" + "03000000000000000000000000000000"; hello != want {
		t.Errorf("hello %s, want %s", hello, want)
	}
}
