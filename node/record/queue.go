package record

import (
	"encoding/binary"
	"time"
)

// Place is where a hint stands in the queue of its node. A hint that grows keeps it. A queue entry,
// under the key of the Place, is a blob:
//
//	entry := u64 first time, ms since 1970  database key of the hint
type Place struct {
	Seq, FirstMs uint64
}

const PlaceBytes = 16

func (p Place) appendTo(b []byte) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, p.Seq), p.FirstMs)
}

// DecodePlace returns the place at the start of b, and the rest.
func DecodePlace(b []byte) (Place, []byte, error) {
	if len(b) < PlaceBytes {
		return Place{}, nil, ErrShort
	}
	p := Place{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
	if p.Seq == 0 {
		return Place{}, nil, ErrShape
	}
	return p, b[PlaceBytes:], nil
}

// Time is zero if it is not known.
func (p Place) Time() time.Time {
	if p.FirstMs == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(p.FirstMs))
}

// AppendQueueNode appends what the queue keys of a node begin with.
func AppendQueueNode(b []byte, node string) []byte {
	return append(append(b, FamilyQueue, byte(len(node))), node...)
}

// QueueKey is where the queue entry of a place is.
func QueueKey(node string, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(AppendQueueNode(nil, node), seq)
}

// DecodeQueueKey is the inverse of QueueKey, for any bytes.
func DecodeQueueKey(b []byte) (node string, seq uint64, err error) {
	if len(b) < 2 || b[0] != FamilyQueue || b[1] == 0 || len(b) != 2+int(b[1])+8 {
		return "", 0, ErrKey
	}
	n := 2 + int(b[1])
	return string(b[2:n]), binary.BigEndian.Uint64(b[n:]), nil
}

// QueueEntry is what is stored under the key of a place.
func QueueEntry(key []byte, p Place, hint []byte) []byte {
	return AppendBlob(nil, key, append(binary.BigEndian.AppendUint64(nil, p.FirstMs), hint...))
}

// DecodeQueueEntry returns the place and the hint's database key, for any bytes.
func DecodeQueueEntry(key, raw []byte) (Place, []byte, error) {
	node, seq, err := DecodeQueueKey(key)
	if err != nil {
		return Place{}, nil, err
	}
	body, err := DecodeBlob(key, raw)
	if err != nil {
		return Place{}, nil, err
	}
	if len(body) < 8 {
		return Place{}, nil, ErrShort
	}
	ref, err := DecodeRef(body[8:])
	if err != nil {
		return Place{}, nil, err
	}
	if ref.HintFor != node {
		return Place{}, nil, ErrShape
	}
	return Place{seq, binary.BigEndian.Uint64(body)}, body[8:], nil
}
