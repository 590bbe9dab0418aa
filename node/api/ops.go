package api

import (
	"bytes"
	"fmt"
	"html"
	"strings"

	"github.com/prometheus/common/expfmt"

	"dynamo/node/coordinator"
)

// health is GET /healthz: the process lives.
func (s *Server) health(c *call) error { return c.text("text/plain; charset=utf-8", []byte("ok\n")) }

// readiness is GET /readyz: the node can coordinate.
func (s *Server) readiness(c *call) error {
	if err := s.o.Ready(); err != nil {
		return &coordinator.Error{Code: coordinator.CodeNotReady, Detail: err.Error(), Retryable: true}
	}
	return c.text("text/plain; charset=utf-8", []byte("ready\n"))
}

// showMetrics is GET /metrics. A collector that fails is logged and left out.
func (s *Server) showMetrics(c *call) error {
	if s.o.Metrics == nil {
		return &coordinator.Error{Code: coordinator.CodeNotFound, Detail: "this node shows no metrics"}
	}
	families, err := s.o.Metrics.Gather()
	if err != nil {
		s.log.Warn("some metrics could not be gathered", "err", err)
		if len(families) == 0 {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	var b bytes.Buffer
	enc := expfmt.NewEncoder(&b, format)
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	return c.text(string(format), b.Bytes())
}

// root is GET /: which node this is, and where to go from here.
func (s *Server) root(c *call) error {
	var b strings.Builder
	node := html.EscapeString(s.o.Node)
	fmt.Fprintf(&b, "<!doctype html>\n<html lang=\"en\">\n<title>dynamo %s</title>\n<h1>dynamo: node %s</h1>\n<ul>\n", node, node)
	for _, link := range []struct{ path, what string }{
		{"/v1/cluster", "members of the cluster"},
		{"/v1/cluster/ring", "partitions and their primaries"},
		{"/v1/keyspaces", "keyspaces"},
		{"/v1/kv/default", "keys of keyspace default"},
		{"/healthz", "the process lives"},
		{"/readyz", "the node can coordinate"},
		{"/metrics", "Prometheus metrics"},
	} {
		fmt.Fprintf(&b, "<li><a href=\"%s\">%s</a>: %s</li>\n", link.path, link.path, link.what)
	}
	b.WriteString("</ul>\n</html>\n")
	return c.text("text/html; charset=utf-8", []byte(b.String()))
}

func (c *call) text(contentType string, body []byte) error {
	c.ctx.Response.Header.SetContentType(contentType)
	c.ctx.Response.SetBodyRaw(body)
	return nil
}
