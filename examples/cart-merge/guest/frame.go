package main

import (
	"encoding/binary"
	"errors"
)

// The first word of the answer says what to do. There are more codes (delete
// the key, keep the siblings, take sibling n as it is); a cart needs two.
const (
	statusValue = 0
	statusError = 3
)

// Flags of a sibling.
const flagAncestor = 1 << 1

// requestMagic opens a request: the letters "DYM1", lowest byte first.
const requestMagic = 0x314d5944

var errFrame = errors.New("malformed request frame")

// sibling is one of the conflicting versions of a key.
type sibling struct {
	value    []byte
	ancestor bool
}

// reader takes fields off the front of a frame: little-endian integers, and
// bytes preceded by their length.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) take(n uint64) []byte {
	if uint64(len(r.rest)) < n {
		r.bad = true
		return make([]byte, 8)
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) u32() uint32   { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64   { return binary.LittleEndian.Uint64(r.take(8)) }
func (r *reader) bytes() []byte { return r.take(uint64(r.u32())) }

// readRequest decodes
//
//	request = u32 magic, u32 flags, bytes keyspace, bytes key, u32 count, count * sibling
//	sibling = u32 flags, u64 time in ms, bytes content type, bytes value
func readRequest(frame []byte) ([]sibling, error) {
	r := &reader{rest: frame}
	if r.u32() != requestMagic {
		return nil, errFrame
	}
	r.u32()   // flags: nothing a cart needs
	r.bytes() // keyspace
	r.bytes() // key
	count := r.u32()
	var siblings []sibling
	for range count {
		flags := r.u32()
		r.u64()   // time
		r.bytes() // content type
		value := r.bytes()
		if r.bad {
			return nil, errFrame
		}
		siblings = append(siblings, sibling{value: value, ancestor: flags&flagAncestor != 0})
	}
	if r.bad || len(r.rest) != 0 {
		return nil, errFrame
	}
	return siblings, nil
}

// response begins a response = u32 status, bytes content type, bytes payload.
func response(status uint32, contentType string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, status)
	return append(b, bytesField([]byte(contentType))...)
}

// bytesField is a length and then the bytes.
func bytesField(p []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(p))), p...)
}

// errorResponse tells the store that these values cannot be merged, and why.
func errorResponse(err error) []byte {
	return append(response(statusError, ""), bytesField([]byte(err.Error()))...)
}
