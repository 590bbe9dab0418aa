package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"strings"

	"github.com/prometheus/common/expfmt"
	"github.com/valyala/fasthttp"

	"dynamo/node/config"
	"dynamo/node/coordinator"
)

// decode reads a JSON body strictly.
func (r *request) decode(v any) error {
	b, err := r.body()
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return badRequest("the body is not the JSON this call takes: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return badRequest("there is more than one JSON value in the body")
	}
	return nil
}

func (s *Server) keyspaces(_ context.Context, r *request) error {
	if err := r.params.end(); err != nil {
		return err
	}
	return r.json(map[string]any{"keyspaces": s.o.Keyspaces.Keyspaces()})
}

func (s *Server) keyspace(_ context.Context, r *request) error {
	if err := r.params.end(); err != nil {
		return err
	}
	ks, err := s.o.Keyspaces.Keyspace(r.keyspace())
	if err != nil {
		return err
	}
	return r.json(ks)
}

func (s *Server) putKeyspace(ctx context.Context, r *request) error {
	if err := r.params.end(); err != nil {
		return err
	}
	if !config.IsKeyspaceName(r.keyspace()) {
		return badRequest("%q is no keyspace name: a lower-case letter, then up to 62 of a-z 0-9 _ -", r.keyspace())
	}
	var c coordinator.KeyspaceChange
	if err := r.decode(&c); err != nil {
		return err
	}
	ks, created, err := s.o.Keyspaces.PutKeyspace(ctx, r.keyspace(), c)
	if err != nil {
		return err
	}
	if created {
		r.SetStatusCode(fasthttp.StatusCreated)
	}
	return r.json(ks)
}

func (s *Server) dropKeyspace(ctx context.Context, r *request) error {
	if err := r.params.end(); err != nil {
		return err
	}
	if err := s.o.Keyspaces.DropKeyspace(ctx, r.keyspace()); err != nil {
		return err
	}
	r.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

func (s *Server) resolver(ctx context.Context, r *request) error {
	if err := r.params.end(); err != nil {
		return err
	}
	if strings.Contains(string(r.Request.Header.Peek("Accept")), "application/wasm") {
		b, err := s.o.Resolvers.Module(ctx, r.keyspace())
		if err != nil {
			return err
		}
		r.Response.Header.SetContentType("application/wasm")
		r.Response.SetBodyRaw(b)
		return nil
	}
	st, err := s.o.Resolvers.Status(r.keyspace())
	if err != nil {
		return err
	}
	return r.json(st)
}

func (s *Server) putResolver(ctx context.Context, r *request) error {
	check, ok := r.params.take("check")
	if !ok {
		check = coordinator.CheckStrict
	}
	if check != coordinator.CheckStrict && check != coordinator.CheckWarn && check != coordinator.CheckOff {
		r.params.fail("check=%q is none of strict, warn and off", check)
	}
	builtin, named := r.params.take("builtin")
	if err := r.params.end(); err != nil {
		return err
	}
	var up coordinator.ResolverUpload
	var err error
	if named {
		up, err = s.o.Resolvers.UploadBuiltin(ctx, r.keyspace(), builtin, check)
	} else {
		up, err = s.uploadModule(ctx, r, check)
	}
	if err != nil {
		return err
	}
	return r.json(up)
}

func (s *Server) uploadModule(ctx context.Context, r *request, check string) (coordinator.ResolverUpload, error) {
	if ct, _, _ := strings.Cut(string(r.Request.Header.ContentType()), ";"); ct != "application/wasm" && ct != "" && ct != "application/octet-stream" {
		return coordinator.ResolverUpload{}, &coordinator.Error{
			Code: coordinator.CodeUnsupportedMedia, Detail: fmt.Sprintf("a module is application/wasm, not %s", ct),
		}
	}
	b, err := r.body()
	if err != nil {
		return coordinator.ResolverUpload{}, err
	}
	return s.o.Resolvers.Upload(ctx, r.keyspace(), b, check)
}

func (s *Server) removeResolver(ctx context.Context, r *request) error {
	if err := r.params.end(); err != nil {
		return err
	}
	if err := s.o.Resolvers.Remove(ctx, r.keyspace()); err != nil {
		return err
	}
	r.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

func (s *Server) rollback(ctx context.Context, r *request) error {
	if err := r.params.end(); err != nil {
		return err
	}
	var body struct {
		Version int `json:"version"`
	}
	if err := r.decode(&body); err != nil {
		return err
	}
	v, err := s.o.Resolvers.Rollback(ctx, r.keyspace(), body.Version)
	if err != nil {
		return err
	}
	return r.json(v)
}

func (s *Server) try(ctx context.Context, r *request) error {
	candidate, _ := r.params.take("candidate")
	if err := r.params.end(); err != nil {
		return err
	}
	var body coordinator.TryRequest
	if err := r.decode(&body); err != nil {
		return err
	}
	if len(body.Siblings) < 2 {
		return badRequest("a merge takes at least two siblings")
	}
	res, err := s.o.Resolvers.Try(ctx, r.keyspace(), candidate, body)
	if err != nil {
		return err
	}
	return r.json(res)
}

func (s *Server) cluster(_ context.Context, r *request) error {
	if err := r.params.end(); err != nil {
		return err
	}
	return r.json(s.o.Cluster.Info())
}

func (s *Server) ring(_ context.Context, r *request) error {
	keyspace, one := r.params.take("keyspace")
	key, hasKey := r.params.take("key")
	if one != hasKey {
		r.params.fail("keyspace and key go together")
	}
	if err := r.params.end(); err != nil {
		return err
	}
	if !one {
		return r.json(s.o.Cluster.Ring())
	}
	loc, err := s.o.Cluster.Locate(keyspace, []byte(key))
	if err != nil {
		return err
	}
	return r.json(loc)
}

func (s *Server) cut(_ context.Context, r *request) error {
	if err := r.params.end(); err != nil {
		return err
	}
	var body struct {
		Nodes []string `json:"nodes"`
	}
	if err := r.decode(&body); err != nil {
		return err
	}
	if err := s.o.Faults.Cut(body.Nodes); err != nil {
		return badRequest("%v", err)
	}
	r.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

func (s *Server) healthz(_ context.Context, r *request) error {
	r.Response.Header.SetContentType("text/plain; charset=utf-8")
	r.Response.SetBodyString("ok\n")
	return nil
}

func (s *Server) readyz(_ context.Context, r *request) error {
	if err := s.o.Ready(); err != nil {
		return &coordinator.Error{Code: coordinator.CodeNotReady, Detail: err.Error(), Retryable: true}
	}
	r.Response.Header.SetContentType("text/plain; charset=utf-8")
	r.Response.SetBodyString("ready\n")
	return nil
}

func (s *Server) showMetrics(_ context.Context, r *request) error {
	families, err := s.o.Metrics.Gather()
	if err != nil {
		return err
	}
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	var b bytes.Buffer
	enc := expfmt.NewEncoder(&b, format)
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return err
		}
	}
	r.Response.Header.SetContentType(string(format))
	r.Response.SetBodyRaw(b.Bytes())
	return nil
}

func (s *Server) home(_ context.Context, r *request) error {
	var b strings.Builder
	fmt.Fprintf(&b, "<!doctype html><title>dynamo %[1]s</title><h1>dynamo node %[1]s</h1><ul>", html.EscapeString(s.o.Node))
	for _, path := range []string{"/v1/cluster", "/v1/cluster/ring", "/v1/keyspaces", "/metrics", "/healthz", "/readyz"} {
		fmt.Fprintf(&b, `<li><a href="%[1]s">%[1]s</a>`, path)
	}
	b.WriteString("</ul>")
	r.Response.Header.SetContentType("text/html; charset=utf-8")
	r.Response.SetBodyString(b.String())
	return nil
}
