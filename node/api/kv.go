package api

import (
	"strings"

	"github.com/valyala/fasthttp"

	"dynamo/node/api/httptext"
	"dynamo/node/causal"
	"dynamo/node/coordinator"
)

// Headers of values.
const (
	headerContext       = "X-Dynamo-Context"
	headerSiblings      = "X-Dynamo-Siblings"
	headerMerged        = "X-Dynamo-Merged"
	headerResolverError = "X-Dynamo-Resolver-Error"
	headerDeleted       = "X-Dynamo-Deleted"
	headerETag          = "ETag"
)

// defaultContentType stands for the one that a client did not send.
const defaultContentType = "application/octet-stream"

// options are the query parameters shared by all calls for values.
func (c *call) options() (coordinator.Options, error) {
	o, err := c.query.options()
	o.RequestID = c.id
	return o, err
}

// getValue is GET and HEAD /v1/kv/{keyspace}/{key}.
func (s *Server) getValue(c *call) error {
	o, err := c.options()
	if err != nil {
		return err
	}
	resolve, err := c.query.boolean("resolve", true)
	if err != nil {
		return err
	}
	a, err := s.o.KV.Get(c.context, coordinator.ReadRequest{Keyspace: c.keyspace, Key: c.key, Options: o, Raw: !resolve})
	if err != nil {
		return err
	}
	if a.Found() && httptext.MatchesETag(c.list("If-None-Match"), a.ETag) {
		c.answerHeaders(a)
		c.ctx.Response.SetStatusCode(fasthttp.StatusNotModified)
		return nil
	}
	return c.answer(a)
}

// putValue is PUT /v1/kv/{keyspace}/{key}.
func (s *Server) putValue(c *call) error {
	r, err := c.writeRequest()
	if err != nil {
		return err
	}
	_, r.ReturnValue = c.query.get("return")
	if r.ReturnValue {
		if _, err := c.query.word("return", "value"); err != nil {
			return err
		}
	}
	r.Value.Bytes, r.Value.ContentType = c.body, string(c.header.ContentType())
	if r.Value.ContentType == "" {
		r.Value.ContentType = defaultContentType
	}
	if !httptext.IsContentType(r.Value.ContentType) {
		return badRequest("Content-Type is longer than %d bytes or not printable ASCII", httptext.MaxContentTypeBytes)
	}
	a, err := s.o.KV.Write(c.context, r)
	if err != nil {
		return err
	}
	if r.ReturnValue {
		return c.answer(a)
	}
	c.token(a.Token)
	if a.ETag != "" {
		c.set(headerETag, a.ETag)
	}
	c.ctx.Response.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

// deleteValue is DELETE /v1/kv/{keyspace}/{key}.
func (s *Server) deleteValue(c *call) error {
	r, err := c.writeRequest()
	if err != nil {
		return err
	}
	r.Value.Deleted = true
	a, err := s.o.KV.Write(c.context, r)
	if err != nil {
		return err
	}
	c.token(a.Token)
	c.ctx.Response.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

// writeRequest takes everything but the value from the headers.
func (c *call) writeRequest() (coordinator.WriteRequest, error) {
	o, err := c.options()
	if err != nil {
		return coordinator.WriteRequest{}, err
	}
	r := coordinator.WriteRequest{Keyspace: c.keyspace, Key: c.key, Options: o}
	tokens := c.header.PeekAll(headerContext)
	if len(tokens) > 1 {
		return r, &coordinator.Error{Code: coordinator.CodeBadContext, Detail: headerContext + " is given more than once"}
	}
	if len(tokens) == 1 {
		r.Token = string(tokens[0])
	}
	if r.IfMatch = c.list("If-Match"); r.IfMatch != "" && r.IfMatch != "*" && !httptext.IsETag(r.IfMatch) {
		return r, badRequest(`If-Match takes "*" or one strong ETag, quotes included`)
	}
	switch c.list("If-None-Match") {
	case "":
	case "*":
		r.IfNoneMatch = true
	default:
		return r, badRequest("If-None-Match of a write can only be *")
	}
	return r, nil
}

// list is a header that may come in several lines.
func (c *call) list(name string) string {
	lines := c.header.PeekAll(name)
	parts := make([]string, len(lines))
	for i, l := range lines {
		parts[i] = strings.TrimSpace(string(l))
	}
	return strings.Join(parts, ", ")
}

// set sets a response header under exactly this name.
func (c *call) set(name, value string) {
	c.ctx.Response.Header.SetCanonical([]byte(name), []byte(value))
}

func (c *call) token(token string) {
	if token != "" {
		c.set(headerContext, token)
	}
}

// answer shows what stands for a key: 200, 300 or 404.
func (c *call) answer(a coordinator.Answer) error {
	if !a.Found() {
		c.token(a.Token)
		detail := "there is no such key"
		if a.Token != "" {
			detail = "the key was deleted"
		}
		return &coordinator.Error{Code: coordinator.CodeNotFound, Detail: detail}
	}
	c.answerHeaders(a)
	if len(a.Siblings) > 0 {
		return c.answerSiblings(a)
	}
	r := &c.ctx.Response
	r.Header.SetContentType(shownType(a.Value.ContentType))
	r.SetBodyRaw(a.Value.Bytes)
	// For HEAD of an empty value, which would go without.
	r.Header.SetContentLength(len(a.Value.Bytes))
	return nil
}

// answerHeaders sets the headers of a key that is there.
func (c *call) answerHeaders(a coordinator.Answer) {
	c.token(a.Token)
	if a.ETag != "" {
		c.set(headerETag, a.ETag)
	}
	c.set("Last-Modified", httpDate(lastModified(a)))
	c.set(headerSiblings, itoa(count(a)))
	if a.Merged != "" {
		c.set(headerMerged, a.Merged)
	}
	if a.ResolverError != "" {
		c.set(headerResolverError, a.ResolverError)
	}
}

// count is how many siblings stand behind an answer, at least the one that is shown.
func count(a coordinator.Answer) int { return max(a.Count, len(a.Siblings), 1) }

// lastModified is the newest time in an answer, in milliseconds.
func lastModified(a coordinator.Answer) uint64 {
	if a.Value != nil {
		return a.Value.TimeMs
	}
	var newest uint64
	for _, v := range a.Siblings {
		newest = max(newest, v.TimeMs)
	}
	return newest
}

// shownType is a stored content type as it may stand in a header.
func shownType(s string) string {
	if s == "" || !httptext.IsContentType(s) {
		return defaultContentType
	}
	return s
}

// bytesOf is never nil, so that an empty value is an empty string in JSON and not null.
func bytesOf(v causal.Value) []byte {
	if v.Bytes == nil {
		return []byte{}
	}
	return v.Bytes
}
