package store

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"dynamo/node/causal"
	"dynamo/node/record"
)

func goldenRecord() Record {
	a := causal.Actor{Node: causal.NodeID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, Incarnation: 2, Seq: 300}
	o, _ := causal.Object{}.Put(nil, a, causal.Value{Bytes: []byte("milk"), ContentType: "text/plain", TimeMs: 1000})
	return Record{Object: o, Own: a}
}

func TestGoldenBytes(t *testing.T) {
	key := mustKey(t, own(3, 0x0102030405060708, "cart"))
	replica := goldenRecord()
	replica.Own = causal.Actor{}
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"own key", key, "6f" + "00000003" + "0102030405060708" + "63617274"},
		{"hint key", mustKey(t, hintFor("n2", 3, 9, "cart")), "68" + "02" + "6e32" + "00000003" + "0000000000000009" + "63617274"},
		{"meta key", metaKey("members"), "6d" + "6d656d62657273"},
		{"module key", moduleKey([32]byte{1}), "77" + "01" + hex.EncodeToString(make([]byte, 31))},
		{
			"record", record.Append(nil, key, goldenRecord()),
			"0101" + "0102030405060708090a0b0c0d0e0f10" + "02" + "ac02" +
				"01" + "01" + "0102030405060708090a0b0c0d0e0f10" + "02" + "ac02" + "01" +
				"01" + "04" + "01000100" + "e807" + "0a746578742f706c61696e" + "046d696c6b" + "e6fa29ec",
		},
		{
			"replica record", record.Append(nil, key, replica),
			"0100" + "01" + "01" + "0102030405060708090a0b0c0d0e0f10" + "02" + "ac02" + "01" +
				"01" + "04" + "01000100" + "e807" + "0a746578742f706c61696e" + "046d696c6b" + "c5a36436",
		},
		{"blob", record.AppendBlob(nil, metaKey("members"), []byte("v")), "01" + "76" + "0a879499"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := hex.EncodeToString(c.got); got != c.want {
				t.Errorf("\n got %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestRecordRoundTrip(t *testing.T) {
	key := []byte("o-some-key")
	r := goldenRecord()
	for _, r := range []Record{r, {Object: r.Object}} {
		raw := record.Append([]byte("before"), key, r)[len("before"):]
		got, err := record.Decode(key, raw)
		if err != nil || got.Own != r.Own || !got.Object.Equal(r.Object) {
			t.Errorf("%v: got %v, %v", r, got, err)
		}
	}
}

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	key := mustKey(t, own(1, 2, "k"))
	raw := record.Append(nil, key, goldenRecord())
	for i := range len(raw) * 8 {
		bad := bytes.Clone(raw)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := record.Decode(key, bad); err == nil {
			t.Fatalf("bit %d flipped unnoticed", i)
		}
	}
	for n := range raw {
		if _, err := record.Decode(key, raw[:n]); err == nil {
			t.Fatalf("cut to %d bytes unnoticed", n)
		}
	}
	if _, err := record.Decode(mustKey(t, own(1, 2, "l")), raw); !errors.Is(err, record.ErrChecksum) {
		t.Errorf("record in another's place: %v", err)
	}
}

func TestRefKeys(t *testing.T) {
	for _, r := range []Ref{own(0, 0, ""), own(1<<32-1, 1<<64-1, "\xff\xff"), hintFor("n", 1, 2, ""), hintFor(string(make([]byte, 255)), 5, 6, "k")} {
		got, err := record.DecodeRef(mustKey(t, r))
		if err != nil || got.String() != r.String() || got.HintFor != r.HintFor {
			t.Errorf("%v: got %v, %v", r, got, err)
		}
	}
	if _, err := hintFor(string(make([]byte, 256)), 0, 0, "k").Encode(); err == nil {
		t.Error("node id of 256 bytes taken")
	}
}

func TestSuccessor(t *testing.T) {
	for _, c := range [][2]string{{"a", "b"}, {"a\xff", "b"}, {"a\xff\xff", "b"}, {"ab", "ac"}} {
		if got := record.Successor([]byte(c[0])); string(got) != c[1] {
			t.Errorf("record.Successor(%q) = %q, want %q", c[0], got, c[1])
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	key := []byte("o-key")
	f.Add(record.Append(nil, key, goldenRecord()))
	f.Add(record.Append(nil, key, Record{Object: goldenRecord().Object}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		// As found, and with a right record.Checksum, so that what is behind it is reached.
		sealed := b
		if len(b) >= record.ChecksumBytes {
			sum := record.Checksum(key, b[:len(b)-record.ChecksumBytes])
			sealed = append(bytes.Clone(b[:len(b)-record.ChecksumBytes]), byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
		}
		for _, b := range [][]byte{b, sealed} {
			if r, err := record.Decode(key, b); err == nil && !bytes.Equal(record.Append(nil, key, r), b) {
				t.Errorf("%x decodes to what encodes otherwise", b)
			}
			if v, err := record.DecodeBlob(key, b); err == nil && !bytes.Equal(record.AppendBlob(nil, key, v), b) {
				t.Errorf("%x decodes to a blob that encodes otherwise", b)
			}
		}
	})
}

func FuzzDecodeRef(f *testing.F) {
	f.Add([]byte("o\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01key"))
	f.Add([]byte("h\x02n1\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01key"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := record.DecodeRef(b)
		if err != nil {
			return
		}
		if got, err := r.Encode(); err != nil || !bytes.Equal(got, b) {
			t.Errorf("%x decodes to %v, which encodes to %x, %v", b, r, got, err)
		}
	})
}
