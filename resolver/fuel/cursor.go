package fuel

import (
	"fmt"
	"unicode/utf8"
)

// cursor reads a WebAssembly binary from left to right and never beyond end.
// After the first error it stays where it is, all it returns is zero, and err
// tells what was wrong.
type cursor struct {
	b        []byte
	pos      int
	end      int
	section  string // being read, for errors
	function int    // being read, for errors, or -1
	err      *Error
}

func (c *cursor) fail(code Code, format string, args ...any) {
	if c.err == nil {
		c.err = &Error{Code: code, Section: c.section, Function: c.function, Offset: c.pos, Message: fmt.Sprintf(format, args...)}
	}
}

func (c *cursor) more() bool { return c.err == nil && c.pos < c.end }

func (c *cursor) byte() byte {
	if !c.more() {
		c.fail(CodeMalformed, "unexpected end")
		return 0
	}
	b := c.b[c.pos]
	c.pos++
	return b
}

func (c *cursor) skip(n uint32) {
	if c.err != nil {
		return
	}
	if int64(n) > int64(c.end-c.pos) {
		c.fail(CodeMalformed, "%d bytes announced, %d left", n, c.end-c.pos)
		return
	}
	c.pos += int(n)
}

// u32 reads an unsigned LEB128 number of at most 32 bits.
func (c *cursor) u32() uint32 {
	var v uint32
	for shift := 0; shift < 35; shift += 7 {
		b := c.byte()
		if shift == 28 && b > 0x0f {
			break
		}
		v |= uint32(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	c.fail(CodeMalformed, "number of more than 32 bits")
	return 0
}

// signed reads a signed LEB128 number of at most so many bits.
func (c *cursor) signed(bits int) int64 {
	var v int64
	for shift := 0; shift < bits; shift += 7 {
		b := c.byte()
		if left := bits - shift; left < 7 {
			// The bits beyond have to repeat the sign.
			if sign := int8(b<<1) >> left; b >= 0x80 || sign != 0 && sign != -1 {
				break
			}
		}
		v |= int64(b&0x7f) << shift
		if b < 0x80 {
			if shift += 7; shift < 64 && b&0x40 != 0 {
				v |= -1 << shift
			}
			return v
		}
	}
	c.fail(CodeMalformed, "number of more than %d bits", bits)
	return 0
}

// zero reads a byte that has to be 0.
func (c *cursor) zero() {
	if b := c.byte(); b != 0 {
		c.fail(CodeMalformed, "reserved byte is %#x", b)
	}
}

// index reads the index of something of which there are so many.
func (c *cursor) index(what string, total int) uint32 {
	i := c.u32()
	if c.err == nil && int64(i) >= int64(total) {
		c.fail(CodeMalformed, "unknown %s %d", what, i)
		return 0
	}
	return i
}

// count reads the length of a vector. Each element takes at least one byte, so
// a count that fits bounds the work and the memory that follow.
func (c *cursor) count(what string, limit int) int {
	n := c.u32()
	if int64(n) > int64(limit) {
		c.fail(CodeTooComplex, "%d %s, limit %d", n, what, limit)
		return 0
	}
	if int(n) > c.end-c.pos {
		c.fail(CodeMalformed, "%d %s in %d bytes", n, what, c.end-c.pos)
		return 0
	}
	return int(n)
}

// each reads a vector, element by element.
func (c *cursor) each(what string, limit int, element func()) {
	for range c.count(what, limit) {
		if c.err != nil {
			return
		}
		element()
	}
}

func (c *cursor) name() string {
	n := c.u32()
	if n > maxNameBytes {
		c.fail(CodeTooComplex, "name of %d bytes, limit %d", n, maxNameBytes)
		return ""
	}
	start := c.pos
	c.skip(n)
	if c.err != nil {
		return ""
	}
	if !utf8.Valid(c.b[start:c.pos]) {
		c.fail(CodeMalformed, "name is not UTF-8")
		return ""
	}
	return string(c.b[start:c.pos])
}

func (c *cursor) valueType() ValueType {
	t := ValueType(c.byte())
	if c.err == nil && !t.known() {
		c.fail(CodeUnsupported, "value type %#x", byte(t))
	}
	return t
}

func (c *cursor) refType() ValueType {
	t := ValueType(c.byte())
	if c.err == nil && !t.reference() {
		c.fail(CodeUnsupported, "reference type %#x", byte(t))
	}
	return t
}

// bounds reads the limits of a memory or table; without a maximum, most is
// 2^32 - 1.
func (c *cursor) bounds() (least, most uint32) {
	flag := c.byte()
	if c.err == nil && flag > 1 {
		c.fail(CodeUnsupported, "shared or 64-bit memory or table")
		return 0, 0
	}
	least, most = c.u32(), 1<<32-1
	if flag == 1 {
		most = c.u32()
	}
	if c.err == nil && least > most {
		c.fail(CodeMalformed, "minimum %d above maximum %d", least, most)
	}
	return least, most
}
