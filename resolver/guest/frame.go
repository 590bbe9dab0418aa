package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// requestMagic opens a request: the letters "DYM1", lowest byte first.
const requestMagic = 0x314d5944

// Flags of a sibling. Others are ignored.
const (
	flagDeleted  = 1 << 0
	flagAncestor = 1 << 1
)

// siblingMinBytes is the size of a sibling with empty content type and value.
const siblingMinBytes = 4 + 8 + 4 + 4

// The first word of a response.
const (
	statusValue   = 0
	statusDeleted = 1
	statusKeep    = 2
	statusError   = 3
	statusSelect  = 4
)

var (
	errFrame      = errors.New("malformed request frame")
	errNoResolver = errors.New("the module has no resolver: guest.Resolver was not called")
	errNoResult   = errors.New("the resolver returned neither a result nor an error")
)

// reader takes fields off the front of a frame: little-endian integers, and bytes after their length. Once
// a field is not there, all are zero and bad is set.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) take(n uint64) []byte {
	if r.bad || uint64(len(r.rest)) < n {
		r.bad = true
		return nil
	}
	taken := r.rest[:n:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) bytes() []byte { return r.take(uint64(r.u32())) }

// decodeRequest reads
//
//	request = u32 magic, u32 flags, bytes keyspace, bytes key, u32 count, count * sibling
//	sibling = u32 flags, u64 time in ms, bytes content type, bytes value
//
// and takes the ancestor, which can only come first, out of the siblings. It uses memory in proportion to
// frame and refers to it.
func decodeRequest(frame []byte) (Request, error) {
	f := &reader{rest: frame}
	if f.u32() != requestMagic {
		return Request{}, errFrame
	}
	f.u32() // flags: bit 0 repeats the flag of the ancestor
	r := Request{Keyspace: string(f.bytes()), Key: f.bytes()}
	count := f.u32()
	if uint64(count)*siblingMinBytes > uint64(len(f.rest)) {
		return Request{}, errFrame
	}
	r.Siblings = make([]Sibling, 0, count)
	for i := range count {
		flags := f.u32()
		s := Sibling{Deleted: flags&flagDeleted != 0, TimeMs: f.u64(), ContentType: string(f.bytes()), Value: f.bytes()}
		switch {
		case flags&flagAncestor == 0:
			r.Siblings = append(r.Siblings, s)
		case i == 0:
			r.Ancestor = &s
		default:
			return Request{}, errFrame
		}
	}
	if f.bad || len(f.rest) != 0 {
		return Request{}, errFrame
	}
	return r, nil
}

// appendResult appends the frame of r's result to dst.
func appendResult(dst []byte, r Request, result Result) []byte {
	switch result.kind {
	case kindValue:
		return appendResponse(dst, statusValue, result.contentType, result.payload)
	case kindDeleted:
		return appendResponse(dst, statusDeleted, "", nil)
	case kindKeep:
		return appendResponse(dst, statusKeep, "", nil)
	case kindSelect:
		if result.index < 0 || result.index >= len(r.Siblings) {
			return appendError(dst, fmt.Errorf("sibling %d selected of %d", result.index, len(r.Siblings)))
		}
		index := uint32(result.index)
		if r.Ancestor != nil {
			index++ // the frame counts it
		}
		return appendResponse(dst, statusSelect, "", binary.LittleEndian.AppendUint32(nil, index))
	}
	return appendError(dst, errNoResult)
}

// appendError appends the frame that says why these siblings cannot be merged.
func appendError(dst []byte, err error) []byte {
	return appendResponse(dst, statusError, "", []byte(err.Error()))
}

// appendResponse appends a response = u32 status, bytes content type, bytes payload.
func appendResponse(dst []byte, status uint32, contentType string, payload []byte) []byte {
	dst = slices.Grow(dst, 12+len(contentType)+len(payload))
	dst = binary.LittleEndian.AppendUint32(dst, status)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(contentType)))
	dst = append(dst, contentType...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(payload)))
	return append(dst, payload...)
}
