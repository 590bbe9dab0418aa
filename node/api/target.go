package api

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"dynamo/node/api/httptext"
	"dynamo/node/coordinator"
)

// maxKeyspaceName is the length of the longest keyspace name.
const maxKeyspaceName = 63

func badRequest(format string, args ...any) error {
	return &coordinator.Error{Code: coordinator.CodeBadRequest, Detail: fmt.Sprintf(format, args...)}
}

func badKey(format string, args ...any) error {
	return &coordinator.Error{Code: coordinator.CodeBadKey, Detail: fmt.Sprintf(format, args...)}
}

// splitTarget splits a request target into path and query, both raw. It takes the origin form ("/v1/…")
// and the absolute form ("http://host/v1/…", RFC 9112, section 3.2.2), and normalises nothing.
func splitTarget(target []byte) (path, query string, err error) {
	if bytes.IndexByte(target, '#') >= 0 {
		return "", "", badRequest("the request target has a raw '#'; in a key it is written %%23")
	}
	s := string(target)
	if !strings.HasPrefix(s, "/") {
		scheme, rest, ok := strings.Cut(s, "://")
		if !ok || !(strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")) {
			return "", "", badRequest("the request target is neither a path nor an http URL")
		}
		end := strings.IndexAny(rest, "/?")
		if end < 0 {
			return "/", "", nil
		}
		s = rest[end:]
		if s[0] == '?' {
			s = "/" + s
		}
	}
	path, query, _ = strings.Cut(s, "?")
	return path, query, nil
}

// parseKey decodes a key as it stands in a path. A literal slash is a byte of the key like any other.
func parseKey(raw string, maxBytes int) ([]byte, error) {
	key, err := httptext.Unescape(raw, false)
	if err != nil {
		return nil, badKey("%s", err)
	}
	return key, checkKey(key, maxBytes)
}

func checkKey(key []byte, maxBytes int) error {
	if n := len(key); n == 0 || n > maxBytes {
		return badKey("a key has 1 to %d bytes, this one %d", maxBytes, n)
	}
	return nil
}

// isKeyspaceName reports whether s matches [a-z][a-z0-9_-]{0,62}.
func isKeyspaceName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z'
		if !letter && (i == 0 || !('0' <= c && c <= '9' || c == '_' || c == '-')) {
			return false
		}
	}
	return len(s) > 0 && len(s) <= maxKeyspaceName
}

// query are the decoded parameters of a request.
type query []param

type param struct{ name, value string }

func (q query) get(name string) (string, bool) {
	i := slices.IndexFunc(q, func(p param) bool { return p.name == name })
	if i < 0 {
		return "", false
	}
	return q[i].value, true
}

// parseQuery decodes a query. A parameter that is not in known, or that is given twice, is an error: a
// misspelt quorum must not silently be the default one.
func parseQuery(raw string, known []string) (query, error) {
	var q query
	for piece := range strings.SplitSeq(raw, "&") {
		if piece == "" {
			continue
		}
		n, v, _ := strings.Cut(piece, "=")
		name, err := httptext.Unescape(n, true)
		if err != nil {
			return nil, badRequest("query: %s", err)
		}
		value, err := httptext.Unescape(v, true)
		if err != nil {
			return nil, badRequest("query parameter %q: %s", name, err)
		}
		p := param{string(name), string(value)}
		if !slices.Contains(known, p.name) {
			return nil, badRequest("unknown query parameter %q; known here: %s", p.name, orNone(known))
		}
		if _, twice := q.get(p.name); twice {
			return nil, badRequest("query parameter %q is given twice", p.name)
		}
		q = append(q, p)
	}
	return q, nil
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
