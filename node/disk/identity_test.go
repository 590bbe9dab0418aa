package disk

import (
	"bytes"
	"encoding/hex"
	"testing"

	"dynamo/node/causal"
)

// The tests of what an identity does are those of package store: they need a database.

func TestGoldenIdentity(t *testing.T) {
	got := identityFile{
		Identity: Identity{Node: causal.NodeID{9, 8, 7}, Incarnation: 3, Boot: 5}, clean: true, seq: 77, state: [32]byte{0xaa},
	}.encode()
	want := "01" + "09080700000000000000000000000000" + "00000003" + "0000000000000005" + "01" + "000000000000004d" +
		"aa" + hex.EncodeToString(make([]byte, 31)) + "1b509a41"
	if hex.EncodeToString(got) != want {
		t.Errorf("\n got %x\nwant %s", got, want)
	}
}

func FuzzDecodeIdentity(f *testing.F) {
	f.Add(identityFile{Identity: Identity{Node: causal.NodeID{1}, Incarnation: 1, Boot: 1}, seq: 5}.encode())
	f.Add([]byte{identityV1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, err := decodeIdentity(b); err == nil && !bytes.Equal(id.encode(), b) {
			t.Errorf("%x decodes to what encodes otherwise", b)
		}
	})
}
