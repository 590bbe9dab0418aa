package record

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
	FamilyOwn    = 'o'
	FamilyHint   = 'h'
	FamilyQueue  = 'q'
	FamilyMeta   = 'm'
	FamilyModule = 'w'
	FamilyIndex  = 'i'
	FamilyTree   = 't'
)

// MaxNodeBytes bounds the node id of a hint.
const MaxNodeBytes = 255

// ScopeBytes is the encoded size of a partition and a keyspace.
const ScopeBytes = 4 + 8

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

var ErrNodeID = errors.New("store: node id of a hint is longer than 255 bytes")

// Encode returns the database key.
func (r Ref) Encode() ([]byte, error) {
	if len(r.HintFor) > MaxNodeBytes {
		return nil, ErrNodeID
	}
	b := make([]byte, 0, 2+len(r.HintFor)+ScopeBytes+len(r.Key))
	if r.HintFor == "" {
		b = append(b, FamilyOwn)
	} else {
		b = AppendHintNode(b, r.HintFor)
	}
	return append(AppendScope(b, r.Partition, r.Keyspace), r.Key...), nil
}

// AppendScope appends what all keys of a keyspace in a partition have in common.
func AppendScope(b []byte, p ring.Partition, keyspace uint64) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(p))
	return binary.BigEndian.AppendUint64(b, keyspace)
}

// AppendHintNode appends what the keys of all hints for a node begin with.
func AppendHintNode(b []byte, node string) []byte {
	return append(append(b, FamilyHint, byte(len(node))), node...)
}

var ErrKey = errors.New("store: malformed database key")

// DecodeRef is the inverse of encode, for any bytes. Key aliases b.
func DecodeRef(b []byte) (Ref, error) {
	var r Ref
	switch {
	case len(b) > 0 && b[0] == FamilyOwn:
		b = b[1:]
	case len(b) > 1 && b[0] == FamilyHint && b[1] > 0 && len(b) >= 2+int(b[1]):
		n := 2 + int(b[1])
		r.HintFor, b = string(b[2:n]), b[n:]
	default:
		return Ref{}, ErrKey
	}
	if len(b) < ScopeBytes {
		return Ref{}, ErrKey
	}
	r.Partition = ring.Partition(binary.BigEndian.Uint32(b))
	r.Keyspace = binary.BigEndian.Uint64(b[4:])
	r.Key = b[ScopeBytes:]
	return r, nil
}

// Successor returns the least key above all that start with prefix; prefix starts with a family.
func Successor(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// BranchKey is where the digest of a branch is.
func BranchKey(id TreeID, branch int) []byte {
	b := AppendScope([]byte{FamilyTree}, id.Partition, id.Keyspace)
	return append(b, byte(branch))
}

// DecodeBranchKey is the inverse of BranchKey, for any bytes.
func DecodeBranchKey(b []byte) (id TreeID, branch int, err error) {
	if len(b) != 1+ScopeBytes+1 || b[0] != FamilyTree || b[1+ScopeBytes] >= merkle.Branches {
		return id, 0, ErrKey
	}
	id.Partition = ring.Partition(binary.BigEndian.Uint32(b[1:]))
	id.Keyspace = binary.BigEndian.Uint64(b[5:])
	return id, int(b[1+ScopeBytes]), nil
}

// IndexScope is the prefix of the entries of a leaf.
func IndexScope(id TreeID, p merkle.Position) []byte {
	b := AppendScope([]byte{FamilyIndex}, id.Partition, id.Keyspace)
	return binary.BigEndian.AppendUint16(b, uint16(p))
}

// IndexKey is where the entry of a copy is.
func IndexKey(id TreeID, key []byte) []byte {
	return append(IndexScope(id, merkle.PositionOf(key)), key...)
}
