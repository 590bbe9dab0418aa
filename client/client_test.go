package client

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// serve answers every request with h and returns a client of it.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return newClient(t, s.URL)
}

func newClient(t *testing.T, endpoints ...string) *Client {
	t.Helper()
	c, err := New(Options{Endpoints: endpoints, Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// closedEndpoint is an address where nobody listens.
func closedEndpoint(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // that it ends is all that counts
	return "http://" + l.Addr().String()
}

// breaking takes a request and hangs up without an answer; it counts the requests.
func breaking(t *testing.T) (endpoint string, taken *atomic.Int32) {
	t.Helper()
	taken = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		taken.Add(1)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = conn.Close() // hanging up is the point
	}))
	t.Cleanup(s.Close)
	return s.URL, taken
}

func problem(w http.ResponseWriter, status int, e Error) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(e) // the client sees what is missing
}

func TestNewRefuses(t *testing.T) {
	for _, endpoints := range [][]string{nil, {""}, {"127.0.0.1:7101"}, {"ftp://host"}, {"http://"}, {"http://ok:1", "%"}} {
		if _, err := New(Options{Endpoints: endpoints}); err == nil {
			t.Errorf("%q is taken", endpoints)
		}
	}
}

func TestNewLeavesTheCallersSliceAlone(t *testing.T) {
	endpoints := []string{"http://a:1/"}
	newClient(t, endpoints...)
	if _, err := New(Options{Endpoints: endpoints}); err != nil || endpoints[0] != "http://a:1/" {
		t.Errorf("%q, %v", endpoints, err)
	}
}

// Every byte of a key must arrive, whatever a URL makes of it.
func TestKeysArriveAsTheyAre(t *testing.T) {
	var got string
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) { got = r.RequestURI })
	for _, key := range []string{"a", ".", "..", "a/../b", "//", "\x00\xff", "a b+c%2F?#", "äß", "a.b", strings.Repeat(".", 9)} {
		if _, err := c.Put(t.Context(), "ks", key, nil, CallOptions{}); err != nil {
			t.Fatal(err)
		}
		rest, ok := strings.CutPrefix(got, "/v1/kv/ks/")
		back, err := url.PathUnescape(rest)
		if !ok || err != nil || back != key || rest == "." || rest == ".." || strings.Contains(rest, "/") {
			t.Errorf("key %q went as %q", key, got)
		}
	}
}

func TestPut(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		for what, pair := range map[string][2]string{
			"method":        {r.Method, "PUT"},
			"body":          {string(body), "value"},
			"query":         {r.URL.RawQuery, "r=1&timeout=1.5s&w=all"},
			"context":       {r.Header.Get(HeaderContext), "seen"},
			"content type":  {r.Header.Get("Content-Type"), "text/plain"},
			"if-match":      {r.Header.Get("If-Match"), `"e"`},
			"if-none-match": {r.Header.Get("If-None-Match"), "*"},
			"authorization": {r.Header.Get("Authorization"), "Bearer secret"},
		} {
			if pair[0] != pair[1] {
				t.Errorf("%s: %q, want %q", what, pair[0], pair[1])
			}
		}
		w.Header().Set(HeaderContext, "next")
		w.WriteHeader(http.StatusNoContent)
	})
	token, err := c.Put(t.Context(), "ks", "k", []byte("value"), CallOptions{
		R: "1", W: "all", Timeout: 1500 * time.Millisecond, Context: "seen", ContentType: "text/plain", IfMatch: `"e"`, IfNoneMatch: true,
	})
	if err != nil || token != "next" {
		t.Errorf("%q, %v", token, err)
	}
}

func TestDelete(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodDelete || r.Header.Get(HeaderContext) != "seen" {
			t.Errorf("%s %v", r.Method, r.Header)
		}
		w.Header().Set(HeaderContext, "next")
		w.WriteHeader(http.StatusNoContent)
	})
	if token, err := c.Delete(t.Context(), "ks", "k", CallOptions{Context: "seen"}); err != nil || token != "next" {
		t.Errorf("%q, %v", token, err)
	}
}

func TestGet(t *testing.T) {
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(HeaderContext, "ctx")
		switch r.URL.Path {
		case "/v1/kv/ks/one":
			w.Header().Set(HeaderSiblings, "2")
			w.Header().Set(HeaderMerged, "sha")
			w.Header().Set("ETag", `"e"`)
			w.Header().Set("Content-Type", "text/plain")
			_, _ = w.Write([]byte("value")) // the client sees what is missing
		case "/v1/kv/ks/many":
			if r.URL.Query().Get("resolve") != "false" || r.Header.Get("Accept") != "application/json" {
				t.Errorf("%s %v", r.URL, r.Header)
			}
			w.Header().Set(HeaderResolverError, "trap")
			w.WriteHeader(http.StatusMultipleChoices)
			_ = json.NewEncoder(w).Encode(map[string]any{"context": "ctx", "siblings": []Sibling{
				{Value: []byte("a"), ContentType: "x/y", Time: when}, {Deleted: true, Time: when},
			}})
		case "/v1/kv/ks/bad":
			w.WriteHeader(http.StatusMultipleChoices)
			_, _ = w.Write([]byte("no json")) // the client sees what is missing
		case "/v1/kv/ks/gone":
			problem(w, http.StatusNotFound, Error{Code: "not_found", Status: 404})
		default:
			problem(w, http.StatusNotFound, Error{Code: "keyspace_unknown", Status: 404, Detail: "no keyspace"})
		}
	})
	v, err := c.Get(t.Context(), "ks", "one", CallOptions{})
	if err != nil || !v.Found || string(v.Bytes) != "value" || v.Context != "ctx" || v.Count != 2 || v.Merged != "sha" || v.ETag != `"e"` || v.ContentType != "text/plain" {
		t.Errorf("one: %+v, %v", v, err)
	}
	v, err = c.Get(t.Context(), "ks", "many", CallOptions{Raw: true})
	if err != nil || !v.Found || v.Bytes != nil || v.ResolverError != "trap" || len(v.Siblings) != 2 ||
		string(v.Siblings[0].Value) != "a" || !v.Siblings[0].Time.Equal(when) || !v.Siblings[1].Deleted {
		t.Errorf("many: %+v, %v", v, err)
	}
	if v, err = c.Get(t.Context(), "ks", "gone", CallOptions{}); err != nil || v.Found || v.Context != "ctx" {
		t.Errorf("gone: %+v, %v", v, err)
	}
	if _, err = c.Get(t.Context(), "ks", "bad", CallOptions{}); err == nil {
		t.Error("siblings that are no JSON are taken")
	}
	if e, ok := errors.AsType[*Error](second(c.Get(t.Context(), "other", "k", CallOptions{}))); !ok || e.Code != "keyspace_unknown" {
		t.Errorf("an unknown keyspace is taken for an absent key: %v", e)
	}
}

func second(_ Value, err error) error { return err }

func TestProblems(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/plain":
			w.WriteHeader(http.StatusBadGateway)
		case "/v1/lie":
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte("{")) // a problem that is none
		default:
			problem(w, http.StatusServiceUnavailable, Error{Status: 503, Code: "quorum_unmet", Detail: "1 of 2", Retryable: true, MaybeStored: true})
		}
	})
	call := func(path string) error { return c.JSON(t.Context(), Request{Method: "GET", Path: path}, nil) }
	e, ok := errors.AsType[*Error](call("/v1/x"))
	if !ok || e.Status != 503 || !e.Retryable || !e.MaybeStored || e.Error() != "quorum_unmet (503): 1 of 2" {
		t.Errorf("%+v", e)
	}
	if e, ok := errors.AsType[*Error](call("/v1/plain")); !ok || e.Error() != "HTTP 502 Bad Gateway" {
		t.Errorf("%+v", e)
	}
	if err := call("/v1/lie"); err == nil || !strings.Contains(err.Error(), "no JSON") {
		t.Errorf("%v", err)
	}
}

func TestListCarriesEveryKey(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.Query().Encode(); got != "after=a%FF&limit=7&prefix=p" {
			t.Errorf("query %s", got)
		}
		_, _ = w.Write([]byte(`{"keys":[{"key":"plain"},{"key":""},{"key_base64":"/wA="}],"next":"n"}`)) // the client sees what is missing
	})
	p, err := c.List(t.Context(), "ks", "p", "a\xff", 7)
	if err != nil || !slices.Equal(p.Keys, []string{"plain", "", "\xff\x00"}) || p.Next != "n" {
		t.Errorf("%q, %v", p, err)
	}
	c = serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"keys":[{"key_base64":"?"}],"next":null}`)) // not base64
	})
	if _, err := c.List(t.Context(), "ks", "", "", 0); err == nil {
		t.Error("a key that is no base64 is taken")
	}
}

// What did not arrive goes to the next endpoint, reads and writes alike.
func TestNextEndpointTakesWhatDidNotArrive(t *testing.T) {
	var taken atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		taken.Add(1)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(s.Close)
	c := newClient(t, closedEndpoint(t), s.URL, closedEndpoint(t))
	for i := range 6 {
		if _, err := c.Put(t.Context(), "ks", "k", nil, CallOptions{}); err != nil {
			t.Errorf("put %d: %v", i, err)
		}
	}
	if taken.Load() != 6 {
		t.Errorf("%d of 6 puts arrived", taken.Load())
	}
}

// A write that may have been carried out is not sent again; a read is.
func TestBrokenWriteIsNotRepeated(t *testing.T) {
	first, one := breaking(t)
	next, two := breaking(t)
	c := newClient(t, first, next)
	if _, err := c.Put(t.Context(), "ks", "k", []byte("v"), CallOptions{}); err == nil {
		t.Fatal("a put without an answer is a success")
	}
	if n := one.Load() + two.Load(); n != 1 {
		t.Errorf("the put was sent %d times", n)
	}
	_, err := c.Get(t.Context(), "ks", "k", CallOptions{})
	if err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("get: %v", err)
	}
	if one.Load() == 0 || two.Load() == 0 {
		t.Errorf("the get did not try both: %d, %d", one.Load(), two.Load())
	}
}

// A problem is an answer: no other endpoint is asked.
func TestProblemIsFinal(t *testing.T) {
	var asked atomic.Int32
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		problem(w, http.StatusConflict, Error{Code: "conflict", Status: 409})
	})
	a, b := httptest.NewServer(h), httptest.NewServer(h)
	t.Cleanup(a.Close)
	t.Cleanup(b.Close)
	_, err := newClient(t, a.URL, b.URL).Get(t.Context(), "ks", "k", CallOptions{})
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != "conflict" || asked.Load() != 1 {
		t.Errorf("%v after %d requests", err, asked.Load())
	}
}
