package api

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"dynamo/node/coordinator"
)

// target is a request URI, taken apart without any normalisation: what lies behind the keyspace is the
// key, whatever dots, slashes and zero bytes it holds.
type target struct {
	// segments are the percent-decoded parts of the path up to the key.
	segments []string
	// key is decoded; nil if the path has none.
	key   []byte
	query string
}

var errEscape = errors.New("percent sign without two hex digits")

// maxSegments bounds the segments before a key: the longest route has five.
const maxSegments = 6

// parseTarget splits a raw request URI. It is total.
func parseTarget(raw []byte) (target, error) {
	if i := bytes.IndexByte(raw, '#'); i >= 0 {
		return target{}, errors.New("a request URI has no fragment")
	}
	path, query, _ := bytes.Cut(raw, []byte{'?'})
	if len(path) == 0 || path[0] != '/' {
		return target{}, errors.New("the request URI is not an absolute path")
	}
	t := target{query: string(query)}
	rest := path[1:]
	for len(t.segments) < maxSegments {
		head, tail, more := bytes.Cut(rest, []byte{'/'})
		s, err := unescape(head)
		if err != nil {
			return target{}, err
		}
		t.segments = append(t.segments, string(s))
		if !more {
			return t, nil
		}
		rest = tail
		if keyFollows(t.segments) {
			t.key, err = unescape(rest)
			if t.key == nil {
				t.key = []byte{}
			}
			return t, err
		}
	}
	return target{}, errors.New("the path has too many segments")
}

// keyFollows reports whether what comes behind these segments is a key: /v1/kv/KEYSPACE/ and
// /v1/explain/KEYSPACE/.
func keyFollows(s []string) bool {
	return len(s) == 3 && s[0] == "v1" && (s[1] == "kv" || s[1] == "explain")
}

// unescape decodes percent-encoding once, and nothing else.
func unescape(b []byte) ([]byte, error) {
	if bytes.IndexByte(b, '%') < 0 {
		return b, nil
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '%' {
			out = append(out, b[i])
			continue
		}
		if i+2 >= len(b) {
			return nil, errEscape
		}
		hi, lo := unhex(b[i+1]), unhex(b[i+2])
		if hi < 0 || lo < 0 {
			return nil, errEscape
		}
		out = append(out, byte(hi<<4|lo))
		i += 2
	}
	return out, nil
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// params are the query of a request. Reading one takes it away, so that what is left at the end is
// unknown to the call.
type params struct {
	values url.Values
	err    error
}

func parseParams(query string) *params {
	v, err := url.ParseQuery(query)
	p := &params{values: v}
	if err != nil {
		p.fail("query: %v", err)
	}
	return p
}

func (p *params) fail(format string, args ...any) {
	if p.err == nil {
		p.err = badRequest(format, args...)
	}
}

func badRequest(format string, args ...any) error {
	return &coordinator.Error{Code: coordinator.CodeBadRequest, Detail: fmt.Sprintf(format, args...)}
}

// take removes a parameter and returns its value.
func (p *params) take(name string) (string, bool) {
	vs, ok := p.values[name]
	if !ok {
		return "", false
	}
	delete(p.values, name)
	if len(vs) > 1 {
		p.fail("query parameter %s is given %d times", name, len(vs))
	}
	return vs[0], true
}

// end reports the first error, or a parameter that nobody took.
func (p *params) end() error {
	for name := range p.values {
		p.fail("unknown query parameter %q", name)
	}
	return p.err
}

func (p *params) boolean(name string, def bool) bool {
	s, ok := p.take(name)
	switch {
	case !ok:
		return def
	case s == "true":
		return true
	case s == "false":
		return false
	}
	p.fail("%s=%q is neither true nor false", name, s)
	return def
}

func (p *params) integer(name string, def, lo, hi int) int {
	s, ok := p.take(name)
	if !ok {
		return def
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < lo || n > hi {
		p.fail("%s=%q is no number from %d to %d", name, s, lo, hi)
		return def
	}
	return n
}

func (p *params) quorum(name string) coordinator.Quorum {
	s, ok := p.take(name)
	if !ok {
		return coordinator.QuorumDefault
	}
	switch s {
	case "one":
		return 1
	case "quorum":
		return coordinator.QuorumMajority
	case "all":
		return coordinator.QuorumAll
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		p.fail("%s=%q is neither a number of replicas nor one, quorum or all", name, s)
		return coordinator.QuorumDefault
	}
	return coordinator.Quorum(n)
}

// duration reads a timeout.
func (p *params) duration(name string, def, longest time.Duration) time.Duration {
	s, ok := p.take(name)
	if !ok {
		return def
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > longest {
		p.fail("%s=%q is no duration up to %v, like 500ms", name, s, longest)
		return def
	}
	return d
}

// isToken reports whether s is fit to be a request id: 1 to 128 visible ASCII characters.
func isToken(s []byte) bool {
	if len(s) == 0 || len(s) > 128 {
		return false
	}
	for _, c := range s {
		if c < '!' || c > '~' {
			return false
		}
	}
	return true
}
