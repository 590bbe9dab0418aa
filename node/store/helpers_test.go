package store

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"dynamo/node/causal"
	"dynamo/node/ring"
)

const testDir = "/data/n1"

// seeded returns a source of uuids that differs by seed.
func seeded(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

func testOptions(fs FS, seed byte) Options {
	return Options{Dir: testDir, FS: fs, Rand: seeded(seed), Now: time.Now, CacheBytes: 1 << 20}
}

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func mustClose(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func own(p ring.Partition, keyspace uint64, key string) Ref {
	return Ref{Partition: p, Keyspace: keyspace, Key: []byte(key)}
}

func hintFor(node string, p ring.Partition, keyspace uint64, key string) Ref {
	return Ref{Partition: p, Keyspace: keyspace, Key: []byte(key), HintFor: node}
}

// someActor is an actor of no store.
func someActor(n byte) causal.Actor {
	return causal.Actor{Node: causal.NodeID{n}, Incarnation: 1, Seq: uint64(n)}
}

// withValue returns r after one more write of value, which supersedes all others.
func withValue(r Record, value string) Record {
	if r.Own.IsZero() {
		r.Own = someActor(7)
	}
	r.Object, _ = r.Object.Put(r.Object.Context, r.Own, causal.Value{Bytes: []byte(value)})
	return r
}

// write is the update that adds a value.
func write(value string) func(Record) (Record, error) {
	return func(r Record) (Record, error) { return withValue(r, value), nil }
}

func same(r Record) (Record, error) { return r, nil }

func mustUpdate(t testing.TB, s *Store, ref Ref, d Durability, fn func(Record) (Record, error)) Record {
	t.Helper()
	r, err := s.Update(t.Context(), ref, d, fn)
	if err != nil {
		t.Fatalf("update %s: %v", ref, err)
	}
	return r
}

// valueOf is the one value of a record, "" if there is none.
func valueOf(t testing.TB, s *Store, ref Ref) string {
	t.Helper()
	r, err := s.Get(ref)
	if err != nil {
		t.Fatalf("get %s: %v", ref, err)
	}
	switch len(r.Object.Versions) {
	case 0:
		return ""
	case 1:
		return string(r.Object.Versions[0].Bytes)
	}
	t.Fatalf("%s has %d versions", ref, len(r.Object.Versions))
	return ""
}

func wantValue(t testing.TB, s *Store, ref Ref, want string) {
	t.Helper()
	if got := valueOf(t, s, ref); got != want {
		t.Errorf("%s = %q, want %q", ref, got, want)
	}
}

// putRaw goes behind the store's back.
func putRaw(t testing.TB, s *Store, key, raw []byte) {
	t.Helper()
	if err := s.db.Set(key, raw, nil); err != nil {
		t.Fatal(err)
	}
}

func mustKey(t testing.TB, r Ref) []byte {
	t.Helper()
	k, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// clone copies a whole file system of one store.
func clone(t testing.TB, fs FS) FS {
	t.Helper()
	to := vfs.NewCrashableMem()
	if ok, err := vfs.Clone(fs, to, "/data", "/data", vfs.CloneSync); err != nil || !ok {
		t.Fatal(ok, err)
	}
	return to
}

func numbered(i int) string { return fmt.Sprintf("k%05d", i) }
