package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Bounds of single fields; the message as a whole is bounded by the frame.
const (
	maxKeyBytes    = 64 << 10
	maxStringBytes = 16 << 10
)

// AppendBytes appends the length and the bytes.
func AppendBytes[T string | []byte](dst []byte, b T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// AppendInt appends a zigzag varint.
func AppendInt(dst []byte, n int) []byte { return binary.AppendVarint(dst, int64(n)) }

// AppendFlags packs up to eight booleans, the first into bit 0.
func AppendFlags(dst []byte, flags ...bool) []byte {
	var b byte
	for i, f := range flags {
		if f {
			b |= 1 << i
		}
	}
	return append(dst, b)
}

// ErrMalformed is wrapped by every error of a [Decoder].
var ErrMalformed = errors.New("wire: malformed message")

// NewDecoder returns a Decoder of b.
func NewDecoder(b []byte) *Decoder { return &Decoder{b: b} }

// Decoder reads from the front of b. The first error sticks, and everything read after it is zero.
type Decoder struct {
	b   []byte
	err error
}

// Fail notes what is wrong, unless something was before.
func (d *Decoder) Fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrMalformed, what)
	}
	d.b = nil
}

// End returns the first error, or that there is more than was read.
func (d *Decoder) End() error {
	if d.err == nil && len(d.b) > 0 {
		d.Fail("trailing bytes")
	}
	return d.err
}

// Take returns the next n bytes.
func (d *Decoder) Take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.Fail("truncated")
		return nil
	}
	t := d.b[:n:n]
	d.b = d.b[n:]
	return t
}

// Flags reads a byte in which only the lowest `known` bits may be set.
func (d *Decoder) Flags(known int) byte {
	t := d.Take(1)
	if d.err != nil {
		return 0
	}
	if int(t[0])>>known != 0 {
		d.Fail("unknown flags")
		return 0
	}
	return t[0]
}

// Uvarint accepts only the shortest form, so that every message has one encoding.
func (d *Decoder) Uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || (n > 1 && d.b[n-1] == 0) {
		d.Fail("bad varint")
		return 0
	}
	d.b = d.b[n:]
	return v
}

// Uint32 reads a Uvarint of at most 32 bits.
func (d *Decoder) Uint32() uint32 {
	v := d.Uvarint()
	if v > math.MaxUint32 {
		d.Fail("number out of range")
		return 0
	}
	return uint32(v)
}

// Int reads what AppendInt wrote, within 32 bits.
func (d *Decoder) Int() int {
	u := d.Uvarint()
	v := int64(u>>1) ^ -int64(u&1)
	if v < math.MinInt32 || v > math.MaxInt32 {
		d.Fail("number out of range")
		return 0
	}
	return int(v)
}

// Bytes returns nil for no bytes.
func (d *Decoder) Bytes(limit uint64) []byte {
	n := d.Uvarint()
	if n > limit {
		d.Fail("field too long")
	}
	if n == 0 || d.err != nil {
		return nil
	}
	return d.Take(n)
}

// Blob reads bytes that only the frame bounds.
func (d *Decoder) Blob() []byte { return d.Bytes(math.MaxUint64) }

// Key reads a key.
func (d *Decoder) Key() []byte { return d.Bytes(maxKeyBytes) }

// String reads a string.
func (d *Decoder) String() string { return string(d.Bytes(maxStringBytes)) }

// Count reads the number of items that follow, none of them shorter than size.
func (d *Decoder) Count(size int) int {
	n := d.Uvarint()
	if n > uint64(len(d.b)/size) {
		d.Fail("count beyond the end")
		return 0
	}
	return int(n)
}

// Len is how many bytes are left.
func (d *Decoder) Len() int { return len(d.b) }
