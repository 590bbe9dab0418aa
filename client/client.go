// Package client talks to a dynamo cluster over its HTTP API. Any node takes any request; with several
// endpoints a request that cannot reach one goes to the next (see Client.Do).
package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Headers of the API.
const (
	HeaderContext       = "X-Dynamo-Context"
	HeaderSiblings      = "X-Dynamo-Siblings"
	HeaderMerged        = "X-Dynamo-Merged"
	HeaderResolverError = "X-Dynamo-Resolver-Error"
	HeaderNode          = "X-Dynamo-Node"
)

const (
	// maxAnswerBytes bounds what is read of one answer.
	maxAnswerBytes = 512 << 20
	// dialTimeout bounds one attempt to connect, so that a host which swallows packets does not keep a
	// request from the next endpoint.
	dialTimeout = 5 * time.Second
)

// Options configure a Client.
type Options struct {
	// Endpoints are base URLs, "http://host:port". At least one.
	Endpoints []string
	// Token is sent as bearer token if it is set.
	Token string
	// HTTP is the client to use; nil takes one with keep-alive connections.
	HTTP *http.Client
}

// Client is safe for concurrent use.
type Client struct {
	o    Options
	next atomic.Uint64
}

// New returns a client.
func New(o Options) (*Client, error) {
	if len(o.Endpoints) == 0 {
		return nil, errors.New("client: no endpoint")
	}
	o.Endpoints = slices.Clone(o.Endpoints)
	for i, e := range o.Endpoints {
		u, err := url.Parse(e)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return nil, fmt.Errorf("client: endpoint %q is not http://host:port", e)
		}
		o.Endpoints[i] = strings.TrimRight(e, "/")
	}
	if o.HTTP == nil {
		o.HTTP = &http.Client{Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
			MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second, Proxy: http.ProxyFromEnvironment,
		}}
	}
	return &Client{o: o}, nil
}

// Error is a problem that the server reports.
type Error struct {
	Status      int    `json:"status"`
	Title       string `json:"title"`
	Detail      string `json:"detail"`
	Code        string `json:"code"`
	Retryable   bool   `json:"retryable"`
	MaybeStored bool   `json:"maybe_stored"`
}

// Error implements error.
func (e *Error) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("HTTP %d %s", e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("%s (%d): %s", e.Code, e.Status, e.Detail)
}

// Request is one call of the API.
type Request struct {
	Method string
	// Path begins with "/v1" and is percent-encoded already.
	Path   string
	Query  url.Values
	Header http.Header
	Body   []byte
}

// Response is an answer below 400, or a 404 for a key without a value.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends a request to one endpoint after the other until one answers. A server's problem is an answer
// and comes back as *Error. A request that may have been carried out - one that is no read, and broke
// after the connection was made - is not sent again: the caller knows whether twice is as good as once.
func (c *Client) Do(ctx context.Context, r Request) (*Response, error) {
	n := uint64(len(c.o.Endpoints))
	first := uint64(0)
	if n > 1 {
		first = c.next.Add(1)
	}
	var errs []error
	for i := range n {
		resp, err := c.do(ctx, c.o.Endpoints[(first+i)%n], r)
		if err == nil {
			return resp, nil
		}
		if e, ok := errors.AsType[*Error](err); ok {
			return resp, e
		}
		errs = append(errs, err)
		if ctx.Err() != nil || !(isRead(r.Method) || isDial(err)) {
			break
		}
	}
	return nil, unanswered(errs)
}

func isRead(method string) bool { return method == http.MethodGet || method == http.MethodHead }

// isDial says that there was no connection, so that the request cannot have arrived.
func isDial(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "dial"
}

// unanswered are the failures of all endpoints that were tried, on one line.
type unanswered []error

func (u unanswered) Error() string {
	texts := make([]string, len(u))
	for i, err := range u {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (u unanswered) Unwrap() []error { return u }

func (c *Client) do(ctx context.Context, endpoint string, r Request) (*Response, error) {
	target := endpoint + r.Path
	if len(r.Query) > 0 {
		target += "?" + r.Query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, target, bytes.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, r.Header)
	if c.o.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.o.Token)
	}
	resp, err := c.o.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%s: read the answer: %w", endpoint, err)
	}
	if len(body) > maxAnswerBytes {
		return nil, fmt.Errorf("%s: the answer is larger than %d bytes", endpoint, maxAnswerBytes)
	}
	out := &Response{Status: resp.StatusCode, Header: resp.Header, Body: body}
	if resp.StatusCode < 400 {
		return out, nil
	}
	e := &Error{Status: resp.StatusCode}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") {
		if err := json.Unmarshal(body, e); err != nil {
			return nil, fmt.Errorf("%s: HTTP %d with a problem that is no JSON: %w", endpoint, resp.StatusCode, err)
		}
	}
	return out, e
}

// JSON sends a call and decodes its JSON answer into out, which may be nil.
func (c *Client) JSON(ctx context.Context, r Request, out any) error {
	resp, err := c.Do(ctx, r)
	if err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(resp.Body, out); err != nil {
		return fmt.Errorf("answer to %s %s: %w", r.Method, r.Path, err)
	}
	return nil
}

// Path joins segments into a path under /v1, each percent-encoded in full.
func Path(segments ...string) string {
	var b strings.Builder
	b.WriteString("/v1")
	for _, s := range segments {
		b.WriteByte('/')
		escape(&b, s)
	}
	return b.String()
}

// escape leaves unreserved characters alone and encodes every other byte. A key of dots is encoded
// too: "." and ".." mean something to what stands between client and server.
func escape(b *strings.Builder, s string) {
	dots := strings.Trim(s, ".") == ""
	for i := range len(s) {
		c := s[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '~' || (c == '.' && !dots)
		if plain {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(b, "%%%02X", c)
	}
}

// Value is a key as it was read.
type Value struct {
	// Found is false for a key that is absent or deleted; a deleted one has a Context all the same.
	Found       bool
	Bytes       []byte
	ContentType string
	// Siblings are set instead of Bytes if there are several: a conflict that nothing merged.
	Siblings []Sibling
	// Context goes with the next write.
	Context string
	ETag    string
	// Count is how many siblings stand behind the value; Merged names the resolver that merged them.
	Count         int
	Merged        string
	ResolverError string
	Node          string
}

// Sibling is one of several concurrent values.
type Sibling struct {
	Value       []byte    `json:"value_base64"`
	ContentType string    `json:"content_type"`
	Time        time.Time `json:"time"`
	Deleted     bool      `json:"deleted"`
}

// CallOptions of one call: quorums as numbers or words, empty for the keyspace's.
type CallOptions struct {
	R, W    string
	Timeout time.Duration
	// Raw shows siblings even where a resolver is active.
	Raw bool
	// Context is what a write supersedes.
	Context     string
	ContentType string
	IfMatch     string
	IfNoneMatch bool
}

func (o CallOptions) query() url.Values {
	q := url.Values{}
	if o.R != "" {
		q.Set("r", o.R)
	}
	if o.W != "" {
		q.Set("w", o.W)
	}
	if o.Timeout > 0 {
		q.Set("timeout", o.Timeout.String())
	}
	if o.Raw {
		q.Set("resolve", "false")
	}
	return q
}

func (o CallOptions) header() http.Header {
	h := http.Header{}
	for name, v := range map[string]string{HeaderContext: o.Context, "Content-Type": o.ContentType, "If-Match": o.IfMatch} {
		if v != "" {
			h.Set(name, v)
		}
	}
	if o.IfNoneMatch {
		h.Set("If-None-Match", "*")
	}
	return h
}

// Get reads a key. A key that is not there is no error: Found is false.
func (c *Client) Get(ctx context.Context, keyspace, key string, o CallOptions) (Value, error) {
	h := o.header()
	h.Set("Accept", "application/json")
	resp, err := c.Do(ctx, Request{Method: http.MethodGet, Path: Path("kv", keyspace, key), Query: o.query(), Header: h})
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusNotFound && (e.Code == "not_found" || e.Code == "") {
		return valueOf(resp), nil
	}
	if err != nil {
		return Value{}, err
	}
	v := valueOf(resp)
	v.Found = true
	if resp.Status != http.StatusMultipleChoices {
		v.Bytes, v.ContentType = resp.Body, resp.Header.Get("Content-Type")
		return v, nil
	}
	var body struct {
		Siblings []Sibling `json:"siblings"`
	}
	if err := json.Unmarshal(resp.Body, &body); err != nil {
		return Value{}, fmt.Errorf("siblings of %s: %w", key, err)
	}
	v.Siblings = body.Siblings
	return v, nil
}

func valueOf(r *Response) Value {
	v := Value{
		Context: r.Header.Get(HeaderContext), ETag: r.Header.Get("ETag"), Merged: r.Header.Get(HeaderMerged),
		ResolverError: r.Header.Get(HeaderResolverError), Node: r.Header.Get(HeaderNode),
	}
	v.Count, _ = strconv.Atoi(r.Header.Get(HeaderSiblings))
	return v
}

// Put writes a value and returns the new context.
func (c *Client) Put(ctx context.Context, keyspace, key string, value []byte, o CallOptions) (string, error) {
	resp, err := c.Do(ctx, Request{Method: http.MethodPut, Path: Path("kv", keyspace, key), Query: o.query(), Header: o.header(), Body: value})
	if err != nil {
		return "", err
	}
	return resp.Header.Get(HeaderContext), nil
}

// Delete deletes what o.Context has seen, or what a quorum holds now.
func (c *Client) Delete(ctx context.Context, keyspace, key string, o CallOptions) (string, error) {
	resp, err := c.Do(ctx, Request{Method: http.MethodDelete, Path: Path("kv", keyspace, key), Query: o.query(), Header: o.header()})
	if err != nil {
		return "", err
	}
	return resp.Header.Get(HeaderContext), nil
}

// Page is one page of keys.
type Page struct {
	Keys []string
	// Next is where to go on; empty at the end.
	Next string
}

// List returns a page of live keys in byte order.
func (c *Client) List(ctx context.Context, keyspace, prefix, after string, limit int) (Page, error) {
	q := url.Values{}
	for name, v := range map[string]string{"prefix": prefix, "after": after} {
		if v != "" {
			q.Set(name, v)
		}
	}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	var body struct {
		Keys []struct {
			Key    *string `json:"key"`
			Base64 string  `json:"key_base64"`
		} `json:"keys"`
		Next string `json:"next"`
	}
	if err := c.JSON(ctx, Request{Method: http.MethodGet, Path: Path("kv", keyspace), Query: q}, &body); err != nil {
		return Page{}, err
	}
	p := Page{Next: body.Next}
	for _, k := range body.Keys {
		if k.Key != nil {
			p.Keys = append(p.Keys, *k.Key)
			continue
		}
		b, err := base64.StdEncoding.DecodeString(k.Base64)
		if err != nil {
			return Page{}, fmt.Errorf("list: key_base64: %w", err)
		}
		p.Keys = append(p.Keys, string(b))
	}
	return p, nil
}
