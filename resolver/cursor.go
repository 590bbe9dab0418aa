package resolver

import "strconv"

// cursor reads a WebAssembly binary from left to right and never beyond end.
// After the first error it stays where it is, all it returns is zero, and err
// tells what was wrong.
type cursor struct {
	b   []byte
	pos int
	end int
	err *Error
}

func (c *cursor) fail(code Code, format string, args ...any) {
	if c.err == nil {
		c.err = failf(code, format, args...)
		c.err.Message += " at byte " + strconv.Itoa(c.pos)
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

// signed reads a signed LEB128 number of at most maxBytes bytes.
func (c *cursor) signed(maxBytes int) int64 {
	var v int64
	for i := range maxBytes {
		b := c.byte()
		v |= int64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if shift := 7 * (i + 1); shift < 64 && b&0x40 != 0 {
				v |= -1 << shift
			}
			return v
		}
	}
	c.fail(CodeMalformed, "number of more than %d bytes", maxBytes)
	return 0
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
	return guestText(c.b[start:c.pos])
}

func (c *cursor) valueType() byte {
	t := c.byte()
	if c.err == nil && !isValueType(t) {
		c.fail(CodeUnsupported, "value type %#x", t)
	}
	return t
}

func isValueType(t byte) bool { return t >= 0x7b && t <= 0x7f || isRefType(t) }

func isNumber(t byte) bool { return t >= 0x7c && t <= 0x7f }

func isRefType(t byte) bool { return t == 0x70 || t == 0x6f }

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
