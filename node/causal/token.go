package causal

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Reasons why a context token is refused.
var (
	ErrTokenMalformed = errors.New("malformed context token")
	ErrTokenForged    = errors.New("context token was not issued by this cluster, or was altered")
	ErrTokenScope     = errors.New("context token belongs to another key")
	ErrTokenExpired   = errors.New("context token expired, read again")
)

// tokenV1 is the version byte of a token:
//
//	token := u8 version=1  u64 issuedMs  8 bytes scope  context  dots  16 bytes mac
//	dots  := uvarint count  count * (actor, uvarint from, uvarint to-from)
//	mac   := HMAC-SHA256(cluster key, all before it), cut to 16 bytes
const (
	tokenV1       = 1
	tokenHead     = 1 + 8 + 8
	tokenMACBytes = 16
	// MaxTokenBytes bounds a token in its base64url form.
	MaxTokenBytes = 14 << 10
)

// TokenKey seals and opens context tokens. The MAC is there because a forged context could claim dots
// that are not yet minted, and so make later writes vanish.
type TokenKey struct{ key [32]byte }

// NewTokenKey derives the key of a cluster from its name and secret. Without a secret the key can be
// guessed by whoever knows the name, as every other door of such a cluster is open too.
func NewTokenKey(cluster, secret string) TokenKey {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte("dynamo context token\x00" + cluster))
	var k TokenKey
	m.Sum(k.key[:0])
	return k
}

// Seal returns the opaque token of a basis for one key of one keyspace.
func (k TokenKey) Seal(keyspace string, key []byte, seen Basis, now time.Time) string {
	b := make([]byte, 0, tokenHead+16+len(seen.Context)*32+len(seen.Dots)*40+tokenMACBytes)
	b = append(b, tokenV1)
	b = binary.BigEndian.AppendUint64(b, uint64(now.UnixMilli()))
	scope := tokenScope(keyspace, key)
	b = append(b, scope[:]...)
	b = AppendContext(b, seen.Context)
	b = appendLooseDots(b, seen.Dots)
	mac := k.mac(b)
	return base64.RawURLEncoding.EncodeToString(append(b, mac[:]...))
}

// Open returns the basis of a token that was sealed for the same key no longer than lifetime ago.
// It is total; the error is one of the four above.
func (k TokenKey) Open(token, keyspace string, key []byte, now time.Time, lifetime time.Duration) (Basis, error) {
	if len(token) > MaxTokenBytes {
		return Basis{}, fmt.Errorf("%w: longer than %d bytes", ErrTokenMalformed, MaxTokenBytes)
	}
	// The decoder skips line ends, even the strict one; a token has one spelling.
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) < tokenHead+tokenMACBytes || strings.ContainsAny(token, "\r\n") {
		return Basis{}, ErrTokenMalformed
	}
	if b[0] != tokenV1 {
		return Basis{}, fmt.Errorf("%w: version %d is not known", ErrTokenMalformed, b[0])
	}
	body, sum := b[:len(b)-tokenMACBytes], b[len(b)-tokenMACBytes:]
	if mac := k.mac(body); !hmac.Equal(mac[:], sum) {
		return Basis{}, ErrTokenForged
	}
	if scope := tokenScope(keyspace, key); string(scope[:]) != string(body[9:tokenHead]) {
		return Basis{}, ErrTokenScope
	}
	issued := time.UnixMilli(int64(binary.BigEndian.Uint64(body[1:9])))
	if now.Sub(issued) > lifetime {
		return Basis{}, ErrTokenExpired
	}
	d := decoder{b: body[tokenHead:]}
	seen := Basis{Context: d.context(), Dots: d.looseDots()}
	if d.end() != nil {
		return Basis{}, ErrTokenMalformed
	}
	return seen, nil
}

func (k TokenKey) mac(b []byte) (out [tokenMACBytes]byte) {
	m := hmac.New(sha256.New, k.key[:])
	m.Write(b)
	var sum [sha256.Size]byte
	copy(out[:], m.Sum(sum[:0]))
	return out
}

func tokenScope(keyspace string, key []byte) (out [8]byte) {
	h := sha256.New()
	h.Write([]byte{byte(len(keyspace))})
	h.Write([]byte(keyspace))
	h.Write(key)
	var sum [sha256.Size]byte
	copy(out[:], h.Sum(sum[:0]))
	return out
}
