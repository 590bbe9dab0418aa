package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"dynamo/node/causal"
	"dynamo/node/merkle"
	"dynamo/node/ring"
)

var allKinds = []Kind{
	KindPing, KindAck, KindFailure, KindRead, KindReadReply, KindApply, KindWrite, KindWriteReply,
	KindInspect, KindInspectReply, KindList, KindListReply, KindMetaSync, KindMetaSyncReply,
	KindModuleGet, KindModuleReply, KindModulePut,
	KindTreeCompare, KindTreeCompareReply, KindTreeDigests, KindTreeDigestsReply, KindTreeKeys, KindTreeKeysReply, KindObjectsGet, KindObjectsReply, KindObjectsPut, KindSettleBarrier, KindSettleBarrierReply, KindSettleFence, KindSettleFenceReply, KindSettleCheck, KindSettleCheckReply, KindSettleApply, KindSettleApplyReply, KindClaim, KindResolverAct, KindResolverActReply,
}

func sampleMessages() []Message {
	target := Target{Keyspace: "carts", KeyspaceID: 0x0102030405060708, Key: []byte("k\x00/")}
	hash := causal.Hash{0: 0xaa, 15: 0xbb}
	digest := [32]byte{0: 0xcc, 31: 0xdd}
	tree, sum := Tree{7, 0x0102030405060708}, merkle.Digest{Sum: [16]byte{0: 0xee, 15: 0xff}, Count: 2}
	return []Message{
		&Ping{},
		&Ack{},
		&Failure{Code: "overloaded", Detail: "busy", Retryable: true, MaybeStored: true},
		&Read{Target: target, Hints: true, WantObject: true, Known: hash},
		&ReadReply{Hash: hash, Object: []byte{1, 2, 3}, Unsure: true},
		&Apply{Target: target, Object: []byte{9}, HintFor: "n2", Buffered: true, Generation: 300},
		&Write{
			Target: target, Token: "AbC", Value: causal.Value{Bytes: []byte("v"), ContentType: "text/plain", TimeMs: 300, Deleted: true},
			W: 2, R: -1, Sloppy: true, IfMatch: `"x"`, IfNoneMatch: true, RequestID: "r1", Claim: 300,
		},
		&WriteReply{Object: []byte{7, 7}, Token: "tok"},
		&Inspect{Target: target},
		&InspectReply{Own: []byte{1}, Hints: []InspectHint{{For: "n3", Object: []byte{2}}, {For: "n4"}}},
		&List{Keyspace: "ks", KeyspaceID: 5, Prefix: []byte("p"), After: []byte("pa"), Limit: 100, Values: true, Conflicts: true},
		&ListReply{Entries: []ListEntry{{Key: []byte("a"), Object: []byte{1}}, {Key: []byte("b")}}, More: true},
		&MetaSync{Digest: digest, State: []byte{4, 5}},
		&MetaSyncReply{Digest: digest, State: []byte{6}},
		&ModuleGet{SHA256: digest},
		&ModuleReply{Found: true, Module: []byte("\x00asm")},
		&ModulePut{Module: []byte("\x00asm"), Config: []byte("c")},
		&ResolverAct{Act: ActShadow, Keyspace: "ks", SHA256: digest},
		&ResolverActReply{Done: true, Report: []byte("{}")},
		&TreeCompare{Roots: []TreeRoot{{tree, sum}}},
		&TreeCompareReply{Verdicts: []TreeVerdict{TreeEqual, TreeDiffers, TreeUnready}},
		&TreeDigests{Tree: tree, Branch: -1},
		&TreeDigestsReply{Digests: []merkle.Digest{sum, {}}},
		&TreeKeys{Tree: tree, From: 64, To: 4096, After: []byte("k")},
		&TreeKeysReply{Keys: []KeyHash{{[]byte("k"), hash}}, More: true},
		&ObjectsGet{KeyspaceID: 5, Keys: [][]byte{[]byte("k"), []byte("l")}},
		&ObjectsReply{Entries: []ListEntry{{Key: []byte("k"), Object: []byte{1}}, {Key: []byte("l")}}},
		&ObjectsPut{KeyspaceID: 5, Generation: 300, Entries: []ListEntry{{Key: []byte("k"), Object: []byte{1}}}},
		&SettleBarrier{},
		&SettleBarrierReply{Generation: 300},
		&SettleFence{Generations: []NodeGeneration{{"n1", 300}}},
		&SettleFenceReply{Hinted: []ring.Partition{7}},
		&SettleCheck{KeyspaceID: 5, Keys: [][]byte{[]byte("k")}},
		&SettleCheckReply{Copies: []SettleCopy{{hash, 300, causal.Actor{Node: causal.NodeID{1}, Incarnation: 2, Seq: 3}}, {}}},
		&SettleApply{KeyspaceID: 5, Items: []SettleItem{{[]byte("k"), hash, []byte{9}}, {Key: []byte("l"), Agreed: hash}}},
		&SettleApplyReply{Done: 2},
		&Claim{ID: 300},
	}
}

func TestGoldenBytes(t *testing.T) {
	const (
		target = "05" + "6361727473" + "0102030405060708" + "03" + "6b002f"
		hash   = "aa0000000000000000000000000000bb"
		digest = "cc000000000000000000000000000000000000000000000000000000000000dd"
	)
	want := map[Kind]string{
		KindPing:               "",
		KindAck:                "",
		KindFailure:            "03" + "0a" + "6f7665726c6f61646564" + "04" + "62757379",
		KindRead:               "03" + target + hash,
		KindReadReply:          hash + "03" + "010203" + "01",
		KindApply:              "03" + target + "02" + "6e32" + "01" + "09" + "ac02",
		KindWrite:              "07" + target + "03" + "416243" + "ac02" + "0a" + "746578742f706c61696e" + "01" + "76" + "04" + "01" + "03" + "227822" + "02" + "7231" + "ac02",
		KindWriteReply:         "02" + "0707" + "03" + "746f6b",
		KindInspect:            target,
		KindInspectReply:       "01" + "01" + "02" + "02" + "6e33" + "01" + "02" + "02" + "6e34" + "00",
		KindList:               "03" + "02" + "6b73" + "0000000000000005" + "01" + "70" + "02" + "7061" + "c801",
		KindListReply:          "01" + "02" + "01" + "61" + "01" + "01" + "01" + "62" + "00",
		KindMetaSync:           digest + "02" + "0405",
		KindMetaSyncReply:      digest + "01" + "06",
		KindModuleGet:          digest,
		KindModuleReply:        "01" + "04" + "0061736d",
		KindModulePut:          "04" + "0061736d" + "01" + "63",
		KindResolverAct:        "02" + "02" + "6b73" + digest,
		KindResolverActReply:   "01" + "02" + "7b7d",
		KindSettleBarrier:      "",
		KindClaim:              "ac02",
		KindTreeCompare:        "01000000070102030405060708ee0000000000000000000000000000ff0000000000000002",
		KindTreeCompareReply:   "03000102",
		KindTreeDigests:        "00000007010203040506070801",
		KindTreeDigestsReply:   "02ee0000000000000000000000000000ff0000000000000002000000000000000000000000000000000000000000000000",
		KindTreeKeys:           "000000070102030405060708408020016b",
		KindTreeKeysReply:      "0101016baa0000000000000000000000000000bb",
		KindObjectsGet:         "000000000000000502016b016c",
		KindObjectsReply:       "02016b0101016c00",
		KindObjectsPut:         "0000000000000005ac0201016b0101",
		KindSettleBarrierReply: "ac02",
		KindSettleFence:        "01026e31ac02",
		KindSettleFenceReply:   "0100000007",
		KindSettleCheck:        "000000000000000501016b",
		KindSettleCheckReply:   "02aa0000000000000000000000000000bbac0201010000000000000000000000000000000203000000000000000000000000000000000000",
		KindSettleApply:        "000000000000000502016baa0000000000000000000000000000bb0109016caa0000000000000000000000000000bb00",
		KindSettleApplyReply:   "02",
	}
	seen := map[Kind]bool{}
	for _, m := range sampleMessages() {
		seen[m.Kind()] = true
		b := m.AppendTo(nil)
		if got := hex.EncodeToString(b); got != want[m.Kind()] {
			t.Errorf("%s:\n got %s\nwant %s", m.Kind(), got, want[m.Kind()])
		}
		back, err := Decode(m.Kind(), b)
		if err != nil || !reflect.DeepEqual(back, m) {
			t.Errorf("%s decodes to %+v, %v; want %+v", m.Kind(), back, err, m)
		}
		for cut := range len(b) {
			if m.Kind() == KindReadReply && cut == len(b)-1 || m.Kind() == KindWrite && cut == len(b)-2 {
				continue // what comes last is optional
			}
			if _, err := Decode(m.Kind(), b[:cut]); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s cut at %d: %v", m.Kind(), cut, err)
			}
		}
		if _, err := Decode(m.Kind(), append(b, 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s with a byte too many: %v", m.Kind(), err)
		}
	}
	for i, k := range allKinds {
		if !seen[k] {
			t.Errorf("%s has no golden bytes", k)
		}
		if int(k) != i+1 {
			t.Errorf("%s changed its number to %d", k, k)
		}
	}
}

func genBytes(limit int) *rapid.Generator[[]byte] {
	return rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, limit), func(b []byte) []byte {
		if len(b) == 0 {
			return nil
		}
		return b
	})
}

func drawMessage(t *rapid.T) Message {
	bytesOf := func(name string) []byte { return genBytes(64).Draw(t, name) }
	text := func(name string) string { return rapid.StringN(0, 20, 40).Draw(t, name) }
	flag := func(name string) bool { return rapid.Bool().Draw(t, name) }
	target := Target{Keyspace: text("keyspace"), KeyspaceID: rapid.Uint64().Draw(t, "id"), Key: bytesOf("key")}
	var hash causal.Hash
	copy(hash[:], bytesOf("hash"))
	var digest [32]byte
	copy(digest[:], bytesOf("digest"))
	number := func(name string) int { return int(rapid.Int32().Draw(t, name)) }
	count := rapid.IntRange(0, 4).Draw(t, "count")
	k := rapid.SampledFrom(allKinds).Draw(t, "kind")
	switch k {
	case KindPing:
		return &Ping{}
	case KindAck:
		return &Ack{}
	case KindFailure:
		return &Failure{Code: text("code"), Detail: text("detail"), Retryable: flag("r"), MaybeStored: flag("m")}
	case KindRead:
		return &Read{Target: target, Hints: flag("h"), WantObject: flag("w"), Known: hash}
	case KindReadReply:
		return &ReadReply{Hash: hash, Object: bytesOf("object")}
	case KindApply:
		return &Apply{Target: target, Object: bytesOf("object"), HintFor: text("for"), Buffered: flag("b")}
	case KindWrite:
		return &Write{
			Target: target, Token: text("token"),
			Value: causal.Value{Bytes: bytesOf("value"), ContentType: text("type"), TimeMs: rapid.Uint64().Draw(t, "time"), Deleted: flag("d")},
			W:     number("w"), R: number("r"), Sloppy: flag("s"), IfMatch: text("im"), IfNoneMatch: flag("inm"), RequestID: text("id"),
		}
	case KindWriteReply:
		return &WriteReply{Object: bytesOf("object"), Token: text("token")}
	case KindInspect:
		return &Inspect{Target: target}
	case KindInspectReply:
		m := &InspectReply{Own: bytesOf("own")}
		for range count {
			m.Hints = append(m.Hints, InspectHint{text("for"), bytesOf("object")})
		}
		return m
	case KindList:
		return &List{Keyspace: text("ks"), KeyspaceID: 1, Prefix: bytesOf("p"), After: bytesOf("a"), Limit: number("l"), Values: flag("v"), Conflicts: flag("c")}
	case KindListReply:
		m := &ListReply{More: flag("more")}
		for range count {
			m.Entries = append(m.Entries, ListEntry{bytesOf("key"), bytesOf("object")})
		}
		return m
	case KindMetaSync:
		return &MetaSync{Digest: digest, State: bytesOf("state")}
	case KindMetaSyncReply:
		return &MetaSyncReply{Digest: digest, State: bytesOf("state")}
	case KindModuleGet:
		return &ModuleGet{SHA256: digest}
	case KindModuleReply:
		return &ModuleReply{Found: flag("found"), Module: bytesOf("module")}
	}
	switch k {
	case KindResolverAct:
		return &ResolverAct{Act: ActRelease, Keyspace: text("ks"), SHA256: digest}
	case KindResolverActReply:
		return &ResolverActReply{Done: flag("done"), Report: bytesOf("report")}
	}
	return &ModulePut{Module: bytesOf("module"), Config: bytesOf("config")}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMessage(t)
		prefix := []byte("before")
		b := m.AppendTo(prefix)
		if !bytes.HasPrefix(b, prefix) {
			t.Fatalf("AppendTo lost what was there")
		}
		back, err := Decode(m.Kind(), b[len(prefix):])
		if err != nil || !reflect.DeepEqual(back, m) {
			t.Fatalf("%s: got %+v, %v; want %+v", m.Kind(), back, err, m)
		}
	})
}

func TestBoundsOfFields(t *testing.T) {
	long := strings.Repeat("é", maxStringBytes)
	for name, m := range map[string]Message{
		"key":     &Inspect{Target{Key: make([]byte, maxKeyBytes+1)}},
		"string":  &Inspect{Target{Keyspace: long}},
		"token":   &WriteReply{Token: strings.Repeat("x", causal.MaxTokenBytes+1)},
		"integer": &List{Limit: 1 << 40},
	} {
		if _, err := Decode(m.Kind(), m.AppendTo(nil)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s out of bounds: %v", name, err)
		}
	}
	m, err := Decode(KindFailure, (&Failure{Code: "internal", Detail: long + "!"}).AppendTo(nil))
	if err != nil {
		t.Fatalf("a failure with a long detail got lost: %v", err)
	}
	if d := m.(*Failure).Detail; len(d) == 0 || len(d) > maxStringBytes || !utf8.ValidString(d) {
		t.Errorf("detail of %d bytes, valid %v", len(d), utf8.ValidString(d))
	}
	if _, err := Decode(KindListReply, []byte{0, 0xff, 0xff, 0xff, 0xff, 0x0f}); !errors.Is(err, ErrMalformed) {
		t.Errorf("a count beyond the end: %v", err)
	}
	if _, err := Decode(99, nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("an unknown kind: %v", err)
	}
}

// Every message has one encoding: what decodes encodes to the same bytes.
func FuzzDecode(f *testing.F) {
	for _, m := range sampleMessages() {
		f.Add(uint8(m.Kind()), m.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		m, err := Decode(Kind(kind), b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("error of no type: %v", err)
			}
			return
		}
		if m.Kind() != Kind(kind) {
			t.Fatalf("kind %d decodes to %s", kind, m.Kind())
		}
		if again := m.AppendTo(nil); !bytes.Equal(again, b) {
			t.Fatalf("%s: %x encodes to %x", m.Kind(), b, again)
		}
	})
}

// Before a node could be unsure a read reply ended after the object.
func TestOldReadReply(t *testing.T) {
	b, err := hex.DecodeString("aa0000000000000000000000000000bb" + "03" + "010203")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(KindReadReply, b)
	if err != nil || m.(*ReadReply).Unsure || len(m.(*ReadReply).Object) != 3 {
		t.Fatalf("%+v, %v", m, err)
	}
}

// Before there were generations an apply ended after the object.
func TestOldApply(t *testing.T) {
	b, err := hex.DecodeString("01" + "05" + "6361727473" + "0102030405060708" + "03" + "6b002f" + "02" + "6e32" + "01" + "09")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Decode(KindApply, b)
	if err != nil {
		t.Fatal(err)
	}
	if a := m.(*Apply); a.Generation != 0 || a.HintFor != "n2" || !a.Buffered || string(a.Object) != "\t" {
		t.Fatalf("%+v", a)
	}
}
