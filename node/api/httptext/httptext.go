// Package httptext reads and writes the small texts of HTTP: media types, entity tags, percent-encoding,
// cursors. It is pure, and total on any bytes.
package httptext

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Prefers reports whether an Accept header ranks media type a above b (RFC 9110, section 12.5.1). A tie
// goes to the one that is named more exactly, and then to b, the default.
func Prefers(accept, a, b string) bool {
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

// MatchesETag reports whether an If-None-Match header matches a current ETag: "*", or one of a list,
// compared weakly (RFC 9110, section 13.1.2).
func MatchesETag(header, etag string) bool {
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

// IsETag reports whether s is one strong entity tag, quotes included.
func IsETag(s string) bool {
	return len(s) >= 2 && s[0] == '"' && strings.IndexByte(s[1:], '"') == len(s)-2
}

// MaxContentTypeBytes bounds a content type; it goes into every answer's headers.
const MaxContentTypeBytes = 255

// IsContentType reports whether s may stand in a header: printable ASCII, not too long. Line ends in it
// would be headers of the client's or the resolver's making.
func IsContentType(s string) bool {
	return len(s) <= MaxContentTypeBytes && IsPrintable(s)
}

// IsPrintable reports whether s is printable ASCII.
func IsPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// MediaType is a Content-Type without its parameters, in lower case.
func MediaType(contentType string) string {
	name, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(name))
}

// base64Prefix marks a cursor that is no UTF-8 and so no JSON string.
const base64Prefix = "base64:"

// EncodeCursor writes a key as the string to go on after: itself, but in base64 if it is no UTF-8 or
// could be taken for that.
func EncodeCursor(key []byte) string {
	if isPlainCursor(key) {
		return string(key)
	}
	return base64Prefix + base64.StdEncoding.EncodeToString(key)
}

// DecodeCursor reads what EncodeCursor wrote; anything else is a key as it stands.
func DecodeCursor(s string) []byte {
	rest, ok := strings.CutPrefix(s, base64Prefix)
	if !ok {
		return []byte(s)
	}
	key, err := base64.StdEncoding.Strict().DecodeString(rest)
	if err != nil || isPlainCursor(key) {
		return []byte(s)
	}
	return key
}

func isPlainCursor(key []byte) bool {
	return utf8.Valid(key) && !strings.HasPrefix(string(key), base64Prefix)
}

// Unescape decodes percent-encoding strictly and once. Where isQuery is set, '+' stands for a space, as
// forms have it; in a path it is itself.
func Unescape(s string, isQuery bool) ([]byte, error) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+' && isQuery:
			out = append(out, ' ')
		case c == '%':
			if i+2 >= len(s) {
				return nil, fmt.Errorf("a percent sign is not followed by two hex digits")
			}
			hi, okHi := unhex(s[i+1])
			lo, okLo := unhex(s[i+2])
			if !okHi || !okLo {
				return nil, fmt.Errorf("%q is no percent-encoded byte", s[i:i+3])
			}
			out = append(out, hi<<4|lo)
			i += 2
		default:
			out = append(out, c)
		}
	}
	return out, nil
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
