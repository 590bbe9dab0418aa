package replica

import (
	"context"
	"fmt"

	"dynamo/node/causal"
	"dynamo/node/config"
	"dynamo/node/conflict"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// Write is a client's put or delete, to be minted here.
type Write struct {
	wire.Target
	Policy conflict.Policy
	Seen   causal.Basis
	Value  causal.Value
	// HintFor is the absent primary in whose hint the write goes if this node coordinates as a fallback.
	HintFor    string
	Durability store.Durability
}

// Written is the object right after a write, and what its client has seen by it.
type Written struct {
	Object causal.Object
	Seen   causal.Basis
}

// Write mints the dot of a client's write under the key's lock and returns when it is durable here.
// This is the only place where dots are made.
func (r *Replica) Write(ctx context.Context, w Write) (Written, error) {
	view := r.o.View()
	if view.Dropped(w.Keyspace, w.KeyspaceID) {
		return Written{}, ErrDropped
	}
	if err := r.room(w.Target, len(w.Value.Bytes)); err != nil {
		return Written{}, fmt.Errorf("write: %w", err)
	}
	ref := Ref(view, w.Target, w.HintFor)
	narrow, err := r.narrow(ctx, ref, w)
	if err != nil {
		return Written{}, err
	}
	var out Written
	_, err = r.o.Store.Update(ctx, ref, w.Durability, func(rec store.Record) (store.Record, error) {
		o := narrow.instead(rec.Object)
		seen := w.Seen
		if w.Policy.Conflict == config.PolicyLWW {
			// Blind writes do not pile up: the coordinator has seen what it holds.
			seen = causal.Basis{Context: seen.Context.Join(o.Context)}
			w.Value.TimeMs = after(w.Value.TimeMs, o)
		}
		if r.full(o, w) && !seen.Covers(o) {
			return store.Record{}, fmt.Errorf("%w: %d siblings, %d bytes", ErrTooManySiblings, len(o.Versions), o.ValueBytes())
		}
		own, err := r.actor(rec)
		if err != nil {
			return store.Record{}, err
		}
		o, dot := o.PutOver(seen, own, w.Value)
		if w.Policy.Conflict == config.PolicyLWW {
			o = o.Last()
		}
		out = Written{Object: o, Seen: seen.After(dot, o)}
		return store.Record{Object: o, Own: own}, nil
	})
	if err != nil {
		return Written{}, fmt.Errorf("write: %w", err)
	}
	return out, nil
}

// after returns the time of a write over o: later than what it supersedes, whatever the clock says. Else a replica that holds
// something in between would prefer that to the write, another one the write to what that had lost to, and their join has
// neither.
func after(ms uint64, o causal.Object) uint64 {
	for _, v := range o.Versions {
		ms = max(ms, v.TimeMs+1)
	}
	return ms
}

// actor returns the actor this disk mints with for a record. One that began without an object here, or
// under an earlier incarnation, gets a new one: nobody could tell which of its dots are spent.
func (r *Replica) actor(rec store.Record) (causal.Actor, error) {
	if !rec.Object.IsZero() && r.o.Store.Owns(rec.Own) {
		return rec.Own, nil
	}
	return r.o.Store.NewActor()
}

// narrowed is an object that was collapsed ahead of a write, outside the key's lock because a merge
// may take long.
type narrowed struct {
	from causal.Hash
	to   causal.Object
}

// instead returns the collapsed form if o is still the object it was made from.
func (n *narrowed) instead(o causal.Object) causal.Object {
	if n == nil || o.Hash() != n.from {
		return o
	}
	return n.to
}

// narrow collapses the object if the write would bring it over the cap.
func (r *Replica) narrow(ctx context.Context, ref store.Ref, w Write) (*narrowed, error) {
	if !w.Policy.Lawful || w.Policy.Conflict != config.PolicyResolver {
		return nil, nil
	}
	rec, err := r.o.Store.Get(ref)
	if err != nil {
		return nil, fmt.Errorf("write: %w", err)
	}
	o := rec.Object
	if w.Seen.Covers(o) || (len(o.Versions) < r.o.Limits.MaxSiblings && !r.full(o, w)) {
		return nil, nil
	}
	to, ok := r.o.Settler.Collapse(ctx, w.Policy, w.Key, o)
	if !ok {
		return nil, nil
	}
	return &narrowed{from: o.Hash(), to: to}, nil
}

// full reports whether an object may not grow by another sibling.
func (r *Replica) full(o causal.Object, w Write) bool {
	return len(o.Versions) >= r.o.Limits.SiblingRefusal || (len(o.Versions) > 1 && o.ValueBytes() >= 4*w.Policy.MaxValueBytes)
}
