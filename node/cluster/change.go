package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
)

// change is one change of the metadata in the making.
type change struct {
	self string
	old  *View
	next records // nil until the first put
}

// put writes a record as the successor of the one seen, unless it says the same already.
func (c *change) put(key string, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("record %s: %w", key, err)
	}
	was, ok := c.old.doc.records[key]
	if ok && bytes.Equal(was.body, b) {
		return nil
	}
	c.write(key, record{version: was.version + 1, writer: c.self, body: b})
	return nil
}

func (c *change) write(key string, r record) {
	if c.next == nil {
		c.next = maps.Clone(c.old.doc.records)
	}
	c.next[key] = r
}

// apply makes one change: f gets the latest view and says what is to be written. When apply returns, the change is on
// disk and visible here.
func (s *State) apply(f func(c *change) error) (*View, error) {
	s.changes.Lock()
	defer s.changes.Unlock()
	c := &change{self: s.o.Self, old: s.View()}
	if err := f(c); err != nil {
		return nil, err
	}
	if c.next == nil {
		return c.old, nil
	}
	return s.commit(c.next)
}

// applyEverywhere is apply, and gives the other members a moment to hear of it.
func (s *State) applyEverywhere(ctx context.Context, f func(c *change) error) (*View, error) {
	v, err := s.apply(f)
	if err != nil {
		return nil, err
	}
	s.spread(ctx)
	return v, nil
}

// PutKeyspace creates a keyspace or changes one; k is the full record, what is to stay included. A name that was dropped
// is created again as its next generation. If k.Generation is not 0, that generation must be the one in being. The
// change is durable on this node when PutKeyspace returns, and members that can be reached have normally heard of it; the
// others will. Errors wrap ErrImmutable if N differs, ErrUnknown if the generation was dropped meanwhile, ErrInvalid.
func (s *State) PutKeyspace(ctx context.Context, k Keyspace) (*View, error) {
	v, err := s.applyEverywhere(ctx, func(c *change) error {
		was, known := c.old.keyspaces[k.Name]
		wanted := k.Generation
		switch {
		case !known:
			k.Generation = 1
		case was.Dropped:
			k.Generation = was.Generation + 1
		default:
			k.Generation = was.Generation
		}
		if wanted != 0 && (wanted != k.Generation || !known || was.Dropped) {
			return fmt.Errorf("generation %d of keyspace %s was dropped: %w", wanted, k.Name, ErrUnknown)
		}
		k.Dropped = false
		if err := k.check(); err != nil {
			return err
		}
		if known && !was.Dropped && was.N != k.N {
			return fmt.Errorf("keyspace %s: N is %d and %w", k.Name, was.N, ErrImmutable)
		}
		return c.put(keyspaceKey(k.Name), k)
	})
	if err != nil {
		return nil, fmt.Errorf("put keyspace: %w", err)
	}
	return v, nil
}

// DropKeyspace drops a keyspace; nodes remove its data when they hear of it. The error wraps ErrUnknown if there is none.
func (s *State) DropKeyspace(ctx context.Context, name string) error {
	_, err := s.applyEverywhere(ctx, func(c *change) error {
		k, ok := c.old.Keyspace(name)
		if !ok {
			return fmt.Errorf("keyspace %.64q: %w", name, ErrUnknown)
		}
		k.Dropped = true
		return c.put(keyspaceKey(name), k)
	})
	if err != nil {
		return fmt.Errorf("drop keyspace: %w", err)
	}
	return nil
}

// Bind adds a resolver to the history of its keyspace and makes it the active one. Generation (unless 0, then the present
// one is meant), Keyspace, SHA256, Builtin, Size, ABI and Lawful are the caller's; Version, Epoch and Time are assigned.
// Binding what is active already changes nothing. Errors wrap ErrUnknown.
func (s *State) Bind(ctx context.Context, b Binding) (Binding, error) {
	v, err := s.applyEverywhere(ctx, func(c *change) error {
		k, ok := c.old.Keyspace(b.Keyspace)
		if !ok || (b.Generation != 0 && b.Generation != k.Generation) {
			return fmt.Errorf("generation %d of keyspace %.64q: %w", b.Generation, b.Keyspace, ErrUnknown)
		}
		b.Generation = k.Generation
		if now, ok := c.old.Active(b.Keyspace); ok {
			b.Version, b.Epoch, b.Time = now.Version, now.Epoch, now.Time
			if b == now {
				return nil
			}
		}
		return s.bind(c, &b)
	})
	if err != nil {
		return Binding{}, fmt.Errorf("bind resolver: %w", err)
	}
	for _, known := range v.Bindings(b.Keyspace) {
		if known.Epoch == b.Epoch && known.SHA256 == b.SHA256 {
			return known, nil
		}
	}
	return Binding{}, fmt.Errorf("bind resolver: keyspace %s: %w", b.Keyspace, ErrInvalid)
}

// bind writes b as the next entry of the history and activates it.
func (s *State) bind(c *change, b *Binding) error {
	b.Epoch = c.old.epochs[b.Keyspace] + 1
	b.Time = uint64(max(0, s.o.Now().UnixMilli()))
	if err := c.put(bindingKey(*b), b.body()); err != nil {
		return err
	}
	return c.put(activeKey(b.Keyspace), activation{Keyspace: b.Keyspace, Generation: b.Generation, Epoch: b.Epoch, SHA256: b.SHA256})
}

// Activate goes back to the module of a version in the keyspace's history. That becomes a new version with a new epoch:
// of values which resolvers have merged the greater epoch stays, so the module that rules must have the greatest. Going
// back to the active version changes nothing. Errors wrap ErrUnknown.
func (s *State) Activate(ctx context.Context, keyspace string, version int) error {
	_, err := s.applyEverywhere(ctx, func(c *change) error {
		history := c.old.bindings[keyspace]
		if version < 1 || version > len(history) {
			return fmt.Errorf("version %d of the resolver of keyspace %.64q: %w", version, keyspace, ErrUnknown)
		}
		b := history[version-1]
		if now, ok := c.old.Active(keyspace); ok && now == b {
			return nil
		}
		return s.bind(c, &b)
	})
	if err != nil {
		return fmt.Errorf("activate resolver: %w", err)
	}
	return nil
}

// Unbind leaves a keyspace without a resolver; the history stays. Errors wrap ErrUnknown if there is no such keyspace.
func (s *State) Unbind(ctx context.Context, keyspace string) error {
	_, err := s.applyEverywhere(ctx, func(c *change) error {
		k, ok := c.old.Keyspace(keyspace)
		if !ok {
			return fmt.Errorf("keyspace %.64q: %w", keyspace, ErrUnknown)
		}
		if _, bound := c.old.Active(keyspace); !bound {
			return nil
		}
		return c.put(activeKey(keyspace), activation{Keyspace: keyspace, Generation: k.Generation, None: true})
	})
	if err != nil {
		return fmt.Errorf("unbind resolver: %w", err)
	}
	return nil
}

// Shadow runs a candidate beside the active binding of a keyspace, in the place of the one that ran before, if any; the
// zero hash ends it. Errors wrap ErrUnknown if there is no such keyspace.
func (s *State) Shadow(ctx context.Context, keyspace string, candidate [32]byte) error {
	_, err := s.applyEverywhere(ctx, func(c *change) error {
		k, ok := c.old.Keyspace(keyspace)
		if !ok {
			return fmt.Errorf("keyspace %.64q: %w", keyspace, ErrUnknown)
		}
		if now, runs := c.old.Shadow(keyspace); now == candidate && runs == (candidate != [32]byte{}) {
			return nil
		}
		return c.put(shadowKey(keyspace), shadowing{Keyspace: keyspace, Generation: k.Generation, None: candidate == [32]byte{}, SHA256: candidate})
	})
	if err != nil {
		return fmt.Errorf("shadow resolver: %w", err)
	}
	return nil
}

// Release says that the active binding of a keyspace is to be called again by all members that have it in quarantine.
// Errors wrap ErrUnknown if there is none.
func (s *State) Release(ctx context.Context, keyspace string) error {
	_, err := s.applyEverywhere(ctx, func(c *change) error {
		b, ok := c.old.Active(keyspace)
		if !ok {
			return fmt.Errorf("active resolver of keyspace %.64q: %w", keyspace, ErrUnknown)
		}
		return c.put(releaseKey(keyspace), release{
			Keyspace: keyspace, Generation: b.Generation, Epoch: b.Epoch, SHA256: b.SHA256, Count: c.old.Releases(keyspace) + 1,
		})
	})
	if err != nil {
		return fmt.Errorf("release resolver: %w", err)
	}
	return nil
}

// Admit decides whether a node may speak as the member that it says it is, and remembers its boot if so. It refuses
// strangers (ErrNotMember), and with ErrStaleIdentity a disk whose later boot is known to anybody this node has heard of,
// a second process on the same boot, and a disk of another node.
func (s *State) Admit(h Identity) error {
	known, err := admit(s.View(), h)
	if err != nil || known {
		return err
	}
	_, err = s.apply(func(c *change) error {
		known, err := admit(c.old, h)
		if err != nil || known {
			return err
		}
		body, err := json.Marshal(identityBody{Node: h.Node, Disk: h.Disk, Incarnation: h.Incarnation, Boot: h.Boot, Nonce: h.Nonce})
		if err != nil {
			return err
		}
		c.write(identityKey(h.Disk), record{version: h.Boot, writer: s.o.Self, body: body})
		return nil
	})
	if err != nil {
		return fmt.Errorf("admit %.64q: %w", h.Node, err)
	}
	s.compareSoon(s.others()...)
	return nil
}

// admit judges an identity by what v knows; known says that there is nothing to remember.
func admit(v *View, h Identity) (known bool, err error) {
	if _, ok := v.Member(h.Node); !ok {
		return false, fmt.Errorf("node %.64q: %w", h.Node, ErrNotMember)
	}
	if h.Boot < 1 || h.Boot > maxVersion {
		return false, fmt.Errorf("node %s: boot %d: %w", h.Node, h.Boot, ErrInvalid)
	}
	seen, ok := v.identities[h.Disk]
	switch {
	case !ok:
		return false, nil
	case seen.Node != h.Node:
		return false, fmt.Errorf("node %s: %w: its disk %x is that of node %s", h.Node, ErrStaleIdentity, h.Disk, seen.Node)
	case h.Boot < seen.Boot:
		return false, fmt.Errorf("node %s: %w: it is at boot %d of disk %x, and boot %d was seen", h.Node, ErrStaleIdentity, h.Boot, h.Disk, seen.Boot)
	case h.Boot == seen.Boot && h.Nonce != seen.Nonce:
		return false, fmt.Errorf("node %s: %w: another process runs boot %d of disk %x", h.Node, ErrStaleIdentity, h.Boot, h.Disk)
	}
	return h.Boot == seen.Boot, nil
}
