package resolver

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"dynamo/resolver/wasi"
)

// tick is how far the monotonic clock goes at each look, in ns.
const tick = 1000

// wasiModuleOf answers with the 32 bytes at 64 after the code, which can call the
// imports by number, has run. The answer's frame is in place already.
func wasiModuleOf(imports []imp, code []byte) asm {
	n := len(imports)
	head := slices.Concat(binary.LittleEndian.AppendUint32(nil, 0), make([]byte, 4), binary.LittleEndian.AppendUint32(nil, 32))
	a := resolverModule(nil, slices.Concat(code, i64(52<<32|int64(12+32))))
	a.imports = imports
	a.exports = []exp{{"memory", 2, 0}, {"dynamo_alloc", 0, n}, {"dynamo_resolve_v1", 0, n + 1}}
	a.data = vec(slices.Concat([]byte{0}, i32(52), []byte{opEnd}, str(string(head))))
	return a
}

func (a asm) answer(t *testing.T, req Request) []byte {
	t.Helper()
	m := mustCompile(t, newRuntime(t, testLimits()), a.build())
	got, _, err := m.Merge(t.Context(), req, 100)
	if err != nil {
		t.Fatal(err)
	}
	return got.Payload
}

func wasiImport(name string) imp {
	return imp{wasi.Module, name, wasi.Functions()[name].Params, "i"}
}

func TestClockIsTheNewestSiblings(t *testing.T) {
	read := func(clock int64, at int64) []byte {
		return slices.Concat(i32(clock), i64(0), i32(at), call0(0), ops(0x1a))
	}
	code := slices.Concat(read(0, 64), read(1, 72), read(0, 80), read(1, 88))
	b := wasiModuleOf([]imp{wasiImport("clock_time_get")}, code).answer(t, twoSiblings())
	for i, want := range []uint64{7_000_000, tick, 7_000_000, 2 * tick} {
		if got := binary.LittleEndian.Uint64(b[8*i:]); got != want {
			t.Errorf("look %d: %d, want %d", i, got, want)
		}
	}
}

func TestRandomIsAFunctionOfTheRequest(t *testing.T) {
	code := slices.Concat(i32(64), i32(32), call0(0), ops(0x1a))
	a := wasiModuleOf([]imp{wasiImport("random_get")}, code)
	one, again := a.answer(t, twoSiblings()), a.answer(t, twoSiblings())
	if !bytes.Equal(one, again) || bytes.Equal(one, make([]byte, 32)) {
		t.Errorf("% x, then % x", one, again)
	}
	other := twoSiblings()
	other.Key = []byte("l")
	if bytes.Equal(one, a.answer(t, other)) {
		t.Error("another request got the same bytes")
	}
}

func TestSleepTakesNoTime(t *testing.T) {
	// One subscription at 128: the monotonic clock in an hour. Then the clock is read.
	const hour = 3600 * 1_000_000_000
	code := slices.Concat(
		i32(128), i32(1), ops(0x36, 2, 16), // clock id
		i32(128), i64(hour), ops(0x37, 3, 24),
		i32(128), i32(256), i32(1), i32(64), call0(0), ops(0x1a),
		i32(1), i64(0), i32(72), call0(1), ops(0x1a),
	)
	b := wasiModuleOf([]imp{wasiImport("poll_oneoff"), wasiImport("clock_time_get")}, code).answer(t, twoSiblings())
	if n := binary.LittleEndian.Uint32(b); n != 1 {
		t.Errorf("%d events", n)
	}
	if now := binary.LittleEndian.Uint64(b[8:]); now != hour+tick {
		t.Errorf("the clock shows %d", now)
	}
}

func TestHostRefusesWildAddresses(t *testing.T) {
	for name, f := range wasi.Functions() {
		if name == "proc_exit" {
			continue
		}
		// All parameters -1, then clocks and descriptors that exist with the rest -1.
		for _, first := range []int64{-1, 0, 1} {
			var code []byte
			for i, p := range f.Params {
				v := int64(-1)
				if i == 0 {
					v = first
				}
				if p == 'i' {
					code = append(code, i32(v)...)
				} else {
					code = append(code, i64(v)...)
				}
			}
			code = slices.Concat(i32(64), code, call0(0), ops(0x36, 2, 0))
			b := wasiModuleOf([]imp{{wasi.Module, name, f.Params, "i"}}, code).answer(t, twoSiblings())
			if errno := binary.LittleEndian.Uint32(b); errno > 76 {
				t.Errorf("%s gave error number %d", name, errno)
			}
		}
	}
}

func TestExitIsAFailure(t *testing.T) {
	for _, status := range []int64{0, 1, 0xefffffff - 1<<32} {
		a := wasiModuleOf([]imp{{wasi.Module, "proc_exit", "i", ""}}, slices.Concat(i32(status), call0(0)))
		m := mustCompile(t, newRuntime(t, testLimits()), a.build())
		if _, _, err := m.Merge(t.Context(), twoSiblings(), 100); CodeOf(err) != CodeExit {
			t.Errorf("exit(%d): got %v", status, err)
		}
	}
}
