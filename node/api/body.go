package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"dynamo/node/api/httptext"
	"dynamo/node/coordinator"
)

// bodyKind says what an endpoint takes as its body.
type bodyKind int

const (
	bodyNone bodyKind = iota
	bodyValue
	bodyModule
	bodyJSON
	bodyTrial
	bodyBatch
)

const (
	maxJSONBytes = 64 << 10
	// maxBatchBytes holds a batch of values in base64, or one value of the largest size there is.
	maxBatchBytes = 32 << 20
	// firstReadBytes is what is allocated for a body at first, whatever length it declares.
	firstReadBytes = 64 << 10
)

// bodyLimit is the largest body of the call, in bytes. A keyspace that is not there is an error.
func (c *call) bodyLimit() (int, error) {
	switch c.endpoint.body {
	case bodyValue:
		ks, err := c.s.o.Keyspaces.Keyspace(c.keyspace)
		return ks.MaxValueBytes, err
	case bodyModule:
		limit := c.s.o.Limits.ResolverModuleBytes
		if httptext.IsMultipart(string(c.header.ContentType())) {
			limit = 2*limit + maxJSONBytes // a configuration and the parts' headers come on top
		}
		return limit, nil
	case bodyJSON:
		return maxJSONBytes, nil
	case bodyTrial, bodyBatch:
		_, err := c.s.o.Keyspaces.Keyspace(c.keyspace)
		return maxBatchBytes, err
	}
	return 0, nil
}

// checkBody refuses by the headers what is too large or of the wrong kind.
func (c *call) checkBody() error {
	kind := c.endpoint.body
	if kind == bodyNone {
		return nil
	}
	limit, err := c.bodyLimit()
	if err != nil {
		return err
	}
	if c.framing.length > limit {
		return tooLarge(limit)
	}
	if !c.framing.hasBody() {
		return nil
	}
	if coding := string(c.header.Peek("Content-Encoding")); coding != "" && !strings.EqualFold(coding, "identity") {
		return unsupported("bodies are taken as they are: Content-Encoding %q is not kept", coding)
	}
	if media := httptext.MediaType(string(c.header.ContentType())); !takes(kind, media) {
		return unsupported("a body of type %q is not what this call takes", media)
	}
	return nil
}

// takes reports whether a kind of body may come as media type. Clients that do not say what they send
// are believed, and so is curl, which calls everything a form.
func takes(kind bodyKind, media string) bool {
	if media == "" || media == "application/x-www-form-urlencoded" || kind == bodyValue {
		return true
	}
	switch kind {
	case bodyModule:
		return media == "application/wasm" || media == "application/octet-stream" || httptext.IsMultipart(media)
	case bodyBatch:
		return slices.Contains([]string{"application/x-ndjson", "application/ndjson", "application/jsonl", "application/json", "text/plain"}, media)
	default:
		return media == "application/json" || strings.HasSuffix(media, "+json") || media == "text/plain"
	}
}

func unsupported(format string, args ...any) error {
	e := badRequest(format, args...).(*coordinator.Error)
	e.Code = coordinator.CodeUnsupportedMedia
	return e
}

func tooLarge(limit int) error {
	e := badRequest("the body exceeds %d bytes", limit).(*coordinator.Error)
	e.Code = coordinator.CodeTooLarge
	return e
}

// readBody reads the body into c.body, counting: a chunked one says its size only by ending.
func (c *call) readBody() error {
	if c.endpoint.body == bodyNone || !c.framing.hasBody() {
		return nil
	}
	limit, err := c.bodyLimit()
	if err != nil {
		return err
	}
	r := c.ctx.RequestBodyStream()
	if r == nil {
		return errors.New("a body was announced and there is none to read")
	}
	c.body, err = readUpTo(r, c.framing.length, limit, c.take)
	if err == nil && c.framing.length < 0 && hasEnded(c.ctx.Conn()) {
		// fasthttp takes the end of the connection between two chunks for the end of the body. After the
		// last chunk nobody would have read on that far.
		err = io.ErrUnexpectedEOF
	}
	switch {
	case errors.Is(err, errTooLong):
		return tooLarge(limit)
	case errors.Is(err, errNoRoom):
		return overloaded()
	case isTimeout(err):
		return timedOut(c.s.o.Limits.ClientTimeout)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return badRequest("the body ends before its length")
	case err != nil:
		return badRequest("the body cannot be read: broken chunks or a broken connection")
	}
	c.isRead = true
	return nil
}

var (
	// errTooLong says that a body goes on after the limit, errNoRoom that there is no memory for it now.
	errTooLong = errors.New("body too long")
	errNoRoom  = errors.New("no room for the body")
)

// readUpTo reads a body of length bytes, or of any length up to limit if length is negative. Memory is
// asked for by take, as it is needed. The result is the caller's own.
func readUpTo(r io.Reader, length, limit int, take func(bytes int) bool) ([]byte, error) {
	if length >= 0 {
		limit = min(limit, length)
	}
	first := min(limit, firstReadBytes)
	if !take(first) {
		return nil, errNoRoom
	}
	b := make([]byte, 0, first+1)
	for {
		if len(b) == cap(b) {
			more := min(len(b), limit+1-len(b))
			if !take(more) {
				return nil, errNoRoom
			}
			b = slices.Grow(b, more)
		}
		n, err := r.Read(b[len(b):min(cap(b), limit+1)])
		b = b[:len(b)+n]
		switch {
		case len(b) > limit:
			return nil, errTooLong
		case err == nil:
		// fasthttp ends a body that was cut off like one that is complete.
		case errors.Is(err, io.EOF) && length >= 0 && len(b) < length:
			return nil, io.ErrUnexpectedEOF
		case errors.Is(err, io.EOF):
			return b, nil
		default:
			return nil, err
		}
	}
}

// decode reads the body as one JSON object. Unknown fields are errors: a misspelt one must not take its
// default.
func (c *call) decode(into any) error { return decodeJSON(c.body, into) }

func decodeJSON(b []byte, into any) error {
	if !utf8.Valid(b) {
		return badRequest("JSON is UTF-8, and this is not; bytes go in as base64")
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return badRequest("a JSON object is wanted, and there is nothing")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return badRequest("JSON: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badRequest("JSON: something follows the object")
	}
	return nil
}
