package record

import (
	"encoding/binary"
	"errors"
	"time"

	"dynamo/node/causal"
	"dynamo/node/merkle"
	"dynamo/node/ring"
)

// TreeID names the hash tree of the own copies of one keyspace in one partition. Keyspaces have trees of
// their own because they may have different replicas.
type TreeID struct {
	Partition ring.Partition
	Keyspace  uint64
}

// Tree is the tree that a copy belongs to.
func (r Ref) Tree() TreeID { return TreeID{r.Partition, r.Keyspace} }

// EntryFlags say what a clean-up would have to do with a key.
type EntryFlags uint8

// CrowdedActors is how many actors a context may have before it is worth a look at which of them are
// closed: each costs some 20 bytes in every copy and message.
const CrowdedActors = 8

// Entry is what the index knows of an own copy, without reading it.
type Entry struct {
	Key  []byte
	Hash causal.Hash
	// Changed is when this disk last changed the object, by the node's clock.
	Changed time.Time
	Flags   EntryFlags
}

// Position is the leaf that the key is under.
func (e Entry) Position() merkle.Position { return merkle.PositionOf(e.Key) }

const entryV1 = 1

// AppendEntry appends an index entry.
func AppendEntry(dst []byte, h causal.Hash, changed time.Time, f EntryFlags) []byte {
	dst = append(dst, entryV1, byte(f))
	dst = append(dst, h[:]...)
	return binary.AppendUvarint(dst, uint64(max(changed.UnixMilli(), 0)))
}

var ErrEntry = errors.New("malformed index entry")

// DecodeEntry is the inverse of AppendEntry, for any bytes.
func DecodeEntry(b []byte) (Entry, error) {
	const head = 2 + len(causal.Hash{})
	if len(b) <= head || b[0] != entryV1 {
		return Entry{}, ErrEntry
	}
	ms, n := binary.Uvarint(b[head:])
	if n <= 0 || head+n != len(b) || ms > 1<<52 {
		return Entry{}, ErrEntry
	}
	return Entry{Flags: EntryFlags(b[1]), Hash: causal.Hash(b[2:head]), Changed: time.UnixMilli(int64(ms))}, nil
}

// FlagsOf returns the flags of the entry of an object.
func FlagsOf(o causal.Object) EntryFlags {
	f := EntryDeleted
	for _, v := range o.Versions {
		if !v.Deleted {
			f = 0
		}
	}
	if len(o.Versions) > 1 {
		f |= EntrySiblings
	}
	if len(o.Context) > CrowdedActors {
		f |= EntryCrowded
	}
	return f
}

// The flags of an entry.
const (
	// EntryDeleted: nothing but tombstones is left.
	EntryDeleted EntryFlags = 1 << iota
	// EntrySiblings: there are several versions.
	EntrySiblings
	// EntryCrowded: the context has more than [CrowdedActors] actors.
	EntryCrowded
)

// The index has one entry for each own copy, in the order of the leaves, so that a leaf's keys are found
// without reading the others':
//
//	entry := u8 version=1  u8 flags  16 bytes hash of the object  uvarint changed, in ms since 1970
//
// A branch is stored as a blob of its digest; none for no keys.
