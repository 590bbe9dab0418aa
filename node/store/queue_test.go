package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"dynamo/node/record"
)

func queueOf(t *testing.T, s *Store, node string) (keys string) {
	t.Helper()
	must(t, s.ScanQueue(node, 0, func(h Hint) bool { keys += string(h.Ref.Key); return true }))
	return keys
}

func TestQueueIsOldestFirstAndSurvivesACrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, testOptions(fs, 1))
	for _, k := range []string{"c", "a", "b"} {
		mustUpdate(t, s, hintFor("n2", 0, 1, k), Sync, write("v"))
	}
	c := mustUpdate(t, s, hintFor("n2", 0, 1, "c"), Sync, write("grown"))
	if got := queueOf(t, s, "n2"); got != "cab" {
		t.Errorf("order %q", got)
	}
	after := mustOpen(t, testOptions(fs.CrashClone(vfs.CrashCloneCfg{}), 2))
	mustUpdate(t, after, hintFor("n2", 0, 1, "0"), Sync, write("v"))
	if got := queueOf(t, after, "n2"); got != "cab0" {
		t.Errorf("order after a crash %q", got)
	}
	n, err := s.DeleteHints([]HintContent{{hintFor("n2", 0, 1, "c"), c.Object.Hash()}, {hintFor("n2", 0, 1, "a"), c.Object.Hash()}})
	if n != 1 || err != nil {
		t.Errorf("deleted %d, %v", n, err)
	}
	again := mustOpen(t, testOptions(fs.CrashClone(vfs.CrashCloneCfg{}), 3))
	if got := queueOf(t, again, "n2"); got != "ab" {
		t.Errorf("after a deletion and a crash %q", got)
	}
}

func TestManyDeletionsShareASync(t *testing.T) {
	s := mustOpen(t, testOptions(vfs.NewMem(), 1))
	var all []HintContent
	for i := range 100 {
		ref := hintFor("n2", 0, 1, numbered(i))
		all = append(all, HintContent{ref, mustUpdate(t, s, ref, Buffered, write("v")).Object.Hash()})
	}
	was := s.Stats().Syncs
	if n, err := s.DeleteHints(all); n != 100 || err != nil {
		t.Fatal(n, err)
	}
	if got := s.Stats().Syncs - was; got != 1 || len(s.HintStats()) != 0 {
		t.Errorf("%d syncs, left %v", got, s.HintStats())
	}
}

func TestHintsOfEarlierReleasesGetAPlace(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, testOptions(fs, 1))
	for _, k := range []string{"b", "a"} {
		ref := hintFor("n2", 0, 1, k)
		r := withValue(Record{}, "v")
		putRaw(t, s, mustKey(t, ref), record.Append(nil, mustKey(t, ref), r))
	}
	mustClose(t, s)
	s = mustOpen(t, testOptions(fs, 2))
	if got := queueOf(t, s, "n2"); got != "ab" || s.HintStats()["n2"].Count != 2 || s.HintStats()["n2"].Oldest.IsZero() {
		t.Errorf("queue %q, %v", got, s.HintStats())
	}
}

func TestHintMaxBytes(t *testing.T) {
	o := testOptions(vfs.NewMem(), 1)
	o.HintMaxBytes = 200
	s := mustOpen(t, o)
	mustUpdate(t, s, hintFor("n2", 0, 1, "a"), Sync, write("v"))
	if _, err := s.Update(t.Context(), hintFor("n3", 0, 1, "b"), Sync, write(string(make([]byte, 200)))); !errors.Is(err, ErrHintsFull) {
		t.Errorf("over the limit: %v", err)
	}
	mustUpdate(t, s, own(0, 1, "b"), Sync, write(string(make([]byte, 200))))
	if st := s.HintStats(); len(st) != 1 {
		t.Errorf("%v", st)
	}
}

func TestQueueGolden(t *testing.T) {
	k := record.QueueKey("n2", 5)
	v := record.QueueEntry(k, record.Place{Seq: 5, FirstMs: 9}, mustKey(t, hintFor("n2", 3, 9, "c")))
	if got := fmt.Sprintf("%x", k); got != "71026e320000000000000005" {
		t.Errorf("key %s", got)
	}
	if got := fmt.Sprintf("%x", v[:len(v)-record.ChecksumBytes]); got != "01"+"0000000000000009"+"68026e32"+"00000003"+"0000000000000009"+"63" {
		t.Errorf("entry %s", got)
	}
	if p, _, err := record.DecodeQueueEntry(k, v); err != nil || p != (record.Place{Seq: 5, FirstMs: 9}) || !p.Time().Equal(time.UnixMilli(9)) {
		t.Error(p, err)
	}
}

func FuzzQueueEntry(f *testing.F) {
	k := record.QueueKey("n2", 5)
	f.Add(k, record.QueueEntry(k, record.Place{Seq: 5, FirstMs: 9}, []byte("h\x02n2aaaabbbbbbbbc")))
	f.Fuzz(func(_ *testing.T, key, raw []byte) {
		_, _, _ = record.DecodeQueueEntry(key, raw)
		_, _, _ = record.DecodeQueueEntry(key, record.AppendBlob(nil, key, raw))
	})
}
