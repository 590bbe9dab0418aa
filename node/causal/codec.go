package causal

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// objectV1 is the version byte of the canonical encoding:
//
//	object  := u8 version=1  context  uvarint count  count * version
//	context := uvarint count  count * (16 bytes node, uvarint incarnation, uvarint seq, uvarint counter)
//	version := u8 flags  dots label  [dots live, unless flag sameLive]  uvarint timeMs
//	           bytes contentType  bytes value  [uvarint epoch, 32 bytes sha256, if flag resolved]
//	dots    := uvarint count  count * (uvarint index into context, uvarint from, uvarint to-from)
//	bytes   := uvarint length, then that many bytes
//
// Varints are minimal, contexts and dots in canonical order, versions sorted by label: equal objects
// have equal bytes.
const objectV1 = 1

const (
	flagDeleted  = 1 << 0
	flagResolved = 1 << 1
	flagSameLive = 1 << 2
	flagsKnown   = flagDeleted | flagResolved | flagSameLive
)

// ErrCorrupt is wrapped by every error of a decoder in this package.
var ErrCorrupt = errors.New("causal: malformed encoding")

// AppendObject appends the canonical encoding of o. Every dot of o.Versions must be seen by
// o.Context, which Put and Join see to.
func AppendObject(dst []byte, o Object) []byte {
	dst = append(dst, objectV1)
	dst = AppendContext(dst, o.Context)
	dst = binary.AppendUvarint(dst, uint64(len(o.Versions)))
	for i := range o.Versions {
		dst = appendVersion(dst, o.Context, &o.Versions[i])
	}
	return dst
}

// AppendContext appends the canonical encoding of c.
func AppendContext(dst []byte, c Context) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(c)))
	for i := range c {
		dst = AppendActor(dst, c[i].Actor)
		dst = binary.AppendUvarint(dst, c[i].Counter)
	}
	return dst
}

// AppendActor appends the encoding of a.
func AppendActor(dst []byte, a Actor) []byte {
	dst = append(dst, a.Node[:]...)
	dst = binary.AppendUvarint(dst, uint64(a.Incarnation))
	return binary.AppendUvarint(dst, a.Seq)
}

func appendVersion(dst []byte, c Context, v *Version) []byte {
	var flags byte
	if v.Deleted {
		flags |= flagDeleted
	}
	resolved := v.Resolver != Provenance{}
	if resolved {
		flags |= flagResolved
	}
	same := v.Label.Compare(v.Live) == 0
	if same {
		flags |= flagSameLive
	}
	dst = append(dst, flags)
	dst = appendDots(dst, c, v.Label)
	if !same {
		dst = appendDots(dst, c, v.Live)
	}
	dst = binary.AppendUvarint(dst, v.TimeMs)
	dst = appendBytes(dst, v.ContentType)
	dst = appendBytes(dst, v.Bytes)
	if resolved {
		dst = binary.AppendUvarint(dst, v.Resolver.Epoch)
		dst = append(dst, v.Resolver.SHA256[:]...)
	}
	return dst
}

func appendBytes[T string | []byte](dst []byte, b T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

func appendDots(dst []byte, c Context, s Dots) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	for _, r := range s {
		i, _ := c.find(r.Actor)
		dst = binary.AppendUvarint(dst, uint64(i))
		dst = binary.AppendUvarint(dst, r.From)
		dst = binary.AppendUvarint(dst, r.To-r.From)
	}
	return dst
}

// appendLooseDots appends s with its actors spelled out.
func appendLooseDots(dst []byte, s Dots) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	for _, r := range s {
		dst = AppendActor(dst, r.Actor)
		dst = binary.AppendUvarint(dst, r.From)
		dst = binary.AppendUvarint(dst, r.To-r.From)
	}
	return dst
}

// DecodeObject is the inverse of AppendObject. It is total: any bytes yield an object in canonical
// form or an error that wraps ErrCorrupt. The values alias b.
func DecodeObject(b []byte) (Object, error) {
	d := decoder{b: b}
	if v := d.byte(); v != objectV1 && d.err == nil {
		return Object{}, fmt.Errorf("%w: object version %d is not known", ErrCorrupt, v)
	}
	o := Object{Context: d.context()}
	n := d.count(minVersionBytes)
	if n > 0 {
		o.Versions = make([]Version, 0, n)
	}
	for range n {
		v := d.version(o.Context)
		if k := len(o.Versions); k > 0 && compareLabels(o.Versions[k-1], v) >= 0 {
			d.fail("versions out of order")
		}
		o.Versions = append(o.Versions, v)
		if d.err != nil {
			break
		}
	}
	if err := d.end(); err != nil {
		return Object{}, err
	}
	return o, nil
}

// DecodeContext reads a context from the front of b and returns the rest.
func DecodeContext(b []byte) (Context, []byte, error) {
	d := decoder{b: b}
	c := d.context()
	if d.err != nil {
		return nil, nil, d.err
	}
	return c, d.b, nil
}

// DecodeActor reads an actor from the front of b and returns the rest.
func DecodeActor(b []byte) (Actor, []byte, error) {
	d := decoder{b: b}
	a := d.actor()
	if d.err != nil {
		return Actor{}, nil, d.err
	}
	return a, d.b, nil
}

const (
	minSeenBytes    = 16 + 3
	minRangeBytes   = 3
	minVersionBytes = 1 + 1 + minRangeBytes + 3
)

// decoder reads from the front of b. The first error sticks, and everything read after it is zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrCorrupt, what)
	}
	d.b = nil
}

func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail("trailing bytes")
	}
	return d.err
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail("truncated")
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || (n > 1 && d.b[n-1] == 0) {
		d.fail("bad varint")
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads the number of items that follow, none of them shorter than size.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/size) {
		d.fail("count beyond the end")
		return 0
	}
	return int(n)
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

func (d *decoder) actor() Actor {
	var a Actor
	copy(a.Node[:], d.take(16))
	inc := d.uvarint()
	if inc > 1<<32-1 {
		d.fail("incarnation out of range")
	}
	a.Incarnation = uint32(inc)
	a.Seq = d.uvarint()
	return a
}

func (d *decoder) context() Context {
	n := d.count(minSeenBytes)
	if n == 0 {
		return nil
	}
	c := make(Context, n)
	for i := range c {
		c[i] = Seen{d.actor(), d.uvarint()}
	}
	if d.err == nil && !c.valid() {
		d.fail("context not canonical")
	}
	return c
}

func (d *decoder) dots(c Context) Dots {
	n := d.count(minRangeBytes)
	if n == 0 {
		d.fail("empty set of dots")
		return nil
	}
	s := make(Dots, n)
	for i := range s {
		k, from, more := d.uvarint(), d.uvarint(), d.uvarint()
		if d.err != nil || k >= uint64(len(c)) || from > maxCounter || more > maxCounter {
			d.fail("dot out of range")
			return nil
		}
		s[i] = Range{c[k].Actor, from, from + more}
	}
	if !s.valid() || !s.SeenBy(c) {
		d.fail("dots not canonical or not in the context")
	}
	return s
}

func (d *decoder) looseDots() Dots {
	n := d.count(minSeenBytes + 1)
	if n == 0 {
		return nil
	}
	s := make(Dots, n)
	for i := range s {
		a, from, more := d.actor(), d.uvarint(), d.uvarint()
		if d.err != nil || from > maxCounter || more > maxCounter {
			d.fail("dot out of range")
			return nil
		}
		s[i] = Range{a, from, from + more}
	}
	if !s.valid() {
		d.fail("dots not canonical")
	}
	return s
}

func (d *decoder) version(c Context) Version {
	var v Version
	flags := d.byte()
	if flags&^flagsKnown != 0 {
		d.fail("unknown flags")
	}
	v.Label = d.dots(c)
	v.Live = v.Label
	if flags&flagSameLive == 0 {
		v.Live = d.dots(c)
		if d.err == nil && (!v.Live.SubsetOf(v.Label) || v.Live.Compare(v.Label) == 0) {
			d.fail("live is no proper part of the label")
		}
	}
	v.Deleted = flags&flagDeleted != 0
	v.TimeMs = d.uvarint()
	v.ContentType = string(d.take(d.uvarint()))
	v.Bytes = d.take(d.uvarint())
	if flags&flagResolved != 0 {
		v.Resolver.Epoch = d.uvarint()
		copy(v.Resolver.SHA256[:], d.take(32))
		if d.err == nil && v.Resolver == (Provenance{}) {
			d.fail("resolver flag without resolver")
		}
	}
	return v
}
