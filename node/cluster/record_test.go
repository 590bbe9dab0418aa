package cluster

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func drawRecords(t *rapid.T, label string) records {
	rs := make(records)
	for range rapid.IntRange(0, 6).Draw(t, label) {
		key := rapid.SampledFrom([]string{"a", "b", "member/n1", "future/x"}).Draw(t, "key")
		rs[key] = record{
			version: rapid.Uint64Range(1, 3).Draw(t, "version"),
			writer:  rapid.SampledFrom([]string{"", "n1", "n2"}).Draw(t, "writer"),
			body:    []byte(rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "body")),
		}
	}
	return rs
}

func equal(a, b records) bool {
	return maps.EqualFunc(a, b, func(x, y record) bool { return !x.less(y) && !y.less(x) })
}

func join(a, b records) records {
	out, _ := a.join(b)
	return out
}

func TestJoinIsASemilattice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawRecords(t, "a"), drawRecords(t, "b"), drawRecords(t, "c")
		before := maps.Clone(a)
		if !equal(join(a, b), join(b, a)) {
			t.Fatal("not commutative")
		}
		if !equal(join(join(a, b), c), join(a, join(b, c))) {
			t.Fatal("not associative")
		}
		if !equal(join(a, a), a) || !equal(join(join(a, b), b), join(a, b)) {
			t.Fatal("not idempotent")
		}
		if _, grown := a.join(b); grown == equal(join(a, b), a) {
			t.Fatal("grown is wrong")
		}
		if !equal(a, before) {
			t.Fatal("join changed its receiver")
		}
	})
}

// Nodes that write and exchange in any order agree once each has heard of each.
func TestJoinConverges(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		nodes := make([]records, 4)
		for i := range nodes {
			nodes[i] = make(records)
		}
		names := []string{"n1", "n2", "n3", "n4"}
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			i, j := rapid.IntRange(0, 3).Draw(t, "i"), rapid.IntRange(0, 3).Draw(t, "j")
			if i != j {
				nodes[i] = join(nodes[i], nodes[j])
				continue
			}
			key := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key")
			next := maps.Clone(nodes[i])
			next[key] = record{version: nodes[i][key].version + 1, writer: names[i], body: []byte(rapid.String().Draw(t, "body"))}
			if nodes[i][key].less(next[key]) == false {
				t.Fatal("a write does not beat what it was made from")
			}
			nodes[i] = next
		}
		for range 2 { // once around to gather, once more to tell
			for i := range nodes {
				next := (i + 1) % len(nodes)
				nodes[next] = join(nodes[next], nodes[i])
			}
		}
		want, digest, err := document{"demo", 16, nodes[0]}.encode()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes[1:] {
			got, d, err := document{"demo", 16, n}.encode()
			if err != nil || d != digest || !bytes.Equal(got, want) {
				t.Fatal("nodes disagree")
			}
		}
	})
}

func TestDocumentRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := document{rapid.StringN(0, 20, 60).Draw(t, "cluster"), rapid.IntRange(0, 65536).Draw(t, "q"), drawRecords(t, "n")}
		b, _, err := d.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(b)
		if err != nil || got.cluster != d.cluster || got.partitions != d.partitions || !equal(got.records, d.records) {
			t.Fatalf("%v %+v", err, got)
		}
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		b[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		if _, err := decode(b); !errors.Is(err, ErrFormat) {
			t.Fatalf("a flipped byte was not seen: %v", err)
		}
	})
}

func TestDocumentGolden(t *testing.T) {
	t.Parallel()
	d := document{"demo", 256, records{
		"member/n1": {version: 1, body: []byte(`{"id":"n1"}`)},
		"future/x":  {version: 300, writer: "n2", body: []byte{0xff}},
	}}
	b, digest, err := d.encode()
	if err != nil {
		t.Fatal(err)
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	const want = "44595354" + "01" + "0464656d6f" + "8002" + "02" +
		"086675747572652f78" + "ac02" + "026e32" + "01ff" +
		"096d656d6265722f6e31" + "01" + "00" + "0b7b226964223a226e31227d"
	if got := hex.EncodeToString(body); got != want {
		t.Errorf("bytes\n%s, want\n%s", got, want)
	}
	if sha256.Sum256(body) != digest || !bytes.Equal(digest[:], sum) {
		t.Error("the checksum is not the digest")
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	many := make(records)
	for i := range maxRecords + 1 {
		many[hex.EncodeToString([]byte{byte(i >> 16), byte(i >> 8), byte(i)})] = record{version: 1}
	}
	big := make(records)
	for i := range 17 {
		big[hex.EncodeToString([]byte{byte(i)})] = record{version: 1, body: make([]byte, maxBodyBytes)}
	}
	for name, rs := range map[string]records{
		"records": many, "bytes": big, "key": {strings.Repeat("k", maxKeyBytes+1): {version: 1}},
		"body": {"k": {version: 1, body: make([]byte, maxBodyBytes+1)}}, "version": {"k": {version: maxVersion + 1}},
	} {
		if _, _, err := (document{"demo", 16, rs}).encode(); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := decode(make([]byte, maxStateBytes+1)); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
}

// seal appends the checksum, so that the fuzzer gets past it.
func seal(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(bytes.Clone(b), sum[:]...)
}

func FuzzDecode(f *testing.F) {
	born, err := birth(file(3))
	if err != nil {
		f.Fatal(err)
	}
	for _, rs := range []records{nil, born, {"future/x": {version: 9, writer: "n", body: []byte("z")}}} {
		b, _, err := document{"demo", 16, rs}.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:len(b)-sha256.Size])
	}
	f.Add([]byte("DYST\x01\x00\x10\xff\xff\xff\x7f"))
	f.Add([]byte("DYST\x01\x00\x10\x02\x01a\x01\x00\x00\x01a\x01\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := decode(b); err != nil && !errors.Is(err, ErrFormat) {
			t.Fatal(err)
		}
		sealed := seal(b)
		d, err := decode(sealed)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		again, _, err := d.encode()
		if err != nil || !bytes.Equal(again, sealed) {
			t.Fatalf("decode accepted what encode does not write: %v\n%x\n%x", err, sealed, again)
		}
		if v, err := newView(d, nil); err == nil && v.Ring == nil {
			t.Fatal("view without ring")
		}
	})
}

func FuzzBodies(f *testing.F) {
	f.Add("member/n1", []byte(`{"id":"n1","zone":"a","weight":1,"status":"up","joined":1}`))
	f.Add("keyspace/k", []byte(`{"name":"k","generation":1,"n":1,"r":1,"w":1,"max_value_bytes":1}`))
	f.Add("active/k", []byte(`{"keyspace":"k","generation":1,"epoch":1,"sha256":"00"}`))
	f.Add("binding/k/1/00000000000000000001-00", []byte(`{"keyspace":"k","generation":1,"epoch":1,"sha256":"00"}`))
	f.Add("identity/00", []byte(`{"disk":"00","boot":1}`))
	f.Fuzz(func(t *testing.T, key string, body []byte) {
		rs, err := birth(file(1))
		if err != nil {
			t.Fatal(err)
		}
		rs[key] = record{version: 2, writer: "n9", body: body}
		v, err := newView(document{"demo", 16, rs}, nil)
		if err != nil {
			return
		}
		v.DroppedIDs()
		for _, k := range v.Keyspaces() {
			v.Bindings(k.Name)
		}
	})
}
