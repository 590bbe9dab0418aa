package cluster

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"

	"dynamo/node/ring"
)

// maxDropped bounds the dropped generations that are listed of one keyspace name: the latest ones.
const maxDropped = 4096

// View is a snapshot of the cluster's metadata. It never changes and is safe for concurrent use; its slices must not be
// written to.
type View struct {
	// Digest is equal on two nodes if and only if their metadata is.
	Digest [32]byte
	// Version grows with every change of a member. Nodes that agree on the members have the same.
	Version uint64
	// Members are all members by id, those that join or leave included.
	Members []Member
	// Former are the nodes that were removed, by id.
	Former []Member
	// Ring places partitions on the members.
	Ring *ring.Ring

	doc     document
	encoded []byte
	placed  []ring.Member // what Ring was built from

	members    map[string]Member
	keyspaces  map[string]Keyspace // dropped ones too
	present    []Keyspace          // the others, by name
	byID       map[uint64]Keyspace // the same
	bindings   map[string][]Binding
	active     map[string]Binding
	shadows    map[string][32]byte
	releases   map[string]uint64 // of the active binding
	epochs     map[string]uint64 // the largest of each keyspace, of all its generations
	identities map[uuid]identityBody
	unreadable []string
}

// newView decodes d. It takes the ring of old, which may be nil, if the members are placed as they were. It fails if the
// records are too large, or if the members cannot form a ring.
func newView(d document, old *View) (*View, error) {
	encoded, digest, err := d.encode()
	if err != nil {
		return nil, err
	}
	v := &View{
		Digest: digest, doc: d, encoded: encoded,
		members: make(map[string]Member), keyspaces: make(map[string]Keyspace), bindings: make(map[string][]Binding),
		active: make(map[string]Binding), shadows: make(map[string][32]byte), releases: make(map[string]uint64), epochs: make(map[string]uint64), identities: make(map[uuid]identityBody),
	}
	var c contents
	for _, key := range slices.Sorted(maps.Keys(d.records)) {
		c.read(key, d.records[key].body)
	}
	v.unreadable = c.unreadable
	for _, i := range c.identities {
		v.identities[i.Disk] = i
	}
	v.setKeyspaces(c)
	if err := v.setMembers(c.members, old); err != nil {
		return nil, err
	}
	return v, nil
}

func (v *View) setMembers(all []Member, old *View) error {
	for _, m := range all {
		v.Version += v.doc.records[memberKey(m.ID)].version
		if m.Joined > 0 {
			v.placed = append(v.placed, ring.Member{ID: m.ID, Zone: m.Zone, Weight: m.Weight, Joined: m.Joined, Left: m.Left})
		}
		if m.Status == Removed {
			v.Former = append(v.Former, m)
			continue
		}
		v.Members = append(v.Members, m)
		v.members[m.ID] = m
	}
	if old != nil && old.Ring.Q() == v.doc.partitions && slices.Equal(old.placed, v.placed) {
		v.Ring = old.Ring
		return nil
	}
	r, err := ring.New(v.doc.partitions, v.placed)
	if err != nil {
		return fmt.Errorf("cluster members: %w", err)
	}
	v.Ring = r
	return nil
}

func (v *View) setKeyspaces(c contents) {
	for _, k := range c.keyspaces {
		k.id = KeyspaceID(k.Name, k.Generation)
		v.keyspaces[k.Name] = k
	}
	v.byID = make(map[uint64]Keyspace, len(v.keyspaces))
	for _, name := range slices.Sorted(maps.Keys(v.keyspaces)) {
		if k := v.keyspaces[name]; !k.Dropped {
			v.present = append(v.present, k)
			v.byID[k.id] = k
		}
	}
	for _, b := range c.bindings {
		v.epochs[b.Keyspace] = max(v.epochs[b.Keyspace], b.Epoch)
		if k, ok := v.keyspaces[b.Keyspace]; ok && k.Generation == b.Generation && !k.Dropped {
			v.bindings[b.Keyspace] = append(v.bindings[b.Keyspace], b)
		}
	}
	for _, history := range v.bindings {
		slices.SortFunc(history, func(a, b Binding) int {
			return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), bytes.Compare(a.SHA256[:], b.SHA256[:]))
		})
		for i := range history {
			history[i].Version = i + 1
		}
	}
	for _, a := range c.activated {
		for _, b := range v.bindings[a.Keyspace] {
			if !a.None && a.Generation == b.Generation && a.Epoch == b.Epoch && a.SHA256 == b.SHA256 {
				v.active[a.Keyspace] = b
			}
		}
	}
	for _, h := range c.shadowed {
		if k, ok := v.Keyspace(h.Keyspace); ok && k.Generation == h.Generation && !h.None {
			v.shadows[h.Keyspace] = h.SHA256
		}
	}
	for _, r := range c.released {
		if b, ok := v.active[r.Keyspace]; ok && b.Generation == r.Generation && b.Epoch == r.Epoch && b.SHA256 == r.SHA256 {
			v.releases[r.Keyspace] = r.Count
		}
	}
}

// Member returns the member of that id; false if there is none or it was removed.
func (v *View) Member(id string) (Member, bool) {
	m, ok := v.members[id]
	return m, ok
}

// Keyspace returns the keyspace of that name; false if there is none or it was dropped.
func (v *View) Keyspace(name string) (Keyspace, bool) {
	k, ok := v.keyspaces[name]
	if !ok || k.Dropped {
		return Keyspace{}, false
	}
	return k, true
}

// Keyspaces returns all keyspaces that were not dropped, by name.
func (v *View) Keyspaces() []Keyspace { return v.present }

// KeyspaceByID returns the keyspace of that ID; false if there is none, or if it was dropped.
func (v *View) KeyspaceByID(id uint64) (Keyspace, bool) {
	k, ok := v.byID[id]
	return k, ok
}

// Active returns the binding that a keyspace merges with; false if it has none.
func (v *View) Active(name string) (Binding, bool) {
	b, ok := v.active[name]
	return b, ok
}

// Shadow returns the candidate that runs beside the active binding of a keyspace; false if there is none.
func (v *View) Shadow(name string) (candidate [32]byte, ok bool) {
	candidate, ok = v.shadows[name]
	return candidate, ok
}

// Releases is how often the active binding of a keyspace was released from quarantine.
func (v *View) Releases(name string) uint64 { return v.releases[name] }

// Bindings returns the history of a keyspace's resolver, by version.
func (v *View) Bindings(name string) []Binding { return slices.Clone(v.bindings[name]) }

// DroppedIDs returns the ids of all generations of keyspaces that were dropped, whose data a disk may still hold: a node
// that was away may have missed both the drop and the creation that followed. Of each name it lists the latest 4096.
func (v *View) DroppedIDs() []uint64 {
	var ids []uint64
	for _, name := range slices.Sorted(maps.Keys(v.keyspaces)) {
		k := v.keyspaces[name]
		end := k.Generation
		if k.Dropped {
			end++
		}
		first := uint64(1)
		if end > maxDropped {
			first = end - maxDropped
		}
		for g := first; g < end; g++ {
			ids = append(ids, KeyspaceID(name, g))
		}
	}
	return ids
}

// Dropped reports whether id is of a generation of the keyspace that was dropped. A generation that this node has not
// heard of yet is not.
func (v *View) Dropped(name string, id uint64) bool {
	k, known := v.keyspaces[name]
	if !known || (!k.Dropped && k.ID() == id) {
		return false
	}
	end := k.Generation
	if k.Dropped {
		end++
	}
	for g := max(1, end-min(end, maxDropped)); g < end; g++ {
		if KeyspaceID(name, g) == id {
			return true
		}
	}
	return false
}
