package ring

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestHash(t *testing.T) {
	for _, c := range []struct {
		keyspace, key string
		want          uint64
	}{
		{"carts", "alice", 0x27600531028f074e},
		{"", "", 0x6e340b9cffb37a98},
		{"a", "\x00\xff", 0x67f3083ac893ef3d},
	} {
		if got := Hash(c.keyspace, []byte(c.key)); got != c.want {
			t.Errorf("Hash(%q, %q) = %#x, want %#x", c.keyspace, c.key, got, c.want)
		}
	}
	if Hash("ab", []byte("c")) == Hash("a", []byte("bc")) {
		t.Error("the border between keyspace and key is not hashed")
	}
	rapid.Check(t, func(t *rapid.T) {
		keyspace := rapid.StringN(0, 60, 255).Draw(t, "keyspace")
		size := rapid.SampledFrom([]int{0, 1, 50, 1023, 1024, 1025, 1200, 1279, 1280, 5000}).Draw(t, "size")
		key := bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, size)
		sum := sha256.Sum256(slices.Concat([]byte{byte(len(keyspace))}, []byte(keyspace), key))
		if got, want := Hash(keyspace, key), binary.BigEndian.Uint64(sum[:]); got != want {
			t.Fatalf("got %#x, want %#x", got, want)
		}
	})
}

func TestPartitionIsTheTopOfTheHash(t *testing.T) {
	for _, q := range []int{MinPartitions, 256, MaxPartitions} {
		r := mustNew(t, q, fleet(3, 3, 3))
		if r.Q() != q {
			t.Errorf("Q() = %d, want %d", r.Q(), q)
		}
		width := uint64(1) << (64 - bits.TrailingZeros(uint(q)))
		for _, p := range []uint64{0, 1, uint64(q) / 2, uint64(q) - 1} {
			for _, hash := range []uint64{p * width, p*width + width - 1} {
				if got := r.Partition(hash); got != Partition(p) {
					t.Errorf("Q=%d: Partition(%#x) = %d, want %d", q, hash, got, p)
				}
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	ok := Member{ID: "a", Weight: 1, Joined: 1}
	with := func(change func(*Member)) []Member {
		m := ok
		change(&m)
		return []Member{{ID: "z", Weight: 1, Joined: 1}, m}
	}
	for name, c := range map[string]struct {
		q      int
		record []Member
		want   error
	}{
		"Q zero":             {0, []Member{ok}, ErrPartitions},
		"Q negative":         {-16, []Member{ok}, ErrPartitions},
		"Q too small":        {8, []Member{ok}, ErrPartitions},
		"Q too large":        {1 << 17, []Member{ok}, ErrPartitions},
		"Q no power of two":  {100, []Member{ok}, ErrPartitions},
		"nobody":             {16, nil, ErrNoMembers},
		"all left":           {16, []Member{{ID: "a", Weight: 1, Joined: 1, Left: 2}}, ErrNoMembers},
		"more than tokens":   {16, fleet(17, 1, 17), ErrTooManyMembers},
		"once more":          {16, fleet(17, 1, 3), ErrTooManyMembers},
		"no ID":              {16, with(func(m *Member) { m.ID = "" }), ErrMember},
		"no weight":          {16, with(func(m *Member) { m.Weight = 0 }), ErrMember},
		"negative weight":    {16, with(func(m *Member) { m.Weight = -1 }), ErrMember},
		"too heavy":          {16, with(func(m *Member) { m.Weight = MaxWeight + 1 }), ErrMember},
		"never joined":       {16, with(func(m *Member) { m.Joined = 0 }), ErrMember},
		"left before joined": {16, with(func(m *Member) { m.Joined, m.Left = 5, 4 }), ErrMember},
		"left as it joined":  {16, with(func(m *Member) { m.Joined, m.Left = 5, 5 }), ErrMember},
		"twice":              {16, []Member{ok, ok}, ErrMember},
		"twice at a time":    {16, []Member{{ID: "a", Weight: 1, Joined: 1, Left: 5}, {ID: "a", Weight: 1, Joined: 4}}, ErrMember},
	} {
		if r, err := New(c.q, c.record); !errors.Is(err, c.want) || r != nil {
			t.Errorf("%s: got %v, %v, want %v", name, r, err, c.want)
		}
	}
}

func TestOrderOfTheSliceDoesNotMatter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		q := drawQ(t)
		record, _ := drawHistory(t)
		shuffled := rapid.Permutation(record).Draw(t, "shuffled")
		given := slices.Clone(shuffled)
		if text(mustNew(t, q, record)) != text(mustNew(t, q, shuffled)) {
			t.Fatal("the ring depends on the order of the members")
		}
		if !slices.Equal(given, shuffled) {
			t.Fatal("New changed its argument")
		}
	})
}

// walk is the definition of the preference list, literally: the judge.
func walk(owners []string, zone map[string]string, p int) []string {
	var list []string
	for len(list) < len(zone) {
		used := make(map[string]bool) // zones of this round
		for d := range owners {
			o := owners[(p+d)%len(owners)]
			if !slices.Contains(list, o) && !used[zone[o]] {
				used[zone[o]] = true
				list = append(list, o)
			}
		}
	}
	return list
}

func TestPreferenceLists(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		q := drawQ(t)
		record, _ := drawHistory(t)
		r := mustNew(t, q, record)
		zone := make(map[string]string)
		replicas := make(map[string][]int)
		zones := make(map[string]bool)
		for _, m := range live(record) {
			zone[m.ID] = m.Zone
			zones[m.Zone] = true
			replicas[m.ID] = make([]int, len(live(record)))
		}
		owners := tokenOwners(r)
		for p := range owners {
			list := r.PreferenceList(Partition(p))
			if want := walk(owners, zone, p); !slices.Equal(list, want) {
				t.Fatalf("list of %d is %v, want %v", p, list, want)
			}
			first := make(map[string]bool)
			for i, id := range list {
				first[zone[id]] = true
				if len(first) != min(i+1, len(zones)) {
					t.Fatalf("the first %d of %v span %d of %d zones", i+1, list, len(first), len(zones))
				}
				for n := i; n < len(list); n++ {
					replicas[id][n]++
				}
			}
		}
		for id, counts := range replicas {
			for n, want := range counts {
				if got := r.Replicas(id, n+1); got != want {
					t.Fatalf("Replicas(%s, %d) = %d, want %d", id, n+1, got, want)
				}
			}
			if r.Tokens(id) != counts[0] || r.Tokens(id) == 0 {
				t.Fatalf("Tokens(%s) = %d, it owns %d", id, r.Tokens(id), counts[0])
			}
			if got := r.Replicas(id, 1000); got != q {
				t.Fatalf("Replicas(%s, 1000) = %d, want all %d", id, got, q)
			}
		}
		if r.Tokens("stranger") != 0 || r.Replicas("stranger", 3) != 0 || r.Replicas(record[0].ID, 0) != 0 {
			t.Fatal("a stranger, or nobody of none, has partitions")
		}
	})
}

func TestPreferenceListCannotGrowIntoTheNext(t *testing.T) {
	r := mustNew(t, 16, fleet(4, 2, 4))
	before := text(r)
	_ = append(r.PreferenceList(3), "intruder")
	if text(r) != before {
		t.Fatal("append to a list changed another")
	}
}

func TestDepartedMembersReturn(t *testing.T) {
	record := fleet(4, 2, 4)
	record[1].Left = 5
	record = append(record, Member{ID: record[1].ID, Zone: "elsewhere", Weight: 1, Joined: 6})
	if r := mustNew(t, 64, record); r.Tokens(record[1].ID) != 16 {
		t.Errorf("returned with %d tokens, want 16", r.Tokens(record[1].ID))
	}
	// Everybody leaves, then others come.
	record = []Member{
		{ID: "a", Weight: 1, Joined: 1, Left: 2}, {ID: "b", Weight: 1, Joined: 4}, {ID: "c", Weight: 3, Joined: 7},
	}
	if r := mustNew(t, 64, record); r.Tokens("b") != 16 || r.Tokens("c") != 48 {
		t.Errorf("b has %d tokens, c %d, want 16 and 48", r.Tokens("b"), r.Tokens("c"))
	}
}

// text is all of a ring: the owners in a row, and each preference list.
func text(r *Ring) string {
	var b strings.Builder
	for p := range Partition(r.Q()) {
		fmt.Fprintln(&b, p, strings.Join(r.PreferenceList(p), " "))
	}
	return b.String()
}

// A change of these values moves data in every cluster that is upgraded.
func TestGolden(t *testing.T) {
	record := []Member{
		{ID: "n1", Zone: "a", Weight: 1, Joined: 1},
		{ID: "n2", Zone: "b", Weight: 1, Joined: 1},
		{ID: "n3", Zone: "c", Weight: 1, Joined: 1, Left: 4},
		{ID: "n4", Zone: "a", Weight: 2, Joined: 3},
		{ID: "n5", Zone: "b", Weight: 1, Joined: 6, Left: 7},
		{ID: "n6", Zone: "b", Weight: 1, Joined: 7},
	}
	for _, c := range []struct {
		order        uint64
		owners, list string // list: of partition 5
	}{
		{1, "n1 n3 n2 n1 n3 n2 n3 n1 n2 n1 n2 n3 n1 n2 n3 n1", "n2 n3 n1"},
		{3, "n4 n4 n2 n1 n3 n4 n3 n1 n2 n4 n4 n3 n4 n2 n4 n1", "n4 n3 n2 n1"},
		{4, "n4 n4 n2 n1 n4 n4 n2 n1 n2 n4 n4 n1 n4 n2 n4 n1", "n4 n2 n1"},
		{6, "n4 n4 n5 n1 n4 n4 n2 n1 n2 n4 n5 n5 n4 n2 n4 n1", "n4 n2 n1 n5"},
		{7, "n4 n4 n6 n1 n4 n4 n2 n1 n2 n4 n6 n6 n4 n2 n4 n1", "n4 n2 n1 n6"},
	} {
		r := mustNew(t, 16, at(record, c.order))
		if got := strings.Join(tokenOwners(r), " "); got != c.owners {
			t.Errorf("after %d: owners\n%s, want\n%s", c.order, got, c.owners)
		}
		if got := strings.Join(r.PreferenceList(5), " "); got != c.list {
			t.Errorf("after %d: list of 5: %s, want %s", c.order, got, c.list)
		}
	}
	for _, c := range []struct {
		q, n, zones, birth int
		want               string
	}{
		{256, 3, 3, 3, "be7a2a154f87f6e6"},
		{256, 10, 1, 10, "2b26948f9e232e67"},
		{1024, 30, 3, 24, "5d588ce6b7df73dc"},
	} {
		record := fleet(c.n, c.zones, c.birth)
		record[1].Left = 100
		record[2].Weight = 3
		if got := fmt.Sprintf("%x", sha256.Sum256([]byte(text(mustNew(t, c.q, record))))); got[:16] != c.want {
			t.Errorf("%+v: got %s", c, got[:16])
		}
	}
}

func TestNoAllocation(t *testing.T) {
	r := mustNew(t, 256, fleet(5, 3, 5))
	key := bytes.Repeat([]byte{7}, 1024)
	total := 0
	if n := testing.AllocsPerRun(100, func() {
		total += len(r.PreferenceList(r.Partition(Hash("carts", key))))
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if total == 0 {
		t.Error("empty lists")
	}
}

func BenchmarkHash(b *testing.B) {
	for _, size := range []int{16, 1024} {
		b.Run(fmt.Sprintf("key=%dB", size), func(b *testing.B) {
			b.ReportAllocs()
			key := make([]byte, size)
			for b.Loop() {
				Hash("carts", key)
			}
		})
	}
}

func BenchmarkPreferenceList(b *testing.B) {
	r := benchmarkRing(b)
	b.ReportAllocs()
	hash := uint64(0)
	for b.Loop() {
		hash += 0x9e3779b97f4a7c15
		if len(r.PreferenceList(r.Partition(hash))) != 30 {
			b.Fatal("short list")
		}
	}
}

func BenchmarkNew(b *testing.B) {
	for _, c := range []struct{ q, birth int }{{256, 30}, {4096, 30}, {4096, 1}, {65536, 30}} {
		b.Run(fmt.Sprintf("Q=%d/joins=%d", c.q, 30-c.birth), func(b *testing.B) {
			b.ReportAllocs()
			record := fleet(30, 3, c.birth)
			for b.Loop() {
				if _, err := New(c.q, record); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
