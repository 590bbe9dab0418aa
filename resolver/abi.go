package resolver

import (
	"bytes"
	"crypto/sha256"
	"slices"

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
	if len(config) == 0 {
		return sha256.Sum256(module)
	}
	return sha256.Sum256(Manifest(module, config))
}

// Manifest is what is hashed for the Identity of a module with a configuration: whoever has it, and checked its
// hash, knows the hashes of both.
func Manifest(module, config []byte) []byte {
	m, c := sha256.Sum256(module), sha256.Sum256(config)
	return slices.Concat([]byte(identityTag), m[:], c[:])
}

// ParseManifest returns the hashes that a manifest names; ok is false if b is none.
func ParseManifest(b []byte) (module, config [32]byte, ok bool) {
	rest, ok := bytes.CutPrefix(b, []byte(identityTag))
	if !ok || len(rest) != len(module)+len(config) {
		return module, config, false
	}
	return [32]byte(rest[:32]), [32]byte(rest[32:]), true
}
