package gossip

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

func FuzzDecodeDigest(f *testing.F) {
	f.Add(encodeDigest("n1", [32]byte{1, 2}))
	f.Add([]byte{1, 255, 0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, d, ok := decodeDigest(b); ok && !bytes.Equal(encodeDigest(id, d), b) {
			t.Fatalf("%x", b)
		}
	})
}

func TestGossipFormatsGolden(t *testing.T) {
	t.Parallel()
	d := [32]byte{0: 0xaa, 31: 0xbb}
	for name, c := range map[string]struct{ got, want string }{
		"digest": {hex.EncodeToString(encodeDigest("n1", d)), "01026e31aa" + strings.Repeat("00", 30) + "bb"},
		"meta":   {hex.EncodeToString(nodeMeta("demo", 256)), "012a97516c354b6884" + "00000100"},
		"stream": {hex.EncodeToString(introduction("n1")), "d1026e31"},
		"key":    {hex.EncodeToString(gossipKey("demo", "s")), "4878f3ceef8dfbc020f20e9d7f90c0b78555f419b0362892eb8d3f0e286de719"},
		"label":  {clusterLabel("demo"), "dynamo/1/demo"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s, want %s", name, c.got, c.want)
		}
	}
	if name, err := readIntroduction(bytes.NewReader(introduction("n1"))); err != nil || name != "n1" {
		t.Error(name, err)
	}
	if _, err := readIntroduction(strings.NewReader("GET / HTTP/1.1")); err == nil {
		t.Error("HTTP is no introduction")
	}
}
