package node

import (
	"encoding/hex"
	"fmt"
)

// metaVerdict and a hash in hex is the name under which the disk remembers how the trial of a module went: a
// version byte, and the verdict; nothing if it is to be forgotten.
const (
	metaVerdict    = "module-verdict/"
	verdictVersion = 1
)

// metaStore is the part of the disk that keeps small values by name.
type metaStore interface {
	Meta(name string) ([]byte, bool, error)
	PutMeta(name string, value []byte) error
}

// verdicts implements resolver.Verdicts on this node's disk.
type verdicts struct{ store metaStore }

// metaQuarantine and a keyspace is the name under which the disk remembers which version of its resolver is in
// quarantine on this node; nothing for none.
const metaQuarantine = "quarantine/"

// quarantines implements conflict.Keeper on this node's disk.
type quarantines struct{ store metaStore }

// LoadQuarantine implements conflict.Keeper.
func (q quarantines) LoadQuarantine(keyspace string) ([]byte, bool, error) {
	return q.store.Meta(metaQuarantine + keyspace)
}

// SaveQuarantine implements conflict.Keeper.
func (q quarantines) SaveQuarantine(keyspace string, b []byte) error {
	return q.store.PutMeta(metaQuarantine+keyspace, b)
}

// Get returns a verdict.
func (v verdicts) Get(key [32]byte) (verdict string, ok bool, err error) {
	b, ok, err := v.store.Meta(metaVerdict + hex.EncodeToString(key[:]))
	switch {
	case err != nil:
		return "", false, fmt.Errorf("verdict on a module: %w", err)
	case !ok || len(b) == 0:
		return "", false, nil
	case b[0] != verdictVersion:
		return "", false, fmt.Errorf("verdict on a module: version %d, want %d", b[0], verdictVersion)
	}
	return string(b[1:]), true, nil
}

// Put remembers a verdict, or forgets it if it is empty.
func (v verdicts) Put(key [32]byte, verdict string) error {
	name := metaVerdict + hex.EncodeToString(key[:])
	if verdict == "" {
		if _, ok, err := v.Get(key); err == nil && !ok {
			return nil
		}
		return v.store.PutMeta(name, []byte{})
	}
	return v.store.PutMeta(name, append([]byte{verdictVersion}, verdict...))
}
