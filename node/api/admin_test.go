package api

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"dynamo/node/config"
	"dynamo/node/coordinator"
)

func TestKeyspacesOverHTTP(t *testing.T) {
	h := start(t)
	var list struct{ Keyspaces []coordinator.KeyspaceInfo }
	h.do(t, "GET", "/v1/keyspaces", "").want(t, 200).json(t, &list)
	if len(list.Keyspaces) != 2 || list.Keyspaces[0].Name != "ks" {
		t.Errorf("%+v", list)
	}
	var info coordinator.KeyspaceInfo
	a := h.do(t, "PUT", "/v1/keyspaces/new", `{"w":1}`, "Content-Type: application/json").want(t, 201)
	if a.json(t, &info); info.Name != "new" || info.W != 1 || a.Header.Get("Location") != "/v1/keyspaces/new" {
		t.Errorf("%s %v", a.body, a.Header)
	}
	h.do(t, "PUT", "/v1/keyspaces/new", "").want(t, 200)
	h.do(t, "GET", "/v1/keyspaces/new", "").want(t, 200).json(t, &info)
	h.do(t, "PUT", "/v1/keyspaces/new", `{"n":2}`).problem(t, 409, "conflict")
	h.do(t, "DELETE", "/v1/keyspaces/new", "").want(t, 204)
	h.do(t, "DELETE", "/v1/keyspaces/new", "").problem(t, 404, "keyspace_unknown")
	h.do(t, "GET", "/v1/keyspaces/new", "").problem(t, 404, "keyspace_unknown")
	for _, bad := range []string{`{"W":"2"}`, `{"ww":2}`, `{`, `[]`, `{} {}`, `x`, "{\"conflict\":\"\xff\"}", `  `} {
		h.do(t, "PUT", "/v1/keyspaces/new", bad).problem(t, 400, "bad_request")
	}
	h.do(t, "PUT", "/v1/keyspaces/Bad", "").problem(t, 400, "bad_request")
	h.do(t, "PUT", "/v1/keyspaces/new", "{}", "Content-Type: application/wasm").problem(t, 415, "unsupported_media_type")
	h.do(t, "PUT", "/v1/keyspaces/new", `{"n":`+strings.Repeat(" ", 64<<10)+`1}`).problem(t, 413, "too_large")
}

func TestResolversOverHTTP(t *testing.T) {
	h := start(t)
	const base = "/v1/keyspaces/ks/resolver"
	for _, c := range []struct {
		method, target, body string
		status               int
		called               string
	}{
		{"PUT", base, "\x00asm", 200, `upload ks "\x00asm" strict`},
		{"PUT", base + "?check=off", "m", 200, `upload ks "m" off`},
		{"PUT", base + "?activate=false", "m", 200, `upload ks "m" strict inactive`},
		{"PUT", base + "?builtin=lww&check=warn", "", 200, "builtin ks lww warn"},
		{"GET", base, "", 200, "status ks"},
		{"POST", base + "/rollback", `{"version":3}`, 200, "rollback ks 3"},
		{"POST", base + "/try?candidate=ab", `{"key":"k","siblings":[{"value_base64":"YQ=="},{"value_base64":"Yg=="}]}`, 200, "try ks ab 2"},
		{"POST", base + "/release", "", 200, "release ks"},
		{"POST", base + "/shadow", `{"sha256":"ab"}`, 200, "shadow ks ab"},
		{"GET", base + "/shadow", "", 200, "shadow status ks"},
		{"DELETE", base + "/shadow", "", 204, "stop shadow ks"},
		{"POST", base + "/promote?check=off", "", 200, `promote ks "" off`},
		{"POST", base + "/promote", `{"sha256":"ab"}`, 200, `promote ks "ab" strict`},
		{"DELETE", base, "", 204, "remove ks"},
	} {
		h.do(t, c.method, c.target, c.body).want(t, c.status)
		if got := h.admin.last(); got != c.called {
			t.Errorf("%s %s: %s, want %s", c.method, c.target, got, c.called)
		}
	}
	if slices.Contains(h.admin.calls, `retry "m"`) {
		t.Error("retried without being asked to")
	}
	h.do(t, "PUT", base+"?retry=true", "m").want(t, 200)
	if !slices.Contains(h.admin.calls, `retry "m"`) || h.admin.last() != `upload ks "m" strict` {
		t.Errorf("not retried: %q", h.admin.calls)
	}
	h.do(t, "PUT", base, "--x\r\nContent-Disposition: form-data; name=\"module\"\r\n\r\nm\r\n--x\r\nContent-Disposition: form-data; name=\"config\"\r\n\r\nc\r\n--x--\r\n",
		"Content-Type: multipart/form-data; boundary=x").want(t, 200)
	if got := h.admin.last(); got != `upload ks "m" strict with "c"` {
		t.Errorf("module and config: %s", got)
	}
	h.do(t, "PUT", base, "--x--", "Content-Type: multipart/form-data; boundary=x").problem(t, 400, "bad_request")
	h.do(t, "PUT", base+"?builtin=", "").problem(t, 400, "bad_request")
	h.do(t, "PUT", base+"?retry=perhaps", "m").problem(t, 400, "bad_request")
	a := h.do(t, "GET", base, "", "Accept: application/wasm").want(t, 200)
	if string(a.body) != "\x00asm" || a.Header.Get("Content-Type") != "application/wasm" {
		t.Errorf("%q %v", a.body, a.Header)
	}
	h.do(t, "PUT", base, "bad").problem(t, 422, "resolver_invalid")
	h.do(t, "PUT", base, "").problem(t, 400, "bad_request")
	h.do(t, "PUT", base+"?check=maybe", "m").problem(t, 400, "bad_request")
	h.do(t, "PUT", base+"?builtin=lww", "m").problem(t, 400, "bad_request")
	h.do(t, "PUT", base, "m", "Content-Type: text/html").problem(t, 415, "unsupported_media_type")
	h.do(t, "POST", base+"/rollback", `{}`).problem(t, 400, "bad_request")
	h.do(t, "POST", base+"/try", `{"key":"k","siblings":[]}`).problem(t, 400, "bad_request")
	w := dial(t, h.addr)
	w.send("PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 16777217\r\n\r\n", base).read("PUT").problem(t, 413, "too_large")
}

func TestClusterOverHTTP(t *testing.T) {
	h := start(t, func(o *Options) { o.Faults = newFakeAdmin() })
	var info coordinator.ClusterInfo
	h.do(t, "GET", "/v1/cluster", "").want(t, 200).json(t, &info)
	var ring coordinator.RingInfo
	h.do(t, "GET", "/v1/cluster/ring", "").want(t, 200).json(t, &ring)
	var at coordinator.Location
	h.do(t, "GET", "/v1/cluster/ring?keyspace=ks&key=a%2Fb%00", "").want(t, 200).json(t, &at)
	if info.Name != "demo" || ring.N != 3 || len(at.PreferenceList) != 1 || h.admin.last() != `locate ks "a/b\x00"` {
		t.Errorf("%+v %+v %+v %s", info, ring, at, h.admin.last())
	}
	h.do(t, "GET", "/v1/cluster/ring?key=k", "").problem(t, 400, "bad_request")
	h.do(t, "GET", "/v1/cluster/ring?keyspace=ks&key=", "").problem(t, 400, "bad_key")
	var e coordinator.Explanation
	h.do(t, "GET", "/v1/explain/ks/a%2F/b", "").want(t, 200).json(t, &e)
	if e.Key != "a//b" || e.Keyspace != "ks" {
		t.Errorf("%+v", e)
	}
	h.do(t, "PUT", "/v1/debug/cut", `{"nodes":["n2"]}`).want(t, 204)
	h.do(t, "PUT", "/v1/debug/cut", `{"nodes":[]}`).want(t, 204)
	if f := h.o.Faults.(*fakeAdmin); f.last() != "cut []" {
		t.Errorf("%v", f.calls)
	}
	h.do(t, "PUT", "/v1/debug/cut", `{}`).problem(t, 400, "bad_request")
}

func TestOperations(t *testing.T) {
	ready := errors.New("the ring is not known yet")
	h := start(t, func(o *Options) { o.Ready = func() error { return ready } })
	h.do(t, "GET", "/healthz", "").want(t, 200)
	if m := h.do(t, "GET", "/readyz", "").problem(t, 503, "not_ready"); m["detail"] != ready.Error() {
		t.Errorf("%v", m)
	}
	ready = nil
	h.do(t, "GET", "/readyz", "").want(t, 200)
	h.do(t, "PUT", "/v1/kv/ks/k", "four").want(t, 204)
	h.do(t, "BREW", "/v1/kv/ks/k", "").want(t, 405)
	a := h.do(t, "GET", "/metrics", "").want(t, 200)
	for _, want := range []string{
		`dynamo_http_requests_total{method="PUT",route="/v1/kv/{keyspace}/{key}",status="204"} 1`,
		`dynamo_http_requests_total{method="other",route="/v1/kv/{keyspace}/{key}",status="405"} 1`,
		`dynamo_http_request_seconds_count{method="PUT",route="/v1/kv/{keyspace}/{key}"} 1`,
		`dynamo_http_body_bytes_total{direction="in"} 4`, `dynamo_http_inflight_requests 1`, `dynamo_http_connections `,
	} {
		if !strings.Contains(string(a.body), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain; version=0.0.4") {
		t.Errorf("%v", a.Header)
	}
	root := h.do(t, "GET", "/", "").want(t, 200)
	if !strings.HasPrefix(root.Header.Get("Content-Type"), "text/html") || !strings.Contains(string(root.body), "node n1") {
		t.Errorf("%s", root.body)
	}
}

func TestLogs(t *testing.T) {
	h := start(t)
	h.do(t, "GET", "/v1/kv/ks/k", "", "X-Request-Id: quiet")
	h.do(t, "PUT", "/v1/keyspaces/new", "", "X-Request-Id: change")
	for _, want := range []string{
		"level=DEBUG msg=request request_id=quiet method=GET route=/v1/kv/{keyspace}/{key} status=404",
		"level=INFO msg=request request_id=change method=PUT route=/v1/keyspaces/{keyspace} status=201",
	} {
		if !strings.Contains(h.log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, h.log)
		}
	}
}

func TestTokens(t *testing.T) {
	h := start(t, func(o *Options) {
		o.Tokens = []config.Token{
			{Name: "ops", Token: "ops-secret", Role: config.RoleAdmin},
			{Name: "shop", Token: "shop-secret", Role: config.RoleWrite, Keyspaces: []string{"ks"}},
			{Name: "eye", Token: "eye-secret", Role: config.RoleRead},
			{Name: "local", Token: "local-secret", Role: config.RoleAdmin, Keyspaces: []string{"ks"}},
		}
		o.Faults = newFakeAdmin()
	})
	for _, bad := range []string{"", "Bearer", "Bearer nope", "Basic ops-secret", "ops-secret", "Bearer ops-secret2", "Bearer ops-secre"} {
		a := h.do(t, "GET", "/v1/kv/ks/k", "", "Authorization: "+bad)
		a.problem(t, 401, "unauthorized")
		if a.Header.Get("WWW-Authenticate") != `Bearer realm="dynamo"` {
			t.Errorf("%v", a.Header)
		}
	}
	h.do(t, "GET", "/v1/no/such/route", "").problem(t, 401, "unauthorized")
	for _, open := range []string{"/healthz", "/readyz", "/metrics", "/"} {
		h.do(t, "GET", open, "").want(t, 200)
	}
	all := map[string][4]int{ // ops, shop, eye, local
		"GET /v1/kv/ks/k":                           {404, 404, 404, 404},
		"GET /v1/kv/other/k":                        {404, 403, 404, 403},
		"GET /v1/kv/ks":                             {200, 200, 200, 200},
		"GET /v1/explain/other/k":                   {200, 403, 200, 403},
		"GET /v1/cluster":                           {200, 200, 200, 200},
		"GET /v1/cluster/ring?keyspace=other&key=k": {200, 403, 200, 403},
		"DELETE /v1/kv/ks/k":                        {204, 204, 403, 204},
		"POST /v1/kv/ks":                            {200, 200, 403, 200},
		"PUT /v1/kv/other/k2":                       {204, 403, 403, 403},
		"PUT /v1/keyspaces/ks":                      {200, 403, 403, 200},
		"PUT /v1/keyspaces/other":                   {200, 403, 403, 403},
		"DELETE /v1/keyspaces/ks/resolver":          {204, 403, 403, 204},
		"PUT /v1/debug/cut":                         {400, 403, 403, 403},
	}
	for call, statuses := range all {
		method, target, _ := strings.Cut(call, " ")
		for i, token := range []string{"ops", "shop", "eye", "local"} {
			a := h.do(t, method, target, "", "Authorization: bearer "+token+"-secret")
			if a.StatusCode != statuses[i] {
				t.Errorf("%s as %s: %d, want %d: %s", call, token, a.StatusCode, statuses[i], a.body)
			}
			if a.StatusCode == 403 {
				a.problem(t, 403, "forbidden")
			}
		}
	}
	a := h.do(t, "GET", "/v1/keyspaces", "", "Authorization: Bearer shop-secret").want(t, 200)
	if strings.Contains(string(a.body), "other") {
		t.Errorf("a restricted token sees %s", a.body)
	}
	// A stranger's body is not waited for.
	w := dial(t, h.addr)
	w.send("PUT /v1/kv/ks/k HTTP/1.1\r\nHost: x\r\nContent-Length: 15000\r\n\r\n").read("PUT").problem(t, 401, "unauthorized")
	w.ended()
	if strings.Contains(h.log.String(), "-secret") {
		t.Error("a token is in the log")
	}
}
