package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// fakeNode answers like a node of a cluster and keeps what it was asked.
type fakeNode struct {
	url, asked, body string
}

func newNode(t *testing.T, answers map[string]http.HandlerFunc) *fakeNode {
	t.Helper()
	n := &fakeNode{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		n.asked, n.body = r.Method+" "+r.RequestURI, string(b)
		if h, ok := answers[r.Method+" "+r.URL.Path]; ok {
			h(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"status":404,"code":"keyspace_unknown","detail":"no such keyspace"}`)
	}))
	t.Cleanup(s.Close)
	n.url = s.URL
	return n
}

// ask runs a client command against the node.
func (n *fakeNode) ask(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	return cli(t, append(args, "--endpoint", n.url)...)
}

func says(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }
}

func problemOf(status int, code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"status":%d,"code":%q,"detail":"as told"}`, status, code)
	}
}

func siblings(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("X-Dynamo-Context", "tok")
	w.Header().Set("X-Dynamo-Siblings", "2")
	w.WriteHeader(http.StatusMultipleChoices)
	fmt.Fprint(w, `{"context":"tok","siblings":[{"value_base64":"b25l","content_type":"text/plain","time":"2026-01-02T03:04:05Z"},{"value_base64":"dHdv","time":"2026-01-02T03:04:06Z"}]}`)
}

func TestKVCommands(t *testing.T) {
	stored := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Dynamo-Context", "tok")
		w.WriteHeader(http.StatusNoContent)
	}
	n := newNode(t, map[string]http.HandlerFunc{
		"PUT /v1/kv/ks/k":      stored,
		"DELETE /v1/kv/ks/k":   stored,
		"GET /v1/kv/ks/k":      says("value"),
		"GET /v1/kv/ks/gone":   problemOf(404, "not_found"),
		"GET /v1/kv/ks/two":    siblings,
		"PUT /v1/kv/ks/slow":   problemOf(503, "quorum_unmet"),
		"GET /v1/kv/ks":        says(`{"keys":[{"key":"a"},{"key_base64":"/w=="}],"next":null}`),
		"GET /v1/kv/unlimited": says(`{"keys":[],"next":null}`),
	})
	for _, c := range []struct {
		args        []string
		code        int
		asked, body string
		out, errs   string // exactly stdout, part of stderr
	}{
		{[]string{"kv", "put", "ks", "k", "v", "--w", "all", "--timeout", "1s"}, 0, "PUT /v1/kv/ks/k?timeout=1s&w=all", "v", "tok\n", ""},
		{[]string{"kv", "put", "ks", "k", "-"}, 0, "PUT /v1/kv/ks/k", "from stdin", "tok\n", ""},
		{[]string{"kv", "put", "ks", "k", "@testdata/value"}, 0, "PUT /v1/kv/ks/k", "from a file\n", "tok\n", ""},
		{[]string{"kv", "put", "ks", "k", "v", "-o", "json"}, 0, "PUT /v1/kv/ks/k", "v", "{\n  \"context\": \"tok\"\n}\n", ""},
		{[]string{"kv", "put", "ks", "slow", "v"}, 1, "PUT /v1/kv/ks/slow", "v", "", "dynamo: quorum_unmet (503): as told\n"},
		{[]string{"kv", "delete", "ks", "k", "--context", "x"}, 0, "DELETE /v1/kv/ks/k", "", "tok\n", ""},
		{[]string{"kv", "get", "ks", "k", "--r", "2"}, 0, "GET /v1/kv/ks/k?r=2", "", "value", ""},
		{[]string{"kv", "get", "ks", "gone"}, 1, "GET /v1/kv/ks/gone", "", "", "dynamo: not found\n"},
		{[]string{"kv", "get", "other", "k"}, 1, "GET /v1/kv/other/k", "", "", "keyspace_unknown"},
		{[]string{"kv", "get", "ks", "two"}, 1, "GET /v1/kv/ks/two", "", "one\ntwo\n", "--- sibling 2 of 2"},
		{[]string{"kv", "get", "ks", "two"}, 1, "GET /v1/kv/ks/two", "", "one\ntwo\n", "--- context tok\ndynamo: the key holds 2 siblings"},
		{[]string{"kv", "list", "ks", "--prefix", "a b"}, 0, "GET /v1/kv/ks?limit=100&prefix=a+b", "", "a\n\xff\n", ""},
	} {
		n.asked, n.body = "", ""
		code, out, errs := n.ask(t, c.args...)
		if code != c.code || n.asked != c.asked || n.body != c.body || out != c.out || !strings.Contains(errs, c.errs) {
			t.Errorf("dynamo %s: exit %d, asked %q with %q\nstdout: %q\nstderr: %q", strings.Join(c.args, " "), code, n.asked, n.body, out, errs)
		}
	}
}

func TestKVJSON(t *testing.T) {
	n := newNode(t, map[string]http.HandlerFunc{
		"GET /v1/kv/ks/two":  siblings,
		"GET /v1/kv/ks/gone": problemOf(404, "not_found"),
		"GET /v1/kv/ks":      says(`{"keys":[{"key":"a"},{"key_base64":"/w=="}],"next":"z"}`),
	})
	for _, c := range []struct {
		args []string
		code int
		want map[string]any
	}{
		{[]string{"kv", "get", "ks", "two"}, 0, map[string]any{"found": true, "context": "tok", "siblings_count": 2.0}},
		{[]string{"kv", "get", "ks", "gone"}, 1, map[string]any{"found": false}},
		{[]string{"kv", "list", "ks", "--limit", "2"}, 0, map[string]any{"next": "z"}},
	} {
		code, out, errs := n.ask(t, append(c.args, "-o", "json")...)
		var got map[string]any
		if err := json.Unmarshal([]byte(out), &got); err != nil || code != c.code {
			t.Errorf("%v: exit %d, %v\n%s%s", c.args, code, err, out, errs)
		}
		for name, v := range c.want {
			if got[name] != v {
				t.Errorf("%v: %s is %v, want %v", c.args, name, got[name], v)
			}
		}
	}
	_, out, _ := n.ask(t, "kv", "list", "ks", "--limit", "2", "-o", "json")
	var page keyPage
	if err := json.Unmarshal([]byte(out), &page); err != nil || len(page.Keys) != 2 || page.Keys[0].Key != "a" || string(page.Keys[1].Base64) != "\xff" {
		t.Errorf("%v in %s", err, out)
	}
}

// A listing goes on from page to page until the limit, and asks for no more than is left.
func TestListPages(t *testing.T) {
	var asked []string
	n := newNode(t, map[string]http.HandlerFunc{"GET /v1/kv/ks": func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		keys := strings.Repeat(`{"key":"k"},`, 999) + `{"key":"k"}`
		if r.URL.Query().Get("limit") == "1" {
			keys = `{"key":"last"}`
		}
		fmt.Fprintf(w, `{"keys":[%s],"next":"k"}`, keys)
	}})
	code, out, errs := n.ask(t, "kv", "list", "ks", "--limit", "1001")
	if code != 0 || strings.Count(out, "\n") != 1001 || !strings.HasSuffix(out, "last\n") {
		t.Errorf("exit %d, %d lines, %s", code, strings.Count(out, "\n"), errs)
	}
	if strings.Join(asked, " ") != "limit=1000 after=k&limit=1" {
		t.Errorf("asked %q", asked)
	}
}

const keyspaceJSON = `{"name":"ks","n":3,"r":2,"w":2,"conflict":"lww","durability":"sync","max_value_bytes":9,"resolver_sha256":"abc"}`

func TestAdminCommands(t *testing.T) {
	n := newNode(t, map[string]http.HandlerFunc{
		"GET /v1/keyspaces":                       says(`{"keyspaces":[` + keyspaceJSON + `]}`),
		"GET /v1/keyspaces/ks":                    says(keyspaceJSON),
		"PUT /v1/keyspaces/ks":                    says(keyspaceJSON),
		"PUT /v1/keyspaces/new":                   says(keyspaceJSON),
		"DELETE /v1/keyspaces/ks":                 func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"PUT /v1/keyspaces/ks/resolver":           says(`{"sha256":"abc","version":2,"abi":"function-v1","size":5,"check":{"outcome":"lawful"}}`),
		"GET /v1/keyspaces/ks/resolver":           says(`{"active":{"version":2,"sha256":"abc","active":true},"history":[{"version":1,"sha256":"def"},{"version":2,"sha256":"abc","active":true}],"calls":7,"failures":1}`),
		"POST /v1/keyspaces/ks/resolver/rollback": says(`{"version":1,"sha256":"def","active":true}`),
		"DELETE /v1/keyspaces/ks/resolver":        says(keyspaceJSON),
		"GET /v1/cluster":                         says(`{"name":"demo","partitions":64,"node":"n1","members":[{"id":"n1","zone":"a","status":"up","reachable":true}]}`),
		"GET /v1/cluster/ring":                    says(`{"hash":"ab","partition":3,"preference_list":["n1","n2"],"n":9,"primaries":[["n1","n2"]]}`),
		"GET /v1/explain/ks/k":                    says(explanation),
	})
	for _, c := range []struct {
		args  []string
		code  int
		asked string
		body  string
		want  string // in stdout or stderr
	}{
		{[]string{"keyspace", "list"}, 0, "GET /v1/keyspaces", "", "ks "},
		{[]string{"keyspace", "show", "ks"}, 0, "GET /v1/keyspaces/ks", "", "abc"},
		{[]string{"keyspace", "show", "none"}, 1, "GET /v1/keyspaces/none", "", "keyspace_unknown (404): no such keyspace"},
		{[]string{"keyspace", "create", "ks"}, 1, "GET /v1/keyspaces/ks", "", "is there already"},
		{[]string{"keyspace", "create", "new", "--n", "1", "--ancestors"}, 0, "PUT /v1/keyspaces/new", `"n":1,`, "lww"},
		{[]string{"keyspace", "update", "none", "--w", "1"}, 1, "GET /v1/keyspaces/none", "", "keyspace_unknown"},
		{[]string{"keyspace", "update", "ks", "--ancestors=false"}, 0, "PUT /v1/keyspaces/ks", `"ancestors":false`, "lww"},
		{[]string{"keyspace", "delete", "ks", "--yes"}, 0, "DELETE /v1/keyspaces/ks", "", ""},
		{[]string{"keyspace", "delete", "ks", "--yes", "-o", "json"}, 0, "DELETE /v1/keyspaces/ks", "", "{}"},
		{[]string{"resolver", "upload", "ks", "testdata/value", "--check", "warn", "--retry"}, 0, "PUT /v1/keyspaces/ks/resolver?check=warn&retry=true", "from a file\n", "lawful"},
		{[]string{"resolver", "upload", "ks", "--builtin", "max"}, 0, "PUT /v1/keyspaces/ks/resolver?builtin=max&check=strict", "", "version  2"},
		{[]string{"resolver", "upload", "ks", "builtin:max"}, 0, "PUT /v1/keyspaces/ks/resolver?builtin=max&check=strict", "", "version  2"},
		{[]string{"resolver", "show", "ks"}, 0, "GET /v1/keyspaces/ks/resolver", "", "calls 7, failures 1"},
		{[]string{"resolver", "history", "ks"}, 0, "GET /v1/keyspaces/ks/resolver", "", "def"},
		{[]string{"resolver", "rollback", "ks", "--version", "1"}, 0, "POST /v1/keyspaces/ks/resolver/rollback", `{"version":1}`, "def"},
		{[]string{"resolver", "remove", "ks"}, 0, "DELETE /v1/keyspaces/ks/resolver", "", ""},
		{[]string{"cluster", "status"}, 0, "GET /v1/cluster", "", "cluster demo, 64 partitions, as seen by n1"},
		{[]string{"cluster", "status", "-o", "json"}, 0, "GET /v1/cluster", "", `"reachable":true`},
		{[]string{"cluster", "ring"}, 0, "GET /v1/cluster/ring", "", "0  n1 n2"},
		{[]string{"cluster", "ring", "ks", "a/b"}, 0, "GET /v1/cluster/ring?key=a%2Fb&keyspace=ks", "", "primaries n1 n2"},
		{[]string{"explain", "ks", "k"}, 0, "GET /v1/explain/ks/k", "", "├─ n1  primary, has seen 1 actor(s)\n│   └─ n1:1  5 bytes text/plain  sha256 0123  "},
		{[]string{"explain", "ks", "k"}, 0, "GET /v1/explain/ks/k", "", "└─ n2  fallback, hint for n3, not reachable: gone"},
		{[]string{"explain", "ks", "k"}, 0, "GET /v1/explain/ks/k", "", "2 sibling(s): merged by resolver 0123456789ab in 12 us"},
		{[]string{"explain", "ks", "k", "-o", "json"}, 0, "GET /v1/explain/ks/k", "", `"partition":3`},
	} {
		n.asked, n.body = "", ""
		code, out, errs := n.ask(t, c.args...)
		if code != c.code || n.asked != c.asked || !strings.Contains(n.body, c.body) || !strings.Contains(out+errs, c.want) {
			t.Errorf("dynamo %s: exit %d, asked %q with %q\nstdout: %s\nstderr: %s", strings.Join(c.args, " "), code, n.asked, n.body, out, errs)
		}
	}
}

const explanation = `{"keyspace":"ks","key":"k\u001b","hash":"ab","partition":3,"preference_list":["n1","n2"],"replicas":[
{"node":"n1","role":"primary","reachable":true,"context":{"n1":1},"versions":[{"dots":["n1:1"],"live":["n1:1"],"size":5,"sha256":"0123","content_type":"text/plain"}]},
{"node":"n2","role":"fallback","reachable":false,"hint_for":"n3","error":"gone"}],
"result":{"status":200,"siblings":2,"merge":{"resolver":"0123456789abcdef","outcome":"merged","micros":12}}}`

// A key must not steer the terminal.
func TestExplainQuotesKeys(t *testing.T) {
	n := newNode(t, map[string]http.HandlerFunc{"GET /v1/explain/ks/k": says(explanation)})
	if _, out, _ := n.ask(t, "explain", "ks", "k"); strings.Contains(out, "\x1b") || !strings.Contains(out, `ks/"k\x1b"`) {
		t.Errorf("%q", out)
	}
}

func TestEndpointAndTokenFromTheEnvironment(t *testing.T) {
	var authorization string
	n := newNode(t, map[string]http.HandlerFunc{"GET /v1/kv/ks/k": func(w http.ResponseWriter, r *http.Request) {
		authorization = r.Header.Get("Authorization")
		fmt.Fprint(w, "value")
	}})
	t.Setenv("DYNAMO_ENDPOINT", "http://127.0.0.1:1,"+n.url)
	t.Setenv("DYNAMO_TOKEN", "from-env")
	if code, out, errs := cli(t, "kv", "get", "ks", "k"); code != 0 || out != "value" || authorization != "Bearer from-env" {
		t.Errorf("exit %d, %q, %q, %s", code, out, authorization, errs)
	}
	if _, _, _ = cli(t, "kv", "get", "ks", "k", "--token", "from-flag"); authorization != "Bearer from-flag" {
		t.Errorf("%q", authorization)
	}
}
