package store

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
	place place
}

// CorruptError is a record that is there and cannot be trusted.
type CorruptError struct {
	// Ref is the record, if it is a copy or a hint; else Name says what it is.
	Ref  Ref
	Name string
	Err  error
}

// Error implements error.
func (e *CorruptError) Error() string {
	if e.Name != "" {
		return fmt.Sprintf("store: corrupt: %s: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("store: corrupt: %s: %v", e.Ref, e.Err)
}

// Unwrap returns ErrCorrupt and the cause.
func (e *CorruptError) Unwrap() []error { return []error{ErrCorrupt, e.Err} }

// A stored value:
//
//	record := u8 version=1  u8 flags  [actor, if flag own]  [place, if flag placed]  object  u32 crc
//	place  := u64 sequence number  u64 first time, ms since 1970
//	blob   := u8 version=1  bytes  u32 crc
//	crc    := CRC-32C of the database key, then of all bytes before it, big-endian
//
// The key is under the checksum so that a record in another's place is noticed.
const (
	recordV1 = 1
	blobV1   = 1
	flagOwn  = 1 << 0
	// flagPlaced is set on hints; those of earlier releases get their place when they are opened.
	flagPlaced = 1 << 1
	crcBytes   = 4
)

var (
	errChecksum = errors.New("checksum does not match")
	errShort    = errors.New("too short")
	errShape    = errors.New("malformed record")
)

// appendRecord appends the encoding of r for the database key.
func appendRecord(dst, key []byte, r Record) []byte {
	n := len(dst)
	var flags byte
	if !r.Own.IsZero() {
		flags |= flagOwn
	}
	if r.place.seq != 0 {
		flags |= flagPlaced
	}
	dst = append(dst, recordV1, flags)
	if flags&flagOwn != 0 {
		dst = causal.AppendActor(dst, r.Own)
	}
	if flags&flagPlaced != 0 {
		dst = r.place.appendTo(dst)
	}
	dst = causal.AppendObject(dst, r.Object)
	return binary.BigEndian.AppendUint32(dst, checksum(key, dst[n:]))
}

// objectBytes returns the object's own bytes within a stored record, checksum verified.
func objectBytes(key, b []byte) ([]byte, error) {
	body, err := checked(key, b)
	switch {
	case err != nil:
		return nil, err
	case len(body) < 2 || body[0] != recordV1:
		return nil, errShape
	case body[1]&flagOwn == 0:
		return body[2:], nil
	}
	_, rest, err := causal.DecodeActor(body[2:])
	return rest, err
}

// decodeRecord is the inverse of appendRecord, for any bytes. The values alias b.
func decodeRecord(key, b []byte) (Record, error) {
	body, err := checked(key, b)
	switch {
	case err != nil:
		return Record{}, err
	case len(body) < 2:
		return Record{}, errShort
	case body[0] != recordV1:
		return Record{}, fmt.Errorf("record version %d is not known", body[0])
	case body[1]&^(flagOwn|flagPlaced) != 0:
		return Record{}, errShape
	}
	var r Record
	rest := body[2:]
	if body[1]&flagOwn != 0 {
		if r.Own, rest, err = causal.DecodeActor(rest); err != nil {
			return Record{}, err
		}
		if r.Own.IsZero() {
			return Record{}, errShape
		}
	}
	if body[1]&flagPlaced != 0 {
		if r.place, rest, err = decodePlace(rest); err != nil {
			return Record{}, err
		}
	}
	if r.Object, err = causal.DecodeObject(rest); err != nil {
		return Record{}, err
	}
	if r.Object.IsZero() {
		return Record{}, errShape
	}
	return r, nil
}

func appendBlob(dst, key, value []byte) []byte {
	n := len(dst)
	dst = append(append(dst, blobV1), value...)
	return binary.BigEndian.AppendUint32(dst, checksum(key, dst[n:]))
}

// decodeBlob is the inverse of appendBlob, for any bytes. The value aliases b.
func decodeBlob(key, b []byte) ([]byte, error) {
	body, err := checked(key, b)
	switch {
	case err != nil:
		return nil, err
	case len(body) < 1:
		return nil, errShort
	case body[0] != blobV1:
		return nil, fmt.Errorf("value version %d is not known", body[0])
	}
	return body[1:], nil
}

// checked returns b without its checksum if that is right.
func checked(key, b []byte) ([]byte, error) {
	if len(b) < crcBytes {
		return nil, errShort
	}
	body := b[:len(b)-crcBytes]
	if checksum(key, body) != binary.BigEndian.Uint32(b[len(body):]) {
		return nil, errChecksum
	}
	return body, nil
}

func checksum(key, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli()), castagnoli(), body)
}

// castagnoli is the table that the processor has an instruction for; it is made once.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }
