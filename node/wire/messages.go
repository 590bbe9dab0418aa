// Package wire is what nodes say to each other: the messages and their bytes. Package peer carries them.
package wire

import (
	"encoding/binary"
	"fmt"
	"strings"

	"dynamo/node/causal"
)

// Kind is the byte on the wire that names a message. Numbers are never used again.
type Kind uint8

// The kinds of messages.
const (
	KindPing Kind = iota + 1
	KindAck
	KindFailure
	KindRead
	KindReadReply
	KindApply
	KindWrite
	KindWriteReply
	KindInspect
	KindInspectReply
	KindList
	KindListReply
	KindMetaSync
	KindMetaSyncReply
	KindModuleGet
	KindModuleReply
	KindModulePut
	KindTreeCompare
	KindTreeCompareReply
	KindTreeDigests
	KindTreeDigestsReply
	KindTreeKeys
	KindTreeKeysReply
	KindObjectsGet
	KindObjectsReply
	KindObjectsPut
	KindSettleBarrier
	KindSettleBarrierReply
	KindSettleFence
	KindSettleFenceReply
	KindSettleCheck
	KindSettleCheckReply
	KindSettleApply
	KindSettleApplyReply
	KindClaim
	KindResolverAct
	KindResolverActReply
)

// String returns the name of the message.
func (k Kind) String() string {
	names := [...]string{
		KindPing: "ping", KindAck: "ack", KindFailure: "failure",
		KindRead: "read", KindReadReply: "read-reply", KindApply: "apply",
		KindWrite: "write", KindWriteReply: "write-reply",
		KindInspect: "inspect", KindInspectReply: "inspect-reply",
		KindList: "list", KindListReply: "list-reply",
		KindMetaSync: "meta-sync", KindMetaSyncReply: "meta-sync-reply",
		KindModuleGet: "module-get", KindModuleReply: "module-reply", KindModulePut: "module-put",
		KindClaim:              "claim",
		KindResolverAct:        "resolver-act",
		KindResolverActReply:   "resolver-act-reply",
		KindTreeCompare:        "tree-compare",
		KindTreeCompareReply:   "tree-compare-reply",
		KindTreeDigests:        "tree-digests",
		KindTreeDigestsReply:   "tree-digests-reply",
		KindTreeKeys:           "tree-keys",
		KindTreeKeysReply:      "tree-keys-reply",
		KindObjectsGet:         "objects-get",
		KindObjectsReply:       "objects-reply",
		KindObjectsPut:         "objects-put",
		KindSettleBarrier:      "settle-barrier",
		KindSettleBarrierReply: "settle-barrier-reply",
		KindSettleFence:        "settle-fence",
		KindSettleFenceReply:   "settle-fence-reply",
		KindSettleCheck:        "settle-check",
		KindSettleCheckReply:   "settle-check-reply",
		KindSettleApply:        "settle-apply",
		KindSettleApplyReply:   "settle-apply-reply",
	}
	if k == 0 || int(k) >= len(names) {
		return fmt.Sprintf("kind-%d", uint8(k))
	}
	return names[k]
}

// Reply returns the kind that answers a request of kind k, 0 if k is no request. Any request may be
// answered by KindFailure instead.
func (k Kind) Reply() Kind {
	switch k {
	case KindPing, KindApply, KindModulePut, KindObjectsPut, KindClaim:
		return KindAck
	case KindRead:
		return KindReadReply
	case KindWrite:
		return KindWriteReply
	case KindInspect:
		return KindInspectReply
	case KindList:
		return KindListReply
	case KindMetaSync:
		return KindMetaSyncReply
	case KindModuleGet:
		return KindModuleReply
	case KindResolverAct:
		return KindResolverActReply
	case KindTreeCompare:
		return KindTreeCompareReply
	case KindTreeDigests:
		return KindTreeDigestsReply
	case KindTreeKeys:
		return KindTreeKeysReply
	case KindObjectsGet:
		return KindObjectsReply
	case KindSettleBarrier:
		return KindSettleBarrierReply
	case KindSettleFence:
		return KindSettleFenceReply
	case KindSettleCheck:
		return KindSettleCheckReply
	case KindSettleApply:
		return KindSettleApplyReply
	}
	return 0
}

// Message is one of the pointers to the structs of this file. A message is not changed once it was
// given to Call or returned by a Handler; its slices may be shared.
type Message interface {
	Kind() Kind
	// AppendTo appends the payload. Fields beyond their bounds (keys 64 KiB, strings 16 KiB) are
	// refused by the receiver.
	AppendTo(dst []byte) []byte
}

// Kind implements Message.
func (*Ping) Kind() Kind          { return KindPing }
func (*Ack) Kind() Kind           { return KindAck }
func (*Failure) Kind() Kind       { return KindFailure }
func (*Read) Kind() Kind          { return KindRead }
func (*ReadReply) Kind() Kind     { return KindReadReply }
func (*Apply) Kind() Kind         { return KindApply }
func (*Write) Kind() Kind         { return KindWrite }
func (*WriteReply) Kind() Kind    { return KindWriteReply }
func (*Inspect) Kind() Kind       { return KindInspect }
func (*InspectReply) Kind() Kind  { return KindInspectReply }
func (*List) Kind() Kind          { return KindList }
func (*ListReply) Kind() Kind     { return KindListReply }
func (*MetaSync) Kind() Kind      { return KindMetaSync }
func (*MetaSyncReply) Kind() Kind { return KindMetaSyncReply }
func (*Claim) Kind() Kind         { return KindClaim }

// AppendTo implements Message.
func (*Ping) AppendTo(dst []byte) []byte      { return dst }
func (*Ack) AppendTo(dst []byte) []byte       { return dst }
func (m *Inspect) AppendTo(dst []byte) []byte { return m.Target.appendTo(dst) }

// Decode reads a payload. It is total: any bytes yield a message or an error that wraps
// ErrMalformed. Byte fields alias b; those of length zero are nil.
func Decode(kind Kind, b []byte) (Message, error) {
	d := NewDecoder(b)
	m := d.message(kind)
	if err := d.End(); err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	return m, nil
}

func (d *Decoder) message(kind Kind) Message {
	switch kind {
	case KindPing:
		return &Ping{}
	case KindAck:
		return &Ack{}
	case KindFailure:
		return d.failure()
	case KindRead:
		return d.read()
	case KindReadReply:
		return d.readReply()
	case KindApply:
		return d.apply()
	case KindWrite:
		return d.write()
	case KindWriteReply:
		return d.writeReply()
	case KindInspect:
		return &Inspect{Target: d.target()}
	case KindInspectReply:
		return d.inspectReply()
	case KindList:
		return d.list()
	case KindListReply:
		return d.listReply()
	case KindMetaSync:
		return d.metaSync()
	case KindMetaSyncReply:
		return (*MetaSyncReply)(d.metaSync())
	case KindModuleGet, KindModuleReply, KindModulePut, KindResolverAct, KindResolverActReply:
		return d.resolverMessage(kind)
	}
	if kind == KindClaim {
		return &Claim{d.Uvarint()}
	}
	return d.repairMessage(kind)
}

// Target names a key.
//
//	target := bytes keyspace  u64 keyspaceID  bytes key
//	bytes  := uvarint length, then that many bytes
type Target struct {
	Keyspace string
	// KeyspaceID tells a keyspace from a dropped one of the same name.
	KeyspaceID uint64
	Key        []byte
}

func (t *Target) appendTo(dst []byte) []byte {
	dst = AppendBytes(dst, t.Keyspace)
	dst = binary.BigEndian.AppendUint64(dst, t.KeyspaceID)
	return AppendBytes(dst, t.Key)
}

func (d *Decoder) target() Target { return Target{d.String(), d.Uint64(), d.Key()} }

// Uint64 reads 8 bytes, big-endian.
func (d *Decoder) Uint64() uint64 {
	if b := d.Take(8); d.err == nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Ping asks for a sign of life. The transport answers it itself, without the Handler.
type Ping struct{}

// Ack says that it was done, durably unless the request said otherwise.
type Ack struct{}

// Failure answers any request. A caller sees it as *Error.
//
//	failure := u8 flags (1 retryable, 2 maybe stored)  bytes code  bytes detail
type Failure struct {
	Code, Detail           string
	Retryable, MaybeStored bool
}

// AppendTo implements Message. It cuts what would be too long: a failure must not get lost.
func (m *Failure) AppendTo(dst []byte) []byte {
	dst = AppendFlags(dst, m.Retryable, m.MaybeStored)
	dst = AppendBytes(dst, clip(m.Code))
	return AppendBytes(dst, clip(m.Detail))
}

func clip(s string) string {
	if len(s) <= maxStringBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxStringBytes], "")
}

func (d *Decoder) failure() *Failure {
	f := d.Flags(2)
	return &Failure{Retryable: f&1 != 0, MaybeStored: f&2 != 0, Code: d.String(), Detail: d.String()}
}

// Read asks for what a node holds of a key.
//
//	read := u8 flags (1 hints, 2 want object)  target  16 bytes known
type Read struct {
	Target
	// Hints joins the hints held for this key as well.
	Hints bool
	// WantObject asks for the object if its hash is not Known; otherwise the hash alone is sent.
	WantObject bool
	Known      causal.Hash
}

// AppendTo implements Message.
func (m *Read) AppendTo(dst []byte) []byte {
	dst = AppendFlags(dst, m.Hints, m.WantObject)
	dst = m.Target.appendTo(dst)
	return append(dst, m.Known[:]...)
}

func (d *Decoder) read() *Read {
	f := d.Flags(2)
	m := &Read{Hints: f&1 != 0, WantObject: f&2 != 0, Target: d.target()}
	copy(m.Known[:], d.Take(uint64(len(m.Known))))
	return m
}

// ReadReply answers Read: 16 bytes hash, bytes object, [u8 flags (1 unsure)].
type ReadReply struct {
	// Hash is zero if there is nothing.
	Hash causal.Hash
	// Object is nil if it is the known one, was not wanted, or is not there.
	Object []byte
	// Unsure says that the node may have lost something since it acknowledged it: what it shows is true, what
	// it does not show is no news.
	Unsure bool
}

// AppendTo implements Message.
func (m *ReadReply) AppendTo(dst []byte) []byte {
	dst = AppendBytes(append(dst, m.Hash[:]...), m.Object)
	if m.Unsure {
		dst = AppendFlags(dst, true)
	}
	return dst
}

func (d *Decoder) readReply() *ReadReply {
	m := &ReadReply{}
	copy(m.Hash[:], d.Take(uint64(len(m.Hash))))
	m.Object = d.Blob()
	if d.Len() > 0 {
		if m.Unsure = d.Flags(1) != 0; !m.Unsure {
			d.Fail("a flag that is not set")
		}
	}
	return m
}

// Apply asks a node to join an object into what it holds. Idempotent.
//
//	apply := u8 flags (1 buffered, 2 generation)  target  bytes hintFor  bytes object  [uvarint generation]
type Apply struct {
	Target
	Object []byte
	// HintFor is the primary that this copy is kept for; empty: the node's own copy.
	HintFor string
	// Buffered allows an answer before the copy is durable.
	Buffered bool
	// Generation is when the sender took the object in hand, by its own count. A node that was asked to
	// (SettleFence) refuses what is older: it may have been on its way since before a key was cleaned up.
	Generation uint64
}

// AppendTo implements Message.
func (m *Apply) AppendTo(dst []byte) []byte {
	dst = AppendFlags(dst, m.Buffered, m.Generation != 0)
	dst = m.Target.appendTo(dst)
	dst = AppendBytes(dst, m.HintFor)
	dst = AppendBytes(dst, m.Object)
	if m.Generation != 0 {
		dst = binary.AppendUvarint(dst, m.Generation)
	}
	return dst
}

func (d *Decoder) apply() *Apply {
	f := d.Flags(2)
	m := &Apply{Buffered: f&1 != 0, Target: d.target(), HintFor: d.String(), Object: d.Blob()}
	if f&2 != 0 {
		if m.Generation = d.Uvarint(); m.Generation == 0 {
			d.Fail("no generation")
		}
	}
	return m
}

// Write forwards a client's put or delete to a node that coordinates it. Not idempotent: done twice,
// it leaves two siblings, which is what Claim is for.
//
//	write := u8 flags (1 sloppy, 2 if-none-match, 4 deleted)  target  bytes token
//	         uvarint timeMs  bytes contentType  bytes value  varint w  varint r
//	         bytes ifMatch  bytes requestID  [uvarint claim]
type Write struct {
	Target
	// Token is the client's context as it came, sealed; empty: a blind write.
	Token string
	Value causal.Value
	W, R  int
	// Sloppy lets fallbacks count.
	Sloppy bool
	// IfMatch is an ETag; empty: no condition.
	IfMatch     string
	IfNoneMatch bool
	RequestID   string
	// Claim is what to ask the sender for before anything is minted; 0: nothing.
	Claim uint64
}

// AppendTo implements Message.
func (m *Write) AppendTo(dst []byte) []byte {
	dst = AppendFlags(dst, m.Sloppy, m.IfNoneMatch, m.Value.Deleted)
	dst = m.Target.appendTo(dst)
	dst = AppendBytes(dst, m.Token)
	dst = binary.AppendUvarint(dst, m.Value.TimeMs)
	dst = AppendBytes(dst, m.Value.ContentType)
	dst = AppendBytes(dst, m.Value.Bytes)
	dst = AppendInt(dst, m.W)
	dst = AppendInt(dst, m.R)
	dst = AppendBytes(dst, m.IfMatch)
	dst = AppendBytes(dst, m.RequestID)
	if m.Claim != 0 {
		dst = binary.AppendUvarint(dst, m.Claim)
	}
	return dst
}

func (d *Decoder) write() *Write {
	f := d.Flags(3)
	m := &Write{
		Sloppy: f&1 != 0, IfNoneMatch: f&2 != 0,
		Target: d.target(),
		Token:  string(d.Bytes(causal.MaxTokenBytes)),
		Value: causal.Value{
			Deleted: f&4 != 0, TimeMs: d.Uvarint(), ContentType: d.String(), Bytes: d.Blob(),
		},
		W: d.Int(), R: d.Int(), IfMatch: d.String(), RequestID: d.String(),
	}
	if d.Len() > 0 {
		if m.Claim = d.Uvarint(); m.Claim == 0 {
			d.Fail("no claim")
		}
	}
	return m
}

// Claim asks the node that forwarded a write whether to carry it out: uvarint. It is acknowledged to one
// node, once.
type Claim struct{ ID uint64 }

// AppendTo implements Message.
func (m *Claim) AppendTo(dst []byte) []byte { return binary.AppendUvarint(dst, m.ID) }

// WriteReply answers Write: bytes object, bytes token.
type WriteReply struct {
	// Object is what the coordinator holds after the write.
	Object []byte
	// Token is the client's new context, sealed.
	Token string
}

// AppendTo implements Message.
func (m *WriteReply) AppendTo(dst []byte) []byte {
	return AppendBytes(AppendBytes(dst, m.Object), m.Token)
}

func (d *Decoder) writeReply() *WriteReply {
	return &WriteReply{Object: d.Blob(), Token: string(d.Bytes(causal.MaxTokenBytes))}
}

// Inspect asks for all that a node holds of a key, copy by copy: target.
type Inspect struct{ Target }

// InspectReply answers Inspect.
//
//	inspectReply := bytes own  uvarint count  count * (bytes for  bytes object)
type InspectReply struct {
	// Own is the node's own copy, nil if there is none.
	Own   []byte
	Hints []InspectHint
}

// InspectHint is a hint kept for the node named.
type InspectHint struct {
	For    string
	Object []byte
}

// AppendTo implements Message.
func (m *InspectReply) AppendTo(dst []byte) []byte {
	dst = AppendBytes(dst, m.Own)
	dst = binary.AppendUvarint(dst, uint64(len(m.Hints)))
	for _, h := range m.Hints {
		dst = AppendBytes(AppendBytes(dst, h.For), h.Object)
	}
	return dst
}

func (d *Decoder) inspectReply() *InspectReply {
	m := &InspectReply{Own: d.Blob()}
	for n := d.Count(2); n > 0 && d.err == nil; n-- {
		m.Hints = append(m.Hints, InspectHint{d.String(), d.Blob()})
	}
	return m
}

// List asks for the node's own copies in byte order of the key.
//
//	list := u8 flags (1 values, 2 conflicts)  bytes keyspace  u64 keyspaceID  bytes prefix  bytes after  varint limit
type List struct {
	Keyspace   string
	KeyspaceID uint64
	Prefix     []byte
	// After is the key to start behind; nil: at the beginning.
	After []byte
	Limit int
	// Values sends the versions' bytes too.
	Values bool
	// Conflicts lists only the keys of which the node's copy has several versions, without their objects.
	Conflicts bool
}

// AppendTo implements Message.
func (m *List) AppendTo(dst []byte) []byte {
	dst = AppendBytes(AppendFlags(dst, m.Values, m.Conflicts), m.Keyspace)
	dst = binary.BigEndian.AppendUint64(dst, m.KeyspaceID)
	dst = AppendBytes(AppendBytes(dst, m.Prefix), m.After)
	return AppendInt(dst, m.Limit)
}

func (d *Decoder) list() *List {
	flags := d.Flags(2)
	return &List{
		Values: flags&1 != 0, Conflicts: flags&2 != 0, Keyspace: d.String(), KeyspaceID: d.Uint64(), Prefix: d.Key(), After: d.Key(), Limit: d.Int(),
	}
}

// ListReply answers List.
//
//	listReply := u8 flags (1 more)  uvarint count  count * (bytes key  bytes object)
type ListReply struct {
	Entries []ListEntry
	// More says that there are keys after the last entry.
	More bool
}

// ListEntry is one key and its object.
type ListEntry struct{ Key, Object []byte }

// AppendTo implements Message.
func (m *ListReply) AppendTo(dst []byte) []byte {
	return appendEntries(AppendFlags(dst, m.More), m.Entries)
}

func appendEntries(dst []byte, entries []ListEntry) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(entries)))
	for _, e := range entries {
		dst = AppendBytes(AppendBytes(dst, e.Key), e.Object)
	}
	return dst
}

func (d *Decoder) listReply() *ListReply {
	return &ListReply{More: d.Flags(1) != 0, Entries: d.entries()}
}

func (d *Decoder) entries() (out []ListEntry) {
	for n := d.Count(2); n > 0 && d.err == nil; n-- {
		out = append(out, ListEntry{d.Key(), d.Blob()})
	}
	return out
}

// MetaSync exchanges the cluster's metadata: 32 bytes digest, bytes state. Idempotent.
type MetaSync struct {
	Digest [32]byte
	State  []byte
}

// AppendTo implements Message.
func (m *MetaSync) AppendTo(dst []byte) []byte {
	return AppendBytes(append(dst, m.Digest[:]...), m.State)
}

func (d *Decoder) metaSync() *MetaSync {
	m := &MetaSync{}
	copy(m.Digest[:], d.Take(32))
	m.State = d.Blob()
	return m
}

// MetaSyncReply answers MetaSync in the same form.
type MetaSyncReply MetaSync

// AppendTo implements Message.
func (m *MetaSyncReply) AppendTo(dst []byte) []byte { return (*MetaSync)(m).AppendTo(dst) }
