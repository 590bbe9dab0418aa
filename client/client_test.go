package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// node answers like one node of a cluster.
func node(t *testing.T, answer http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	// The first endpoint takes no connections: the client must go on to the next.
	c, err := New(Options{Endpoints: []string{"http://127.0.0.1:1", s.URL + "/"}, Token: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPathEncodesEveryByte(t *testing.T) {
	for key, want := range map[string]string{
		"a/b": "/v1/kv/ks/a%2Fb", "..": "/v1/kv/ks/%2E%2E", ".": "/v1/kv/ks/%2E", "a.b": "/v1/kv/ks/a.b", "\x00\xff": "/v1/kv/ks/%00%FF", "a b?#%": "/v1/kv/ks/a%20b%3F%23%25",
	} {
		if got := Path("kv", "ks", key); got != want {
			t.Errorf("%q: %s, want %s", key, got, want)
		}
	}
}

func TestGet(t *testing.T) {
	c := node(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set(HeaderContext, "ctx")
		switch r.URL.Path {
		case "/v1/kv/ks/one":
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set(HeaderSiblings, "2")
			w.Header().Set(HeaderMerged, "sha")
			_, _ = io.WriteString(w, "value")
		case "/v1/kv/ks/siblings":
			w.WriteHeader(http.StatusMultipleChoices)
			_, _ = io.WriteString(w, `{"siblings":[{"value_base64":"YQ=="},{"value_base64":"","deleted":true}]}`)
		case "/v1/kv/ks/gone":
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"status":404,"code":"not_found"}`)
		default:
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"status":503,"code":"quorum_unmet","maybe_stored":true,"retryable":true}`)
		}
	})
	get := func(key string) (Value, error) { return c.Get(t.Context(), "ks", key, CallOptions{R: "all"}) }
	if v, err := get("one"); err != nil || !v.Found || string(v.Bytes) != "value" || v.Count != 2 || v.Merged != "sha" || v.Context != "ctx" {
		t.Fatalf("%+v, %v", v, err)
	}
	if v, err := get("siblings"); err != nil || len(v.Siblings) != 2 || string(v.Siblings[0].Value) != "a" || !v.Siblings[1].Deleted {
		t.Fatalf("%+v, %v", v, err)
	}
	if v, err := get("gone"); err != nil || v.Found || v.Context != "ctx" {
		t.Fatalf("%+v, %v", v, err)
	}
	_, err := get("down")
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != "quorum_unmet" || !e.MaybeStored || !e.Retryable {
		t.Fatalf("%v", err)
	}
}

func TestPutSendsWhatItIsGiven(t *testing.T) {
	var got *http.Request
	var body string
	c := node(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, body = r, string(b)
		w.Header().Set(HeaderContext, "next")
		w.WriteHeader(http.StatusNoContent)
	})
	token, err := c.Put(t.Context(), "ks", "a/b", []byte("v"), CallOptions{W: "quorum", Context: "ctx", ContentType: "text/plain", IfNoneMatch: true})
	if err != nil || token != "next" || body != "v" || got.URL.RawQuery != "w=quorum" || got.RequestURI != "/v1/kv/ks/a%2Fb?w=quorum" {
		t.Fatalf("%q %v %q %s", token, err, body, got.RequestURI)
	}
	if h := got.Header; h.Get(HeaderContext) != "ctx" || h.Get("Content-Type") != "text/plain" || h.Get("If-None-Match") != "*" {
		t.Fatalf("%v", h)
	}
}

func TestListDecodesKeys(t *testing.T) {
	c := node(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"keys":[{"key":"a"},{"key_base64":"/w=="}],"next":"b"}`)
	})
	p, err := c.List(t.Context(), "ks", "", "", 10)
	if err != nil || strings.Join(p.Keys, "|") != "a|\xff" || p.Next != "b" {
		t.Fatalf("%+v, %v", p, err)
	}
}

func TestBadEndpoints(t *testing.T) {
	for _, e := range [][]string{nil, {"localhost:7101"}, {"ftp://x"}, {"http://"}} {
		if _, err := New(Options{Endpoints: e}); err == nil {
			t.Errorf("%v is taken", e)
		}
	}
	c, err := New(Options{Endpoints: []string{"http://127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Get(ctx, "ks", "k", CallOptions{}); err == nil {
		t.Fatal("an answer from nowhere")
	}
}
