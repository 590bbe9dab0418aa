package api

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"dynamo/node/coordinator"
)

func TestSplitTarget(t *testing.T) {
	for _, c := range []struct{ target, path, query string }{
		{"/", "/", ""},
		{"/v1/kv/ks/..%2f//x?r=1", "/v1/kv/ks/..%2f//x", "r=1"},
		{"/v1/kv/ks/http://y?a?b", "/v1/kv/ks/http://y", "a?b"},
		{"//v1/kv", "//v1/kv", ""},
		{"http://host:1/v1/kv/ks/k?r=1", "/v1/kv/ks/k", "r=1"},
		{"HTTP://host", "/", ""},
		{"http://host?r=1", "/", "r=1"},
	} {
		path, query, err := splitTarget([]byte(c.target))
		if err != nil || path != c.path || query != c.query {
			t.Errorf("%q: %q %q %v", c.target, path, query, err)
		}
	}
	for _, bad := range []string{"", "*", "host:80", "ftp://h/v1", "/v1/kv/ks/a#b"} {
		if _, _, err := splitTarget([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestMatch(t *testing.T) {
	s := &Server{}
	s.routes = s.table()
	for path, want := range map[string]string{
		"/":                                 "/||",
		"/v1/kv/ks":                         "/v1/kv/{keyspace}|ks|",
		"/v1/kv/ks/":                        "/v1/kv/{keyspace}/{key}|ks|",
		"/v1/kv/ks/a/b":                     "/v1/kv/{keyspace}/{key}|ks|a/b",
		"/v1/kv/ks//":                       "/v1/kv/{keyspace}/{key}|ks|/",
		"/v1/kv/ks/../../healthz":           "/v1/kv/{keyspace}/{key}|ks|../../healthz",
		"/v1/explain/ks/k":                  "/v1/explain/{keyspace}/{key}|ks|k",
		"/v1/keyspaces":                     "/v1/keyspaces||",
		"/v1/keyspaces/ks":                  "/v1/keyspaces/{keyspace}|ks|",
		"/v1/keyspaces/ks/resolver":         "/v1/keyspaces/{keyspace}/resolver|ks|",
		"/v1/keyspaces/ks/resolver/try":     "/v1/keyspaces/{keyspace}/resolver/try|ks|",
		"/v1/cluster/ring":                  "/v1/cluster/ring||",
		"/v1":                               "",
		"/v1/":                              "",
		"/v1/kv":                            "",
		"/v1/kv/":                           "",
		"/v1/kv//k":                         "",
		"/v1/keyspaces/":                    "",
		"/v1/keyspaces/ks/":                 "",
		"/v1/keyspaces/ks/resolver/":        "",
		"/v1/debug/cut":                     "",
		"/healthz/":                         "",
		"//healthz":                         "",
		"/v1/explain/ks":                    "",
		"/v1/keyspaces/ks/resolver/nothing": "",
	} {
		r, ks, key, err := s.route(path)
		got := ""
		if err == nil {
			got = r.pattern + "|" + ks + "|" + key
		}
		if got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func TestParseQuery(t *testing.T) {
	q, err := parseQuery("r=one&&after=a%2Bb+c%00%ff&x", []string{"r", "after", "x"})
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := q.get("after"); v != "a+b c\x00\xff" {
		t.Errorf("after %q", v)
	}
	if v, ok := q.get("x"); v != "" || !ok {
		t.Errorf("x %q %v", v, ok)
	}
	for _, bad := range []string{"y=1", "r=1&r=1", "r=%", "r=%4", "r=%zz", "%zz=1", "r=1&r=%zz", "=1"} {
		_, err := parseQuery(bad, []string{"r"})
		if e, ok := errors.AsType[*coordinator.Error](err); !ok || e.Code != coordinator.CodeBadRequest {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := parseQuery("sloopy=false", []string{"sloppy"}); err == nil || !strings.Contains(err.Error(), "sloopy") {
		t.Errorf("an unknown parameter is not named: %v", err)
	}
}

func TestKeyspaceNames(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "a-b_9": true, strings.Repeat("a", 63): true, strings.Repeat("a", 64): false,
		"": false, "A": false, "9a": false, "-a": false, "a.b": false, "ä": false, "a/b": false,
	} {
		if isKeyspaceName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

// FuzzKey holds the key parser against net/url, and against its own inverse.
func FuzzKey(f *testing.F) {
	for _, s := range []string{"k", "a/b", "..", "%2e%2e%2F", "%00", "%ff", "%", "%4", "%zz", "a+b", "é", strings.Repeat("%41", 1025)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		key, err := parseKey(raw, 1024)
		want, wantErr := url.PathUnescape(raw)
		if (err == nil) != (wantErr == nil && len(want) > 0 && len(want) <= 1024) {
			t.Fatalf("%q: %v, net/url: %v, %d bytes", raw, err, wantErr, len(want))
		}
		if err != nil {
			if e, ok := errors.AsType[*coordinator.Error](err); !ok || e.Code != coordinator.CodeBadKey {
				t.Fatalf("%q: %v", raw, err)
			}
			return
		}
		if string(key) != want {
			t.Fatalf("%q: %q, net/url: %q", raw, key, want)
		}
		var b strings.Builder
		for _, c := range key {
			fmt.Fprintf(&b, "%%%02x", c)
		}
		if again, err := parseKey(b.String(), 1024); err != nil || !bytes.Equal(again, key) {
			t.Fatalf("%q: %q, %v", b.String(), again, err)
		}
	})
}

// FuzzTarget: any target is split without loss or refused, and finds a route or none.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"/v1/kv/ks/k?r=1", "http://h/v1/kv/ks", "//", "/?", "*", "/v1/kv/ks//%2f", "http://?/"} {
		f.Add(s)
	}
	s := &Server{}
	s.routes = s.table()
	f.Fuzz(func(t *testing.T, target string) {
		path, query, err := splitTarget([]byte(target))
		if err != nil {
			return
		}
		if !strings.HasPrefix(path, "/") || strings.Contains(path, "?") {
			t.Fatalf("%q: path %q", target, path)
		}
		whole := path
		if query != "" {
			whole += "?" + query
		}
		if strings.HasPrefix(target, "/") && whole != strings.TrimSuffix(target, "?") && whole != target {
			t.Fatalf("%q became %q", target, whole)
		}
		if r, ks, key, err := s.route(path); err == nil && strings.HasSuffix(r.pattern, "/{key}") {
			if !strings.HasSuffix(path, "/"+ks+"/"+key) {
				t.Fatalf("%q: keyspace %q key %q", path, ks, key)
			}
		}
	})
}

// FuzzQuery holds the query parser against net/url; it may refuse more, never read otherwise.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"r=1&w=all", "timeout=1s", "r=%31", "a+b=c+d", "&&", "r", "r=1&r=2", ";", "r=%"} {
		f.Add(s)
	}
	known := []string{"r", "w", "timeout", "sloppy"}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseQuery(raw, known)
		if err != nil {
			return
		}
		want, err := url.ParseQuery(raw)
		if err != nil && !strings.Contains(raw, ";") {
			t.Fatalf("%q: net/url refuses: %v", raw, err)
		}
		for _, p := range q {
			if err == nil && (len(want[p.name]) != 1 || want[p.name][0] != p.value) {
				t.Fatalf("%q: %s=%q, net/url %q", raw, p.name, p.value, want[p.name])
			}
		}
		if o, err := q.options(); err == nil && (o.R < coordinator.QuorumAll || o.W < coordinator.QuorumAll) {
			t.Fatalf("%q: %+v", raw, o)
		}
		if d, err := q.timeout(1, 30e9); err == nil && (d <= 0 || d > 30e9) {
			t.Fatalf("%q: timeout %v", raw, d)
		}
	})
}
