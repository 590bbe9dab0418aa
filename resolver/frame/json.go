package frame

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// JSONResponseBytes is the most that a JSON response with a value of valueBytes can have. What is
// beyond the value leaves room for a long message and for white space.
func JSONResponseBytes(valueBytes int) int {
	return base64.StdEncoding.EncodedLen(valueBytes) + 64<<10
}

// AppendJSONRequest appends the request of the command form to dst. The ancestor, if any, is a field of
// its own. Equal requests give equal bytes.
func AppendJSONRequest(dst []byte, r Request) []byte {
	dst = append(dst, `{"keyspace":`...)
	dst = appendString(dst, r.Keyspace)
	dst = append(dst, `,"key_base64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, r.Key)
	dst = append(dst, '"')
	siblings := r.Siblings
	if len(siblings) > 0 && siblings[0].Ancestor {
		dst = appendSibling(append(dst, `,"ancestor":`...), siblings[0])
		siblings = siblings[1:]
	}
	dst = append(dst, `,"siblings":[`...)
	for i, s := range siblings {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendSibling(dst, s)
	}
	return append(dst, "]}\n"...)
}

func appendSibling(dst []byte, s Sibling) []byte {
	dst = append(dst, `{"value_base64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, s.Value)
	dst = appendString(append(dst, `","content_type":`...), s.ContentType)
	dst = strconv.AppendUint(append(dst, `,"time_ms":`...), s.TimeMs, 10)
	dst = strconv.AppendBool(append(dst, `,"deleted":`...), s.Deleted)
	return append(dst, '}')
}

// appendString appends s in quotes; what is not UTF-8 becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	if isPlain(s) {
		return append(append(append(dst, '"'), s...), '"')
	}
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always has an encoding
	}
	return append(dst, b...)
}

// isPlain is whether all characters mean themselves to encoding/json.
func isPlain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ', c >= utf8.RuneSelf, c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

// statusOf names the statuses of the command form.
func statusOf(name string) (Status, bool) {
	switch name {
	case "value":
		return StatusValue, true
	case "deleted":
		return StatusDeleted, true
	case "keep":
		return StatusKeep, true
	case "error":
		return StatusError, true
	}
	return 0, false
}

// DecodeJSONResponse reads the response of the command form: one JSON object of the four known fields,
// each at most once, of strings (null counts as absent), with white space around it and nothing else. A
// value must be given with status "value". Errors are as with DecodeResponse.
func DecodeJSONResponse(b []byte, maxBytes int) (Response, error) {
	return DecodeJSONAnswer(b, nil, maxBytes)
}

// DecodeJSONAnswer is DecodeJSONResponse for the host, which has the siblings: a content type that one of them has is
// not copied.
func DecodeJSONAnswer(b []byte, siblings []Sibling, maxBytes int) (Response, error) {
	if len(b) > JSONResponseBytes(maxBytes) {
		return Response{}, fmt.Errorf("%w: response of %d bytes", ErrOversize, len(b))
	}
	f, err := stringFields(b)
	if err != nil {
		return Response{}, err
	}
	if !f[fieldStatus].there {
		return Response{}, fmt.Errorf("%w: no status", ErrMalformed)
	}
	r, ok := Response{}, false
	if r.Status, ok = statusOf(string(f[fieldStatus].text)); !ok {
		return Response{}, fmt.Errorf("%w: unknown status %.40q", ErrMalformed, f[fieldStatus].text)
	}
	if r.ContentType = contentTypeOf(f[fieldContentType].text, siblings); !validContentType(r.ContentType) {
		return Response{}, fmt.Errorf("%w: content type is longer than %d bytes or not printable ASCII", ErrMalformed, maxContentTypeBytes)
	}
	switch r.Status {
	case StatusValue:
		if !f[fieldValue].there {
			return Response{}, fmt.Errorf("%w: status value without value_base64", ErrMalformed)
		}
		if r.Payload, err = decodeValue(f[fieldValue].text, maxBytes); err != nil {
			return Response{}, err
		}
		return r, nil
	case StatusError:
		message := f[fieldMessage].text
		r.Payload = append([]byte{}, message[:min(len(message), MaxMessageBytes)]...)
	}
	if len(f[fieldValue].text) > 0 {
		return Response{}, fmt.Errorf("%w: status %s with a value", ErrMalformed, f[fieldStatus].text)
	}
	return r, nil
}

func decodeValue(text []byte, maxBytes int) ([]byte, error) {
	payload, err := base64.StdEncoding.Strict().AppendDecode(make([]byte, 0, base64.StdEncoding.DecodedLen(len(text))), text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: value_base64: %w", ErrMalformed, err)
	case len(payload) > maxBytes:
		return nil, fmt.Errorf("%w: value of %d bytes, limit %d", ErrOversize, len(payload), maxBytes)
	}
	return payload, nil
}

// The known fields of a response.
const (
	fieldStatus = iota
	fieldValue
	fieldContentType
	fieldMessage
	fieldCount
)

// fieldOf returns the number of a field, or -1.
func fieldOf(name []byte) int {
	switch string(name) {
	case "status":
		return fieldStatus
	case "value_base64":
		return fieldValue
	case "content_type":
		return fieldContentType
	case "message":
		return fieldMessage
	}
	return -1
}

// field is the decoded text of one of them, which may lie in the response.
type field struct {
	text        []byte
	seen, there bool // there: and not null
}

// stringFields reads an object whose known fields are strings. The package encoding/json alone would take
// names in any case, the last of several, and anything after the end.
func stringFields(b []byte) (fields [fieldCount]field, err error) {
	if !utf8.Valid(b) {
		return fields, fmt.Errorf("%w: not UTF-8", ErrMalformed)
	}
	t := jsonText(b)
	if !t.take('{') {
		return fields, fmt.Errorf("%w: not a JSON object", ErrMalformed)
	}
	for more := !t.take('}'); more; {
		name, ok := t.takeString()
		if !ok || !t.take(':') {
			return fields, fmt.Errorf("%w: not JSON", ErrMalformed)
		}
		i := fieldOf(name)
		switch {
		case i < 0:
			return fields, fmt.Errorf("%w: unknown field %.40q", ErrMalformed, name)
		case fields[i].seen:
			return fields, fmt.Errorf("%w: field %s is there twice", ErrMalformed, name)
		}
		fields[i].seen = true
		if fields[i].text, fields[i].there = t.takeString(); !fields[i].there && !t.takeNull() {
			return fields, fmt.Errorf("%w: field %s is not a string", ErrMalformed, name)
		}
		if more = t.take(','); !more && !t.take('}') {
			return fields, fmt.Errorf("%w: not JSON", ErrMalformed)
		}
	}
	if t.skipSpace(); len(t) > 0 {
		return fields, fmt.Errorf("%w: something follows the object", ErrMalformed)
	}
	return fields, nil
}

// jsonText is what is left of a text.
type jsonText []byte

func (t *jsonText) skipSpace() {
	for len(*t) > 0 {
		switch (*t)[0] {
		case ' ', '\t', '\n', '\r':
			*t = (*t)[1:]
		default:
			return
		}
	}
}

// take takes c if it comes next.
func (t *jsonText) take(c byte) bool {
	t.skipSpace()
	if len(*t) == 0 || (*t)[0] != c {
		return false
	}
	*t = (*t)[1:]
	return true
}

func (t *jsonText) takeNull() bool {
	t.skipSpace()
	rest, ok := bytes.CutPrefix(*t, []byte("null"))
	*t = rest
	return ok
}

// takeString takes a string if there is one, and decodes it. Without an escape it lies in the text.
func (t *jsonText) takeString() ([]byte, bool) {
	t.skipSpace()
	b := *t
	if len(b) == 0 || b[0] != '"' {
		return nil, false
	}
	plain := true
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			*t = b[i+1:]
			if plain {
				return b[1:i], true
			}
			var s string
			err := json.Unmarshal(b[:i+1], &s)
			return []byte(s), err == nil
		case c == '\\':
			plain = false
			i++
		case c < ' ':
			return nil, false
		}
	}
	return nil, false
}
