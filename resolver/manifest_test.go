package resolver

import (
	"crypto/sha256"
	"testing"
)

func TestManifest(t *testing.T) {
	module, config := []byte("m"), []byte("c")
	b := Manifest(module, config)
	if sha256.Sum256(b) != Identity(module, config) || Identity(module, nil) != sha256.Sum256(module) {
		t.Error("a manifest does not hash to the identity")
	}
	m, c, ok := ParseManifest(b)
	if !ok || m != sha256.Sum256(module) || c != sha256.Sum256(config) {
		t.Errorf("%x %x %v", m, c, ok)
	}
	for _, bad := range [][]byte{nil, b[:len(b)-1], append(b, 0), b[1:], []byte("\x00asm\x01\x00\x00\x00")} {
		if _, _, ok := ParseManifest(bad); ok {
			t.Errorf("%q is taken for a manifest", bad)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add(Manifest([]byte("m"), []byte("c")))
	f.Add([]byte(identityTag))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, c, ok := ParseManifest(b)
		if ok && string(b) != identityTag+string(m[:])+string(c[:]) {
			t.Fatalf("%q", b)
		}
	})
}
