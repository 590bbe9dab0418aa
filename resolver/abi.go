package resolver

import (
	"crypto/sha256"

	"dynamo/resolver/frame"
)

// What a merge is asked and what it answers: see package frame.
type (
	// Request is one merge: siblings in canonical order, the ancestor, if any, first.
	Request = frame.Request
	// Sibling is one of the concurrent versions of a key.
	Sibling = frame.Sibling
	// Response is a module's answer.
	Response = frame.Response
	// Status is what a module decided.
	Status = frame.Status
)

// The statuses; the command form has no StatusSelect.
const (
	StatusValue   = frame.StatusValue
	StatusDeleted = frame.StatusDeleted
	StatusKeep    = frame.StatusKeep
	StatusError   = frame.StatusError
	StatusSelect  = frame.StatusSelect
)

// identityTag opens what is hashed for a module with a configuration, so that it is no module's hash.
const identityTag = "dynamo.resolver.config.v1\x00"

// Identity names a version of a resolver: the SHA-256 of the module, or, if there is a configuration, of
// the tag "dynamo.resolver.config.v1" with a zero byte, the module's SHA-256 and the configuration's.
func Identity(module, config []byte) [32]byte {
	sum := sha256.Sum256(module)
	if len(config) == 0 {
		return sum
	}
	c := sha256.Sum256(config)
	return sha256.Sum256(append(append([]byte(identityTag), sum[:]...), c[:]...))
}
