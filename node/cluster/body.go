package cluster

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"dynamo/node/config"
)

// The kinds of records. Records of other kinds, which a newer version may write, are kept and passed on unread.
//
//	member/<id>                                      Member
//	keyspace/<name>                                  Keyspace
//	binding/<keyspace>/<generation>/<epoch>-<sha256> Binding, never rewritten
//	active/<keyspace>                                which binding is active, or none
//	shadow/<keyspace>                                which candidate runs beside the active binding, or none
//	release/<keyspace>                               how often which binding was released from quarantine
//	identity/<disk>                                  the last boot of a disk that anybody has seen; the version is the boot
const (
	kindMember   = "member"
	kindKeyspace = "keyspace"
	kindBinding  = "binding"
	kindActive   = "active"
	kindShadow   = "shadow"
	kindRelease  = "release"
	kindIdentity = "identity"
)

func memberKey(id string) string        { return kindMember + "/" + id }
func keyspaceKey(name string) string    { return kindKeyspace + "/" + name }
func activeKey(keyspace string) string  { return kindActive + "/" + keyspace }
func shadowKey(keyspace string) string  { return kindShadow + "/" + keyspace }
func releaseKey(keyspace string) string { return kindRelease + "/" + keyspace }

// identityKey is per disk and not per node: the version of such a record is the boot, so that the latest boot wins in
// whatever order nodes hear of several; boots of different disks cannot be compared.
func identityKey(disk [16]byte) string { return kindIdentity + "/" + hex.EncodeToString(disk[:]) }

// bindingKey has a width for the epoch, so that keys sort like bindings.
func bindingKey(b Binding) string {
	return fmt.Sprintf("%s/%s/%d/%020d-%x", kindBinding, b.Keyspace, b.Generation, b.Epoch, b.SHA256)
}

// bindingBody is the body of a binding record; Version is not stored, it follows from the history.
type bindingBody struct {
	Keyspace   string `json:"keyspace"`
	Generation uint64 `json:"generation"`
	Epoch      uint64 `json:"epoch"`
	SHA256     hash   `json:"sha256"`
	Builtin    string `json:"builtin,omitempty"`
	Size       int    `json:"size"`
	ABI        string `json:"abi"`
	Time       uint64 `json:"time_ms"`
	Lawful     bool   `json:"lawful,omitempty"`
}

// activation is the body of an active record.
type activation struct {
	Keyspace   string `json:"keyspace"`
	Generation uint64 `json:"generation"`
	// None says that the keyspace has no resolver; then Epoch and SHA256 are zero.
	None   bool   `json:"none,omitempty"`
	Epoch  uint64 `json:"epoch,omitempty"`
	SHA256 hash   `json:"sha256"`
}

// shadowing is the body of a shadow record.
type shadowing struct {
	Keyspace   string `json:"keyspace"`
	Generation uint64 `json:"generation"`
	// None says that no candidate runs; then SHA256 is zero.
	None   bool `json:"none,omitempty"`
	SHA256 hash `json:"sha256"`
}

// release is the body of a release record.
type release struct {
	Keyspace   string `json:"keyspace"`
	Generation uint64 `json:"generation"`
	Epoch      uint64 `json:"epoch"`
	SHA256     hash   `json:"sha256"`
	// Count grows with each release of this binding.
	Count uint64 `json:"count"`
}

// identityBody is the body of an identity record.
type identityBody struct {
	Node        string `json:"node"`
	Disk        uuid   `json:"disk"`
	Incarnation uint32 `json:"incarnation"`
	Boot        uint64 `json:"boot"`
	Nonce       uuid   `json:"nonce"`
}

// hash and uuid are hex in JSON.
type (
	hash [32]byte
	uuid [16]byte
)

func (h hash) MarshalText() ([]byte, error)     { return hex.AppendEncode(nil, h[:]), nil }
func (h *hash) UnmarshalText(text []byte) error { return unhex(h[:], text) }
func (u uuid) MarshalText() ([]byte, error)     { return hex.AppendEncode(nil, u[:]), nil }
func (u *uuid) UnmarshalText(text []byte) error { return unhex(u[:], text) }

func unhex(dst, text []byte) error {
	if hex.DecodedLen(len(text)) != len(dst) {
		return fmt.Errorf("%d characters are no %d bytes in hex", len(text), len(dst))
	}
	_, err := hex.Decode(dst, text)
	return err
}

// contents are decoded records, as far as this version can read them.
type contents struct {
	members    []Member
	keyspaces  []Keyspace
	bindings   []Binding
	activated  []activation
	shadowed   []shadowing
	released   []release
	identities []identityBody
	// unreadable are the keys of records of a known kind with a body that cannot be right. They are passed on like all
	// others: a newer version may well read them.
	unreadable []string
}

// read decodes the record of one key into c.
func (c *contents) read(key string, body []byte) {
	ok := true
	switch kind, _, _ := strings.Cut(key, "/"); kind {
	case kindMember:
		var m Member
		if ok = json.Unmarshal(body, &m) == nil && m.check() && memberKey(m.ID) == key; ok {
			c.members = append(c.members, m)
		}
	case kindKeyspace:
		var k Keyspace
		if ok = json.Unmarshal(body, &k) == nil && k.check() == nil && keyspaceKey(k.Name) == key; ok {
			c.keyspaces = append(c.keyspaces, k)
		}
	case kindBinding:
		var b bindingBody
		if ok = json.Unmarshal(body, &b) == nil && b.Epoch <= maxVersion && bindingKey(b.binding()) == key; ok {
			c.bindings = append(c.bindings, b.binding())
		}
	case kindActive:
		var a activation
		if ok = json.Unmarshal(body, &a) == nil && activeKey(a.Keyspace) == key; ok {
			c.activated = append(c.activated, a)
		}
	case kindShadow:
		var h shadowing
		if ok = json.Unmarshal(body, &h) == nil && shadowKey(h.Keyspace) == key; ok {
			c.shadowed = append(c.shadowed, h)
		}
	case kindRelease:
		var r release
		if ok = json.Unmarshal(body, &r) == nil && releaseKey(r.Keyspace) == key; ok {
			c.released = append(c.released, r)
		}
	case kindIdentity:
		var i identityBody
		if ok = json.Unmarshal(body, &i) == nil && identityKey(i.Disk) == key; ok {
			c.identities = append(c.identities, i)
		}
	}
	if !ok {
		c.unreadable = append(c.unreadable, key)
	}
}

func (m Member) check() bool {
	switch m.Status {
	case Joining, Up, Leaving, Removed:
	default:
		return false
	}
	return config.IsName(m.ID)
}

// check returns an error that wraps ErrInvalid.
func (k Keyspace) check() error {
	switch {
	case !config.IsKeyspaceName(k.Name):
		return fmt.Errorf("keyspace %.64q: name: %w", k.Name, ErrInvalid)
	case k.Generation < 1 || k.Generation > maxVersion:
		return fmt.Errorf("keyspace %s: generation %d: %w", k.Name, k.Generation, ErrInvalid)
	case k.N < 1 || k.R < 1 || k.R > k.N || k.W < 1 || k.W > k.N:
		return fmt.Errorf("keyspace %s: N %d, R %d, W %d: %w", k.Name, k.N, k.R, k.W, ErrInvalid)
	case k.MaxValueBytes < 1:
		return fmt.Errorf("keyspace %s: values of %d bytes: %w", k.Name, k.MaxValueBytes, ErrInvalid)
	}
	return nil
}

func (b bindingBody) binding() Binding {
	return Binding{
		Keyspace: b.Keyspace, Generation: b.Generation, Epoch: b.Epoch, SHA256: b.SHA256, Builtin: b.Builtin, Size: b.Size,
		ABI: b.ABI, Time: b.Time, Lawful: b.Lawful,
	}
}

func (b Binding) body() bindingBody {
	return bindingBody{
		Keyspace: b.Keyspace, Generation: b.Generation, Epoch: b.Epoch, SHA256: b.SHA256, Builtin: b.Builtin, Size: b.Size,
		ABI: b.ABI, Time: b.Time, Lawful: b.Lawful,
	}
}
