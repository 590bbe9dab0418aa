package peer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"dynamo/node/wire"
)

// protocolVersion is the version byte of every frame.
const protocolVersion = 1

const (
	lengthBytes       = 4
	replyHeadBytes    = 1 + 1 + 8
	requestHeadBytes  = replyHeadBytes + 4
	readChunkBytes    = 256 << 10
	keptBufferBytes   = 64 << 10
	connBufferBytes   = 64 << 10
	writePartBytes    = 256 << 10
	bulkRequestsBytes = 64 << 10
)

var (
	errFrameTooLong  = errors.New("frame longer than allowed")
	errFrameTooShort = errors.New("frame too short")
	errVersion       = errors.New("frame of another protocol version")
)

// frame is a frame as it came in. The payload belongs to whoever decodes it.
type frame struct {
	kind    wire.Kind
	id      uint64
	timeout time.Duration
	payload []byte
}

// appendFrame appends a request, or a reply if timeout is negative.
func appendFrame(dst []byte, id uint64, timeout time.Duration, m wire.Message) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, protocolVersion, byte(m.Kind()))
	dst = binary.BigEndian.AppendUint64(dst, id)
	if timeout >= 0 {
		dst = binary.BigEndian.AppendUint32(dst, timeoutMillis(timeout))
	}
	dst = m.AppendTo(dst)
	binary.BigEndian.PutUint32(dst[start:], uint32(min(len(dst)-start-lengthBytes, math.MaxUint32)))
	return dst
}

// timeoutMillis rounds up, so that only the absence of a deadline is 0.
func timeoutMillis(d time.Duration) uint32 {
	ms := (d + time.Millisecond - 1) / time.Millisecond
	return uint32(min(ms, math.MaxUint32))
}

// readFrame reads a request (with a timeout) or a reply. An error leaves the stream useless.
func readFrame(r *bufio.Reader, request bool, maxBytes int) (frame, error) {
	head := lengthBytes + replyHeadBytes
	if request {
		head = lengthBytes + requestHeadBytes
	}
	h, err := r.Peek(head)
	if err != nil {
		if len(h) > 0 && err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return frame{}, err
	}
	length := int64(binary.BigEndian.Uint32(h))
	switch {
	case h[4] != protocolVersion:
		return frame{}, fmt.Errorf("%w: %d", errVersion, h[4])
	case length < int64(head-lengthBytes):
		return frame{}, errFrameTooShort
	case length > int64(maxBytes):
		return frame{}, fmt.Errorf("%w: %d bytes", errFrameTooLong, length)
	}
	f := frame{kind: wire.Kind(h[5]), id: binary.BigEndian.Uint64(h[6:])}
	if request {
		f.timeout = time.Duration(binary.BigEndian.Uint32(h[14:])) * time.Millisecond
	}
	if _, err := r.Discard(head); err != nil {
		return frame{}, err
	}
	f.payload, err = readPayload(r, int(length)-(head-lengthBytes))
	return f, err
}

// readPayload reads n bytes. Memory grows only as bytes arrive: whoever announces much and sends
// little costs no more than one chunk.
func readPayload(r io.Reader, n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	b := make([]byte, min(n, readChunkBytes))
	have := 0
	for {
		if _, err := io.ReadFull(r, b[have:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if have = len(b); have == n {
			return b, nil
		}
		more := min(n-have, have)
		b = slices.Grow(b, more)[:have+more]
	}
}

// buffers recycles the memory of outgoing frames. Large ones are left to the collector, lest a burst
// of large values be kept for ever.
type buffers struct{ pool sync.Pool }

func (p *buffers) get() *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, 2<<10)
	return &b
}

func (p *buffers) put(b *[]byte) {
	if cap(*b) <= keptBufferBytes {
		*b = (*b)[:0]
		p.pool.Put(b)
	}
}

// bulk says that m or its answer may be long, and is not waited for in a hurry or would hold up what
// is: it travels on a connection of its own.
func bulk(m wire.Message) bool {
	switch m := m.(type) {
	case *wire.List, *wire.MetaSync, *wire.ModuleGet, *wire.ModulePut, *wire.TreeKeys, *wire.ObjectsGet, *wire.ObjectsPut:
		return true
	case *wire.Apply:
		return len(m.Object) > bulkRequestsBytes
	case *wire.Write:
		return len(m.Value.Bytes) > bulkRequestsBytes
	}
	return false
}
