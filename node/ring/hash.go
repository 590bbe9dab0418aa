package ring

import (
	"crypto/sha256"
	"encoding/binary"
)

// hashBuffer holds a length byte, a keyspace of up to 255 bytes and a key of up
// to 1 KiB, which is hashed without leaving the stack.
const hashBuffer = 1 + 255 + 1024

// Hash is the place of a key on the 64-bit ring: the first 8 bytes, big-endian,
// of SHA-256 over one byte len(keyspace), keyspace and key. The length byte keeps
// ("ab", "c") and ("a", "bc") apart; it holds for keyspaces of up to 255 bytes.
//
// It does not allocate for keys of up to 1 KiB.
func Hash(keyspace string, key []byte) uint64 {
	var buf [hashBuffer]byte
	if 1+len(keyspace)+len(key) > len(buf) {
		return hashLong(keyspace, key)
	}
	buf[0] = byte(len(keyspace))
	n := 1 + copy(buf[1:], keyspace)
	n += copy(buf[n:], key)
	sum := sha256.Sum256(buf[:n])
	return binary.BigEndian.Uint64(sum[:8])
}

func hashLong(keyspace string, key []byte) uint64 {
	h := sha256.New()
	h.Write([]byte{byte(len(keyspace))})
	h.Write([]byte(keyspace))
	h.Write(key)
	var sum [sha256.Size]byte
	return binary.BigEndian.Uint64(h.Sum(sum[:0]))
}
