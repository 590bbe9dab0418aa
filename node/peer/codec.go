package peer

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Bounds of single fields; the message as a whole is bounded by the frame.
const (
	maxKeyBytes    = 64 << 10
	maxStringBytes = 16 << 10
)

func appendBytes[T string | []byte](dst []byte, b T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

func appendInt(dst []byte, n int) []byte { return binary.AppendVarint(dst, int64(n)) }

// appendFlags packs up to eight booleans, the first into bit 0.
func appendFlags(dst []byte, flags ...bool) []byte {
	var b byte
	for i, f := range flags {
		if f {
			b |= 1 << i
		}
	}
	return append(dst, b)
}

// decoder reads from the front of b. The first error sticks, and everything read after it is zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrMalformed, what)
	}
	d.b = nil
}

func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail("trailing bytes")
	}
	return d.err
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail("truncated")
		return nil
	}
	t := d.b[:n:n]
	d.b = d.b[n:]
	return t
}

func (d *decoder) flags(known int) byte {
	t := d.take(1)
	if d.err != nil {
		return 0
	}
	if int(t[0])>>known != 0 {
		d.fail("unknown flags")
		return 0
	}
	return t[0]
}

// uvarint accepts only the shortest form, so that every message has one encoding.
func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || (n > 1 && d.b[n-1] == 0) {
		d.fail("bad varint")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	if v > math.MaxUint32 {
		d.fail("number out of range")
		return 0
	}
	return uint32(v)
}

func (d *decoder) int() int {
	u := d.uvarint()
	v := int64(u>>1) ^ -int64(u&1)
	if v < math.MinInt32 || v > math.MaxInt32 {
		d.fail("number out of range")
		return 0
	}
	return int(v)
}

// bytes returns nil for no bytes.
func (d *decoder) bytes(limit uint64) []byte {
	n := d.uvarint()
	if n > limit {
		d.fail("field too long")
	}
	if n == 0 || d.err != nil {
		return nil
	}
	return d.take(n)
}

func (d *decoder) blob() []byte   { return d.bytes(math.MaxUint64) }
func (d *decoder) key() []byte    { return d.bytes(maxKeyBytes) }
func (d *decoder) string() string { return string(d.bytes(maxStringBytes)) }

// count reads the number of items that follow, none of them shorter than size.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/size) {
		d.fail("count beyond the end")
		return 0
	}
	return int(n)
}
