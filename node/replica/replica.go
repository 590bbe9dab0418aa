// Package replica is this node as a holder of copies: it reads, mints, joins and lists what the disk
// has, for its own coordinator and for those of other nodes.
package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"dynamo/node/causal"
	"dynamo/node/cluster"
	"dynamo/node/config"
	"dynamo/node/conflict"
	"dynamo/node/ring"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// Store is what a replica needs of a disk.
type Store interface {
	Get(ref store.Ref) (store.Record, error)
	Update(ctx context.Context, ref store.Ref, d store.Durability, fn func(store.Record) (store.Record, error)) (store.Record, error)
	Scan(p ring.Partition, keyspace uint64, prefix, after []byte, fn func(key []byte, r store.Record) bool) error
	Owns(a causal.Actor) bool
	NewActor() (causal.Actor, error)
	ScanHints(forNode string, fn func(store.Hint) bool) error
	Flush(ctx context.Context) error
}

// Settler collapses an object that grew too wide.
type Settler interface {
	Collapse(ctx context.Context, p conflict.Policy, key []byte, o causal.Object) (causal.Object, bool)
}

// Options configure a Replica. All fields are required but Room.
type Options struct {
	// Self is this node's id.
	Self    string
	Store   Store
	Trees   Trees
	Flights *Flights
	Settler Settler
	View    func() *cluster.View
	Limits  config.Limits
	// Unsure is optional, see [Replica.Unsure].
	Unsure func() bool
	Now    func() time.Time
	Logger *slog.Logger
	// Room says whether the disk takes a write of so many bytes now; nil: always.
	Room func(bytes int) error
}

// Replica is safe for concurrent use.
type Replica struct {
	o     Options
	fence fence
}

// New returns the replica of one disk.
func New(o Options) *Replica { return &Replica{o: o} }

// Errors of a replica.
var (
	// ErrDropped says that the keyspace generation which a message names was dropped.
	ErrDropped = errors.New("replica: the keyspace was dropped")
	// ErrTooManySiblings refuses a write that would add to siblings which cannot be collapsed.
	ErrTooManySiblings = errors.New("replica: too many siblings")
)

// Unsure reports whether this disk may lack what it acknowledged once: the database can lose the end of its
// log without an error, so after an unclean stop a node compares itself with the other replicas before
// its silence counts.
func (r *Replica) Unsure() bool { return r.o.Unsure != nil && r.o.Unsure() }

// Ref locates a key on the disk; hintFor is empty for this node's own copy.
func Ref(v *cluster.View, t wire.Target, hintFor string) store.Ref {
	return store.Ref{
		Partition: v.Ring.Partition(ring.Hash(t.Keyspace, t.Key)),
		Keyspace:  t.KeyspaceID,
		Key:       t.Key,
		HintFor:   hintFor,
	}
}

// Read returns this node's copy of a key. With hints it also joins what the node keeps of the key for
// primaries that were away: a fallback answers for them while they are. That nothing is left of a keyspace which was dropped
// is no answer: a node that has not heard of it yet would take it for one, and show what it holds itself.
func (r *Replica) Read(t wire.Target, hints bool) (causal.Object, error) {
	v := r.o.View()
	if v.Dropped(t.Keyspace, t.KeyspaceID) {
		return causal.Object{}, ErrDropped
	}
	ref := Ref(v, t, "")
	rec, err := r.o.Store.Get(ref)
	if err != nil {
		return causal.Object{}, fmt.Errorf("read own copy: %w", err)
	}
	o := rec.Object
	if !hints {
		return o, nil
	}
	for _, id := range v.Ring.PreferenceList(ref.Partition) {
		ref.HintFor = id
		h, err := r.o.Store.Get(ref)
		if err != nil {
			return causal.Object{}, fmt.Errorf("read hint for %s: %w", id, err)
		}
		o = o.Join(h.Object)
	}
	return o, nil
}

// Apply joins an object into this node's copy, or into the hint it keeps for another node. It returns
// when the result is durable.
func (r *Replica) Apply(ctx context.Context, t wire.Target, o causal.Object, hintFor string, d store.Durability) error {
	v := r.o.View()
	if v.Dropped(t.Keyspace, t.KeyspaceID) {
		return ErrDropped
	}
	if err := r.room(t, o.ValueBytes()); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	last := r.lww(v, t)
	_, err := r.o.Store.Update(ctx, Ref(v, t, hintFor), d, func(rec store.Record) (store.Record, error) {
		rec.Object = rec.Object.Join(o)
		if last {
			rec.Object = rec.Object.Last()
		}
		return rec, nil
	})
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	return nil
}

// recordBytes is about what a record takes besides its key and its values.
const recordBytes = 512

// room refuses a write that a full disk may not take. Removing hints, reaping and metadata do not ask:
// they free space, or the node cannot do without them.
func (r *Replica) room(t wire.Target, valueBytes int) error {
	if r.o.Room == nil {
		return nil
	}
	return r.o.Room(len(t.Key) + valueBytes + recordBytes)
}

// lww reports whether the generation of the keyspace that t names has policy lww.
func (r *Replica) lww(v *cluster.View, t wire.Target) bool {
	ks, ok := v.Keyspace(t.Keyspace)
	return ok && ks.ID() == t.KeyspaceID && ks.Conflict == config.PolicyLWW
}

// Copy is what this node keeps of a key: its own copy, or a hint.
type Copy struct {
	HintFor string
	Object  causal.Object
}

// Inspect returns every copy of a key on this node, own copy first, for explain.
func (r *Replica) Inspect(t wire.Target) ([]Copy, error) {
	v := r.o.View()
	ref := Ref(v, t, "")
	var out []Copy
	for _, id := range append([]string{""}, v.Ring.PreferenceList(ref.Partition)...) {
		ref.HintFor = id
		rec, err := r.o.Store.Get(ref)
		if err != nil {
			return nil, fmt.Errorf("inspect: %w", err)
		}
		if id == "" || !rec.Object.IsZero() {
			out = append(out, Copy{HintFor: id, Object: rec.Object})
		}
	}
	return out, nil
}

// PolicyOf is how the siblings of a keyspace are settled, by the metadata of one moment.
func PolicyOf(v *cluster.View, ks cluster.Keyspace) conflict.Policy {
	p := conflict.Policy{Keyspace: ks.Name, Conflict: ks.Conflict, MaxValueBytes: ks.MaxValueBytes}
	if b, ok := v.Active(ks.Name); ok && ks.Conflict == config.PolicyResolver {
		p.Module, p.Epoch, p.Lawful, p.Releases = b.SHA256, b.Epoch, b.Lawful, v.Releases(ks.Name)
	}
	return p
}
