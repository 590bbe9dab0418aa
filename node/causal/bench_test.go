package causal

import "testing"

// siblings returns an object with a blind write of each of n actors, values of 100 bytes.
func siblings(first, n int) Object {
	var o Object
	for i := range n {
		o, _ = o.Put(nil, Actor{NodeID{byte(first + i)}, 1, 1}, Value{Bytes: make([]byte, 100), ContentType: "application/json"})
	}
	return o
}

func BenchmarkJoinEqual(b *testing.B) {
	o, p := siblings(1, 1), siblings(1, 1)
	b.ReportAllocs()
	for b.Loop() {
		_ = o.Join(p)
	}
}

func BenchmarkJoinTwoSiblings(b *testing.B) {
	o, p := siblings(1, 1), siblings(2, 1)
	b.ReportAllocs()
	for b.Loop() {
		_ = o.Join(p)
	}
}

func BenchmarkPut(b *testing.B) {
	o := siblings(1, 2)
	own := o.Context[0].Actor
	v := Value{Bytes: make([]byte, 100)}
	b.ReportAllocs()
	for b.Loop() {
		o.Put(o.Context, own, v)
	}
}

func BenchmarkAppendObject(b *testing.B) {
	o := siblings(1, 2)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendObject(buf[:0], o)
	}
}

func BenchmarkDecodeObject(b *testing.B) {
	enc := AppendObject(nil, siblings(1, 2))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeObject(enc); err != nil {
			b.Fatal(err)
		}
	}
}
