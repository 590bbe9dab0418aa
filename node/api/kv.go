package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/textproto"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"dynamo/node/causal"
	"dynamo/node/coordinator"
)

// options reads the query that every key call may have.
func (r *request) options() coordinator.Options {
	return coordinator.Options{
		R: r.params.quorum("r"), W: r.params.quorum("w"), PrimariesOnly: !r.params.boolean("sloppy", true), RequestID: r.id,
	}
}

// key checks the key of the path.
func (r *request) key() ([]byte, error) {
	if n := len(r.target.key); n == 0 || n > r.s.o.Limits.MaxKeyBytes {
		return nil, &coordinator.Error{
			Code: coordinator.CodeBadKey, Detail: fmt.Sprintf("a key has 1 to %d bytes, this one %d", r.s.o.Limits.MaxKeyBytes, n),
		}
	}
	return r.target.key, nil
}

func (r *request) keyspace() string { return r.target.segments[2] }

func (s *Server) get(ctx context.Context, r *request) error {
	req := coordinator.ReadRequest{Keyspace: r.keyspace(), Options: r.options(), Raw: !r.params.boolean("resolve", true)}
	if err := r.params.end(); err != nil {
		return err
	}
	var err error
	if req.Key, err = r.key(); err != nil {
		return err
	}
	a, err := s.o.KV.Get(ctx, req)
	if err != nil {
		return err
	}
	if a.Found() && noneMatches(r.Request.Header.Peek("If-None-Match"), a.ETag) {
		r.setAnswerHeaders(a)
		r.SetStatusCode(fasthttp.StatusNotModified)
		return nil
	}
	return r.answer(a)
}

// noneMatches reports whether a list of ETags names etag, compared weakly.
func noneMatches(list []byte, etag string) bool {
	for part := range strings.SplitSeq(string(list), ",") {
		part = strings.TrimPrefix(strings.TrimSpace(part), "W/")
		if part == "*" || (part != "" && part == etag) {
			return true
		}
	}
	return false
}

func (r *request) setAnswerHeaders(a coordinator.Answer) {
	h := &r.Response.Header
	for name, v := range map[string]string{
		"X-Dynamo-Context": a.Token, "ETag": a.ETag, "X-Dynamo-Merged": a.Merged, "X-Dynamo-Resolver-Error": a.ResolverError,
	} {
		if v != "" {
			h.SetCanonical([]byte(name), []byte(v)) // else the library writes Etag
		}
	}
	if a.Found() {
		h.Set("X-Dynamo-Siblings", strconv.Itoa(a.Count))
	}
}

// answer shows what stands for a key: 200, 300 or 404.
func (r *request) answer(a coordinator.Answer) error {
	r.setAnswerHeaders(a)
	switch {
	case a.Value != nil:
		h := &r.Response.Header
		h.SetContentType(contentType(a.Value.ContentType))
		h.Set("Last-Modified", httpTime(a.Value.TimeMs))
		r.Response.SetBodyRaw(a.Value.Bytes)
		return nil
	case len(a.Siblings) == 0:
		detail := "the key is not there"
		if a.Token != "" {
			detail = "the key was deleted"
		}
		return &coordinator.Error{Code: coordinator.CodeNotFound, Detail: detail}
	}
	r.SetStatusCode(fasthttp.StatusMultipleChoices)
	r.Response.Header.Set("Vary", "Accept")
	if wantsJSON(string(r.Request.Header.Peek("Accept"))) {
		return r.json(siblingsJSON(a))
	}
	return r.multipart(a.Siblings)
}

func contentType(s string) string {
	if s == "" {
		return "application/octet-stream"
	}
	return s
}

func httpTime(ms uint64) string {
	return time.UnixMilli(int64(ms)).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
}

// wantsJSON reports whether an Accept header prefers JSON to multipart.
func wantsJSON(accept string) bool {
	best := map[string]float64{}
	for part := range strings.SplitSeq(accept, ",") {
		kind, rest, _ := strings.Cut(strings.TrimSpace(part), ";")
		q := 1.0
		if _, v, ok := strings.Cut(rest, "q="); ok {
			if f, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil {
				q = f
			}
		}
		best[strings.ToLower(strings.TrimSpace(kind))] = q
	}
	q, named := best["application/json"]
	return named && q > 0 && q >= best["multipart/mixed"]
}

type siblingJSON struct {
	Value       []byte `json:"value_base64"`
	ContentType string `json:"content_type"`
	Time        string `json:"time"`
	Deleted     bool   `json:"deleted"`
}

func siblingsJSON(a coordinator.Answer) any {
	out := struct {
		Context  string        `json:"context"`
		Siblings []siblingJSON `json:"siblings"`
	}{Context: a.Token}
	for _, v := range a.Siblings {
		out.Siblings = append(out.Siblings, siblingJSON{orEmpty(v.Bytes), v.ContentType, rfc3339(v.TimeMs), v.Deleted})
	}
	return out
}

func orEmpty(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func rfc3339(ms uint64) string {
	return time.UnixMilli(int64(ms)).UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// multipart shows siblings one part each.
func (r *request) multipart(vs []causal.Value) error {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, v := range vs {
		h := textproto.MIMEHeader{"Content-Type": {contentType(v.ContentType)}, "Last-Modified": {httpTime(v.TimeMs)}}
		if v.Deleted {
			h.Set("X-Dynamo-Deleted", "true")
		}
		p, err := w.CreatePart(h)
		if err != nil {
			return err
		}
		if _, err := p.Write(v.Bytes); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	r.Response.Header.SetContentType("multipart/mixed; boundary=" + w.Boundary())
	r.Response.SetBodyRaw(b.Bytes())
	return nil
}

func (s *Server) put(ctx context.Context, r *request) error {
	req, err := r.write()
	if err != nil {
		return err
	}
	body, err := r.body()
	if err != nil {
		return err
	}
	req.Value = causal.Value{Bytes: body, ContentType: contentType(string(r.Request.Header.ContentType()))}
	return r.wrote(ctx, req)
}

func (s *Server) delete(ctx context.Context, r *request) error {
	req, err := r.write()
	if err != nil {
		return err
	}
	req.Value.Deleted = true
	return r.wrote(ctx, req)
}

// write reads what PUT and DELETE have in common.
func (r *request) write() (coordinator.WriteRequest, error) {
	h := &r.Request.Header
	req := coordinator.WriteRequest{
		Keyspace: r.keyspace(), Options: r.options(), Token: string(h.Peek("X-Dynamo-Context")), IfMatch: string(h.Peek("If-Match")),
	}
	if v, ok := r.params.take("return"); ok {
		if req.ReturnValue = v == "value"; !req.ReturnValue {
			r.params.fail("return=%q: the only thing to return is value", v)
		}
	}
	if v := string(h.Peek("If-None-Match")); v != "" {
		if req.IfNoneMatch = v == "*"; !req.IfNoneMatch {
			r.params.fail("If-None-Match of a write takes only *")
		}
	}
	if err := r.params.end(); err != nil {
		return req, err
	}
	var err error
	req.Key, err = r.key()
	return req, err
}

func (r *request) wrote(ctx context.Context, req coordinator.WriteRequest) error {
	a, err := r.s.o.KV.Write(ctx, req)
	if err != nil {
		return err
	}
	if req.ReturnValue && !req.Value.Deleted {
		return r.answer(a)
	}
	r.setAnswerHeaders(coordinator.Answer{Token: a.Token, ETag: a.ETag})
	r.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

// body reads the request's body up to the route's limit. What is declared too large is not read at all.
func (r *request) body() ([]byte, error) {
	limit := r.bodyLimit()
	n := r.Request.Header.ContentLength()
	if n > limit {
		return nil, tooLarge(limit)
	}
	in := r.RequestBodyStream()
	if in == nil {
		b := bytes.Clone(r.Request.Body())
		if len(b) > limit {
			return nil, tooLarge(limit)
		}
		return b, nil
	}
	var buf bytes.Buffer
	if n > 0 {
		buf.Grow(min(n, limit) + bytes.MinRead)
	}
	if _, err := io.Copy(&buf, io.LimitReader(in, int64(limit)+1)); err != nil {
		return nil, badRequest("the body could not be read: %v", err)
	}
	switch {
	case buf.Len() > limit:
		return nil, tooLarge(limit)
	case n >= 0 && buf.Len() != n:
		return nil, badRequest("the body has %d bytes, Content-Length says %d", buf.Len(), n)
	}
	return buf.Bytes(), nil
}

func tooLarge(limit int) error {
	return &coordinator.Error{Code: coordinator.CodeTooLarge, Detail: fmt.Sprintf("the body may have %d bytes", limit)}
}

func (s *Server) explain(ctx context.Context, r *request) error {
	if err := r.params.end(); err != nil {
		return err
	}
	key, err := r.key()
	if err != nil {
		return err
	}
	e, err := s.o.KV.Explain(ctx, r.keyspace(), key)
	if err != nil {
		return err
	}
	return r.json(e)
}

type keyJSON struct {
	Key         *string       `json:"key,omitempty"`
	KeyBase64   []byte        `json:"key_base64,omitempty"`
	Value       *[]byte       `json:"value_base64,omitempty"`
	ContentType string        `json:"content_type,omitempty"`
	Context     string        `json:"context,omitempty"`
	Siblings    []siblingJSON `json:"siblings,omitempty"`
}

func (s *Server) list(ctx context.Context, r *request) error {
	req := coordinator.ListRequest{
		Keyspace: r.keyspace(), Options: r.options(), Limit: r.params.integer("limit", 100, 1, 1000), Values: r.params.boolean("values", false),
	}
	prefix, _ := r.params.take("prefix")
	after, _ := r.params.take("after")
	req.Prefix, req.After = []byte(prefix), []byte(after)
	if err := r.params.end(); err != nil {
		return err
	}
	page, err := s.o.KV.List(ctx, req)
	if err != nil {
		return err
	}
	out := struct {
		Keys []keyJSON `json:"keys"`
		Next *string   `json:"next"`
		// NextBase64 is Next where that is not UTF-8.
		NextBase64 []byte `json:"next_base64,omitempty"`
	}{Keys: []keyJSON{}}
	for _, e := range page.Entries {
		out.Keys = append(out.Keys, listed(e))
	}
	if page.Next != nil {
		if next := string(page.Next); utf8.ValidString(next) {
			out.Next = &next
		} else {
			out.NextBase64 = page.Next
		}
	}
	return r.json(out)
}

func listed(e coordinator.ListEntry) keyJSON {
	var k keyJSON
	if name := string(e.Key); utf8.ValidString(name) {
		k.Key = &name
	} else {
		k.KeyBase64 = e.Key
	}
	if a := e.Answer; a != nil {
		k.Context = a.Token
		if a.Value != nil {
			b := orEmpty(a.Value.Bytes)
			k.Value, k.ContentType = &b, a.Value.ContentType
		}
		for _, v := range a.Siblings {
			k.Siblings = append(k.Siblings, siblingJSON{orEmpty(v.Bytes), v.ContentType, rfc3339(v.TimeMs), v.Deleted})
		}
	}
	return k
}

// batchLine is one operation of a batch.
type batchLine struct {
	Op          string  `json:"op"`
	Key         *string `json:"key"`
	KeyBase64   string  `json:"key_base64"`
	Value       string  `json:"value_base64"`
	ContentType string  `json:"content_type"`
	Context     string  `json:"context"`
}

// batchResult answers one line.
type batchResult struct {
	Status    int           `json:"status"`
	Key       *string       `json:"key,omitempty"`
	Code      string        `json:"code,omitempty"`
	Detail    string        `json:"detail,omitempty"`
	Retryable bool          `json:"retryable,omitempty"`
	Maybe     bool          `json:"maybe_stored,omitempty"`
	Context   string        `json:"context,omitempty"`
	ETag      string        `json:"etag,omitempty"`
	Value     *[]byte       `json:"value_base64,omitempty"`
	Type      string        `json:"content_type,omitempty"`
	Siblings  []siblingJSON `json:"siblings,omitempty"`
}

// batch runs the lines one after the other; each succeeds or fails by itself.
func (s *Server) batch(ctx context.Context, r *request) error {
	o := r.options()
	if err := r.params.end(); err != nil {
		return err
	}
	body, err := r.body()
	if err != nil {
		return err
	}
	lines := bytes.Split(bytes.TrimRight(body, "\r\n"), []byte{'\n'})
	if n := len(lines); n > s.o.Limits.BatchLines {
		return &coordinator.Error{Code: coordinator.CodeTooLarge, Detail: fmt.Sprintf("a batch has at most %d lines, this one %d", s.o.Limits.BatchLines, n)}
	}
	if _, err := s.o.Keyspaces.Keyspace(r.keyspace()); err != nil {
		return err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	for _, line := range lines {
		if err := enc.Encode(s.runLine(ctx, r.keyspace(), o, line)); err != nil {
			return err
		}
	}
	r.Response.Header.SetContentType("application/x-ndjson")
	r.Response.SetBodyRaw(out.Bytes())
	return nil
}

func (s *Server) runLine(ctx context.Context, keyspace string, o coordinator.Options, line []byte) batchResult {
	var l batchLine
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil || d.More() {
		return lineError(badRequest("the line is not one JSON object of a batch: %v", err))
	}
	key := []byte(l.KeyBase64)
	var err error
	if l.Key != nil {
		key = []byte(*l.Key)
	} else if key, err = base64.StdEncoding.DecodeString(l.KeyBase64); err != nil {
		return lineError(badRequest("key_base64: %v", err))
	}
	value, err := base64.StdEncoding.DecodeString(l.Value)
	if err != nil {
		return lineError(badRequest("value_base64: %v", err))
	}
	res, err := s.runOp(ctx, keyspace, o, l, key, value)
	if err != nil {
		res = lineError(err)
	}
	res.Key = l.Key
	return res
}

func (s *Server) runOp(ctx context.Context, keyspace string, o coordinator.Options, l batchLine, key, value []byte) (batchResult, error) {
	switch l.Op {
	case "get":
		a, err := s.o.KV.Get(ctx, coordinator.ReadRequest{Keyspace: keyspace, Key: key, Options: o})
		if err != nil {
			return batchResult{}, err
		}
		return lineAnswer(a), nil
	case "put", "delete":
		w := coordinator.WriteRequest{Keyspace: keyspace, Key: key, Options: o, Token: l.Context}
		w.Value = causal.Value{Bytes: value, ContentType: contentType(l.ContentType)}
		if l.Op == "delete" {
			w.Value = causal.Value{Deleted: true}
		}
		a, err := s.o.KV.Write(ctx, w)
		return batchResult{Status: fasthttp.StatusNoContent, Context: a.Token, ETag: a.ETag}, err
	}
	return batchResult{}, badRequest("op %q is none of put, get and delete", l.Op)
}

func lineAnswer(a coordinator.Answer) batchResult {
	res := batchResult{Status: fasthttp.StatusNotFound, Context: a.Token, ETag: a.ETag}
	switch {
	case a.Value != nil:
		b := orEmpty(a.Value.Bytes)
		res.Status, res.Value, res.Type = fasthttp.StatusOK, &b, a.Value.ContentType
	case len(a.Siblings) > 0:
		res.Status = fasthttp.StatusMultipleChoices
		for _, v := range a.Siblings {
			res.Siblings = append(res.Siblings, siblingJSON{orEmpty(v.Bytes), v.ContentType, rfc3339(v.TimeMs), v.Deleted})
		}
	default:
		res.Code = string(coordinator.CodeNotFound)
	}
	return res
}

func lineError(err error) batchResult {
	e, ok := errors.AsType[*coordinator.Error](err)
	if !ok {
		e = &coordinator.Error{Code: coordinator.CodeInternal, Detail: "internal error"}
	}
	return batchResult{Status: statusOf(e.Code), Code: string(e.Code), Detail: e.Detail, Retryable: e.Retryable, Maybe: e.MaybeStored}
}
