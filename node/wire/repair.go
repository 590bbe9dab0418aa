package wire

import (
	"encoding/binary"

	"dynamo/node/causal"
	"dynamo/node/merkle"
	"dynamo/node/ring"
)

// The messages of anti-entropy and of the settle round.

// Tree names the hash tree of one keyspace in one partition: u32 partition, u64 keyspaceID.
type Tree struct {
	Partition  ring.Partition
	KeyspaceID uint64
}

func (t *Tree) appendTo(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(t.Partition))
	return binary.BigEndian.AppendUint64(dst, t.KeyspaceID)
}

const treeBytes = 4 + 8

func (d *Decoder) tree() Tree {
	b := d.Take(4)
	if d.err != nil {
		return Tree{}
	}
	return Tree{ring.Partition(binary.BigEndian.Uint32(b)), d.Uint64()}
}

func (d *Decoder) digest() merkle.Digest {
	b := d.Take(merkle.DigestBytes)
	if d.err != nil {
		return merkle.Digest{}
	}
	g, err := merkle.DecodeDigest(b)
	if err != nil {
		d.Fail(err.Error())
	}
	return g
}

// TreeCompare asks which of some trees differ from those of the node that asks.
//
//	treeCompare := uvarint count  count * (tree  digest)
//	digest      := 16 bytes sum  u64 count
type TreeCompare struct{ Roots []TreeRoot }

// TreeRoot is the digest of a whole tree.
type TreeRoot struct {
	Tree
	Digest merkle.Digest
}

// AppendTo implements Message.
func (m *TreeCompare) AppendTo(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(m.Roots)))
	for i := range m.Roots {
		dst = m.Roots[i].Digest.AppendTo(m.Roots[i].appendTo(dst))
	}
	return dst
}

func (d *Decoder) treeCompare() *TreeCompare {
	m := &TreeCompare{}
	for n := d.Count(treeBytes + merkle.DigestBytes); n > 0 && d.err == nil; n-- {
		m.Roots = append(m.Roots, TreeRoot{d.tree(), d.digest()})
	}
	return m
}

// TreeVerdict is what a node says to a root.
type TreeVerdict uint8

// The verdicts.
const (
	TreeEqual TreeVerdict = iota
	TreeDiffers
	// TreeUnready: the node cannot tell now, because it makes the tree anew or does not know the keyspace.
	TreeUnready
)

// TreeCompareReply has a byte for each of the roots, in their order.
type TreeCompareReply struct{ Verdicts []TreeVerdict }

// AppendTo implements Message.
func (m *TreeCompareReply) AppendTo(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(m.Verdicts)))
	for _, v := range m.Verdicts {
		dst = append(dst, byte(v))
	}
	return dst
}

func (d *Decoder) treeCompareReply() *TreeCompareReply {
	m := &TreeCompareReply{}
	for n := d.Count(1); n > 0 && d.err == nil; n-- {
		v := TreeVerdict(d.Take(1)[0])
		if v > TreeUnready {
			d.Fail("unknown verdict")
		}
		m.Verdicts = append(m.Verdicts, v)
	}
	return m
}

// TreeDigests asks for the digests below the root, or below one branch.
//
//	treeDigests := tree  varint branch, -1 for the root
type TreeDigests struct {
	Tree
	Branch int
}

// AppendTo implements Message.
func (m *TreeDigests) AppendTo(dst []byte) []byte { return AppendInt(m.appendTo(dst), m.Branch) }

func (d *Decoder) treeDigests() *TreeDigests {
	m := &TreeDigests{Tree: d.tree(), Branch: d.Int()}
	if m.Branch < -1 || m.Branch >= merkle.Branches {
		d.Fail("no such branch")
	}
	return m
}

// TreeDigestsReply answers TreeDigests: uvarint count, count * digest.
type TreeDigestsReply struct{ Digests []merkle.Digest }

// AppendTo implements Message.
func (m *TreeDigestsReply) AppendTo(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(m.Digests)))
	for _, g := range m.Digests {
		dst = g.AppendTo(dst)
	}
	return dst
}

func (d *Decoder) treeDigestsReply() *TreeDigestsReply {
	m := &TreeDigestsReply{}
	for n := d.Count(merkle.DigestBytes); n > 0 && d.err == nil; n-- {
		m.Digests = append(m.Digests, d.digest())
	}
	return m
}

// TreeKeys asks for the keys of the leaves in [From, To) with the hashes of their objects, in order of
// leaf and then of key.
//
//	treeKeys := tree  uvarint from  uvarint to  bytes after
type TreeKeys struct {
	Tree
	From, To merkle.Position
	// After is the key to start behind, in the leaf From; nil: at its beginning.
	After []byte
}

// AppendTo implements Message.
func (m *TreeKeys) AppendTo(dst []byte) []byte {
	dst = binary.AppendUvarint(m.appendTo(dst), uint64(m.From))
	return AppendBytes(binary.AppendUvarint(dst, uint64(m.To)), m.After)
}

func (d *Decoder) treeKeys() *TreeKeys {
	return &TreeKeys{Tree: d.tree(), From: d.position(), To: d.position(), After: d.Key()}
}

func (d *Decoder) position() merkle.Position {
	v := d.Uint32()
	if v > merkle.Positions {
		d.Fail("no such leaf")
	}
	return merkle.Position(min(v, merkle.Positions))
}

// TreeKeysReply answers TreeKeys.
//
//	treeKeysReply := u8 flags (1 more)  uvarint count  count * (bytes key  16 bytes hash)
type TreeKeysReply struct {
	Keys []KeyHash
	// More says that there are keys after the last one.
	More bool
}

// KeyHash is a key with the hash of its object; zero for none.
type KeyHash struct {
	Key  []byte
	Hash causal.Hash
}

func appendKeyHash(dst []byte, k KeyHash) []byte {
	return append(AppendBytes(dst, k.Key), k.Hash[:]...)
}

func (d *Decoder) keyHash() KeyHash { return KeyHash{d.Key(), d.hash()} }

func (d *Decoder) hash() (h causal.Hash) {
	copy(h[:], d.Take(uint64(len(h))))
	return h
}

// AppendTo implements Message.
func (m *TreeKeysReply) AppendTo(dst []byte) []byte {
	dst = binary.AppendUvarint(AppendFlags(dst, m.More), uint64(len(m.Keys)))
	for _, k := range m.Keys {
		dst = appendKeyHash(dst, k)
	}
	return dst
}

func (d *Decoder) treeKeysReply() *TreeKeysReply {
	m := &TreeKeysReply{More: d.Flags(1) != 0}
	for n := d.Count(1 + len(causal.Hash{})); n > 0 && d.err == nil; n-- {
		m.Keys = append(m.Keys, d.keyHash())
	}
	return m
}

// ObjectsGet asks for the node's own copies of some keys of a keyspace.
//
//	objectsGet := u64 keyspaceID  uvarint count  count * bytes key
type ObjectsGet struct {
	KeyspaceID uint64
	Keys       [][]byte
}

// AppendTo implements Message.
func (m *ObjectsGet) AppendTo(dst []byte) []byte {
	return appendKeys(binary.BigEndian.AppendUint64(dst, m.KeyspaceID), m.Keys)
}

func appendKeys(dst []byte, keys [][]byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(keys)))
	for _, k := range keys {
		dst = AppendBytes(dst, k)
	}
	return dst
}

func (d *Decoder) keys() (keys [][]byte) {
	for n := d.Count(1); n > 0 && d.err == nil; n-- {
		keys = append(keys, d.Key())
	}
	return keys
}

func (d *Decoder) objectsGet() *ObjectsGet { return &ObjectsGet{d.Uint64(), d.keys()} }

// ObjectsReply answers ObjectsGet with what fits of it, in the order that was asked for, at least one:
// uvarint count, count * (bytes key, bytes object). The object is empty where there is none.
type ObjectsReply struct{ Entries []ListEntry }

// AppendTo implements Message.
func (m *ObjectsReply) AppendTo(dst []byte) []byte { return appendEntries(dst, m.Entries) }

func (d *Decoder) objectsReply() *ObjectsReply { return &ObjectsReply{d.entries()} }

// ObjectsPut asks a node to join objects into its own copies. It is answered when all of them are
// durable. Idempotent.
//
//	objectsPut := u64 keyspaceID  uvarint generation  uvarint count  count * (bytes key  bytes object)
type ObjectsPut struct {
	KeyspaceID uint64
	// Generation is when the sender took the objects in hand, see [Apply].
	Generation uint64
	Entries    []ListEntry
}

// AppendTo implements Message.
func (m *ObjectsPut) AppendTo(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, m.KeyspaceID)
	return appendEntries(binary.AppendUvarint(dst, m.Generation), m.Entries)
}

func (d *Decoder) objectsPut() *ObjectsPut { return &ObjectsPut{d.Uint64(), d.Uvarint(), d.entries()} }

// SettleBarrier asks a node to finish what it has in hand for others. It has no fields.
type SettleBarrier struct{}

// SettleBarrierReply says that everything which the node sends from now on bears at least this
// generation: uvarint.
type SettleBarrierReply struct{ Generation uint64 }

// AppendTo implements Message.
func (*SettleBarrier) AppendTo(dst []byte) []byte { return dst }

// AppendTo implements Message.
func (m *SettleBarrierReply) AppendTo(dst []byte) []byte {
	return binary.AppendUvarint(dst, m.Generation)
}

// SettleFence asks a node to refuse objects of older generations from now on, however long they were on
// their way, and to say for which partitions it keeps hints.
//
//	settleFence := uvarint count  count * (bytes node  uvarint generation)
type SettleFence struct{ Generations []NodeGeneration }

// NodeGeneration is the generation that a node has reached.
type NodeGeneration struct {
	Node       string
	Generation uint64
}

// AppendTo implements Message.
func (m *SettleFence) AppendTo(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(m.Generations)))
	for _, g := range m.Generations {
		dst = binary.AppendUvarint(AppendBytes(dst, g.Node), g.Generation)
	}
	return dst
}

func (d *Decoder) settleFence() *SettleFence {
	m := &SettleFence{}
	for n := d.Count(2); n > 0 && d.err == nil; n-- {
		m.Generations = append(m.Generations, NodeGeneration{d.String(), d.Uvarint()})
	}
	return m
}

// SettleFenceReply answers SettleFence: uvarint count, count * u32 partition.
type SettleFenceReply struct{ Hinted []ring.Partition }

// AppendTo implements Message.
func (m *SettleFenceReply) AppendTo(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(m.Hinted)))
	for _, p := range m.Hinted {
		dst = binary.BigEndian.AppendUint32(dst, uint32(p))
	}
	return dst
}

func (d *Decoder) settleFenceReply() *SettleFenceReply {
	m := &SettleFenceReply{}
	for n := d.Count(4); n > 0 && d.err == nil; n-- {
		m.Hinted = append(m.Hinted, ring.Partition(binary.BigEndian.Uint32(d.Take(4))))
	}
	return m
}

// SettleCheck asks what a primary holds of some keys, durably: u64 keyspaceID, keys.
type SettleCheck struct {
	KeyspaceID uint64
	Keys       [][]byte
}

// AppendTo implements Message.
func (m *SettleCheck) AppendTo(dst []byte) []byte {
	return appendKeys(binary.BigEndian.AppendUint64(dst, m.KeyspaceID), m.Keys)
}

func (d *Decoder) settleCheck() *SettleCheck { return &SettleCheck{d.Uint64(), d.keys()} }

// SettleCheckReply answers SettleCheck in the order of its keys.
//
//	settleCheckReply := uvarint count  count * (16 bytes hash  uvarint quietMs  u8 flags (1 own)  [actor])
type SettleCheckReply struct{ Copies []SettleCopy }

// SettleCopy is what a primary says of its copy.
type SettleCopy struct {
	Hash causal.Hash
	// QuietMs is for how long it has not changed, in milliseconds by the primary's clock.
	QuietMs uint64
	// Own is the actor with which the primary may write to it again; zero for none.
	Own causal.Actor
}

// AppendTo implements Message.
func (m *SettleCheckReply) AppendTo(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(m.Copies)))
	for _, c := range m.Copies {
		dst = binary.AppendUvarint(append(dst, c.Hash[:]...), c.QuietMs)
		dst = AppendFlags(dst, !c.Own.IsZero())
		if !c.Own.IsZero() {
			dst = causal.AppendActor(dst, c.Own)
		}
	}
	return dst
}

func (d *Decoder) settleCheckReply() *SettleCheckReply {
	m := &SettleCheckReply{}
	for n := d.Count(len(causal.Hash{}) + 2); n > 0 && d.err == nil; n-- {
		c := SettleCopy{Hash: d.hash(), QuietMs: d.Uvarint()}
		if d.Flags(1) != 0 {
			c.Own = d.actor()
		}
		m.Copies = append(m.Copies, c)
	}
	return m
}

func (d *Decoder) actor() causal.Actor {
	if d.err != nil {
		return causal.Actor{}
	}
	a, rest, err := causal.DecodeActor(d.b)
	if err != nil {
		d.Fail("bad actor")
		return causal.Actor{}
	}
	d.b = rest
	return a
}

// SettleApply asks a primary to replace copies that are still what was agreed on, durably.
//
//	settleApply := u64 keyspaceID  uvarint count  count * (bytes key  16 bytes agreed  bytes object)
type SettleApply struct {
	KeyspaceID uint64
	Items      []SettleItem
}

// SettleItem is one copy to replace.
type SettleItem struct {
	Key    []byte
	Agreed causal.Hash
	// Object is what takes its place; empty: nothing does.
	Object []byte
}

// AppendTo implements Message.
func (m *SettleApply) AppendTo(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, m.KeyspaceID)
	dst = binary.AppendUvarint(dst, uint64(len(m.Items)))
	for _, i := range m.Items {
		dst = AppendBytes(append(AppendBytes(dst, i.Key), i.Agreed[:]...), i.Object)
	}
	return dst
}

func (d *Decoder) settleApply() *SettleApply {
	m := &SettleApply{KeyspaceID: d.Uint64()}
	for n := d.Count(2 + len(causal.Hash{})); n > 0 && d.err == nil; n-- {
		m.Items = append(m.Items, SettleItem{d.Key(), d.hash(), d.Blob()})
	}
	return m
}

// SettleApplyReply says how many of the items were done: uvarint.
type SettleApplyReply struct{ Done uint64 }

// AppendTo implements Message.
func (m *SettleApplyReply) AppendTo(dst []byte) []byte { return binary.AppendUvarint(dst, m.Done) }

// Kind implements Message.
func (*TreeCompare) Kind() Kind        { return KindTreeCompare }
func (*TreeCompareReply) Kind() Kind   { return KindTreeCompareReply }
func (*TreeDigests) Kind() Kind        { return KindTreeDigests }
func (*TreeDigestsReply) Kind() Kind   { return KindTreeDigestsReply }
func (*TreeKeys) Kind() Kind           { return KindTreeKeys }
func (*TreeKeysReply) Kind() Kind      { return KindTreeKeysReply }
func (*ObjectsGet) Kind() Kind         { return KindObjectsGet }
func (*ObjectsReply) Kind() Kind       { return KindObjectsReply }
func (*ObjectsPut) Kind() Kind         { return KindObjectsPut }
func (*SettleBarrier) Kind() Kind      { return KindSettleBarrier }
func (*SettleBarrierReply) Kind() Kind { return KindSettleBarrierReply }
func (*SettleFence) Kind() Kind        { return KindSettleFence }
func (*SettleFenceReply) Kind() Kind   { return KindSettleFenceReply }
func (*SettleCheck) Kind() Kind        { return KindSettleCheck }
func (*SettleCheckReply) Kind() Kind   { return KindSettleCheckReply }
func (*SettleApply) Kind() Kind        { return KindSettleApply }
func (*SettleApplyReply) Kind() Kind   { return KindSettleApplyReply }

// repairMessage reads one of this file's messages.
func (d *Decoder) repairMessage(kind Kind) Message {
	switch kind {
	case KindTreeCompare:
		return d.treeCompare()
	case KindTreeCompareReply:
		return d.treeCompareReply()
	case KindTreeDigests:
		return d.treeDigests()
	case KindTreeDigestsReply:
		return d.treeDigestsReply()
	case KindTreeKeys:
		return d.treeKeys()
	case KindTreeKeysReply:
		return d.treeKeysReply()
	case KindObjectsGet:
		return d.objectsGet()
	case KindObjectsReply:
		return d.objectsReply()
	case KindObjectsPut:
		return d.objectsPut()
	case KindSettleBarrier:
		return &SettleBarrier{}
	case KindSettleBarrierReply:
		return &SettleBarrierReply{d.Uvarint()}
	case KindSettleFence:
		return d.settleFence()
	case KindSettleFenceReply:
		return d.settleFenceReply()
	case KindSettleCheck:
		return d.settleCheck()
	case KindSettleCheckReply:
		return d.settleCheckReply()
	case KindSettleApply:
		return d.settleApply()
	case KindSettleApplyReply:
		return &SettleApplyReply{d.Uvarint()}
	}
	d.Fail("unknown kind")
	return nil
}
