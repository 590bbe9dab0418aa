package frame

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always has an encoding
	}
	return append(dst, b...)
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
	if len(b) > JSONResponseBytes(maxBytes) {
		return Response{}, fmt.Errorf("%w: response of %d bytes", ErrOversize, len(b))
	}
	f, err := stringFields(b)
	if err != nil {
		return Response{}, err
	}
	name, ok := f["status"]
	if !ok {
		return Response{}, fmt.Errorf("%w: no status", ErrMalformed)
	}
	r := Response{}
	if r.Status, ok = statusOf(name); !ok {
		return Response{}, fmt.Errorf("%w: unknown status %.40q", ErrMalformed, name)
	}
	if r.ContentType = f["content_type"]; !validContentType(r.ContentType) {
		return Response{}, fmt.Errorf("%w: content type is longer than %d bytes or not printable ASCII", ErrMalformed, maxContentTypeBytes)
	}
	message := f["message"]
	value, given := f["value_base64"]
	switch r.Status {
	case StatusValue:
		if !given {
			return Response{}, fmt.Errorf("%w: status value without value_base64", ErrMalformed)
		}
		return r, r.decodeValue(value, maxBytes)
	case StatusError:
		r.Payload = []byte(message[:min(len(message), MaxMessageBytes)])
	}
	if value != "" {
		return Response{}, fmt.Errorf("%w: status %s with a value", ErrMalformed, name)
	}
	return r, nil
}

func (r *Response) decodeValue(text string, maxBytes int) error {
	payload, err := base64.StdEncoding.Strict().AppendDecode(make([]byte, 0, base64.StdEncoding.DecodedLen(len(text))), []byte(text))
	switch {
	case err != nil:
		*r = Response{}
		return fmt.Errorf("%w: value_base64: %w", ErrMalformed, err)
	case len(payload) > maxBytes:
		*r = Response{}
		return fmt.Errorf("%w: value of %d bytes, limit %d", ErrOversize, len(payload), maxBytes)
	}
	r.Payload = payload
	return nil
}

// stringFields reads an object whose known fields are strings. The package encoding/json alone would take
// names in any case, the last of several, and anything after the end.
func stringFields(b []byte) (map[string]string, error) {
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrMalformed)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("%w: not a JSON object", ErrMalformed)
	}
	fields := make(map[string]string, 4)
	seen := make(map[string]bool, 4)
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, fmt.Errorf("%w: not JSON", ErrMalformed)
		}
		switch name {
		case "status", "value_base64", "content_type", "message":
		default:
			return nil, fmt.Errorf("%w: unknown field %.40q", ErrMalformed, name)
		}
		if seen[name] {
			return nil, fmt.Errorf("%w: field %s is there twice", ErrMalformed, name)
		}
		seen[name] = true
		t, err = d.Token()
		switch v := t.(type) {
		case string:
			fields[name] = v
		case nil:
			if err != nil {
				return nil, fmt.Errorf("%w: not JSON", ErrMalformed)
			}
		default:
			return nil, fmt.Errorf("%w: field %s is not a string", ErrMalformed, name)
		}
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, fmt.Errorf("%w: not JSON", ErrMalformed)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the object", ErrMalformed)
	}
	return fields, nil
}
