package peer

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"dynamo/node/causal"
	"dynamo/node/wire"
)

// The handshake, before any frame. Both sides prove that they know the secret, over both nonces and
// both hellos, and name their role, so that no proof can be replayed or reflected:
//
//	record   := u32 length  u8 version  u8 kind  body           at most 4 KiB
//	hello    := 32 bytes nonce  bytes wanted node  bytes hello   dialler to acceptor
//	welcome  := 32 bytes nonce  bytes hello  32 bytes mac        acceptor to dialler
//	proof    := 32 bytes mac                                     dialler to acceptor
//	accepted := nothing                                          acceptor to dialler
//	refusal  := 32 bytes nonce  u8 flags (1 stale)  bytes reason  32 bytes mac   either way, then the end
//	mac      := HMAC-SHA256(key, role  0  body of hello  nonce and hello of welcome)
//	            of a refusal: HMAC-SHA256(key, role "refusal"  0  both nonces  flags  reason)
//	key      := HMAC-SHA256(secret, "dynamo peer handshake 1")
//
// Hellos go before the proofs, in the clear: the reason of a refusal must be tellable to a node that
// has the wrong secret. Admit runs only after the proof.
const (
	recordHello    = 0xf0
	recordWelcome  = 0xf1
	recordProof    = 0xf2
	recordAccepted = 0xf3
	recordRefusal  = 0xf4

	maxRecordBytes = 4 << 10
	nonceBytes     = 32
	macBytes       = sha256.Size
	maxReasonBytes = 1 << 10
)

// Hello is what a node says of itself at the handshake.
type Hello struct {
	Cluster    string
	Partitions int
	Node       string
	// Disk, Incarnation and Boot identify the data directory: Boot grows at every start.
	Disk        causal.NodeID
	Incarnation uint32
	Boot        uint64
	// Nonce tells this process from another one with a copy of its directory.
	Nonce [16]byte
}

// appendHello appends h.
//
//	hello := bytes cluster  varint partitions  bytes node  16 bytes disk  uvarint incarnation
//	         uvarint boot  16 bytes nonce
func appendHello(dst []byte, h Hello) []byte {
	dst = wire.AppendBytes(dst, h.Cluster)
	dst = wire.AppendInt(dst, h.Partitions)
	dst = wire.AppendBytes(dst, h.Node)
	dst = append(dst, h.Disk[:]...)
	dst = binary.AppendUvarint(dst, uint64(h.Incarnation))
	dst = binary.AppendUvarint(dst, h.Boot)
	return append(dst, h.Nonce[:]...)
}

func decodeHello(b []byte) (Hello, error) {
	d := wire.NewDecoder(b)
	h := Hello{Cluster: name(d), Partitions: d.Int(), Node: name(d)}
	copy(h.Disk[:], d.Take(16))
	h.Incarnation = d.Uint32()
	h.Boot = d.Uvarint()
	copy(h.Nonce[:], d.Take(16))
	return h, d.End()
}

func name(d *wire.Decoder) string { return string(d.Bytes(255)) }

// refusal is why a handshake ends, in the words of either side.
type refusal struct {
	here, there string
	stale       bool
}

// mismatch says why two nodes do not belong together, nil if they do. The first argument is this node.
func mismatch(self, other Hello) *refusal {
	switch {
	case self.Cluster != other.Cluster:
		say := func(it, this string) string {
			return fmt.Sprintf("it belongs to cluster %q, this node to %q", it, this)
		}
		return &refusal{here: say(other.Cluster, self.Cluster), there: say(self.Cluster, other.Cluster)}
	case self.Partitions != other.Partitions:
		say := func(it, this int) string {
			return fmt.Sprintf("its ring has %d partitions, this node's has %d", it, this)
		}
		return &refusal{here: say(other.Partitions, self.Partitions), there: say(self.Partitions, other.Partitions)}
	case self.Node == other.Node:
		say := fmt.Sprintf("both nodes call themselves %q", self.Node)
		return &refusal{here: say, there: say}
	}
	return nil
}

func unexpectedNode(wanted, got string) *refusal {
	return &refusal{
		here:  fmt.Sprintf("node %q was looked for at this address, and it is node %q", wanted, got),
		there: fmt.Sprintf("node %q was looked for at the address of node %q", wanted, got),
	}
}

func wrongSecret() *refusal {
	const say = "the secrets of the two nodes differ"
	return &refusal{here: say, there: say}
}

// notAdmitted is the refusal for an error of Options.Admit.
func notAdmitted(err error) *refusal {
	r := &refusal{here: err.Error(), there: err.Error()}
	if s, ok := errors.AsType[interface {
		error
		Stale() bool
	}](err); ok {
		r.stale = s.Stale()
	}
	return r
}

// handshake is one run of the protocol above.
type handshake struct {
	conn    *meter
	r       *bufio.Reader
	key     []byte
	self    Hello
	admit   func(Hello) error
	blocked func(node string) bool
	// other is the node at the far end, as soon as it has said its name.
	other Hello
	// opening is the body of hello, welcome the nonce and hello of the body of welcome.
	opening, welcome []byte
	nonceD, nonceA   [nonceBytes]byte
}

func handshakeKey(secret string) []byte {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte("dynamo peer handshake 1"))
	return m.Sum(nil)
}

// dial runs the dialler's side. A refusal is a *Refused.
func (h *handshake) dial(wanted string, rand io.Reader) error {
	if _, err := io.ReadFull(rand, h.nonceD[:]); err != nil {
		return fmt.Errorf("random source: %w", err)
	}
	h.opening = slices.Concat(h.nonceD[:], wire.AppendBytes(nil, wanted), wire.AppendBytes(nil, appendHello(nil, h.self)))
	if err := h.write(recordHello, h.opening); err != nil {
		return err
	}
	body, err := h.read(recordWelcome, "acceptor")
	if err != nil {
		return err
	}
	d := wire.NewDecoder(body)
	copy(h.nonceA[:], d.Take(nonceBytes))
	hello := d.Bytes(maxRecordBytes)
	h.welcome = body[:len(body)-d.Len()]
	proof := d.Take(macBytes)
	if err := d.End(); err != nil {
		return err
	}
	if h.other, err = decodeHello(hello); err != nil {
		return err
	}
	if r := mismatch(h.self, h.other); r != nil {
		return h.refuse("dialler", r)
	}
	if h.other.Node != wanted {
		return h.refuse("dialler", unexpectedNode(wanted, h.other.Node))
	}
	if !hmac.Equal(proof, h.proof("acceptor")) {
		return h.refuse("dialler", wrongSecret())
	}
	if err := h.admit(h.other); err != nil {
		return h.refuse("dialler", notAdmitted(err))
	}
	if err := h.write(recordProof, h.proof("dialler")); err != nil {
		return err
	}
	body, err = h.read(recordAccepted, "acceptor")
	if err == nil && len(body) > 0 {
		err = fmt.Errorf("%w: accepted", wire.ErrMalformed)
	}
	return err
}

// errBlocked ends a handshake without a word, as a cut network would.
var errBlocked = errors.New("blocked by fault injection")

// accept runs the acceptor's side. A refusal is a *Refused.
func (h *handshake) accept(rand io.Reader) error {
	body, err := h.read(recordHello, "dialler")
	if err != nil {
		return err
	}
	h.opening = body
	d := wire.NewDecoder(body)
	copy(h.nonceD[:], d.Take(nonceBytes))
	wanted, hello := name(d), d.Bytes(maxRecordBytes)
	if err := d.End(); err != nil {
		return err
	}
	if h.other, err = decodeHello(hello); err != nil {
		return err
	}
	if h.blocked(h.other.Node) {
		return errBlocked
	}
	if _, err := io.ReadFull(rand, h.nonceA[:]); err != nil {
		return fmt.Errorf("random source: %w", err)
	}
	r := mismatch(h.self, h.other)
	if r == nil && wanted != h.self.Node {
		r = unexpectedNode(wanted, h.self.Node)
		r.here, r.there = r.there, r.here
	}
	if r != nil {
		return h.refuse("acceptor", r)
	}
	h.welcome = append(h.nonceA[:len(h.nonceA):len(h.nonceA)], wire.AppendBytes(nil, appendHello(nil, h.self))...)
	if err := h.write(recordWelcome, slices.Concat(h.welcome, h.proof("acceptor"))); err != nil {
		return err
	}
	proof, err := h.read(recordProof, "dialler")
	if err != nil {
		return err
	}
	if !hmac.Equal(proof, h.proof("dialler")) {
		return h.refuse("acceptor", wrongSecret())
	}
	if err := h.admit(h.other); err != nil {
		return h.refuse("acceptor", notAdmitted(err))
	}
	return h.write(recordAccepted, nil)
}

func (h *handshake) proof(role string) []byte {
	m := hmac.New(sha256.New, h.key)
	m.Write(append([]byte(role), 0))
	m.Write(h.opening)
	m.Write(h.welcome)
	return m.Sum(nil)
}

func (h *handshake) refusalMAC(role string, flags byte, reason string) []byte {
	m := hmac.New(sha256.New, h.key)
	m.Write(append([]byte(role+" refusal"), 0))
	m.Write(h.nonceD[:])
	m.Write(h.nonceA[:])
	m.Write(append([]byte{flags}, reason...))
	return m.Sum(nil)
}

// refuse tells the other side why, and returns it as an error.
func (h *handshake) refuse(role string, r *refusal) error {
	nonce := &h.nonceA
	if role == "dialler" {
		nonce = &h.nonceD
	}
	reason := r.there[:min(len(r.there), maxReasonBytes)]
	body := wire.AppendFlags(nonce[:nonceBytes:nonceBytes], r.stale)
	body = append(wire.AppendBytes(body, reason), h.refusalMAC(role, body[nonceBytes], reason)...)
	refused := &Refused{Node: h.other.Node, Reason: r.here}
	if err := h.write(recordRefusal, body); err != nil {
		refused.Reason += fmt.Sprintf(" (and it could not be told: %v)", err)
	}
	return refused
}

// refusedBy reads a refusal of the side with the given role. What it says of this node's identity
// counts only under a valid mac.
func (h *handshake) refusedBy(role string, body []byte) error {
	d := wire.NewDecoder(body)
	nonce := d.Take(nonceBytes)
	flags := d.Flags(1)
	reason := string(d.Bytes(maxReasonBytes))
	mac := d.Take(macBytes)
	if err := d.End(); err != nil {
		return err
	}
	if role == "acceptor" {
		copy(h.nonceA[:], nonce)
	}
	proved := hmac.Equal(mac, h.refusalMAC(role, flags, reason))
	return &Refused{Node: h.other.Node, Reason: reason, Stale: proved && flags&1 != 0, ByPeer: true}
}

func (h *handshake) write(kind byte, body []byte) error {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 6+len(body)), uint32(2+len(body)))
	b = append(b, protocolVersion, kind)
	_, err := h.conn.Write(append(b, body...))
	return err
}

// read returns the body of the next record, which must be of the given kind, or the refusal that came
// instead from the side with the given role.
func (h *handshake) read(kind byte, role string) ([]byte, error) {
	var head [6]byte
	if _, err := io.ReadFull(h.r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 2 || n > maxRecordBytes || head[5] < recordHello || head[5] > recordRefusal {
		return nil, fmt.Errorf("%w: not the peer protocol of a dynamo node", wire.ErrMalformed)
	}
	if v := head[4]; v != protocolVersion {
		say := func(it, this byte) string {
			return fmt.Sprintf("it speaks version %d of the peer protocol, this node version %d", it, this)
		}
		return nil, h.refuse(otherRole(role), &refusal{here: say(v, protocolVersion), there: say(protocolVersion, v)})
	}
	body := make([]byte, n-2)
	if _, err := io.ReadFull(h.r, body); err != nil {
		return nil, err
	}
	switch head[5] {
	case kind:
		return body, nil
	case recordRefusal:
		return nil, h.refusedBy(role, body)
	}
	return nil, fmt.Errorf("%w: unexpected record %#x", wire.ErrMalformed, head[5])
}

func otherRole(role string) string {
	if role == "dialler" {
		return "acceptor"
	}
	return "dialler"
}
