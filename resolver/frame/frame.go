// Package frame holds what the host and a module say to each other: the request, the response, and
// their two encodings, binary frames for the function form and JSON for the command form.
package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// requestMagic opens a request frame: "DYM1" in little-endian order.
const requestMagic = 0x314d5944

// Flags of the request and of a sibling. Unknown flags are ignored.
const (
	flagRequestAncestor = 1 << 0
	flagDeleted         = 1 << 0
	flagAncestor        = 1 << 1
)

// siblingMinBytes is the size of a sibling with empty content type and value.
const siblingMinBytes = 4 + 8 + 4 + 4

// maxContentTypeBytes bounds a response's content type, which ends up in an
// HTTP header.
const maxContentTypeBytes = 255

// Sibling is one of the concurrent versions of a key.
type Sibling struct {
	Value       []byte
	ContentType string
	// TimeMs is when the version was written, in ms since 1970, by the writer's clock.
	TimeMs uint64
	// Deleted marks a concurrent delete; Value is empty then.
	Deleted bool
	// Ancestor marks the newest version that all siblings descend from. There
	// is at most one and it comes first.
	Ancestor bool
}

// Request is one merge: siblings in canonical order, the ancestor, if any, first.
type Request struct {
	Keyspace string
	Key      []byte
	Siblings []Sibling
}

// Status is what a module decided.
type Status uint32

// The statuses of the function form.
const (
	StatusValue   Status = 0 // the payload is the merged value
	StatusDeleted Status = 1 // the key is to be deleted
	StatusKeep    Status = 2 // the siblings are to be kept
	StatusError   Status = 3 // the payload is a message for people
	StatusSelect  Status = 4 // one of the siblings is taken as it is
)

// Response is a module's answer.
type Response struct {
	Status Status
	// ContentType belongs to a StatusValue. Empty in a frame means that of the
	// newest sibling, which Merge fills in.
	ContentType string
	// Payload is the value of a StatusValue or the message of a StatusError.
	Payload []byte
	// Index, of a StatusSelect, counts the siblings of the request, its
	// ancestor included.
	Index int
}

// Errors of the decoders.
var (
	// ErrMalformed is text that breaks the format.
	ErrMalformed = errors.New("malformed")
	// ErrOversize is a value larger than allowed.
	ErrOversize = errors.New("too large")
)

// MaxMessageBytes bounds what is kept of a module's message.
const MaxMessageBytes = 1 << 10

// ResponseBytes is the most that a response frame with a value of valueBytes can have.
func ResponseBytes(valueBytes int) int { return 12 + maxContentTypeBytes + valueBytes }

// AppendRequest appends the frame of r to dst. A field of 4 GiB or more cannot
// be framed; Merge refuses requests long before that.
func AppendRequest(dst []byte, r Request) []byte {
	dst = slices.Grow(dst, RequestSize(r))
	var flags uint32
	if len(r.Siblings) > 0 && r.Siblings[0].Ancestor {
		flags |= flagRequestAncestor
	}
	dst = binary.LittleEndian.AppendUint32(dst, requestMagic)
	dst = binary.LittleEndian.AppendUint32(dst, flags)
	dst = appendBytes(dst, r.Keyspace)
	dst = appendBytes(dst, r.Key)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(r.Siblings)))
	for _, s := range r.Siblings {
		flags = 0
		if s.Deleted {
			flags |= flagDeleted
		}
		if s.Ancestor {
			flags |= flagAncestor
		}
		dst = binary.LittleEndian.AppendUint32(dst, flags)
		dst = binary.LittleEndian.AppendUint64(dst, s.TimeMs)
		dst = appendBytes(dst, s.ContentType)
		dst = appendBytes(dst, s.Value)
	}
	return dst
}

// RequestSize is the length of r's frame in bytes.
func RequestSize(r Request) int {
	n := 5*4 + len(r.Keyspace) + len(r.Key)
	for _, s := range r.Siblings {
		n += siblingMinBytes + len(s.ContentType) + len(s.Value)
	}
	return n
}

func appendBytes[T ~string | ~[]byte](dst []byte, b T) []byte {
	return append(binary.LittleEndian.AppendUint32(dst, uint32(len(b))), b...)
}

// fields takes little-endian fields off the front of a frame. After the first
// one that is not there, all are zero and bad is set.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) take(n uint64) []byte {
	if f.bad || uint64(len(f.rest)) < n {
		f.bad = true
		return nil
	}
	taken := f.rest[:n]
	f.rest = f.rest[n:]
	return taken
}

func (f *fields) u32() uint32 {
	if b := f.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (f *fields) u64() uint64 {
	if b := f.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (f *fields) bytes() []byte { return f.take(uint64(f.u32())) }

// DecodeRequest reads a request frame, for guests written in Go and for tests.
// It accepts any bytes, uses memory in proportion to them, and copies out of b.
func DecodeRequest(b []byte) (Request, error) {
	f := &fields{rest: b}
	if f.u32() != requestMagic {
		return Request{}, fmt.Errorf("request: %w: bad magic", ErrMalformed)
	}
	flags := f.u32()
	r := Request{Keyspace: string(f.bytes()), Key: slices.Clone(f.bytes())}
	count := uint64(f.u32())
	if count*siblingMinBytes > uint64(len(f.rest)) {
		return Request{}, fmt.Errorf("request: %w: %d siblings in %d bytes", ErrMalformed, count, len(f.rest))
	}
	for i := range count {
		flag := f.u32()
		s := Sibling{Deleted: flag&flagDeleted != 0, Ancestor: flag&flagAncestor != 0, TimeMs: f.u64()}
		s.ContentType, s.Value = string(f.bytes()), slices.Clone(f.bytes())
		if s.Ancestor != (i == 0 && flags&flagRequestAncestor != 0) {
			return Request{}, fmt.Errorf("request: %w: ancestor flag of sibling %d", ErrMalformed, i)
		}
		r.Siblings = append(r.Siblings, s)
	}
	if count == 0 && flags&flagRequestAncestor != 0 {
		return Request{}, fmt.Errorf("request: %w: ancestor missing", ErrMalformed)
	}
	if f.bad || len(f.rest) != 0 {
		return Request{}, fmt.Errorf("request: %w: %d bytes", ErrMalformed, len(b))
	}
	return r, nil
}

// AppendResponse appends the frame of r to dst.
func AppendResponse(dst []byte, r Response) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(r.Status))
	dst = appendBytes(dst, r.ContentType)
	if r.Status == StatusSelect {
		dst = binary.LittleEndian.AppendUint32(dst, 4)
		return binary.LittleEndian.AppendUint32(dst, uint32(r.Index))
	}
	return appendBytes(dst, r.Payload)
}

// DecodeResponse reads the response to a request of that many siblings
// (ancestor included) and copies out of b. Errors are ErrOversize for a value
// above maxBytes and ErrMalformed for anything else.
func DecodeResponse(b []byte, siblings, maxBytes int) (Response, error) {
	return decodeResponse(b, nil, siblings, maxBytes)
}

// DecodeAnswer is DecodeResponse for the host, which has the siblings: a content type that one of them has is not
// copied.
func DecodeAnswer(b []byte, siblings []Sibling, maxBytes int) (Response, error) {
	return decodeResponse(b, siblings, len(siblings), maxBytes)
}

func decodeResponse(b []byte, known []Sibling, siblings, maxBytes int) (Response, error) {
	f := &fields{rest: b}
	r := Response{Status: Status(f.u32())}
	r.ContentType = contentTypeOf(f.bytes(), known)
	payload := f.bytes()
	if f.bad || len(f.rest) != 0 {
		return Response{}, fmt.Errorf("%w: response of %d bytes is malformed", ErrMalformed, len(b))
	}
	if !validContentType(r.ContentType) {
		return Response{}, fmt.Errorf("%w: content type is longer than %d bytes or not printable ASCII", ErrMalformed, maxContentTypeBytes)
	}
	switch r.Status {
	case StatusValue:
		if len(payload) > maxBytes {
			return Response{}, fmt.Errorf("%w: value of %d bytes, limit %d", ErrOversize, len(payload), maxBytes)
		}
		r.Payload = append([]byte{}, payload...)
	case StatusError:
		r.Payload = slices.Clone(payload[:min(len(payload), MaxMessageBytes)])
	case StatusSelect:
		if len(payload) != 4 {
			return Response{}, fmt.Errorf("%w: index of %d bytes, want 4", ErrMalformed, len(payload))
		}
		i := binary.LittleEndian.Uint32(payload)
		if i > math.MaxInt32 || int(i) >= siblings {
			return Response{}, fmt.Errorf("%w: sibling %d selected of %d", ErrMalformed, i, siblings)
		}
		r.Index = int(i)
	case StatusDeleted, StatusKeep:
	default:
		return Response{}, fmt.Errorf("%w: unknown status %d", ErrMalformed, uint32(r.Status))
	}
	return r, nil
}

// contentTypeOf is b as a string, that of a sibling if one is equal.
func contentTypeOf(b []byte, siblings []Sibling) string {
	for i := range siblings {
		if siblings[i].ContentType == string(b) {
			return siblings[i].ContentType
		}
	}
	return string(b)
}

// validContentType keeps control characters, line ends above all, out of the
// header that the content type becomes.
func validContentType(s string) bool {
	if len(s) > maxContentTypeBytes {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
