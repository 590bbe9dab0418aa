package api

import (
	"strconv"
	"strings"
)

// prefers reports whether an Accept header ranks media type a above b (RFC 9110, section 12.5.1). A tie
// goes to the one that is named more exactly, and then to b, the default.
func prefers(accept, a, b string) bool {
	qa, sa := quality(accept, a)
	qb, sb := quality(accept, b)
	if qa != qb {
		return qa > qb
	}
	return qa > 0 && sa > sb
}

// quality is the weight of a media type in an Accept header, and how exactly the header names it: 2 the
// type itself, 1 type/*, 0 anything.
func quality(accept, media string) (q float64, exactness int) {
	if strings.TrimSpace(accept) == "" {
		return 1, 0
	}
	kind, _, _ := strings.Cut(media, "/")
	exactness = -1
	for item := range strings.SplitSeq(accept, ",") {
		name, params, _ := strings.Cut(item, ";")
		n := -1
		switch name = strings.ToLower(strings.TrimSpace(name)); name {
		case media:
			n = 2
		case kind + "/*":
			n = 1
		case "*/*":
			n = 0
		}
		if n > exactness {
			q, exactness = weight(params), n
		}
	}
	return q, exactness
}

func weight(params string) float64 {
	for p := range strings.SplitSeq(params, ";") {
		name, value, ok := strings.Cut(strings.TrimSpace(p), "=")
		if !ok || !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || !(q >= 0 && q <= 1) {
			return 0
		}
		return q
	}
	return 1
}

// matchesETag reports whether an If-None-Match header matches a current ETag: "*", or one of a list,
// compared weakly (RFC 9110, section 13.1.2).
func matchesETag(header, etag string) bool {
	if etag == "" {
		return false
	}
	if strings.TrimSpace(header) == "*" {
		return true
	}
	etag = strings.TrimPrefix(etag, "W/")
	for rest := header; rest != ""; {
		rest = strings.TrimLeft(rest, " \t,")
		tag := strings.TrimPrefix(rest, "W/")
		if !strings.HasPrefix(tag, `"`) {
			// Not an entity tag: pass over it.
			_, rest, _ = strings.Cut(rest, ",")
			continue
		}
		end := strings.IndexByte(tag[1:], '"')
		if end < 0 {
			return false
		}
		if tag[:end+2] == etag {
			return true
		}
		rest = tag[end+2:]
	}
	return false
}

// isETag reports whether s is one strong entity tag, quotes included.
func isETag(s string) bool {
	return len(s) >= 2 && s[0] == '"' && strings.IndexByte(s[1:], '"') == len(s)-2
}

// maxContentTypeBytes bounds a content type; it goes into every answer's headers.
const maxContentTypeBytes = 255

// isContentType reports whether s may stand in a header: printable ASCII, not too long. Line ends in it
// would be headers of the client's or the resolver's making.
func isContentType(s string) bool {
	return len(s) <= maxContentTypeBytes && isPrintable(s)
}

func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// mediaType is a Content-Type without its parameters, in lower case.
func mediaType(contentType string) string {
	name, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(name))
}
