// Package merkle is the hash tree by which two replicas find what differs between their copies of a
// partition without sending them (Dynamo paper, section 4.7).
//
// A tree has three levels of fixed shape: the root, 64 branches, and 64 leaves below each. A key hangs
// under the leaf that its hash says, so that both sides put it in the same place whatever else they
// hold. A digest is a sum over the keys below it: a change subtracts the old and adds the new, at a
// cost that does not depend on how many keys there are, and in any order.
package merkle

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"dynamo/node/causal"
)

// The shape of every tree. It is part of the protocol: both sides must have the same.
const (
	// Branches is the number of children of the root, Leaves that of a branch.
	Branches = 64
	Leaves   = 64
	// Positions is the number of leaves of a tree.
	Positions = Branches * Leaves
)

// Position is the number of a leaf, below [Positions].
type Position uint16

// PositionOf returns the leaf of a key. It must not agree with the hash that chooses the partition,
// or all keys of a partition would share a few leaves.
func PositionOf(key []byte) Position {
	const (
		offset = 14695981039346656037
		prime  = 1099511628211
	)
	h := uint64(offset)
	for _, c := range key {
		h = (h ^ uint64(c)) * prime
	}
	// FNV's low bits are weak: finish as splitmix64 does.
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	h ^= h >> 31
	return Position(h % Positions)
}

// Branch returns the branch above a leaf.
func (p Position) Branch() int { return int(p) / Leaves }

// DigestBytes is the size of an encoded digest.
const DigestBytes = 16 + 8

// Digest sums up the keys below one place of a tree: how many there are, and the exclusive or of their
// items. The zero value is no keys. Two equal digests mean equal keys with equal objects, but for a
// chance of 2^-128, or somebody who writes values to that end into his own keyspace.
type Digest struct {
	Sum   [16]byte
	Count uint64
}

// Item is the digest of one key with the object of the given hash; no key for the zero hash.
func Item(key []byte, object causal.Hash) Digest {
	if object == (causal.Hash{}) {
		return Digest{}
	}
	h := sha256.New()
	h.Write(object[:])
	h.Write(key)
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return Digest{Sum: [16]byte(sum[:16]), Count: 1}
}

// Add returns the digest of the keys of both, which have none in common.
func (d Digest) Add(e Digest) Digest { return d.mix(e, d.Count+e.Count) }

// Sub returns the digest of the keys of d without those of e.
func (d Digest) Sub(e Digest) Digest { return d.mix(e, d.Count-e.Count) }

func (d Digest) mix(e Digest, count uint64) Digest {
	a, b := binary.LittleEndian.Uint64(d.Sum[:8]), binary.LittleEndian.Uint64(d.Sum[8:])
	c, f := binary.LittleEndian.Uint64(e.Sum[:8]), binary.LittleEndian.Uint64(e.Sum[8:])
	binary.LittleEndian.PutUint64(d.Sum[:8], a^c)
	binary.LittleEndian.PutUint64(d.Sum[8:], b^f)
	d.Count = count
	return d
}

// IsZero reports whether there are no keys.
func (d Digest) IsZero() bool { return d == Digest{} }

// AppendTo appends the 24 bytes of d: the sum, then the count, big-endian.
func (d Digest) AppendTo(dst []byte) []byte {
	return binary.BigEndian.AppendUint64(append(dst, d.Sum[:]...), d.Count)
}

// ErrDigest says that bytes are no digest.
var ErrDigest = errors.New("merkle: a digest has 24 bytes")

// DecodeDigest is the inverse of AppendTo, for any bytes.
func DecodeDigest(b []byte) (Digest, error) {
	if len(b) != DigestBytes {
		return Digest{}, ErrDigest
	}
	return Digest{Sum: [16]byte(b[:16]), Count: binary.BigEndian.Uint64(b[16:])}, nil
}

// Tree is the upper two levels of a tree; leaves are computed from the keys when they are asked for.
// The zero value has no keys. It is a plain value without locks.
type Tree struct {
	root     Digest
	branches [Branches]Digest
}

// Root is the digest of all keys.
func (t *Tree) Root() Digest { return t.root }

// Branch is the digest of the keys below a branch.
func (t *Tree) Branch(b int) Digest { return t.branches[b] }

// SetBranch replaces the digest of a branch.
func (t *Tree) SetBranch(b int, d Digest) {
	t.root = t.root.Sub(t.branches[b]).Add(d)
	t.branches[b] = d
}

// Differ returns the places at which two lists of digests differ.
func Differ(a, b []Digest) []int {
	var out []int
	for i := range max(len(a), len(b)) {
		var x, y Digest
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			out = append(out, i)
		}
	}
	return out
}
