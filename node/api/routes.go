package api

import (
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"dynamo/node/config"
	"dynamo/node/coordinator"
)

// resource is one row of the route table.
type resource struct {
	// pattern is the path, with {keyspace} for a keyspace and {key} for the rest of the path. It is the
	// route's name in logs and metrics, too.
	pattern   string
	segments  []string
	endpoints []endpoint
}

// endpoint is one method of a resource. GET serves HEAD as well.
type endpoint struct {
	method string
	role   config.Role
	// params are the query parameters it knows.
	params []string
	body   bodyKind
	wait   wait
	// open endpoints need no token and are not turned away under load.
	open bool
	// isWrite says that a failed request may have left something behind; isChange that it is an
	// administrator's, and logged.
	isWrite, isChange bool
	handle            func(*call) error
}

// wait says how long a request may take that does not say so itself.
type wait int

const (
	// waitRequest is the limit for one request; the client may choose another.
	waitRequest wait = iota
	// waitLong is the longest deadline; the client may choose a shorter one.
	waitLong
	// waitLines is the longest deadline; the client's choice is for each line.
	waitLines
)

// table lists all routes, the frequent ones first.
func (s *Server) table() []resource {
	shared := []string{"r", "w", "timeout", "sloppy"}
	with := func(more ...string) []string { return slices.Concat(shared, more) }
	brief := []string{"timeout"}
	const get, put, post, del = fasthttp.MethodGet, fasthttp.MethodPut, fasthttp.MethodPost, fasthttp.MethodDelete
	const read, write, admin = config.RoleRead, config.RoleWrite, config.RoleAdmin
	rows := []resource{
		{pattern: "/v1/kv/{keyspace}/{key}", endpoints: []endpoint{
			{method: get, role: read, params: with("resolve"), handle: s.getValue},
			{method: put, role: write, params: with("return"), body: bodyValue, isWrite: true, handle: s.putValue},
			{method: del, role: write, params: shared, isWrite: true, handle: s.deleteValue},
		}},
		{pattern: "/v1/kv/{keyspace}", endpoints: []endpoint{
			{method: get, role: read, params: with("prefix", "after", "limit", "values"), handle: s.listKeys},
			{method: post, role: write, params: with("resolve"), body: bodyBatch, wait: waitLines, isWrite: true, handle: s.batch},
		}},
		{pattern: "/v1/explain/{keyspace}/{key}", endpoints: []endpoint{{method: get, role: read, params: brief, handle: s.explain}}},
		{pattern: "/v1/conflicts/{keyspace}", endpoints: []endpoint{
			{method: get, role: read, params: []string{"timeout", "after", "limit", "unmerged"}, wait: waitLong, handle: s.listConflicts},
		}},
		{pattern: "/v1/keyspaces", endpoints: []endpoint{{method: get, role: read, handle: s.listKeyspaces}}},
		{pattern: "/v1/keyspaces/{keyspace}", endpoints: []endpoint{
			{method: get, role: read, handle: s.showKeyspace},
			{method: put, role: admin, params: brief, body: bodyJSON, wait: waitLong, isWrite: true, isChange: true, handle: s.putKeyspace},
			{method: del, role: admin, params: brief, wait: waitLong, isWrite: true, isChange: true, handle: s.dropKeyspace},
		}},
		{pattern: "/v1/keyspaces/{keyspace}/resolver", endpoints: []endpoint{
			{method: get, role: read, params: brief, wait: waitLong, handle: s.showResolver},
			{method: put, role: admin, params: []string{"timeout", "check", "builtin", "retry", "activate"}, body: bodyModule, wait: waitLong, isWrite: true, isChange: true, handle: s.putResolver},
			{method: del, role: admin, params: brief, wait: waitLong, isWrite: true, isChange: true, handle: s.removeResolver},
		}},
		{pattern: "/v1/keyspaces/{keyspace}/resolver/rollback", endpoints: []endpoint{
			{method: post, role: admin, params: brief, body: bodyJSON, wait: waitLong, isWrite: true, isChange: true, handle: s.rollbackResolver},
		}},
		{pattern: "/v1/keyspaces/{keyspace}/resolver/release", endpoints: []endpoint{
			{method: post, role: admin, params: brief, wait: waitLong, isChange: true, handle: s.releaseResolver},
		}},
		{pattern: "/v1/keyspaces/{keyspace}/resolver/try", endpoints: []endpoint{
			{method: post, role: admin, params: []string{"timeout", "candidate"}, body: bodyTrial, wait: waitLong, handle: s.tryResolver},
		}},
		{pattern: "/v1/keyspaces/{keyspace}/resolver/shadow", endpoints: []endpoint{
			{method: get, role: admin, params: brief, wait: waitLong, handle: s.showShadow},
			{method: post, role: admin, params: brief, body: bodyJSON, wait: waitLong, isChange: true, handle: s.startShadow},
			{method: del, role: admin, params: brief, wait: waitLong, isChange: true, handle: s.stopShadow},
		}},
		{pattern: "/v1/keyspaces/{keyspace}/resolver/promote", endpoints: []endpoint{
			{method: post, role: admin, params: []string{"timeout", "check"}, body: bodyJSON, wait: waitLong, isWrite: true, isChange: true, handle: s.promoteResolver},
		}},
		{pattern: "/v1/cluster", endpoints: []endpoint{{method: get, role: read, handle: s.showCluster}}},
		{pattern: "/v1/cluster/ring", endpoints: []endpoint{{method: get, role: read, params: []string{"keyspace", "key"}, handle: s.showRing}}},
		{pattern: "/healthz", endpoints: []endpoint{{method: get, open: true, handle: s.health}}},
		{pattern: "/readyz", endpoints: []endpoint{{method: get, open: true, handle: s.readiness}}},
		{pattern: "/metrics", endpoints: []endpoint{{method: get, open: true, handle: s.showMetrics}}},
		{pattern: "/", endpoints: []endpoint{{method: get, open: true, handle: s.root}}},
	}
	if s.o.Faults != nil {
		rows = append(rows, resource{pattern: "/v1/debug/partitions", endpoints: []endpoint{{method: get, role: admin, handle: s.partitions}}})
		rows = append(rows, resource{pattern: "/v1/debug/cut", endpoints: []endpoint{
			{method: put, role: admin, body: bodyJSON, isChange: true, handle: s.cut},
		}})
	}
	for i := range rows {
		rows[i].segments = strings.Split(rows[i].pattern[1:], "/")
	}
	return rows
}

// match compares a raw path with the pattern. What stands for keyspace and key stays encoded.
func (r *resource) match(path string) (keyspace, key string, ok bool) {
	rest, more := path[1:], true
	for _, segment := range r.segments {
		if !more {
			return "", "", false
		}
		if segment == "{key}" {
			return keyspace, rest, true
		}
		var part string
		part, rest, more = strings.Cut(rest, "/")
		switch {
		case segment == "{keyspace}" && part != "":
			keyspace = part
		case segment != part:
			return "", "", false
		}
	}
	return keyspace, "", !more
}

// route finds the resource of a raw path.
func (s *Server) route(path string) (r *resource, keyspace, key string, err error) {
	for i := range s.routes {
		if keyspace, key, ok := s.routes[i].match(path); ok {
			return &s.routes[i], keyspace, key, nil
		}
	}
	return nil, "", "", &coordinator.Error{Code: coordinator.CodeNotFound, Detail: "there is nothing at this path"}
}

// endpoint finds a method of a resource.
func (r *resource) endpoint(method string) (*endpoint, error) {
	if method == fasthttp.MethodHead {
		method = fasthttp.MethodGet
	}
	for i := range r.endpoints {
		if r.endpoints[i].method == method {
			return &r.endpoints[i], nil
		}
	}
	return nil, &coordinator.Error{Code: coordinator.CodeMethodNotAllowed, Detail: "allowed here: " + r.allow()}
}

// allow is the Allow header of a resource.
func (r *resource) allow() string {
	var methods []string
	for _, e := range r.endpoints {
		methods = append(methods, e.method)
		if e.method == fasthttp.MethodGet {
			methods = append(methods, fasthttp.MethodHead)
		}
	}
	return strings.Join(methods, ", ")
}
