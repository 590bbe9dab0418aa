package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"dynamo/node/causal"
	"dynamo/node/merkle"
	"dynamo/node/record"
	"dynamo/node/ring"
)

// treesAgree is the judge: it rebuilds every tree from the copies and compares memory, disk and index.
func treesAgree(s *Store) error {
	truth := make(map[TreeID]*merkle.Tree)
	entries := make(map[TreeID]int)
	err := s.scan([]byte{record.FamilyOwn}, []byte{record.FamilyOwn + 1}, func(ref Ref, r Record, _ int) bool {
		id := ref.Tree()
		if truth[id] == nil {
			truth[id] = &merkle.Tree{}
		}
		b := merkle.PositionOf(ref.Key).Branch()
		truth[id].SetBranch(b, truth[id].Branch(b).Add(merkle.Item(ref.Key, r.Object.Hash())))
		entries[id]++
		return true
	})
	if err != nil {
		return err
	}
	for _, id := range s.Trees() {
		want := truth[id]
		if want == nil {
			want = &merkle.Tree{}
		}
		if err := treeIs(s, id, want, entries[id]); err != nil {
			return fmt.Errorf("tree %v: %w", id, err)
		}
		delete(truth, id)
	}
	if len(truth) > 0 {
		return fmt.Errorf("%d trees are missing", len(truth))
	}
	return nil
}

func treeIs(s *Store, id TreeID, want *merkle.Tree, keys int) error {
	if root, sound := s.TreeRoot(id); root != want.Root() || !sound {
		return fmt.Errorf("root %v (sound: %t), want %v", root, sound, want.Root())
	}
	n := 0
	for b, d := range s.TreeBranches(id) {
		leaves, err := s.TreeLeaves(id, b)
		if err != nil {
			return err
		}
		var sum merkle.Digest
		for _, l := range leaves {
			sum = sum.Add(l)
		}
		if d != want.Branch(b) || sum != d {
			return fmt.Errorf("branch %d is %v, its leaves %v, want %v", b, d, sum, want.Branch(b))
		}
		raw, err := s.value(record.BranchKey(id, b))
		if err != nil {
			return err
		}
		stored := merkle.Digest{}
		if raw != nil {
			v, err := record.DecodeBlob(record.BranchKey(id, b), raw)
			if err != nil {
				return err
			}
			if stored, err = merkle.DecodeDigest(v); err != nil {
				return err
			}
		}
		if stored != d {
			return fmt.Errorf("branch %d is %v on the disk, %v in memory", b, stored, d)
		}
	}
	err := s.Entries(id, 0, merkle.Positions, nil, func(Entry) bool { n++; return true })
	if err == nil && n != keys {
		err = fmt.Errorf("%d entries for %d keys", n, keys)
	}
	return err
}

func mustAgree(t testing.TB, s *Store) {
	t.Helper()
	if err := treesAgree(s); err != nil {
		t.Fatal(err)
	}
}

func checkAll(t testing.TB, s *Store) (sum TreeCheck) {
	t.Helper()
	for _, id := range s.Trees() {
		c, err := s.CheckTree(t.Context(), id, func(int) {})
		if err != nil {
			t.Fatal(err)
		}
		sum.Copies += c.Copies
		sum.Entries += c.Entries
		sum.Stray += c.Stray
		sum.Branches += c.Branches
		sum.Corrupt = append(sum.Corrupt, c.Corrupt...)
	}
	return sum
}

func TestTreesSurviveCrashes(t *testing.T) {
	for seed := range byte(20) {
		fs := vfs.NewCrashableMem()
		s := mustOpen(t, testOptions(fs, seed))
		r := seeded(seed)
		for i := range 200 {
			ref := own(ring.Partition(r.Uint64()%3), 1+r.Uint64()%2, numbered(int(r.Uint64()%40)))
			d := Durability(r.Uint64() % 2)
			if r.Uint64()%5 == 0 {
				mustUpdate(t, s, ref, d, func(Record) (Record, error) { return Record{}, nil })
			} else {
				mustUpdate(t, s, ref, d, write(fmt.Sprint(i)))
			}
		}
		crashed := mustOpen(t, testOptions(fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(seed) * 5, RNG: rand.New(seeded(seed))}), seed))
		mustAgree(t, crashed)
		if !crashed.TreesInDoubt() {
			t.Fatal("an unclean boot does not doubt its trees")
		}
		if c := checkAll(t, crashed); c.Entries+c.Stray+c.Branches+len(c.Corrupt) > 0 {
			t.Fatalf("the check found %+v where all was right", c)
		}
		if err := crashed.TreesChecked(); err != nil || crashed.TreesInDoubt() {
			t.Fatal(err)
		}
	}
}

// forgetTrees makes the database one of a time before there were trees.
func forgetTrees(t *testing.T, s *Store) {
	t.Helper()
	for _, family := range []byte{record.FamilyIndex, record.FamilyTree} {
		if err := s.db.DeleteRange([]byte{family}, []byte{family + 1}, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.db.Delete(metaKey(metaTrees), pebble.Sync); err != nil {
		t.Fatal(err)
	}
}

func TestOldDatabaseGetsTrees(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, testOptions(fs, 1))
	for i := range 500 {
		mustUpdate(t, s, own(ring.Partition(i%4), uint64(1+i%2), numbered(i)), Buffered, write("v"))
	}
	forgetTrees(t, s)
	mustClose(t, s)

	s = mustOpen(t, testOptions(fs, 1))
	if !s.TreesInDoubt() || s.TreesChecked() == nil {
		t.Fatal("a database without trees does not doubt them")
	}
	if _, sound := s.TreeRoot(TreeID{Partition: 0, Keyspace: 1}); sound {
		t.Fatal("a tree that was never built is sound")
	}
	// Writes go on while the trees are made.
	for i := range 100 {
		mustUpdate(t, s, own(ring.Partition(i%4), uint64(1+i%2), numbered(i)), Buffered, write("w"))
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			_, err := s.Update(ctx, own(ring.Partition(i%4), uint64(1+i%2), numbered(i%700)), Buffered, write(fmt.Sprint(i)))
			if err != nil && ctx.Err() == nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	checkAll(t, s)
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	mustAgree(t, s)
	if err := s.TreesChecked(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	s = mustOpen(t, testOptions(fs, 1))
	if s.TreesInDoubt() {
		t.Fatal("a clean boot doubts complete trees")
	}
	mustAgree(t, s)
}

func TestCheckTreeMends(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewCrashableMem(), 1))
	id := TreeID{Partition: 2, Keyspace: 9}
	for i := range 50 {
		mustUpdate(t, s, own(2, 9, numbered(i)), Buffered, write("v"))
	}
	for _, key := range [][]byte{record.IndexKey(id, []byte(numbered(3))), mustKey(t, own(2, 9, numbered(4)))} {
		if err := s.db.Delete(key, nil); err != nil { // an entry lost, a copy lost
			t.Fatal(err)
		}
	}
	putRaw(t, s, record.IndexKey(id, []byte(numbered(5))), record.AppendEntry(nil, causal.Hash{1}, time.Unix(1, 0), 0))
	putRaw(t, s, record.IndexKey(id, []byte(numbered(6))), []byte("garbage"))
	putRaw(t, s, mustKey(t, own(2, 9, numbered(7))), []byte("garbage"))
	c := checkAll(t, s)
	if c.Copies != 49 || c.Entries != 3 || c.Stray != 1 || len(c.Corrupt) != 1 || string(c.Corrupt[0].Key) != numbered(7) {
		t.Fatalf("found %+v", c)
	}
	// The corrupt copy counts with what the index says it is, until it is repaired.
	if root, _ := s.TreeRoot(id); root.Count != 49 {
		t.Fatalf("root counts %d", root.Count)
	}
	if ok, err := s.DiscardCorrupt(own(2, 9, numbered(7))); !ok || err != nil {
		t.Fatal(ok, err)
	}
	mustAgree(t, s)
}

func TestEntries(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	o := testOptions(vfs.NewCrashableMem(), 1)
	o.Now = func() time.Time { return now }
	s := mustOpen(t, o)
	id := TreeID{Partition: 1, Keyspace: 5}
	for i := range 300 {
		mustUpdate(t, s, own(1, 5, numbered(i)), Buffered, write("v"))
	}
	mustUpdate(t, s, own(1, 6, "other"), Buffered, write("v"))
	now = now.Add(time.Hour)
	mustUpdate(t, s, own(1, 5, numbered(7)), Buffered, func(r Record) (Record, error) {
		r.Object, _ = r.Object.Put(r.Object.Context, r.Own, causal.Value{Deleted: true})
		return r, nil
	})
	mustUpdate(t, s, own(1, 5, numbered(8)), Buffered, func(r Record) (Record, error) {
		r.Object, _ = r.Object.Put(nil, r.Own, causal.Value{})
		return r, nil
	})
	mustUpdate(t, s, own(1, 5, numbered(9)), Buffered, same)
	var all []Entry
	if err := s.Entries(id, 0, merkle.Positions, nil, func(e Entry) bool { all = append(all, e); return true }); err != nil {
		t.Fatal(err)
	}
	if len(all) != 300 || !slices.IsSortedFunc(all, func(a, b Entry) int { return int(a.Position()) - int(b.Position()) }) {
		t.Fatalf("%d entries, or not in order", len(all))
	}
	for i, e := range all {
		r, err := s.Get(Ref{Partition: 1, Keyspace: 5, Key: e.Key})
		if err != nil || r.Object.Hash() != e.Hash {
			t.Fatalf("entry of %q: %v, %v", e.Key, e.Hash, err)
		}
		want := map[string]record.EntryFlags{numbered(7): EntryDeleted, numbered(8): EntrySiblings}[string(e.Key)]
		if e.Flags != want || e.Changed.Equal(now) != (want != 0) {
			t.Errorf("entry of %q: flags %d, changed %v", e.Key, e.Flags, e.Changed)
		}
		// Going on after any of them yields the rest.
		if i%50 == 0 {
			n := 0
			if err := s.Entries(id, e.Position(), merkle.Positions, e.Key, func(Entry) bool { n++; return true }); err != nil || n != 299-i {
				t.Fatalf("after entry %d come %d, %v", i, n, err)
			}
		}
	}
}

func TestDropKeyspaceWhileItIsWritten(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewCrashableMem(), 1))
	done := make(chan error, 1)
	go func() {
		for i := range 2000 {
			if _, err := s.Update(context.Background(), own(ring.Partition(i%4), 7, numbered(i%50)), Buffered, write("v")); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for range 20 {
		if err := s.DropKeyspaces([]uint64{7}); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.DropKeyspaces([]uint64{7}); err != nil {
			t.Fatal(err)
		}
	}
	mustAgree(t, s)
}

func TestGoldenEntry(t *testing.T) {
	b := record.AppendEntry(nil, causal.Hash{1, 2}, time.UnixMilli(300), EntrySiblings)
	if got := hex.EncodeToString(b); got != "0102"+"01020000000000000000000000000000"+"ac02" {
		t.Errorf("entry %s", got)
	}
	id := TreeID{Partition: 3, Keyspace: 5}
	if got := hex.EncodeToString(record.IndexKey(id, []byte("cart:7"))); got != "69"+"00000003"+"0000000000000005"+"087b"+"636172743a37" {
		t.Errorf("index key %s", got)
	}
	if got := hex.EncodeToString(record.BranchKey(id, 33)); got != "74"+"00000003"+"0000000000000005"+"21" {
		t.Errorf("branch key %s", got)
	}
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add(record.AppendEntry(nil, causal.Hash{1, 2}, time.UnixMilli(300), EntrySiblings))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := record.DecodeEntry(b)
		if err == nil {
			if again, err := record.DecodeEntry(record.AppendEntry(nil, e.Hash, e.Changed, e.Flags)); err != nil || again.Hash != e.Hash || !again.Changed.Equal(e.Changed) {
				t.Fatalf("%x: %v, %v", b, again, err)
			}
		} else if !errors.Is(err, record.ErrEntry) {
			t.Fatal(err)
		}
		if id, branch, err := record.DecodeBranchKey(b); err == nil && string(record.BranchKey(id, branch)) != string(b) {
			t.Fatalf("branch key %x is not canonical", b)
		}
	})
}
