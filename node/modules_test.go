package node

import "testing"

// metas is a metaStore in memory.
type metas map[string][]byte

func (m metas) Meta(name string) ([]byte, bool, error) {
	b, ok := m[name]
	return b, ok, nil
}

func (m metas) PutMeta(name string, value []byte) error {
	m[name] = value
	return nil
}

func TestVerdicts(t *testing.T) {
	disk := metas{}
	f := verdicts{disk}
	sha, other := [32]byte{0xab, 1}, [32]byte{2}
	if err := f.Put(other, ""); err != nil || len(disk) != 0 {
		t.Errorf("%v, %v", disk, err)
	}
	if err := f.Put(sha, "too slow"); err != nil {
		t.Fatal(err)
	}
	const name = "module-verdict/ab01000000000000000000000000000000000000000000000000000000000000"
	if string(disk[name]) != "\x01too slow" {
		t.Errorf("on disk %q", disk)
	}
	if reason, ok, err := f.Get(sha); reason != "too slow" || !ok || err != nil {
		t.Errorf("%q, %v, %v", reason, ok, err)
	}
	if err := f.Put(sha, ""); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := f.Get(sha); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	disk[name] = []byte{9}
	if _, _, err := f.Get(sha); err == nil {
		t.Error("another version was read")
	}
	if err := f.Put(sha, ""); err != nil || len(disk[name]) != 0 {
		t.Errorf("%v, %v", disk, err)
	}
}
