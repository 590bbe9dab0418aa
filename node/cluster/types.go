package cluster

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"dynamo/node/config"
)

// Errors that callers branch on; all are wrapped with context.
var (
	// ErrUnknown says that a keyspace, its generation or a resolver version does not exist.
	ErrUnknown = errors.New("unknown")
	// ErrImmutable refuses to change what is fixed when a keyspace is created.
	ErrImmutable = errors.New("cannot be changed")
	// ErrInvalid refuses a record that can never be right.
	ErrInvalid = errors.New("invalid")
	// ErrForeign says that metadata is of another cluster or of another number of partitions.
	ErrForeign = errors.New("of another cluster")
	// ErrFormat says that bytes are no metadata, or damaged.
	ErrFormat = errors.New("not cluster metadata")
	// ErrTooLarge says that the metadata would outgrow its bounds.
	ErrTooLarge = errors.New("cluster metadata too large")
	// ErrNotMember refuses a node that is no member.
	ErrNotMember = errors.New("not a member of the cluster")
	// ErrStaleIdentity refuses a node whose disk was seen at a later boot, or in another process at the same boot: its
	// directory is an old copy or a clone, and versions that it minted could name other writes already.
	ErrStaleIdentity = errors.New("stale identity")
	// ErrClosed says that the State was closed.
	ErrClosed = errors.New("cluster state closed")
)

// Status is where a member is in its life.
type Status string

// The statuses of a member.
const (
	Joining Status = "joining" // takes over its partitions
	Up      Status = "up"
	Leaving Status = "leaving" // gives its partitions away
	Removed Status = "removed" // no member any more; the record stays
)

// Member is a node as the cluster knows it.
type Member struct {
	ID   string `json:"id"`
	Zone string `json:"zone"`
	// Weight is the node's share of the partitions relative to the other members.
	Weight int `json:"weight"`
	// HTTP, Peer and Gossip are host:port.
	HTTP   string `json:"http"`
	Peer   string `json:"peer"`
	Gossip string `json:"gossip"`
	Status Status `json:"status"`
	// Joined and Left are positions in the history of the cluster, see ring.Member; Left is 0 for a member.
	Joined uint64 `json:"joined"`
	Left   uint64 `json:"left,omitempty"`
}

// Keyspace is a named set of keys that are stored and merged alike.
type Keyspace struct {
	Name string `json:"name"`
	// Generation counts the creations of a keyspace of this name, from 1.
	Generation uint64 `json:"generation"`
	// N is fixed for a generation.
	N             int               `json:"n"`
	R             int               `json:"r"`
	W             int               `json:"w"`
	Conflict      config.Policy     `json:"conflict"`
	Durability    config.Durability `json:"durability"`
	MaxValueBytes int               `json:"max_value_bytes"`
	Ancestors     bool              `json:"ancestors,omitempty"`
	// Dropped says that this generation and its data are gone.
	Dropped bool `json:"dropped,omitempty"`

	id uint64 // in a View; 0 = not worked out yet
}

// ID names the generation on disk and between nodes.
func (k Keyspace) ID() uint64 {
	if k.id != 0 {
		return k.id
	}
	return KeyspaceID(k.Name, k.Generation)
}

// KeyspaceID names one generation of a keyspace on disk and between nodes, so that a keyspace which was dropped and
// created again never sees the old data. It is the first 8 bytes of SHA-256("keyspace" 0 name 0 generation), big-endian.
func KeyspaceID(name string, generation uint64) uint64 {
	b := make([]byte, 0, 64+len(name))
	b = append(b, "keyspace\x00"...)
	b = append(b, name...)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint64(b, generation)
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:8])
}

// Binding is one entry in the history of a keyspace's resolver. Entries never change; a rollback is a new entry with the
// module of an old one.
type Binding struct {
	Keyspace   string
	Generation uint64
	// Version numbers the entries for people: 1, 2, 3 in the order of (Epoch, SHA256). Two nodes that bind without hearing
	// of each other take the same number, and one of the entries moves up when they meet.
	Version int
	// Epoch orders the values that resolvers made: of two merges of the same siblings the one of the greater epoch stays.
	Epoch  uint64
	SHA256 [32]byte
	// Builtin is the name of a ready-made resolver, "" for an uploaded one.
	Builtin string
	// Size of the module in bytes.
	Size int
	ABI  string
	// Time of the binding in milliseconds since 1970, by the clock of the node that took it.
	Time uint64
	// Lawful says that the module passed the law check when it was bound.
	Lawful bool
}

// Identity is how a node introduces itself: its name, its disk and its process.
type Identity struct {
	// Node is the member's id.
	Node string
	// Disk is the uuid of the node's directory.
	Disk        [16]byte
	Incarnation uint32
	// Boot grows at every boot of the disk.
	Boot uint64
	// Nonce is random for each process.
	Nonce [16]byte
}
