package api

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"mime/multipart"
	"net/textproto"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"dynamo/node/api/httptext"
	"dynamo/node/coordinator"
)

const (
	mediaJSON      = "application/json"
	mediaMultipart = "multipart/mixed"
	mediaWASM      = "application/wasm"
	mediaNDJSON    = "application/x-ndjson"
)

// sibling is one of several concurrent versions in JSON.
type sibling struct {
	Value       []byte    `json:"value_base64"`
	ContentType string    `json:"content_type"`
	Time        time.Time `json:"time"`
	Deleted     bool      `json:"deleted"`
}

func siblingsOf(a coordinator.Answer) []sibling {
	out := make([]sibling, len(a.Siblings))
	for i, v := range a.Siblings {
		out[i] = sibling{bytesOf(v), shownType(v.ContentType), timeOf(v.TimeMs), v.Deleted}
	}
	return out
}

// answerSiblings shows a conflict: 300, as multipart or as JSON.
func (c *call) answerSiblings(a coordinator.Answer) error {
	r := &c.ctx.Response
	r.SetStatusCode(fasthttp.StatusMultipleChoices)
	r.Header.Set("Vary", "Accept")
	if httptext.Prefers(c.list("Accept"), mediaJSON, mediaMultipart) {
		return c.answerJSON(fasthttp.StatusMultipleChoices, struct {
			Context  string    `json:"context"`
			Siblings []sibling `json:"siblings"`
		}{a.Token, siblingsOf(a)})
	}
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	var boundary [16]byte
	c.s.randomBytes(boundary[:])
	if err := w.SetBoundary(hex.EncodeToString(boundary[:])); err != nil {
		return fmt.Errorf("multipart: %w", err)
	}
	for _, v := range a.Siblings {
		h := textproto.MIMEHeader{}
		h.Set("Content-Type", shownType(v.ContentType))
		h.Set("Last-Modified", httpDate(v.TimeMs))
		if v.Deleted {
			h.Set(headerDeleted, "true")
		}
		part, err := w.CreatePart(h)
		if err == nil {
			_, err = part.Write(v.Bytes)
		}
		if err != nil {
			return fmt.Errorf("multipart: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("multipart: %w", err)
	}
	r.Header.SetContentType(mediaMultipart + "; boundary=" + w.Boundary())
	r.SetBodyRaw(b.Bytes())
	return nil
}

// answerJSON answers with v as JSON.
func (c *call) answerJSON(status int, v any) error {
	b, err := encodeJSON(v)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	r := &c.ctx.Response
	r.SetStatusCode(status)
	r.Header.SetContentType(mediaJSON)
	r.SetBodyRaw(b)
	return nil
}

// maxTimeMs is the last millisecond that HTTP dates and RFC 3339 can write, in the year 9999.
const maxTimeMs = 253402300799999

func timeOf(ms uint64) time.Time { return time.UnixMilli(int64(min(ms, maxTimeMs))).UTC() }

func httpDate(ms uint64) string { return string(fasthttp.AppendHTTPDate(nil, timeOf(ms))) }

func itoa(n int) string { return strconv.Itoa(n) }

// shown is an answer in JSON, as listings and batches have it: one value, or siblings.
type shown struct {
	Context     string     `json:"context,omitempty"`
	ETag        string     `json:"etag,omitempty"`
	Value       *[]byte    `json:"value_base64,omitempty"`
	ContentType string     `json:"content_type,omitempty"`
	Time        *time.Time `json:"time,omitempty"`
	// Count is how many siblings stand behind the value.
	Count         int       `json:"sibling_count,omitempty"`
	Merged        string    `json:"merged,omitempty"`
	Siblings      []sibling `json:"siblings,omitempty"`
	ResolverError string    `json:"resolver_error,omitempty"`
}

func show(a coordinator.Answer) shown {
	s := shown{Context: a.Token}
	if !a.Found() {
		return s
	}
	s.ETag, s.Count, s.Merged, s.ResolverError = a.ETag, count(a), a.Merged, a.ResolverError
	if len(a.Siblings) > 0 {
		s.Siblings = siblingsOf(a)
		return s
	}
	b, t := bytesOf(*a.Value), timeOf(a.Value.TimeMs)
	s.Value, s.Time, s.ContentType = &b, &t, shownType(a.Value.ContentType)
	return s
}

// size is about what s takes in JSON, in bytes.
func (s shown) size() int {
	n := 512
	if s.Value != nil {
		n += len(*s.Value) * 4 / 3
	}
	for _, b := range s.Siblings {
		n += 128 + len(b.Value)*4/3
	}
	return n
}
