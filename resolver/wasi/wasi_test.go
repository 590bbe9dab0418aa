package wasi

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"testing"
)

// ram is a small linear memory.
type ram []byte

func (m ram) Read(at, n uint32) ([]byte, bool) {
	if uint64(at)+uint64(n) > uint64(len(m)) {
		return nil, false
	}
	return m[at : at+n : at+n], true
}

func (m ram) Write(at uint32, b []byte) bool {
	to, ok := m.Read(at, uint32(len(b)))
	copy(to, b)
	return ok
}

func (m ram) WriteUint32Le(at, v uint32) bool {
	return m.Write(at, binary.LittleEndian.AppendUint32(nil, v))
}

func (m ram) WriteUint64Le(at uint32, v uint64) bool {
	return m.Write(at, binary.LittleEndian.AppendUint64(nil, v))
}

// vectors puts addresses and lengths at address 0.
func (m ram) vectors(pairs ...uint32) {
	for i, v := range pairs {
		binary.LittleEndian.PutUint32(m[4*i:], v)
	}
}

func TestStandardInput(t *testing.T) {
	w, m := New(Options{Stdin: []byte("0123456789")}), make(ram, 256)
	read := Functions()["fd_read"]
	for _, want := range []string{"0123\x00\x0045", "6789\x00\x00", ""} {
		clear(m)
		m.vectors(100, 4, 106, 2)
		errno, stop := read.Call(w, m, []uint64{0, 0, 2, 64})
		n := binary.LittleEndian.Uint32(m[64:])
		got := bytes.TrimRight(m[100:108], "\x00")
		if errno != wasiSuccess || stop != nil || string(got) != string(bytes.TrimRight([]byte(want), "\x00")) {
			t.Errorf("errno %d, %d bytes, %q, want %q", errno, n, m[100:108], want)
		}
	}
	if errno, _ := read.Call(w, m, []uint64{1, 0, 1, 64}); errno != wasiBadFD {
		t.Errorf("standard output was read: %d", errno)
	}
}

func TestStandardOutputHasALimit(t *testing.T) {
	w, m := New(Options{MaxStdout: 10}), make(ram, 256)
	copy(m[100:], "abcdefgh")
	write := Functions()["fd_write"]
	for i, want := range []uint32{0, 0, exitOutput} {
		m.vectors(100, 2, 104, 3)
		_, stop := write.Call(w, m, []uint64{1, 0, 2, 64})
		if (stop != nil) != (want != 0) || stop != nil && stop.ExitCode != want {
			t.Errorf("write %d: %+v", i, stop)
		}
	}
	if out, over := w.Stdout(); string(out) != "abefgabefg" || !over {
		t.Errorf("%q, %v", out, over)
	}
	m.vectors(100, 8)
	for range 2 * MaxLogBytes / 8 {
		if errno, stop := write.Call(w, m, []uint64{2, 0, 1, 64}); errno != wasiSuccess || stop != nil {
			t.Fatal(errno, stop)
		}
	}
	if len(w.Log()) != MaxLogBytes {
		t.Errorf("%d bytes logged", len(w.Log()))
	}
	text := New(Options{})
	_, _ = write.Call(text, m, []uint64{1, 0, 1, 64})
	if out, _ := text.Stdout(); len(out) != 0 || string(text.Log()) != "abcdefgh" {
		t.Errorf("without an answer on standard output, it is the log: %q, %q", out, text.Log())
	}
}

// FuzzFunctions calls any function with any arguments: it answers, and the same in an equal world.
func FuzzFunctions(f *testing.F) {
	names := slices.Sorted(maps.Keys(Functions()))
	for i := range names {
		f.Add(uint8(i), uint32(0), uint32(16), uint32(2), uint32(128), []byte("0123456789abcdef0123456789abcdef0123456789abcdef"))
	}
	f.Fuzz(func(t *testing.T, which uint8, a, b, c, d uint32, memory []byte) {
		fn := Functions()[names[int(which)%len(names)]]
		args := make([]uint64, len(fn.Params))
		for i, v := range []uint32{a, b, c, d} {
			if i < len(args) {
				args[i] = uint64(v)
			}
		}
		one, two := slices.Clone(memory), slices.Clone(memory)
		options := Options{WallMs: 7, Seed: []byte("s"), Stdin: []byte("input"), MaxStdout: 5}
		w, v := New(options), New(options)
		e1, s1 := fn.Call(w, ram(one), args)
		e2, s2 := fn.Call(v, ram(two), args)
		if e1 != e2 || (s1 == nil) != (s2 == nil) || !bytes.Equal(one, two) || w.MonotonicNs() != v.MonotonicNs() {
			t.Fatalf("%d and %d, %v and %v", e1, e2, s1, s2)
		}
		if out, _ := w.Stdout(); e1 > 76 || len(out) > 5 || len(w.Log()) > MaxLogBytes || w.MonotonicNs() < clockTick {
			t.Fatalf("errno %d, output %q", e1, out)
		}
	})
}

// TestRandomNumbersAreAStream: several calls give what one does, so that a long one may be cut.
func TestRandomNumbersAreAStream(t *testing.T) {
	random := Functions()["random_get"]
	whole, pieces := make(ram, 3<<10), make(ram, 3<<10)
	draw := func(w *World, m ram, at, n uint64) {
		if errno, _ := random.Call(w, m, []uint64{at, n}); errno != 0 {
			t.Fatalf("error number %d", errno)
		}
	}
	one, many := New(Options{Seed: []byte("s")}), New(Options{Seed: []byte("s")})
	draw(one, whole, 5, 3000)
	draw(many, pieces, 5, 1024)
	draw(many, pieces, 5+1024, 1024)
	draw(many, pieces, 5+2048, 3000-2048)
	if !bytes.Equal(whole, pieces) {
		t.Error("the pieces differ from the whole")
	}
}
