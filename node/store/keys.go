package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"dynamo/node/merkle"
	"dynamo/node/ring"
)

// The first byte of a database key names its family:
//
//	own copy := 'o'  u32 partition  u64 keyspace  key
//	hint     := 'h'  u8 length  node  u32 partition  u64 keyspace  key
//	queue    := 'q'  u8 length  node  u64 sequence number
//	metadata := 'm'  name
//	module   := 'w'  32 bytes sha256
//	entry    := 'i'  u32 partition  u64 keyspace  u16 leaf  key
//	branch   := 't'  u32 partition  u64 keyspace  u8 branch
//
// Integers are big-endian, so a partition is one contiguous range, a keyspace one within it, and keys
// are in byte order within that.
const (
	familyOwn    = 'o'
	familyHint   = 'h'
	familyQueue  = 'q'
	familyMeta   = 'm'
	familyModule = 'w'
	familyIndex  = 'i'
	familyTree   = 't'
)

// maxNodeBytes bounds the node id of a hint.
const maxNodeBytes = 255

// scopeBytes is the encoded size of a partition and a keyspace.
const scopeBytes = 4 + 8

// Ref names one record.
type Ref struct {
	Partition ring.Partition
	// Keyspace is the id of the keyspace, not its name: one that was dropped and made anew has another.
	Keyspace uint64
	Key      []byte
	// HintFor is empty for the node's own copy, else the id of the node that a hint is kept for.
	HintFor string
}

// String is for logs and errors.
func (r Ref) String() string {
	kind := "own copy"
	if r.HintFor != "" {
		kind = "hint for " + r.HintFor
	}
	return fmt.Sprintf("%s of key %q (keyspace %016x, partition %d)", kind, r.Key, r.Keyspace, r.Partition)
}

var errNodeID = errors.New("store: node id of a hint is longer than 255 bytes")

func (r Ref) encode() ([]byte, error) {
	if len(r.HintFor) > maxNodeBytes {
		return nil, errNodeID
	}
	b := make([]byte, 0, 2+len(r.HintFor)+scopeBytes+len(r.Key))
	if r.HintFor == "" {
		b = append(b, familyOwn)
	} else {
		b = appendHintNode(b, r.HintFor)
	}
	return append(appendScope(b, r.Partition, r.Keyspace), r.Key...), nil
}

func appendScope(b []byte, p ring.Partition, keyspace uint64) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(p))
	return binary.BigEndian.AppendUint64(b, keyspace)
}

func appendHintNode(b []byte, node string) []byte {
	return append(append(b, familyHint, byte(len(node))), node...)
}

var errKey = errors.New("store: malformed database key")

// decodeRef is the inverse of encode, for any bytes. Key aliases b.
func decodeRef(b []byte) (Ref, error) {
	var r Ref
	switch {
	case len(b) > 0 && b[0] == familyOwn:
		b = b[1:]
	case len(b) > 1 && b[0] == familyHint && b[1] > 0 && len(b) >= 2+int(b[1]):
		n := 2 + int(b[1])
		r.HintFor, b = string(b[2:n]), b[n:]
	default:
		return Ref{}, errKey
	}
	if len(b) < scopeBytes {
		return Ref{}, errKey
	}
	r.Partition = ring.Partition(binary.BigEndian.Uint32(b))
	r.Keyspace = binary.BigEndian.Uint64(b[4:])
	r.Key = b[scopeBytes:]
	return r, nil
}

// successor returns the least key above all that start with prefix; prefix starts with a family.
func successor(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// branchKey is where the digest of a branch is.
func branchKey(id TreeID, branch int) []byte {
	b := appendScope([]byte{familyTree}, id.Partition, id.Keyspace)
	return append(b, byte(branch))
}

// decodeBranchKey is the inverse of branchKey, for any bytes.
func decodeBranchKey(b []byte) (id TreeID, branch int, err error) {
	if len(b) != 1+scopeBytes+1 || b[0] != familyTree || b[1+scopeBytes] >= merkle.Branches {
		return id, 0, errKey
	}
	id.Partition = ring.Partition(binary.BigEndian.Uint32(b[1:]))
	id.Keyspace = binary.BigEndian.Uint64(b[5:])
	return id, int(b[1+scopeBytes]), nil
}

// indexScope is the prefix of the entries of a leaf.
func indexScope(id TreeID, p merkle.Position) []byte {
	b := appendScope([]byte{familyIndex}, id.Partition, id.Keyspace)
	return binary.BigEndian.AppendUint16(b, uint16(p))
}

// indexKey is where the entry of a copy is.
func indexKey(id TreeID, key []byte) []byte {
	return append(indexScope(id, merkle.PositionOf(key)), key...)
}
