package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"dynamo/node/admission"
	"dynamo/node/coordinator"
)

func TestKeysStayDistinct(t *testing.T) {
	h := start(t)
	keys := map[string]string{
		"a/b": "a/b", "a%2Fc": "a/c", "..": "..", "%2e%2e%2fother": "../other", "../../healthz": "../../healthz", "//": "//", "/": "/", "a//b": "a//b",
		"a/./b": "a/./b", "%00": "\x00", "%ff%fe": "\xff\xfe", "\xff": "\xff", "é": "é", "+": "+", "%2B%20": "+ ", "a%25b": "a%b", "%252F": "%2F",
		"a/": "a/", "a;b=c": "a;b=c", "a&b": "a&b", "a:b@c": "a:b@c", "http://x/y": "http://x/y", ".": ".", "%3f%23": "?#", "a\\b": "a\\b",
		strings.Repeat("%61", 1024): strings.Repeat("a", 1024),
	}
	for target, key := range keys {
		h.do(t, "PUT", "/v1/kv/ks/"+target, key).want(t, 204)
	}
	for target, key := range keys {
		if a := h.do(t, "GET", "/v1/kv/ks/"+target, "").want(t, 200); string(a.body) != key {
			t.Errorf("%q holds %q, want %q", target, a.body, key)
		}
		if _, ok := h.kv.objects["ks/"+key]; !ok {
			t.Errorf("%q is not stored under %q", target, key)
		}
	}
	// The same key in its two spellings.
	h.do(t, "GET", "/v1/kv/ks/a%2Fb", "").want(t, 200)
	h.do(t, "GET", "http://elsewhere/v1/kv/ks/a/b", "").want(t, 200)
	for _, bad := range []string{"", "%", "%4", "a%zz", "%%30", strings.Repeat("a", 1025), strings.Repeat("%61", 1025)} {
		h.do(t, "GET", "/v1/kv/ks/"+bad, "").problem(t, 400, "bad_key")
	}
	h.do(t, "GET", "/v1/kv/../../healthz", "").problem(t, 404, "keyspace_unknown")
	h.do(t, "GET", "/v1/kv/KS/k", "").problem(t, 404, "keyspace_unknown")
	h.do(t, "PUT", "/v1/kv/nowhere/k", "v").problem(t, 404, "keyspace_unknown")
	h.do(t, "GET", "/v1/%6bv/ks/k", "").problem(t, 404, "not_found")
	h.do(t, "GET", "/v1/kv/ks/a#b", "").problem(t, 400, "bad_request")
}

func TestRoutes(t *testing.T) {
	h := start(t)
	h.do(t, "GET", "/nothing", "").problem(t, 404, "not_found")
	h.do(t, "POST", "/v1/cluster/join", "{}").problem(t, 404, "not_found")
	h.do(t, "PUT", "/v1/debug/cut", "{}").problem(t, 404, "not_found")
	for target, allow := range map[string]string{
		"/v1/kv/ks/k": "GET, HEAD, PUT, DELETE", "/v1/kv/ks": "GET, HEAD, POST", "/healthz": "GET, HEAD", "/v1/keyspaces/ks/resolver/try": "POST",
	} {
		for _, method := range []string{"PATCH", "OPTIONS", "BREW"} {
			a := h.do(t, method, target, "")
			a.problem(t, 405, "method_not_allowed")
			if a.Header.Get("Allow") != allow {
				t.Errorf("%s: Allow %q", target, a.Header.Get("Allow"))
			}
		}
	}
	h.do(t, "OPTIONS", "*", "").problem(t, 400, "bad_request")
}

// Requests whose end can be read in two ways, or not at all, are refused and end the connection.
func TestFraming(t *testing.T) {
	h := start(t)
	for name, c := range map[string]struct {
		raw    string
		status int
	}{
		"length and chunks":     {"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"chunks and length":     {"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400},
		"identity":              {"Transfer-Encoding: identity\r\n\r\n", 400},
		"identity and length":   {"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", 400},
		"chunked twice":         {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"list of codings":       {"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400},
		"two lengths":           {"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400},
		"other lengths":         {"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400},
		"list of lengths":       {"Content-Length: 3, 3\r\n\r\nabc", 400},
		"negative length":       {"Content-Length: -1\r\n\r\n", 400},
		"signed length":         {"Content-Length: +3\r\n\r\nabc", 400},
		"hex length":            {"Content-Length: 0x3\r\n\r\nabc", 400},
		"huge length":           {"Content-Length: 99999999999999999999999\r\n\r\n", 400},
		"empty length":          {"Content-Length: \r\n\r\n", 400},
		"space before colon":    {"Content-Length : 3\r\n\r\nabc", 400},
		"space before coding":   {"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400},
		"folded header":         {"X-A: 1\r\n 2\r\nContent-Length: 3\r\n\r\nabc", 400},
		"folded length":         {"Content-Length: 3\r\n 4\r\n\r\nabc", 400},
		"no colon":              {"Nonsense\r\n\r\n", 400},
		"two hosts":             {"Host: y\r\n\r\n", 400},
		"bad chunk size":        {"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", 400},
		"negative chunk size":   {"Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n", 400},
		"huge chunk size":       {"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", 400},
		"chunk beyond its size": {"Transfer-Encoding: chunked\r\n\r\n2\r\nabcdef\r\n0\r\n\r\n", 400},
		"newline in extension":  {"Transfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n", 400},
		"a byte too many":       {"Content-Length: 20001\r\n\r\n", 413},
		"far too many":          {"Content-Length: 2000000000\r\n\r\n", 413},
	} {
		t.Run(name, func(t *testing.T) {
			w := dial(t, h.addr)
			w.send("PUT /v1/kv/ks/framing HTTP/1.1\r\nHost: x\r\n%s", c.raw)
			a := w.read("PUT")
			code := "bad_request"
			if c.status == 413 {
				code = "too_large"
			}
			a.problem(t, c.status, code)
			if a.Header.Get("X-Dynamo-Node") != "n1" || a.Header.Get("X-Request-Id") == "" || !a.Close {
				t.Errorf("headers %v", a.Header)
			}
			w.ended()
		})
	}
	if len(h.kv.objects) != 0 {
		t.Errorf("something was stored: %v", h.kv.objects)
	}
	w := dial(t, h.addr)
	w.send("PUT /v1/kv/ks/k HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	w.read("PUT").problem(t, 400, "bad_request")
	w = dial(t, h.addr)
	w.send("GET /v1/kv/ks/k HTTP/1.1\r\n\r\n")
	w.read("GET").problem(t, 400, "bad_request")
	w = dial(t, h.addr)
	w.send("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
	w.read("GET").problem(t, 400, "bad_request")
}

func TestBodyOnARequestWithoutOne(t *testing.T) {
	h := start(t)
	for _, body := range []string{"Content-Length: 30\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"} {
		w := dial(t, h.addr)
		w.send("GET /healthz HTTP/1.1\r\nHost: x\r\n%s", body)
		w.read("GET").want(t, 200)
		w.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		w.ended()
	}
}

func TestChunkedValue(t *testing.T) {
	h := start(t)
	w := dial(t, h.addr)
	put := func(chunks ...string) answer {
		w.send("PUT /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
		for _, c := range chunks {
			w.send("%x\r\n%s\r\n", len(c), c)
		}
		w.send("0\r\n\r\n")
		return w.read("PUT")
	}
	put("hello ", "world").want(t, 204)
	put().want(t, 204)
	put(strings.Repeat("x", 15_000), strings.Repeat("y", 5000)).want(t, 204)
	put(strings.Repeat("x", 15_000), strings.Repeat("y", 5001)).problem(t, 413, "too_large")
	w.ended()
	if n := len(h.kv.objects["ks/k"].Versions); n != 3 {
		t.Errorf("%d versions stored", n)
	}
}

// A chunked body that never ends is cut off at the limit, not at its end.
func TestEndlessBody(t *testing.T) {
	h := start(t)
	w := dial(t, h.addr)
	w.send("PUT /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	chunk := fmt.Sprintf("%x\r\n%s\r\n", 4096, strings.Repeat("x", 4096))
	for range 6 {
		w.send("%s", chunk)
	}
	w.read("PUT").problem(t, 413, "too_large")
	w.ended()
}

// The refusal of a body that is too large arrives although the client sends it all.
func TestTooLargeBodyIsAnswered(t *testing.T) {
	h := start(t)
	w := dial(t, h.addr)
	w.send("PUT /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n")
	w.send("%s", strings.Repeat("x", 8_000_000))
	w.read("PUT").problem(t, 413, "too_large")
	w.ended()
	h.do(t, "PUT", "/v1/kv/ks/k", strings.Repeat("x", 20_000)).want(t, 204)
	if a := h.do(t, "GET", "/v1/kv/ks/k", ""); len(a.body) != 20_000 {
		t.Errorf("%d bytes came back", len(a.body))
	}
}

func TestExpectContinue(t *testing.T) {
	h := start(t)
	w := dial(t, h.addr)
	w.send("PUT /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
	if line, err := w.r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("%q, %v", line, err)
	}
	if line, err := w.r.ReadString('\n'); err != nil || line != "\r\n" {
		t.Fatalf("%q, %v", line, err)
	}
	w.send("abc").read("PUT").want(t, 204)
	for target, code := range map[string]string{"/v1/kv/ks/k": "too_large", "/v1/kv/nowhere/k": "keyspace_unknown", "/v1/kv/ks/%": "bad_key"} {
		w := dial(t, h.addr)
		w.send("PUT %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 20001\r\n\r\n", target)
		a := w.read("PUT") // a "100 Continue" would be read here
		a.problem(t, a.StatusCode, code)
		if a.StatusCode < 400 {
			t.Errorf("%s: %d", target, a.StatusCode)
		}
		w.ended()
	}
}

func TestTruncatedBody(t *testing.T) {
	h := start(t)
	for _, raw := range []string{"Content-Length: 10\r\n\r\nabc", "Content-Length: 15000\r\n\r\n" + strings.Repeat("x", 14_999), "Transfer-Encoding: chunked\r\n\r\n5\r\nab", "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"} {
		w := dial(t, h.addr)
		w.send("PUT /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\n%s", raw)
		if err := w.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		w.read("PUT").problem(t, 400, "bad_request")
		w.ended()
	}
	if len(h.kv.objects) != 0 {
		t.Error("a truncated value was stored")
	}
}

func TestHeaderLimit(t *testing.T) {
	h := start(t)
	for _, raw := range []string{
		"GET /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", 17_000) + "\r\n\r\n",
		"GET /v1/kv/ks/" + strings.Repeat("a", 17_000) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		strings.Repeat("a", 40_000),
	} {
		w := dial(t, h.addr)
		w.send("%s", raw)
		w.read("GET").problem(t, 431, "too_large")
		w.ended()
	}
	h.do(t, "GET", "/v1/kv/ks/k", "", "X-A: "+strings.Repeat("a", 15_000)).want(t, 404)
}

func TestSlowClients(t *testing.T) {
	h := start(t, func(o *Options) { o.Limits.ClientTimeout = 100 * time.Millisecond })
	for name, raw := range map[string]string{
		"nothing": "", "half a header": "GET /v1/kv/ks/k HT", "half a body": "PUT /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
		"half a large body": "PUT /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\nContent-Length: 15000\r\n\r\n" + strings.Repeat("x", 10_000),
		"half a chunk":      "PUT /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
		"half a chunk size": "PUT /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5",
		"no last chunk":     "PUT /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := dial(t, h.addr)
			w.send("%s", raw)
			w.read("PUT").problem(t, 408, "bad_request")
			w.ended()
		})
	}
	w := dial(t, h.addr)
	w.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	w.read("GET").want(t, 200)
	w.ended() // an idle connection goes without a word
}

func TestPipelining(t *testing.T) {
	h := start(t)
	w := dial(t, h.addr)
	w.send("PUT /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nv1" +
		"GET /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\nX-Request-Id: second\r\n\r\n" +
		"PUT /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nv2\r\n0\r\n\r\n" +
		"GET /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\n\r\n")
	w.read("PUT").want(t, 204)
	if a := w.read("GET").want(t, 200); string(a.body) != "v1" || a.Header.Get("X-Request-Id") != "second" {
		t.Errorf("%q %v", a.body, a.Header)
	}
	w.read("PUT").want(t, 204)
	w.read("GET").want(t, 300)
}

func TestRequestIDs(t *testing.T) {
	h := start(t)
	for sent, kept := range map[string]bool{"abc-1": true, strings.Repeat("x", 128): true, strings.Repeat("x", 129): false, "é": false, "": false} {
		got := h.do(t, "GET", "/healthz", "", "X-Request-Id: "+sent).Header.Get("X-Request-Id")
		if (got == sent) != kept || got == "" {
			t.Errorf("%q: %q", sent, got)
		}
	}
}

func TestMarkerIsNotForClients(t *testing.T) {
	h := start(t)
	h.do(t, "PUT", "/v1/kv/ks/k", "v", headerRefused+": 1").want(t, 204)
}

func TestTooManyConnections(t *testing.T) {
	h := start(t, func(o *Options) { o.Limits.MaxConnections = 2 })
	in := []*wire{dial(t, h.addr), dial(t, h.addr)}
	for _, w := range in {
		w.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").read("GET").want(t, 200)
	}
	out := dial(t, h.addr)
	a := out.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").read("GET")
	a.problem(t, 503, "overloaded")
	if a.Header.Get("Retry-After") == "" || a.Header.Get("X-Dynamo-Node") != "n1" {
		t.Errorf("%v", a.Header)
	}
	out.ended()
	in[0].Close()
	// Its place becomes free as soon as the server has noticed.
	for deadline := time.Now().Add(5 * time.Second); ; {
		w := dial(t, h.addr)
		if w.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").read("GET").StatusCode == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the place is not given back")
		}
	}
}

func TestTooManyRequests(t *testing.T) {
	h := start(t, func(o *Options) { o.Limits.MaxInflightRequests = 1 })
	entered, leave := make(chan struct{}), make(chan struct{})
	h.kv.setBefore(func(context.Context, []byte) error {
		entered <- struct{}{}
		<-leave
		return nil
	})
	w := dial(t, h.addr)
	w.send("GET /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	a := h.do(t, "GET", "/v1/kv/ks/k", "")
	if m := a.problem(t, 503, "overloaded"); m["retryable"] != true || a.Header.Get("Retry-After") == "" {
		t.Errorf("%v", m)
	}
	h.do(t, "GET", "/healthz", "").want(t, 200)
	h.do(t, "GET", "/metrics", "").want(t, 200)
	close(leave)
	w.read("GET").want(t, 404)
	h.kv.setBefore(nil)
	h.do(t, "GET", "/v1/kv/ks/k", "").want(t, 404)
}

func inWork(g *admission.Gate) int {
	work, _ := g.Load()
	return work
}

// TestBodiesAreBounded: what the bodies of all requests take together is bounded, and given back.
func TestBodiesAreBounded(t *testing.T) {
	h := start(t, func(o *Options) { o.Limits.MaxValueBytes, o.Limits.MaxInflightBytes = 20_000, 30_000 })
	entered, leave := make(chan struct{}), make(chan struct{})
	h.kv.setBefore(func(context.Context, []byte) error {
		entered <- struct{}{}
		<-leave
		return nil
	})
	body := strings.Repeat("x", 18_000)
	w := dial(t, h.addr)
	w.send("PUT /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	<-entered
	a := h.do(t, "PUT", "/v1/kv/ks/l", body)
	if m := a.problem(t, 503, "overloaded"); m["maybe_stored"] != false || a.Header.Get("Retry-After") == "" {
		t.Errorf("%v", m)
	}
	close(leave)
	w.read("PUT").want(t, 204)
	h.kv.setBefore(nil)
	h.do(t, "PUT", "/v1/kv/ks/l", body).want(t, 204)
	if n := h.bodies.Taken(); n != 0 {
		t.Errorf("%d bytes are still taken", n)
	}
}

// failingListener fails a few times as if file descriptors had run out.
type failingListener struct {
	net.Listener
	failures chan error
}

func (l failingListener) Accept() (net.Conn, error) {
	select {
	case err := <-l.failures:
		return nil, err
	default:
		return l.Listener.Accept()
	}
}

func TestAcceptSurvivesErrors(t *testing.T) {
	failures := make(chan error, 2)
	failures <- errors.New("too many open files")
	failures <- errors.New("too many open files")
	h := start(t, func(o *Options) { o.Listener = failingListener{o.Listener, failures} })
	h.do(t, "GET", "/healthz", "").want(t, 200)
}

func TestCloseDrains(t *testing.T) {
	h := start(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	h.kv.setBefore(func(context.Context, []byte) error {
		entered <- struct{}{}
		<-leave
		return nil
	})
	fresh, idle := dial(t, h.addr), dial(t, h.addr)
	idle.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").read("GET").want(t, 200)
	w := dial(t, h.addr)
	w.send("PUT /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nv")
	<-entered
	closed := make(chan error)
	go func() { closed <- h.Close(context.Background()) }()
	fresh.ended()
	idle.ended()
	close(leave)
	if a := w.read("PUT").want(t, 204); !a.Close {
		t.Error("the last answer does not say that the connection ends")
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", h.addr); err == nil {
		t.Error("the listener is still open")
	}
}

func TestCloseCutsOff(t *testing.T) {
	h := start(t)
	entered := make(chan struct{})
	h.kv.setBefore(func(ctx context.Context, _ []byte) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	})
	w := dial(t, h.addr)
	w.send("GET /v1/kv/ks/k?timeout=30s HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := h.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if _, err := io.ReadAll(w.r); err != nil {
		t.Logf("cut off with %v", err)
	}
	if inWork(h.gate) != 0 {
		t.Error("a request is still at work")
	}
}

func TestCloseAtOnce(t *testing.T) {
	for range 20 {
		h := start(t)
		if err := h.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestServeRefusesBadOptions(t *testing.T) {
	if _, err := Serve(Options{}); err == nil {
		t.Error("no options are taken")
	}
}

func TestReadUpTo(t *testing.T) {
	for _, c := range []struct {
		body          string
		length, limit int
		err           error
	}{
		{"", 0, 10, nil},
		{"abc", 3, 3, nil},
		{"abc", -1, 3, nil},
		{"abcd", -1, 3, errTooLong},
		{"ab", 3, 3, io.ErrUnexpectedEOF},
		{strings.Repeat("x", 300_000), -1, 300_000, nil},
		{strings.Repeat("x", 300_001), -1, 300_000, errTooLong},
		{strings.Repeat("x", 300_000), 300_000, 1 << 30, nil},
	} {
		b, err := readUpTo(strings.NewReader(c.body), c.length, c.limit, func(int) bool { return true })
		if !errors.Is(err, c.err) || (err == nil && string(b) != c.body) {
			t.Errorf("%d of %d up to %d: %d, %v", len(c.body), c.length, c.limit, len(b), err)
		}
	}
}

func TestStatusOfUnknownCode(t *testing.T) {
	if statusOf(coordinator.Code("new")) != 500 {
		t.Error("an unknown code is no 500")
	}
}
