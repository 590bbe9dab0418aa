package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"testing"
	"time"

	"dynamo/node/causal"
	"dynamo/node/coordinator"
)

func TestPutGetDelete(t *testing.T) {
	h := start(t)
	h.do(t, "GET", "/v1/kv/ks/k", "").problem(t, 404, "not_found")
	put := h.do(t, "PUT", "/v1/kv/ks/k", "v\x00\r\n", "Content-Type: text/plain; charset=latin-1").want(t, 204)
	if put.Header.Get("X-Dynamo-Context") == "" || put.Header.Get("ETag") == "" || len(put.body) > 0 || put.Header.Get("Content-Length") != "" {
		t.Errorf("put: %v %q", put.Header, put.body)
	}
	get := h.do(t, "GET", "/v1/kv/ks/k", "").want(t, 200)
	for name, want := range map[string]string{
		"Content-Type": "text/plain; charset=latin-1", "ETag": put.Header.Get("ETag"), "X-Dynamo-Context": put.Header.Get("X-Dynamo-Context"),
		"X-Dynamo-Siblings": "1", "X-Dynamo-Merged": "", "X-Dynamo-Resolver-Error": "", "Content-Length": "4",
		"Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT",
	} {
		if got := get.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if string(get.body) != "v\x00\r\n" {
		t.Errorf("value %q", get.body)
	}
	head := h.do(t, "HEAD", "/v1/kv/ks/k", "").want(t, 200)
	for name := range get.Header {
		if name != "X-Request-Id" && name != "Date" && head.Header.Get(name) != get.Header.Get(name) {
			t.Errorf("HEAD: %s is %q", name, head.Header.Get(name))
		}
	}
	del := h.do(t, "DELETE", "/v1/kv/ks/k", "", "X-Dynamo-Context: "+get.Header.Get("X-Dynamo-Context")).want(t, 204)
	if del.Header.Get("X-Dynamo-Context") == "" {
		t.Error("a delete gives no context")
	}
	gone := h.do(t, "GET", "/v1/kv/ks/k", "")
	gone.problem(t, 404, "not_found")
	if gone.Header.Get("X-Dynamo-Context") == "" {
		t.Error("a deleted key has no context")
	}
	if h.do(t, "GET", "/v1/kv/ks/never", "").Header.Get("X-Dynamo-Context") != "" {
		t.Error("a key that never was has a context")
	}
	if head := h.do(t, "HEAD", "/v1/kv/ks/k", "").want(t, 404); head.Header.Get("X-Dynamo-Context") == "" || len(head.body) > 0 {
		t.Errorf("HEAD of a deleted key: %v", head.Header)
	}
}

func TestContentTypes(t *testing.T) {
	h := start(t)
	h.do(t, "PUT", "/v1/kv/ks/none", "v").want(t, 204)
	h.do(t, "PUT", "/v1/kv/ks/form", "v", "Content-Type: application/x-www-form-urlencoded").want(t, 204)
	h.do(t, "PUT", "/v1/kv/ks/multi", "--b--", "Content-Type: multipart/form-data; boundary=b").want(t, 204)
	for key, want := range map[string]string{
		"none": "application/octet-stream", "form": "application/x-www-form-urlencoded", "multi": "multipart/form-data; boundary=b",
	} {
		if got := h.do(t, "GET", "/v1/kv/ks/"+key, "").Header.Get("Content-Type"); got != want {
			t.Errorf("%s: %q", key, got)
		}
	}
	if got := h.do(t, "GET", "/v1/kv/ks/multi", "").body; string(got) != "--b--" {
		t.Errorf("a multipart value became %q", got)
	}
	h.do(t, "PUT", "/v1/kv/ks/k", "v", "Content-Type: "+strings.Repeat("x", 256)).problem(t, 400, "bad_request")
	h.do(t, "PUT", "/v1/kv/ks/k", "v", "Content-Encoding: gzip").problem(t, 415, "unsupported_media_type")
	// What a resolver made up must not become a header of its own.
	h.kv.merge = func([]causal.Value) (causal.Value, error) {
		return causal.Value{Bytes: []byte("m"), ContentType: "a\r\nX-Evil: 1"}, nil
	}
	h.do(t, "PUT", "/v1/kv/ks/none", "v2").want(t, 204)
	if got := h.do(t, "GET", "/v1/kv/ks/none", "").Header; got.Get("X-Evil") != "" || got.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("headers %v", got)
	}
}

func TestEmptyValue(t *testing.T) {
	h := start(t)
	h.do(t, "PUT", "/v1/kv/ks/k", "").want(t, 204)
	for _, method := range []string{"GET", "HEAD"} {
		a := h.do(t, method, "/v1/kv/ks/k", "").want(t, 200)
		if a.Header.Get("Content-Length") != "0" || len(a.body) > 0 {
			t.Errorf("%s: %v %q", method, a.Header, a.body)
		}
	}
}

func conflict(t *testing.T, h *house, key string) {
	t.Helper()
	h.do(t, "PUT", "/v1/kv/ks/"+key, "one", "Content-Type: text/plain").want(t, 204)
	h.do(t, "PUT", "/v1/kv/ks/"+key, "two", "Content-Type: text/html").want(t, 204)
}

func TestSiblingsMultipart(t *testing.T) {
	h := start(t)
	conflict(t, h, "k")
	empty := causal.AppendContext(nil, nil)
	h.do(t, "DELETE", "/v1/kv/ks/k", "", "X-Dynamo-Context: "+seal64(empty)).want(t, 204)
	a := h.do(t, "GET", "/v1/kv/ks/k", "").want(t, 300)
	if a.Header.Get("X-Dynamo-Siblings") != "3" || a.Header.Get("X-Dynamo-Context") == "" || a.Header.Get("ETag") == "" || a.Header.Get("Vary") != "Accept" {
		t.Errorf("headers %v", a.Header)
	}
	kind, params, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/mixed" {
		t.Fatal(kind, err)
	}
	r := multipart.NewReader(bytes.NewReader(a.body), params["boundary"])
	var got []string
	for {
		p, err := r.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		v, err := io.ReadAll(p)
		if err != nil || p.Header.Get("Last-Modified") == "" {
			t.Fatal(p.Header, err)
		}
		got = append(got, fmt.Sprintf("%s|%s|%s", v, p.Header.Get("Content-Type"), p.Header.Get("X-Dynamo-Deleted")))
	}
	if want := "one|text/plain|,two|text/html|,|application/octet-stream|true"; strings.Join(got, ",") != want {
		t.Errorf("%q, want %q", got, want)
	}
	head := h.do(t, "HEAD", "/v1/kv/ks/k", "").want(t, 300)
	if head.Header.Get("Content-Length") != a.Header.Get("Content-Length") || len(head.body) > 0 {
		t.Errorf("HEAD: %v", head.Header)
	}
}

func seal64(b []byte) string {
	c, _, err := causal.DecodeContext(b)
	if err != nil || len(c) > 0 {
		panic("not the empty context")
	}
	return "AA"
}

func TestSiblingsJSON(t *testing.T) {
	h := start(t)
	conflict(t, h, "k")
	a := h.do(t, "GET", "/v1/kv/ks/k", "", "Accept: application/json").want(t, 300)
	var got struct {
		Context  string
		Siblings []struct {
			Value       []byte    `json:"value_base64"`
			ContentType string    `json:"content_type"`
			Time        time.Time `json:"time"`
			Deleted     bool      `json:"deleted"`
		}
	}
	a.json(t, &got)
	if got.Context != a.Header.Get("X-Dynamo-Context") || len(got.Siblings) != 2 || string(got.Siblings[0].Value) != "one" ||
		got.Siblings[1].ContentType != "text/html" || got.Siblings[0].Time.IsZero() {
		t.Errorf("%s", a.body)
	}
	// A write with the context of that read supersedes both.
	h.do(t, "PUT", "/v1/kv/ks/k", "three", "X-Dynamo-Context: "+got.Context).want(t, 204)
	if b := h.do(t, "GET", "/v1/kv/ks/k", "").want(t, 200); string(b.body) != "three" {
		t.Errorf("%s", b.body)
	}
	h.do(t, "PUT", "/v1/kv/ks/k", "x", "X-Dynamo-Context: nonsense!").problem(t, 400, "bad_context")
	h.do(t, "PUT", "/v1/kv/ks/k", "x", "X-Dynamo-Context: a", "X-Dynamo-Context: b").problem(t, 400, "bad_context")
}

func TestMergedAndRaw(t *testing.T) {
	h := start(t)
	conflict(t, h, "k")
	h.kv.merge = func(v []causal.Value) (causal.Value, error) {
		return causal.Value{Bytes: append(append([]byte{}, v[0].Bytes...), v[1].Bytes...), ContentType: "text/plain", TimeMs: v[1].TimeMs}, nil
	}
	a := h.do(t, "GET", "/v1/kv/ks/k", "").want(t, 200)
	if string(a.body) != "onetwo" || a.Header.Get("X-Dynamo-Siblings") != "2" || a.Header.Get("X-Dynamo-Merged") != "feed" {
		t.Errorf("%s %v", a.body, a.Header)
	}
	h.do(t, "GET", "/v1/kv/ks/k?resolve=false", "").want(t, 300)
	h.do(t, "GET", "/v1/kv/ks/k?resolve=true", "").want(t, 200)
	h.kv.merge = func([]causal.Value) (causal.Value, error) { return causal.Value{}, errors.New("out_of_fuel") }
	if a := h.do(t, "GET", "/v1/kv/ks/k", "").want(t, 300); a.Header.Get("X-Dynamo-Resolver-Error") != "out_of_fuel" {
		t.Errorf("%v", a.Header)
	}
	// return=value gives what a GET would have given.
	if a := h.do(t, "PUT", "/v1/kv/ks/k?return=value", "v", "Accept: application/json").want(t, 300); !json.Valid(a.body) || a.Header.Get("X-Dynamo-Siblings") != "3" {
		t.Errorf("%v %s", a.Header, a.body)
	}
	a = h.do(t, "PUT", "/v1/kv/ks/new?return=value", "v", "If-None-Match: *").want(t, 200)
	if string(a.body) != "v" || a.Header.Get("ETag") == "" || a.Header.Get("X-Dynamo-Context") == "" {
		t.Errorf("%v %s", a.Header, a.body)
	}
}

func TestConditions(t *testing.T) {
	h := start(t)
	etag := h.do(t, "PUT", "/v1/kv/ks/k", "v").Header.Get("ETag")
	for _, match := range []string{etag, "W/" + etag, "*", `"x", ` + etag} {
		a := h.do(t, "GET", "/v1/kv/ks/k", "", "If-None-Match: "+match).want(t, 304)
		if len(a.body) > 0 || a.Header.Get("ETag") != etag || a.Header.Get("X-Dynamo-Context") == "" {
			t.Errorf("%v %q", a.Header, a.body)
		}
	}
	h.do(t, "GET", "/v1/kv/ks/k", "", `If-None-Match: "x"`, "If-None-Match: "+etag).want(t, 304)
	h.do(t, "GET", "/v1/kv/ks/k", "", `If-None-Match: "x"`).want(t, 200)
	h.do(t, "GET", "/v1/kv/ks/none", "", "If-None-Match: *").want(t, 404)
	h.do(t, "PUT", "/v1/kv/ks/k", "v", "If-None-Match: *").problem(t, 412, "precondition_failed")
	h.do(t, "PUT", "/v1/kv/ks/k", "v", "If-None-Match: "+etag).problem(t, 400, "bad_request")
	h.do(t, "PUT", "/v1/kv/ks/k", "v", `If-Match: "x"`).problem(t, 412, "precondition_failed")
	h.do(t, "PUT", "/v1/kv/ks/k", "v", "If-Match: x").problem(t, 400, "bad_request")
	h.do(t, "PUT", "/v1/kv/ks/k", "v", "If-Match: "+etag+`, "b"`).problem(t, 400, "bad_request")
	h.do(t, "PUT", "/v1/kv/ks/k", "v", "If-Match: "+etag).want(t, 204)
	h.do(t, "DELETE", "/v1/kv/ks/k", "", "If-Match: "+etag).problem(t, 412, "precondition_failed")
}

func TestOptions(t *testing.T) {
	h := start(t)
	h.do(t, "GET", "/v1/kv/ks/k?r=all&w=quorum&sloppy=false", "", "X-Request-Id: my id").want(t, 404)
	if o := h.kv.seenOptions(); o != (coordinator.Options{R: coordinator.QuorumAll, W: coordinator.QuorumMajority, PrimariesOnly: true, RequestID: "my id"}) {
		t.Errorf("%+v", o)
	}
	h.do(t, "GET", "/v1/kv/ks/k?r=one&w=3", "").want(t, 404)
	if o := h.kv.seenOptions(); o.R != 1 || o.W != 3 || o.PrimariesOnly {
		t.Errorf("%+v", o)
	}
	for _, bad := range []string{
		"r=0", "r=-1", "r=%2B1", "r=ALL", "r=", "r=99999999999999999999", "w=two", "sloppy=no", "timeout=1", "timeout=0s", "timeout=-1s",
		"timeout=31s", "timeout=", "resolve=1", "unknown=1", "r=1&r=1", "limit=1", "r=%x",
	} {
		h.do(t, "GET", "/v1/kv/ks/k?"+bad, "").problem(t, 400, "bad_request")
	}
	h.do(t, "PUT", "/v1/kv/ks/k?return=all", "v").problem(t, 400, "bad_request")
	h.do(t, "PUT", "/v1/kv/ks/k?resolve=true", "v").problem(t, 400, "bad_request")
	if m := h.do(t, "GET", "/v1/kv/ks/k?tiemout=1s", "").problem(t, 400, "bad_request"); !strings.Contains(m["detail"].(string), "tiemout") {
		t.Errorf("%v", m)
	}
}

func TestDeadline(t *testing.T) {
	h := start(t)
	left := make(chan time.Duration, 1)
	h.kv.setBefore(func(ctx context.Context, _ []byte) error {
		d, _ := ctx.Deadline()
		left <- time.Until(d)
		return nil
	})
	for query, want := range map[string]time.Duration{"": 2 * time.Second, "?timeout=30s": 30 * time.Second, "?timeout=1m": 0} {
		a := h.do(t, "GET", "/v1/kv/ks/k"+query, "")
		if want == 0 {
			a.problem(t, 400, "bad_request")
			continue
		}
		if got := <-left; got > want || got < want-time.Second {
			t.Errorf("%q: %v left", query, got)
		}
	}
	h.kv.setBefore(func(ctx context.Context, _ []byte) error {
		<-ctx.Done()
		return fmt.Errorf("replicas: %w", ctx.Err())
	})
	if m := h.do(t, "GET", "/v1/kv/ks/k?timeout=20ms", "").problem(t, 503, "quorum_unmet"); m["retryable"] != true || m["maybe_stored"] != nil {
		t.Errorf("%v", m)
	}
	if m := h.do(t, "PUT", "/v1/kv/ks/k?timeout=20ms", "v").problem(t, 503, "quorum_unmet"); m["retryable"] != true || m["maybe_stored"] != true {
		t.Errorf("%v", m)
	}
}

func TestErrorsOfTheCoordinator(t *testing.T) {
	h := start(t)
	statuses := map[coordinator.Code]int{
		"bad_request": 400, "bad_context": 400, "bad_key": 400, "unauthorized": 401, "forbidden": 403, "not_found": 404,
		"keyspace_unknown": 404, "method_not_allowed": 405, "conflict": 409, "too_many_siblings": 409, "precondition_failed": 412,
		"too_large": 413, "unsupported_media_type": 415, "resolver_invalid": 422, "resolver_unlawful": 422, "overloaded": 503,
		"quorum_unmet": 503, "not_ready": 503, "disk_full": 507, "internal": 500,
	}
	for code, status := range statuses {
		h.kv.setBefore(func(context.Context, []byte) error {
			return fmt.Errorf("wrapped: %w", &coordinator.Error{Code: code, Detail: "why", Retryable: true, MaybeStored: true})
		})
		a := h.do(t, "PUT", "/v1/kv/ks/k", "v")
		m := a.problem(t, status, string(code))
		if m["detail"] != "why" || m["retryable"] != true || m["maybe_stored"] != true {
			t.Errorf("%s: %v", code, m)
		}
		if (a.Header.Get("Retry-After") != "") != (code == "overloaded" || code == "not_ready") {
			t.Errorf("%s: Retry-After %q", code, a.Header.Get("Retry-After"))
		}
	}
	h.kv.setBefore(func(context.Context, []byte) error {
		return &coordinator.Error{Code: "from_the_future", Detail: "secret"}
	})
	h.do(t, "GET", "/v1/kv/ks/k", "").problem(t, 500, "internal")
}

func TestBugsAreLoggedAndNotShown(t *testing.T) {
	h := start(t)
	h.kv.setBefore(func(context.Context, []byte) error { return errors.New("password is 1234") })
	a := h.do(t, "GET", "/v1/kv/ks/k", "")
	a.problem(t, 500, "internal")
	if bytes.Contains(a.body, []byte("1234")) || !strings.Contains(h.log.String(), "1234") || !strings.Contains(h.log.String(), a.Header.Get("X-Request-Id")) {
		t.Errorf("%s\n%s", a.body, h.log)
	}
	h.kv.setBefore(func(context.Context, []byte) error { panic("boom 5678") })
	w := dial(t, h.addr)
	for range 2 {
		w.send("GET /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\n\r\n")
		w.read("GET").problem(t, 500, "internal")
	}
	if !strings.Contains(h.log.String(), "boom 5678") || !strings.Contains(h.log.String(), "kv_test.go") {
		t.Error("a panic is not logged with its stack")
	}
	if n := inWork(h.gate); n != 0 {
		t.Errorf("%d places are still held", n)
	}
}
