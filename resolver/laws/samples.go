package laws

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// SectionName is the custom section of a module in which its author puts sample values: for each a
// u32 length, little-endian, and that many bytes.
const SectionName = "dynamo.samples"

// Bounds on the samples of a module.
const (
	maxSamples     = 256
	maxSampleBytes = 1 << 20
)

// ErrSamples is wrapped by every error about a samples section.
var ErrSamples = errors.New("malformed samples section")

const (
	headerBytes   = 8
	customSection = 0
)

// Samples returns the sample values that a module carries; none is no error. It is total.
func Samples(module []byte) ([][]byte, error) {
	if len(module) < headerBytes {
		return nil, fmt.Errorf("%w: not a module", ErrSamples)
	}
	b := module[headerBytes:]
	for len(b) > 0 {
		id := b[0]
		size, n := binary.Uvarint(b[1:])
		if n <= 0 || size > uint64(len(b)-1-n) {
			return nil, fmt.Errorf("%w: section beyond the end", ErrSamples)
		}
		body := b[1+n : 1+n+int(size)]
		b = b[1+n+int(size):]
		if id != customSection {
			continue
		}
		length, n := binary.Uvarint(body)
		if n <= 0 || length > uint64(len(body)-n) {
			return nil, fmt.Errorf("%w: custom section without a name", ErrSamples)
		}
		if string(body[n:n+int(length)]) == SectionName {
			return parseSamples(body[n+int(length):])
		}
	}
	return nil, nil
}

func parseSamples(b []byte) ([][]byte, error) {
	var out [][]byte
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, fmt.Errorf("%w: truncated", ErrSamples)
		}
		n := binary.LittleEndian.Uint32(b)
		b = b[4:]
		if uint64(n) > uint64(len(b)) || n > maxSampleBytes || len(out) == maxSamples {
			return nil, fmt.Errorf("%w: sample %d has %d bytes", ErrSamples, len(out), n)
		}
		out = append(out, b[:n])
		b = b[n:]
	}
	return out, nil
}

// WithSamples returns the module with a samples section at its end.
func WithSamples(module []byte, samples [][]byte) []byte {
	body := append([]byte{byte(len(SectionName))}, SectionName...)
	for _, s := range samples {
		body = binary.LittleEndian.AppendUint32(body, uint32(len(s)))
		body = append(body, s...)
	}
	out := append(append([]byte{}, module...), customSection)
	out = binary.AppendUvarint(out, uint64(len(body)))
	return append(out, body...)
}
