// Package record is the bytes of what a store keeps: database keys, copies and hints, index and queue entries. It
// is pure; every decoder takes any bytes.
package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"dynamo/node/causal"
)

// Record is what is kept under a Ref. A zero Object is no record at all.
type Record struct {
	Object causal.Object
	// Own is the actor this disk mints with for this record, zero if it has not minted yet. It is
	// never replicated.
	Own causal.Actor
	// place is a hint's place in the queue of its node, zero for own copies. Update carries it over.
	Place Place
}

// A stored value:
//
//	record := u8 version=1  u8 flags  [actor, if flag own]  [Place, if flag placed]  object  u32 crc
//	place  := u64 sequence number  u64 first time, ms since 1970
//	blob   := u8 version=1  bytes  u32 crc
//	crc    := CRC-32C of the database key, then of all bytes before it, big-endian
//
// The key is under the Checksum so that a record in another's place is noticed.
const (
	recordV1 = 1
	blobV1   = 1
	flagOwn  = 1 << 0
	// flagPlaced is set on hints; those of earlier releases get their place when they are opened.
	flagPlaced    = 1 << 1
	ChecksumBytes = 4
)

var (
	ErrChecksum = errors.New("Checksum does not match")
	ErrShort    = errors.New("too short")
	ErrShape    = errors.New("malformed record")
)

// Append appends the encoding of r for the database key.
func Append(dst, key []byte, r Record) []byte {
	n := len(dst)
	var flags byte
	if !r.Own.IsZero() {
		flags |= flagOwn
	}
	if r.Place.Seq != 0 {
		flags |= flagPlaced
	}
	dst = append(dst, recordV1, flags)
	if flags&flagOwn != 0 {
		dst = causal.AppendActor(dst, r.Own)
	}
	if flags&flagPlaced != 0 {
		dst = r.Place.appendTo(dst)
	}
	dst = causal.AppendObject(dst, r.Object)
	return binary.BigEndian.AppendUint32(dst, Checksum(key, dst[n:]))
}

// ObjectBytes returns the object's own bytes within a stored record, Checksum verified.
func ObjectBytes(key, b []byte) ([]byte, error) {
	body, err := checked(key, b)
	switch {
	case err != nil:
		return nil, err
	case len(body) < 2 || body[0] != recordV1:
		return nil, ErrShape
	case body[1]&flagOwn == 0:
		return body[2:], nil
	}
	_, rest, err := causal.DecodeActor(body[2:])
	return rest, err
}

// Decode is the inverse of Append, for any bytes. The values alias b.
func Decode(key, b []byte) (Record, error) {
	body, err := checked(key, b)
	switch {
	case err != nil:
		return Record{}, err
	case len(body) < 2:
		return Record{}, ErrShort
	case body[0] != recordV1:
		return Record{}, fmt.Errorf("record version %d is not known", body[0])
	case body[1]&^(flagOwn|flagPlaced) != 0:
		return Record{}, ErrShape
	}
	var r Record
	rest := body[2:]
	if body[1]&flagOwn != 0 {
		if r.Own, rest, err = causal.DecodeActor(rest); err != nil {
			return Record{}, err
		}
		if r.Own.IsZero() {
			return Record{}, ErrShape
		}
	}
	if body[1]&flagPlaced != 0 {
		if r.Place, rest, err = DecodePlace(rest); err != nil {
			return Record{}, err
		}
	}
	if r.Object, err = causal.DecodeObject(rest); err != nil {
		return Record{}, err
	}
	if r.Object.IsZero() {
		return Record{}, ErrShape
	}
	return r, nil
}

// AppendBlob appends a value under its checksum.
func AppendBlob(dst, key, value []byte) []byte {
	n := len(dst)
	dst = append(append(dst, blobV1), value...)
	return binary.BigEndian.AppendUint32(dst, Checksum(key, dst[n:]))
}

// DecodeBlob is the inverse of AppendBlob, for any bytes. The value aliases b.
func DecodeBlob(key, b []byte) ([]byte, error) {
	body, err := checked(key, b)
	switch {
	case err != nil:
		return nil, err
	case len(body) < 1:
		return nil, ErrShort
	case body[0] != blobV1:
		return nil, fmt.Errorf("value version %d is not known", body[0])
	}
	return body[1:], nil
}

// checked returns b without its Checksum if that is right.
func checked(key, b []byte) ([]byte, error) {
	if len(b) < ChecksumBytes {
		return nil, ErrShort
	}
	body := b[:len(b)-ChecksumBytes]
	if Checksum(key, body) != binary.BigEndian.Uint32(b[len(body):]) {
		return nil, ErrChecksum
	}
	return body, nil
}

// Checksum is the CRC-32C of a database key and what is stored under it.
func Checksum(key, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, Castagnoli()), Castagnoli(), body)
}

// Castagnoli is the table that the processor has an instruction for; it is made once.
func Castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }
