package api

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// wire is one raw connection: nothing between the test and the server's parser.
type wire struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, addr string) *wire {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &wire{t, c, bufio.NewReader(c)}
}

func (w *wire) send(format string, args ...any) *wire {
	w.t.Helper()
	if _, err := fmt.Fprintf(w.Conn, format, args...); err != nil {
		w.t.Fatalf("send: %v", err)
	}
	return w
}

type answer struct {
	*http.Response
	body []byte
}

// read reads one answer to a request of this method.
func (w *wire) read(method string) answer {
	w.t.Helper()
	resp, err := http.ReadResponse(w.r, &http.Request{Method: method})
	if err != nil {
		w.t.Fatalf("read answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("read body: %v", err)
	}
	return answer{resp, body}
}

// ended fails unless the server closes the connection without another answer.
func (w *wire) ended() {
	w.t.Helper()
	if b, err := io.ReadAll(w.r); err != nil || len(b) > 0 {
		w.t.Errorf("the connection goes on: %q, %v", b, err)
	}
}

// do sends one request with the raw target as it is. Headers are "Name: value" lines.
func (h *house) do(t testing.TB, method, target, body string, headers ...string) answer {
	t.Helper()
	w := dial(t, h.addr)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: x\r\n", method, target)
	if body != "" || method == "PUT" || method == "POST" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	for _, l := range headers {
		b.WriteString(l + "\r\n")
	}
	b.WriteString("Connection: close\r\n\r\n" + body)
	w.send("%s", b.String())
	a := w.read(method)
	if a.Header.Get("X-Dynamo-Node") != "n1" || a.Header.Get("X-Request-Id") == "" {
		t.Errorf("%s %s: %d lacks X-Dynamo-Node or X-Request-Id: %v", method, target, a.StatusCode, a.Header)
	}
	return a
}

func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.StatusCode != status {
		t.Fatalf("status %d, want %d: %s", a.StatusCode, status, a.body)
	}
	return a
}

// problem fails unless the answer is this problem.
func (a answer) problem(t testing.TB, status int, code string) map[string]any {
	t.Helper()
	a.want(t, status)
	if ct := a.Header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("content type %q", ct)
	}
	m := map[string]any{}
	if err := json.Unmarshal(a.body, &m); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	if m["code"] != code || m["status"] != float64(status) || m["title"] == "" || m["detail"] == "" || m["type"] != "about:blank" {
		t.Errorf("problem %s, want %d %s", a.body, status, code)
	}
	if m["request_id"] != a.Header.Get("X-Request-Id") {
		t.Errorf("request_id %v, header %s", m["request_id"], a.Header.Get("X-Request-Id"))
	}
	return m
}

func (a answer) json(t testing.TB, into any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}
