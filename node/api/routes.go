package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"dynamo/node/config"
	"dynamo/node/coordinator"
)

// route is one call of the API.
type route struct {
	// name is the route in logs and metrics.
	name   string
	method string
	// path are the segments; "*" takes any, and one that ends in "/KEY" has a key behind it.
	path []string
	key  bool
	role config.Role
	// open routes need no token and no place among the running requests.
	open bool
	// slow routes have the longest deadline by default.
	slow  bool
	limit func(r *request) int
	serve func(ctx context.Context, r *request) error
}

// maxJSONBytes bounds JSON bodies.
const maxJSONBytes = 64 << 10

func jsonLimit(*request) int { return maxJSONBytes }
func noBody(*request) int    { return 0 }

// table lists every call.
func (s *Server) table() []route {
	get, put, post, del, head := fasthttp.MethodGet, fasthttp.MethodPut, fasthttp.MethodPost, fasthttp.MethodDelete, fasthttp.MethodHead
	t := []route{
		{name: "get", method: get, path: []string{"v1", "kv", "*"}, key: true, role: config.RoleRead, serve: s.get},
		{name: "head", method: head, path: []string{"v1", "kv", "*"}, key: true, role: config.RoleRead, serve: s.get},
		{name: "put", method: put, path: []string{"v1", "kv", "*"}, key: true, role: config.RoleWrite, limit: valueLimit, serve: s.put},
		{name: "delete", method: del, path: []string{"v1", "kv", "*"}, key: true, role: config.RoleWrite, serve: s.delete},
		{name: "list", method: get, path: []string{"v1", "kv", "*"}, role: config.RoleRead, slow: true, serve: s.list},
		{name: "batch", method: post, path: []string{"v1", "kv", "*"}, role: config.RoleWrite, slow: true, limit: batchLimit, serve: s.batch},
		{name: "explain", method: get, path: []string{"v1", "explain", "*"}, key: true, role: config.RoleRead, serve: s.explain},
		{name: "keyspaces", method: get, path: []string{"v1", "keyspaces"}, role: config.RoleRead, serve: s.keyspaces},
		{name: "keyspace", method: get, path: []string{"v1", "keyspaces", "*"}, role: config.RoleRead, serve: s.keyspace},
		{name: "keyspace_put", method: put, path: []string{"v1", "keyspaces", "*"}, role: config.RoleAdmin, limit: jsonLimit, serve: s.putKeyspace},
		{name: "keyspace_drop", method: del, path: []string{"v1", "keyspaces", "*"}, role: config.RoleAdmin, serve: s.dropKeyspace},
		{name: "resolver", method: get, path: []string{"v1", "keyspaces", "*", "resolver"}, role: config.RoleRead, serve: s.resolver},
		{name: "resolver_put", method: put, path: []string{"v1", "keyspaces", "*", "resolver"}, role: config.RoleAdmin, slow: true, limit: moduleLimit, serve: s.putResolver},
		{name: "resolver_remove", method: del, path: []string{"v1", "keyspaces", "*", "resolver"}, role: config.RoleAdmin, serve: s.removeResolver},
		{name: "resolver_rollback", method: post, path: []string{"v1", "keyspaces", "*", "resolver", "rollback"}, role: config.RoleAdmin, limit: jsonLimit, serve: s.rollback},
		{name: "resolver_try", method: post, path: []string{"v1", "keyspaces", "*", "resolver", "try"}, role: config.RoleRead, slow: true, limit: tryLimit, serve: s.try},
		{name: "cluster", method: get, path: []string{"v1", "cluster"}, role: config.RoleRead, serve: s.cluster},
		{name: "ring", method: get, path: []string{"v1", "cluster", "ring"}, role: config.RoleRead, serve: s.ring},
		{name: "healthz", method: get, path: []string{"healthz"}, open: true, serve: s.healthz},
		{name: "readyz", method: get, path: []string{"readyz"}, open: true, serve: s.readyz},
		{name: "metrics", method: get, path: []string{"metrics"}, open: true, serve: s.showMetrics},
		{name: "home", method: get, path: []string{""}, open: true, serve: s.home},
	}
	if s.o.Faults != nil {
		t = append(t, route{name: "debug_cut", method: put, path: []string{"v1", "debug", "cut"}, role: config.RoleAdmin, limit: jsonLimit, serve: s.cut})
	}
	for i := range t {
		if t[i].limit == nil {
			t[i].limit = noBody
		}
	}
	return t
}

func valueLimit(r *request) int {
	ks, err := r.s.o.Keyspaces.Keyspace(r.target.segments[2])
	if err != nil {
		return r.s.o.Limits.MaxValueBytes
	}
	return ks.MaxValueBytes
}

func moduleLimit(r *request) int { return r.s.o.Limits.ResolverModuleBytes }

// batchLimit takes what a few full values take in base64.
func batchLimit(r *request) int { return max(32<<20, 2*valueLimit(r)) }

func tryLimit(r *request) int { return max(maxJSONBytes, 8*valueLimit(r)) }

func (r *route) matches(t target) bool {
	if r.key != (t.key != nil) || len(r.path) != len(t.segments) {
		return false
	}
	for i, p := range r.path {
		if p != "*" && p != t.segments[i] {
			return false
		}
	}
	return true
}

// find looks the route up.
func (r *request) find() (*route, error) {
	var allow []string
	method := string(r.Method())
	for i := range r.s.routes {
		rt := &r.s.routes[i]
		if !rt.matches(r.target) {
			continue
		}
		if rt.method == method {
			return rt, nil
		}
		allow = append(allow, rt.method)
	}
	if len(allow) > 0 {
		slices.Sort(allow)
		r.Response.Header.Set("Allow", strings.Join(allow, ", "))
		return nil, &coordinator.Error{Code: coordinator.CodeMethodNotAllowed, Detail: "this path takes " + strings.Join(allow, ", ")}
	}
	return nil, &coordinator.Error{Code: coordinator.CodeNotFound, Detail: "there is no such call"}
}

func (r *request) bodyLimit() int { return r.route.limit(r) }

// authorise checks the bearer token and its role.
func (r *request) authorise() error {
	if len(r.s.o.Tokens) == 0 || r.route.open {
		return nil
	}
	given, ok := strings.CutPrefix(string(r.Request.Header.Peek("Authorization")), "Bearer ")
	who, known := r.s.lookup(given)
	if !ok || !known {
		r.Response.Header.Set("WWW-Authenticate", `Bearer realm="dynamo"`)
		return &coordinator.Error{Code: coordinator.CodeUnauthorized, Detail: "a valid bearer token is needed"}
	}
	r.who = who
	if rank(who.Role) < rank(r.route.role) {
		return &coordinator.Error{Code: coordinator.CodeForbidden, Detail: "the token's role " + string(who.Role) + " does not reach here"}
	}
	if len(who.Keyspaces) > 0 && len(r.target.segments) > 2 && r.route.path[2] == "*" && !slices.Contains(who.Keyspaces, r.target.segments[2]) {
		return &coordinator.Error{Code: coordinator.CodeForbidden, Detail: "the token is not for this keyspace"}
	}
	return nil
}

// lookup compares with every token, in a time that does not tell how much of one is right.
func (s *Server) lookup(given string) (who config.Token, ok bool) {
	sum := sha256.Sum256([]byte(given))
	for _, t := range s.o.Tokens {
		want := sha256.Sum256([]byte(t.Token))
		if subtle.ConstantTimeCompare(sum[:], want[:]) == 1 {
			who, ok = t, true
		}
	}
	return who, ok
}

func rank(r config.Role) int {
	return slices.Index([]config.Role{config.RoleRead, config.RoleWrite, config.RoleAdmin}, r)
}
