package cluster

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// Bounds of the metadata. They are far above what a cluster needs and far below what would hurt a node.
const (
	maxStateBytes = 16 << 20
	maxRecords    = 100_000
	maxKeyBytes   = 512
	maxNameBytes  = 255 // of the cluster and of a writer
	maxBodyBytes  = 1 << 20
	// maxVersion leaves room to count on: whoever writes a record takes the version after the one it saw.
	maxVersion = 1 << 62
)

// The encoding is
//
//	"DYST", format byte, cluster, Q, count, count records in ascending order of their keys, SHA-256 of all before
//
// with a record being key, version, writer, body. Strings are preceded by their length; numbers are minimal uvarints.
// Equal metadata has equal bytes, so that the checksum is also the digest by which nodes compare theirs.
const (
	magic  = "DYST"
	format = 1
)

// record is one entry of the metadata. Records are totally ordered, and of two with the same key the greater one stays:
// that makes the join of two maps commutative, associative and idempotent, whatever the bodies mean. Writers take the
// version after the one they saw, so that a change beats what it was made from.
type record struct {
	version uint64
	// writer is the node that made this version, "" for what follows from the cluster file at birth.
	writer string
	body   []byte
}

// less reports whether r gives way to o.
func (r record) less(o record) bool {
	return cmp.Or(cmp.Compare(r.version, o.version), cmp.Compare(r.writer, o.writer), bytes.Compare(r.body, o.body)) < 0
}

// records are the metadata by key. A map that was published is never changed.
type records map[string]record

// join returns the least upper bound of both, and whether that is more than r. Neither is changed.
func (r records) join(o records) (records, bool) {
	out, grown := r, false
	for key, theirs := range o {
		if ours, ok := r[key]; ok && !ours.less(theirs) {
			continue
		}
		if !grown {
			grown, out = true, make(records, max(len(r), len(o)))
			maps.Copy(out, r)
		}
		out[key] = theirs
	}
	return out, grown
}

// document is decoded metadata.
type document struct {
	cluster    string
	partitions int
	records    records
}

// encode returns the bytes of d and their digest. The error wraps ErrTooLarge.
func (d document) encode() ([]byte, [32]byte, error) {
	if len(d.records) > maxRecords {
		return nil, [32]byte{}, fmt.Errorf("%w: %d records, at most %d", ErrTooLarge, len(d.records), maxRecords)
	}
	b := append([]byte(magic), format)
	b = appendBytes(b, d.cluster)
	b = binary.AppendUvarint(b, uint64(d.partitions))
	b = binary.AppendUvarint(b, uint64(len(d.records)))
	for _, key := range slices.Sorted(maps.Keys(d.records)) {
		r := d.records[key]
		if len(key) > maxKeyBytes || len(r.writer) > maxNameBytes || len(r.body) > maxBodyBytes || r.version > maxVersion {
			return nil, [32]byte{}, fmt.Errorf("%w: record %.64q", ErrTooLarge, key)
		}
		b = appendBytes(b, key)
		b = binary.AppendUvarint(b, r.version)
		b = appendBytes(b, r.writer)
		b = appendBytes(b, r.body)
	}
	digest := sha256.Sum256(b)
	b = append(b, digest[:]...)
	if len(b) > maxStateBytes {
		return nil, [32]byte{}, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(b), maxStateBytes)
	}
	return b, digest, nil
}

func appendBytes[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decode is the inverse of encode: it accepts exactly what encode returns. The records do not refer to b. Errors wrap
// ErrFormat.
func decode(b []byte) (document, error) {
	if len(b) > maxStateBytes {
		return document{}, fmt.Errorf("%w: %d bytes, at most %d", ErrFormat, len(b), maxStateBytes)
	}
	if len(b) < len(magic)+1+sha256.Size || string(b[:len(magic)]) != magic {
		return document{}, fmt.Errorf("%w: bad start", ErrFormat)
	}
	if v := b[len(magic)]; v != format {
		return document{}, fmt.Errorf("%w: format %d, this node reads %d", ErrFormat, v, format)
	}
	sum := sha256.Sum256(b[:len(b)-sha256.Size])
	if !bytes.Equal(sum[:], b[len(b)-sha256.Size:]) {
		return document{}, fmt.Errorf("%w: checksum mismatch", ErrFormat)
	}
	r := reader{b: b[len(magic)+1 : len(b)-sha256.Size]}
	d := document{cluster: string(r.bytes(maxNameBytes)), partitions: int(r.uvarint(1 << 30))}
	count := int(r.uvarint(maxRecords))
	// An encoded record has at least 4 bytes, so that a lying count reserves no more than the input is worth.
	d.records = make(records, min(count, len(r.b)/4))
	last := ""
	for i := range count {
		key := string(r.bytes(maxKeyBytes))
		rec := record{version: r.uvarint(maxVersion), writer: string(r.bytes(maxNameBytes)), body: bytes.Clone(r.bytes(maxBodyBytes))}
		if r.bad {
			break
		}
		if i > 0 && key <= last {
			return document{}, fmt.Errorf("%w: records out of order", ErrFormat)
		}
		d.records[key], last = rec, key
	}
	if r.bad || len(r.b) > 0 {
		return document{}, fmt.Errorf("%w: bad length", ErrFormat)
	}
	return d, nil
}

// reader takes fields off b; after the first that is not there, bad stays set and all further fields are empty.
type reader struct {
	b   []byte
	bad bool
}

// uvarint takes a minimally encoded number of at most limit.
func (r *reader) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || v > limit || (n > 1 && r.b[n-1] == 0) {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// bytes takes a string of at most limit bytes, which refers to r.b.
func (r *reader) bytes(limit int) []byte {
	n := int(r.uvarint(uint64(limit)))
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}
