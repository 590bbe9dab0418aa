package causal

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"slices"
)

// MaxLabelBytes bounds the encoded label of a collapsed version. A collapse beyond it is refused.
const MaxLabelBytes = 1024

// ErrLabelTooLong says that a collapse would need a label of more than MaxLabelBytes.
var ErrLabelTooLong = errors.New("causal: the label of the collapsed version would be too long")

// ErrNothingToCollapse says that the object has no versions.
var ErrNothingToCollapse = errors.New("causal: no versions to collapse")

// Value is what a client writes, or what a merge yields.
type Value struct {
	Bytes       []byte
	ContentType string
	// TimeMs is the coordinator's clock at the write, in milliseconds since 1970. It orders nothing
	// but policy lww and what a resolver makes of it.
	TimeMs uint64
	// Deleted marks a tombstone. Its Bytes are empty.
	Deleted bool
}

// Provenance says which resolver version made a collapsed value. The zero value: a client's write.
type Provenance struct {
	// Epoch orders the resolver versions of a keyspace; it is at least 1 for a merged value.
	Epoch uint64
	// SHA256 names the module.
	SHA256 [32]byte
}

// Version is one sibling.
type Version struct {
	Value
	// Label is what the value stands for: one dot for a client's write, several for a collapsed
	// value. It never changes.
	Label Dots
	// Live is the subset of Label that nothing has superseded. A version goes when it is empty.
	Live Dots
	// Resolver made this version, if it is a collapsed one.
	Resolver Provenance
}

// Object is all that a replica holds for one key. Versions are sorted by label. The zero value is a
// key never written.
type Object struct {
	Context  Context
	Versions []Version
}

// IsZero reports whether nothing is known of the key, not even a tombstone.
func (o Object) IsZero() bool { return len(o.Context) == 0 && len(o.Versions) == 0 }

// Live returns the dots that nothing has superseded, over all versions.
func (o Object) Live() Dots {
	if len(o.Versions) == 1 {
		return o.Versions[0].Live
	}
	var all Dots
	for _, v := range o.Versions {
		all = all.Union(v.Live)
	}
	return all
}

// Put is a client's write at a replica: what seen covers is superseded, and v stands beside whatever
// it does not cover, under a new dot of actor own. An empty seen is a blind write, concurrent with all
// that is there. Axiom 1 is the caller's: own belongs to this disk and this object alone.
func (o Object) Put(seen Context, own Actor, v Value) (Object, Dot) {
	return o.PutOver(Basis{Context: seen}, own, v)
}

// PutOver is Put for a client that has also seen single dots. Of these only the ones in o.Context are
// superseded: a context must not claim a dot whose predecessors it has not seen, so a dot that has not
// arrived here yet stays a sibling when it does. Learn it first (read and join) to supersede it.
func (o Object) PutOver(seen Basis, own Actor, v Value) (Object, Dot) {
	ctx := o.Context.Join(seen.Context)
	d := Dot{own, ctx.Counter(own) + 1}
	kept := make([]Version, 0, len(o.Versions)+1)
	for _, w := range o.Versions {
		if w.Live = w.Live.Unseen(seen.Context).minus(seen.Dots); !w.Live.Empty() {
			kept = append(kept, w)
		}
	}
	dots := DotsOf(d)
	kept = append(kept, Version{Value: v, Label: dots, Live: dots})
	slices.SortFunc(kept, compareLabels)
	return Object{Context: ctx.With(d), Versions: kept}, d
}

// Basis is what a client has seen: a context, and dots beyond it.
//
// A read is answered with all of its siblings, so its basis is the whole context. A write without
// return is not: its answer must not claim siblings that the writer never saw, and a version vector
// cannot name the second write of an actor without the first. So the write's own dot stands apart
// until nothing unseen is left before it.
type Basis struct {
	Context Context
	Dots    Dots
}

// IsZero reports whether nothing has been seen: a blind write.
func (b Basis) IsZero() bool { return len(b.Context) == 0 && len(b.Dots) == 0 }

// Known reports whether every single dot of b has arrived in o.
func (o Object) Known(b Basis) bool { return b.Dots.SeenBy(o.Context) }

// Covers reports whether b has seen every live dot of o.
func (b Basis) Covers(o Object) bool {
	for _, v := range o.Versions {
		if !v.Live.Unseen(b.Context).minus(b.Dots).Empty() {
			return false
		}
	}
	return true
}

// After is the basis of a client that had seen b and then wrote d, which made o. It claims nothing
// beyond that: d joins the context only as the next dot of its actor. Dots seen singly are dropped
// once o has superseded them, for whoever knows d then knows that too; those that had not arrived
// where d was minted go on in the token.
func (b Basis) After(d Dot, o Object) Basis {
	pending := b.Dots.Unseen(o.Context)
	if b.Context.Counter(d.Actor)+1 == d.Counter {
		return Basis{Context: b.Context.With(d), Dots: pending}
	}
	return Basis{Context: b.Context, Dots: pending.Union(DotsOf(d))}
}

// Join is the least object that has seen what either has (syntactic reconciliation). It is
// commutative, associative and idempotent, so replicas may exchange objects in any order, any
// number of times.
//
// A dot is live afterwards if it is live in both, or live in one and not in the other's context. Of
// two versions with one label stays that of the higher resolver version, then the larger bytes: that
// is what makes a resolver which is not deterministic converge all the same. A version whose label is
// part of another's goes: the wider one was made from it.
func (o Object) Join(p Object) Object {
	switch {
	case o.IsZero():
		return p
	case p.IsZero():
		return o
	}
	ol, pl := o.Live(), p.Live()
	live := ol.Intersect(pl).Union(ol.Unseen(p.Context)).Union(pl.Unseen(o.Context))
	all := make([]Version, 0, len(o.Versions)+len(p.Versions))
	for _, v := range o.Versions {
		all = appendLive(all, v, live)
	}
	for _, v := range p.Versions {
		all = appendLive(all, v, live)
	}
	return Object{Context: o.Context.Join(p.Context), Versions: widest(all)}
}

func appendLive(dst []Version, v Version, live Dots) []Version {
	if v.Live = v.Live.Intersect(live); v.Live.Empty() {
		return dst
	}
	return append(dst, v)
}

// widest sorts versions by label, keeps one of each label and drops those whose label is part of
// another's.
func widest(vs []Version) []Version {
	slices.SortFunc(vs, func(a, b Version) int {
		if c := compareLabels(a, b); c != 0 {
			return c
		}
		return -compareStrength(a, b)
	})
	out := vs[:0:len(vs)]
	for _, v := range vs {
		if n := len(out); n > 0 && out[n-1].Label.Compare(v.Label) == 0 {
			out[n-1].Live = out[n-1].Live.Union(v.Live)
			continue
		}
		out = append(out, v)
	}
	if len(out) < 2 {
		return out
	}
	kept := make([]Version, 0, len(out))
	for _, v := range out {
		part := slices.ContainsFunc(out, func(w Version) bool {
			return v.Label.Compare(w.Label) != 0 && v.Label.SubsetOf(w.Label)
		})
		if !part {
			kept = append(kept, v)
		}
	}
	return kept
}

func compareLabels(a, b Version) int { return a.Label.Compare(b.Label) }

// compareStrength decides between two versions of one label: resolver version, then bytes.
func compareStrength(a, b Version) int {
	return cmp.Or(
		cmp.Compare(a.Resolver.Epoch, b.Resolver.Epoch),
		bytes.Compare(a.Resolver.SHA256[:], b.Resolver.SHA256[:]),
		a.Value.Compare(b.Value),
	)
}

// Compare orders values by bytes, then content type, time and tombstone.
func (v Value) Compare(w Value) int {
	return cmp.Or(
		bytes.Compare(v.Bytes, w.Bytes),
		cmp.Compare(v.ContentType, w.ContentType),
		cmp.Compare(v.TimeMs, w.TimeMs),
		compareBools(v.Deleted, w.Deleted),
	)
}

func compareBools(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// Collapse replaces all versions by one that stands for all of them: value v, made by the resolver
// version by. It mints no dot, so replicas that collapse independently agree. The caller sees to it
// that v is the lawful merge of the siblings.
func (o Object) Collapse(v Value, by Provenance) (Object, error) {
	var label, live Dots
	for _, w := range o.Versions {
		label, live = label.Union(w.Label), live.Union(w.Live)
	}
	if label.Empty() {
		return Object{}, ErrNothingToCollapse
	}
	if len(appendLooseDots(nil, label)) > MaxLabelBytes {
		return Object{}, ErrLabelTooLong
	}
	return Object{
		Context:  o.Context,
		Versions: []Version{{Value: v, Label: label, Live: live, Resolver: by}},
	}, nil
}

// Last returns o with no more than one version: that of the largest (time, bytes). It is the native
// resolver of policy lww; a choice among existing versions needs no dot, so any replica may make it
// at any time.
func (o Object) Last() Object {
	if len(o.Versions) < 2 {
		return o
	}
	last := slices.MaxFunc(o.Versions, func(a, b Version) int {
		return cmp.Or(cmp.Compare(a.TimeMs, b.TimeMs), compareStrength(a, b), compareLabels(a, b))
	})
	return Object{Context: o.Context, Versions: []Version{last}}
}

// Equal reports whether two objects are the same to the byte.
func (o Object) Equal(p Object) bool { return o.Hash() == p.Hash() }

// Hash names the content of an object, context included.
type Hash [16]byte

// Hash returns the first 16 bytes of the SHA-256 of the canonical encoding; zero for the zero object.
func (o Object) Hash() Hash {
	if o.IsZero() {
		return Hash{}
	}
	return HashOf(AppendObject(nil, o))
}

// HashOf is Hash for an object that is encoded already.
func HashOf(encoded []byte) Hash {
	sum := sha256.Sum256(encoded)
	return Hash(sum[:16])
}

// ValueBytes is the size of all values together.
func (o Object) ValueBytes() int {
	n := 0
	for _, v := range o.Versions {
		n += len(v.Bytes)
	}
	return n
}

// Prune returns o without the actors in its context that no version is labelled with and that are not
// among open. It is right only where no replica, hint, message or token holds anything of those actors
// that o has not seen, and none of them writes again: see the settle round.
func (o Object) Prune(open []Actor) Object {
	needed := func(a Actor) bool {
		return slices.Contains(open, a) || slices.ContainsFunc(o.Versions, func(v Version) bool {
			return slices.ContainsFunc(v.Label, func(r Range) bool { return r.Actor == a })
		})
	}
	kept := make(Context, 0, len(o.Context))
	for _, s := range o.Context {
		if needed(s.Actor) {
			kept = append(kept, s)
		}
	}
	return Object{Context: kept, Versions: o.Versions}
}
