package api

import (
	"slices"

	"github.com/valyala/fasthttp"

	"dynamo/node/api/httptext"
	"dynamo/node/coordinator"
)

// listKeyspaces is GET /v1/keyspaces: those that the token may see.
func (s *Server) listKeyspaces(c *call) error {
	all := slices.DeleteFunc(slices.Clone(s.o.Keyspaces.Keyspaces()), func(k coordinator.KeyspaceInfo) bool { return !c.grant.sees(k.Name) })
	if all == nil {
		all = []coordinator.KeyspaceInfo{}
	}
	return c.answerJSON(fasthttp.StatusOK, struct {
		Keyspaces []coordinator.KeyspaceInfo `json:"keyspaces"`
	}{all})
}

// showKeyspace is GET /v1/keyspaces/{keyspace}.
func (s *Server) showKeyspace(c *call) error {
	info, err := s.o.Keyspaces.Keyspace(c.keyspace)
	if err != nil {
		return err
	}
	return c.answerJSON(fasthttp.StatusOK, info)
}

// putKeyspace is PUT /v1/keyspaces/{keyspace}. No body means defaults, or no change.
func (s *Server) putKeyspace(c *call) error {
	var change coordinator.KeyspaceChange
	if len(c.body) > 0 {
		if err := c.decode(&change); err != nil {
			return err
		}
	}
	info, created, err := s.o.Keyspaces.PutKeyspace(c.context, c.keyspace, change)
	if err != nil {
		return err
	}
	if created {
		c.set("Location", "/v1/keyspaces/"+c.keyspace)
		return c.answerJSON(fasthttp.StatusCreated, info)
	}
	return c.answerJSON(fasthttp.StatusOK, info)
}

// dropKeyspace is DELETE /v1/keyspaces/{keyspace}.
func (s *Server) dropKeyspace(c *call) error {
	return c.nothing(s.o.Keyspaces.DropKeyspace(c.context, c.keyspace))
}

// nothing answers 204 unless there is an error.
func (c *call) nothing(err error) error {
	if err == nil {
		c.ctx.Response.SetStatusCode(fasthttp.StatusNoContent)
	}
	return err
}

// showResolver is GET /v1/keyspaces/{keyspace}/resolver: its state, or the module itself.
func (s *Server) showResolver(c *call) error {
	c.ctx.Response.Header.Set("Vary", "Accept")
	if !httptext.Prefers(c.list("Accept"), mediaWASM, mediaJSON) {
		st, err := s.o.Resolvers.Status(c.keyspace)
		if err != nil {
			return err
		}
		if st.History == nil {
			st.History = []coordinator.ResolverVersion{}
		}
		return c.answerJSON(fasthttp.StatusOK, st)
	}
	module, err := s.o.Resolvers.Module(c.context, c.keyspace)
	if err != nil {
		return err
	}
	c.ctx.Response.Header.SetContentType(mediaWASM)
	c.ctx.Response.SetBodyRaw(module)
	return nil
}

// putResolver is PUT /v1/keyspaces/{keyspace}/resolver.
func (s *Server) putResolver(c *call) error {
	u := coordinator.Upload{Module: c.body}
	var err error
	if u.Check, err = c.query.word("check", coordinator.CheckStrict, coordinator.CheckWarn, coordinator.CheckOff); err != nil {
		return err
	}
	if u.Retry, err = c.query.boolean("retry", false); err != nil {
		return err
	}
	activate, err := c.query.boolean("activate", true)
	if err != nil {
		return err
	}
	u.Inactive = !activate
	var isBuiltin bool
	u.Builtin, isBuiltin = c.query.get("builtin")
	switch contentType := string(c.header.ContentType()); {
	case isBuiltin && len(c.body) > 0:
		return badRequest("either a module or builtin=NAME, not both")
	case isBuiltin && u.Builtin == "":
		return badRequest("builtin= names no module")
	case isBuiltin:
	case len(c.body) == 0:
		return badRequest("the body is to be the module, or the query is to say builtin=NAME")
	case httptext.IsMultipart(contentType):
		if u.Module, u.Config, err = httptext.ModuleParts(contentType, c.body); err != nil {
			return badRequest("%s", err)
		}
	}
	up, err := s.o.Resolvers.Upload(c.context, c.keyspace, u)
	if err != nil {
		return err
	}
	return c.answerJSON(fasthttp.StatusOK, up)
}

// removeResolver is DELETE /v1/keyspaces/{keyspace}/resolver.
func (s *Server) removeResolver(c *call) error {
	return c.nothing(s.o.Resolvers.Remove(c.context, c.keyspace))
}

// rollbackResolver is POST /v1/keyspaces/{keyspace}/resolver/rollback.
func (s *Server) rollbackResolver(c *call) error {
	var body struct {
		Version *int `json:"version"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	if body.Version == nil {
		return badRequest(`rollback wants {"version":n}`)
	}
	v, err := s.o.Resolvers.Rollback(c.context, c.keyspace, *body.Version)
	if err != nil {
		return err
	}
	return c.answerJSON(fasthttp.StatusOK, v)
}

// releaseResolver is POST /v1/keyspaces/{keyspace}/resolver/release.
func (s *Server) releaseResolver(c *call) error {
	res, err := s.o.Resolvers.Release(c.context, c.keyspace)
	if err != nil {
		return err
	}
	return c.answerJSON(fasthttp.StatusOK, res)
}

// maxTrySiblings bounds a trial merge, which holds all its siblings in memory at once.
const maxTrySiblings = 128

// tryResolver is POST /v1/keyspaces/{keyspace}/resolver/try.
func (s *Server) tryResolver(c *call) error {
	var body coordinator.TryRequest
	if err := c.decode(&body); err != nil {
		return err
	}
	if n := len(body.Siblings); n < 1 || n > maxTrySiblings {
		return badRequest("a trial merge takes 1 to %d siblings, not %d", maxTrySiblings, n)
	}
	candidate, _ := c.query.get("candidate")
	res, err := s.o.Resolvers.Try(c.context, c.keyspace, candidate, body)
	if err != nil {
		return err
	}
	return c.answerJSON(fasthttp.StatusOK, res)
}

// showCluster is GET /v1/cluster.
func (s *Server) showCluster(c *call) error {
	return c.answerJSON(fasthttp.StatusOK, s.o.Cluster.Info())
}

// showRing is GET /v1/cluster/ring: of all partitions, or of one key.
func (s *Server) showRing(c *call) error {
	keyspace, hasKeyspace := c.query.get("keyspace")
	key, hasKey := c.query.get("key")
	switch {
	case !hasKeyspace && !hasKey:
		return c.answerJSON(fasthttp.StatusOK, s.o.Cluster.Ring())
	case !hasKeyspace || !hasKey:
		return badRequest("keyspace and key go together")
	}
	if err := checkKey([]byte(key), s.o.Limits.MaxKeyBytes); err != nil {
		return err
	}
	if err := c.grant.allows(c.endpoint.role, keyspace); err != nil {
		return err
	}
	l, err := s.o.Cluster.Locate(keyspace, []byte(key))
	if err != nil {
		return err
	}
	return c.answerJSON(fasthttp.StatusOK, l)
}

// explain is GET /v1/explain/{keyspace}/{key}.
func (s *Server) explain(c *call) error {
	e, err := s.o.KV.Explain(c.context, c.keyspace, c.key)
	if err != nil {
		return err
	}
	return c.answerJSON(fasthttp.StatusOK, e)
}

// cut is PUT /v1/debug/cut: fault injection for tests.
func (s *Server) cut(c *call) error {
	var body struct {
		Nodes *[]string `json:"nodes"`
	}
	if err := c.decode(&body); err != nil {
		return err
	}
	if body.Nodes == nil {
		return badRequest(`cut wants {"nodes":[…]}; an empty list heals`)
	}
	return c.nothing(s.o.Faults.Cut(*body.Nodes))
}

// partitions is GET /v1/debug/partitions: two primaries of equal sums hold the same, to the byte.
func (s *Server) partitions(c *call) error {
	return c.answerJSON(fasthttp.StatusOK, map[string]any{"partitions": s.o.Faults.Partitions()})
}
