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
	header        = "\x00asm"
	headerBytes   = 8
	customSection = 0
)

// Samples returns the sample values that a module carries, parts of it; none is no error. It is total.
func Samples(module []byte) ([][]byte, error) {
	start, end, body, err := find(module)
	if err != nil || start == end {
		return nil, err
	}
	return parseSamples(body)
}

// find returns where the first samples section begins and ends, and what follows its name. Without one, it
// begins and ends where the module does.
func find(module []byte) (start, end int, samples []byte, err error) {
	if len(module) < headerBytes || string(module[:len(header)]) != header {
		return 0, 0, nil, fmt.Errorf("%w: not a module", ErrSamples)
	}
	for start = headerBytes; start < len(module); start = end {
		body, after, ok := sized(module[start+1:])
		if !ok {
			return 0, 0, nil, fmt.Errorf("%w: section beyond the end", ErrSamples)
		}
		end = len(module) - len(after)
		if module[start] != customSection {
			continue
		}
		name, rest, ok := sized(body)
		if !ok {
			return 0, 0, nil, fmt.Errorf("%w: custom section without a name", ErrSamples)
		}
		if string(name) == SectionName {
			return start, end, rest, nil
		}
	}
	return len(module), len(module), nil, nil
}

// sized takes off the front of b a length and that many bytes.
func sized(b []byte) (taken, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, false
	}
	return b[n : n+int(size)], b[n+int(size):], true
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

// WithSamples returns the module with these samples in place of those that it carries, if any. What it
// returns, Samples can read.
func WithSamples(module []byte, samples [][]byte) ([]byte, error) {
	body := append([]byte{byte(len(SectionName))}, SectionName...)
	for _, s := range samples {
		body = binary.LittleEndian.AppendUint32(body, uint32(len(s)))
		body = append(body, s...)
	}
	if _, err := parseSamples(body[1+len(SectionName):]); err != nil {
		return nil, err
	}
	out := append([]byte{}, module...)
	for {
		start, end, _, err := find(out)
		if err != nil {
			return nil, err
		}
		if start == end {
			break
		}
		out = append(out[:start], out[end:]...)
	}
	out = append(out, customSection)
	out = binary.AppendUvarint(out, uint64(len(body)))
	return append(out, body...), nil
}
