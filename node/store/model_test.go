package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"dynamo/node/record"
	"dynamo/node/ring"
)

// model is what the store should hold: the value under each ref, named by its database key.
type model map[string]string

// TestModel compares the store with a map, over random operations, clean reboots and crashes.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		m := &machine{fs: vfs.NewCrashableMem(), want: model{}, durable: model{}}
		m.open(rt)
		defer func() { _ = m.s.Close() }()
		rt.Repeat(map[string]func(*rapid.T){
			"update":     m.update,
			"deleteHint": m.deleteHint,
			"scan":       m.scan,
			"drop":       m.drop,
			"boot":       m.boot,
			"":           m.check,
		})
	})
}

type machine struct {
	fs *vfs.MemFS
	s  *Store
	// want is what is visible. durable is what has to be there after a crash: the log is sequential, so
	// each sync makes all durable, and without unsynced data nothing else is.
	want, durable model
}

func (m *machine) open(rt *rapid.T) {
	s, err := Open(testOptions(m.fs, 1))
	if err != nil {
		rt.Fatal(err)
	}
	m.s = s
}

// boot stops, by Close or by a crash, and opens again.
func (m *machine) boot(rt *rapid.T) {
	crash := rapid.Bool().Draw(rt, "crash")
	fs := m.fs
	if crash {
		fs = fs.CrashClone(vfs.CrashCloneCfg{})
	}
	if err := m.s.Close(); err != nil {
		rt.Fatal(err)
	}
	if crash {
		m.fs, m.want = fs, maps.Clone(m.durable)
	} else {
		m.durable = maps.Clone(m.want)
	}
	m.open(rt)
	if m.s.CleanBoot() == crash {
		rt.Fatalf("crash %t, clean boot %t", crash, m.s.CleanBoot())
	}
}

func (m *machine) ref(rt *rapid.T) Ref {
	return Ref{
		Partition: ring.Partition(rapid.IntRange(0, 2).Draw(rt, "partition")),
		Keyspace:  rapid.Uint64Range(1, 2).Draw(rt, "keyspace"),
		Key:       []byte(rapid.SampledFrom([]string{"", "a", "aa", "ab", "b", "\xff"}).Draw(rt, "key")),
		HintFor:   rapid.SampledFrom([]string{"", "", "n", "n2"}).Draw(rt, "for"),
	}
}

func refKey(rt *rapid.T, r Ref) string {
	k, err := r.Encode()
	if err != nil {
		rt.Fatal(err)
	}
	return string(k)
}

func (m *machine) update(rt *rapid.T) {
	ref := m.ref(rt)
	d := rapid.SampledFrom([]Durability{Sync, Buffered}).Draw(rt, "durability")
	to := rapid.SampledFrom([]string{"same", "gone", "x", "yy", "zzz"}).Draw(rt, "to")
	key := refKey(rt, ref)
	_, err := m.s.Update(context.Background(), ref, d, func(r Record) (Record, error) {
		if got := show(r); got != m.want[key] {
			rt.Fatalf("%s: fn sees %q, want %q", ref, got, m.want[key])
		}
		switch to {
		case "same":
			return r, nil
		case "gone":
			return Record{}, nil
		}
		return withValue(r, to), nil
	})
	if err != nil {
		rt.Fatal(err)
	}
	switch to {
	case "same":
		if d == Sync && !maps.Equal(m.want, m.durable) {
			m.wantDurable(rt, ref)
			m.settle(rt)
		}
		return
	case "gone":
		if _, there := m.want[key]; !there {
			return
		}
		delete(m.want, key)
	default:
		m.want[key] = to
	}
	if d == Sync {
		m.durable = maps.Clone(m.want)
	}
}

// wantDurable looks at one record as a crash at this moment would leave it.
func (m *machine) wantDurable(rt *rapid.T, ref Ref) {
	s, err := Open(testOptions(m.fs.CrashClone(vfs.CrashCloneCfg{}), 2))
	if err != nil {
		rt.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	r, err := s.Get(ref)
	if want := m.want[refKey(rt, ref)]; err != nil || show(r) != want {
		rt.Fatalf("%s: acknowledged as durable is %q, a crash leaves %q, %v", ref, want, show(r), err)
	}
}

// settle syncs all, so that the model knows what a crash leaves.
func (m *machine) settle(rt *rapid.T) {
	if err := m.s.PutMeta("settle", nil); err != nil {
		rt.Fatal(err)
	}
	m.durable = maps.Clone(m.want)
}

func (m *machine) deleteHint(rt *rapid.T) {
	ref := m.ref(rt)
	if ref.HintFor == "" {
		ref.HintFor = "n"
	}
	r, err := m.s.Get(ref)
	if err != nil {
		rt.Fatal(err)
	}
	stale := rapid.Bool().Draw(rt, "stale")
	hash := r.Object.Hash()
	if stale {
		hash[0]++
	}
	key := refKey(rt, ref)
	_, there := m.want[key]
	ok, err := m.s.DeleteHint(ref, hash)
	if err != nil || ok != (there && !stale) {
		rt.Fatalf("%s: deleted %t, %v; there %t, stale %t", ref, ok, err, there, stale)
	}
	if ok {
		delete(m.want, key)
		m.durable = maps.Clone(m.want)
	}
}

func (m *machine) drop(rt *rapid.T) {
	ks := rapid.Uint64Range(1, 2).Draw(rt, "keyspace")
	if err := m.s.DropKeyspaces([]uint64{ks}); err != nil {
		rt.Fatal(err)
	}
	maps.DeleteFunc(m.want, func(k, _ string) bool {
		r, err := record.DecodeRef([]byte(k))
		return err == nil && r.Keyspace == ks
	})
	m.settle(rt)
}

func (m *machine) scan(rt *rapid.T) {
	ref := m.ref(rt)
	prefix := rapid.SampledFrom([]string{"", "a", "b", "\xff"}).Draw(rt, "prefix")
	var after []byte
	if rapid.Bool().Draw(rt, "from") {
		after = ref.Key
	}
	var got, want []string
	err := m.s.Scan(ref.Partition, ref.Keyspace, []byte(prefix), after, func(key []byte, r Record) bool {
		got = append(got, string(key)+"="+show(r))
		return true
	})
	for _, k := range slices.Sorted(maps.Keys(m.want)) {
		r, _ := record.DecodeRef([]byte(k))
		if r.HintFor == "" && r.Partition == ref.Partition && r.Keyspace == ref.Keyspace &&
			strings.HasPrefix(string(r.Key), prefix) && (after == nil || string(r.Key) > string(after)) {
			want = append(want, string(r.Key)+"="+m.want[k])
		}
	}
	if err != nil || !slices.Equal(got, want) {
		rt.Fatalf("scan %q after %q: %q, %v; want %q", prefix, after, got, err, want)
	}
}

// check compares all of it.
func (m *machine) check(rt *rapid.T) {
	got := model{}
	hints := map[string]HintStat{}
	err := m.s.ScanHints("", func(h Hint) bool {
		got[refKey(rt, h.Ref)] = show(h.Record)
		st := hints[h.Ref.HintFor]
		if st.Count == 0 || h.First.Before(st.Oldest) {
			st.Oldest = h.First
		}
		hints[h.Ref.HintFor] = HintStat{Count: st.Count + 1, Bytes: st.Bytes + int64(h.Bytes), Oldest: st.Oldest}
		return true
	})
	for p := range 3 {
		for ks := range uint64(3) {
			e := m.s.Scan(ring.Partition(p), ks, nil, nil, func(key []byte, r Record) bool {
				got[refKey(rt, Ref{Partition: ring.Partition(p), Keyspace: ks, Key: key})] = show(r)
				return true
			})
			if e != nil {
				rt.Fatal(e)
			}
		}
	}
	if err != nil || !maps.Equal(got, m.want) {
		rt.Fatalf("holds %q, %v; want %q", got, err, m.want)
	}
	if st := m.s.HintStats(); !maps.Equal(st, hints) {
		rt.Fatalf("hint stats %v, want %v", st, hints)
	}
	if err := treesAgree(m.s); err != nil {
		rt.Fatal(err)
	}
}

func show(r Record) string {
	if r.Object.IsZero() {
		return ""
	}
	if n := len(r.Object.Versions); n != 1 {
		return fmt.Sprintf("%d versions", n)
	}
	return string(r.Object.Versions[0].Bytes)
}
