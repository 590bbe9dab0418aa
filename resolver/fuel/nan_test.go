package fuel_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"testing"
)

const (
	canonical32 = 0x7fc00000
	canonical64 = 0x7ff8000000000000
)

func f32bits(bits uint32) []byte { return binary.LittleEndian.AppendUint32([]byte{0x43}, bits) }

func v128(lo, hi uint64) []byte {
	b := binary.LittleEndian.AppendUint64([]byte{0xfd, 0x0c}, lo)
	return binary.LittleEndian.AppendUint64(b, hi)
}

// strange are operands that give NaNs of all kinds, among them signalling and
// negative ones and ones with a payload.
func strange64() []uint64 {
	return []uint64{
		0, 1 << 63, math.Float64bits(1.5), math.Float64bits(-1), math.Float64bits(math.Inf(1)), math.Float64bits(math.Inf(-1)),
		canonical64, canonical64 | 1<<63, 0x7ff0000000000001, 0xfff8000000001234, 0xfff4000000000000, 1, math.Float64bits(1e300),
	}
}

func strange32() []uint32 {
	return []uint32{
		0, 1 << 31, math.Float32bits(1.5), math.Float32bits(-1), 0x7f800000, 0xff800000,
		canonical32, canonical32 | 1<<31, 0x7f800001, 0xffc01234, 0xffa00000, 1, 0x7f000000,
	}
}

func isNaN64(b uint64) bool { return b&^(1<<63) > 0x7ff0000000000000 }
func isNaN32(b uint32) bool { return b&^(1<<31) > 0x7f800000 }

// TestNaNsAreCanonical runs every operation of floats on strange operands,
// before and after: what is no NaN stays as it is, NaNs of arithmetic become
// the canonical one, and operations on bits keep theirs.
func TestNaNsAreCanonical(t *testing.T) {
	t.Parallel()
	m := newMachine(t, false, "")
	for op := byte(0x8b); op <= 0xa6; op++ {
		double := op >= 0x99
		first := byte(0x8b)
		if double {
			first = 0x99
		}
		binaryOp := op-first >= 7
		bitsOnly := op-first <= 1 || op-first == 13 // abs, neg, copysign
		typ, back := "f", byte(0xbc)
		if double {
			typ, back = "F", 0xbd
		}
		params, code := typ, get(0)
		if binaryOp {
			params, code = typ+typ, seq(get(0), get(1))
		}
		result := map[string]string{"f": "i", "F": "I"}[typ]
		before, after := pair(t, m, one(params, result, nil, seq(code, ops(op, back))).build())
		compareFloats(t, fmt.Sprintf("%#x", op), before(0, 0), after(plenty, 0), double, binaryOp, bitsOnly)
	}
}

func compareFloats(t *testing.T, name string, a, b run, double, binaryOp, bitsOnly bool) {
	t.Helper()
	var operands []uint64
	for _, x := range strange32() {
		operands = append(operands, uint64(x))
	}
	if double {
		operands = strange64()
	}
	for _, x := range operands {
		for _, y := range operands {
			args := []uint64{x}
			if binaryOp {
				args = append(args, y)
			}
			want, err := a.call("f", args...)
			if err != nil {
				t.Fatal(err)
			}
			got, err := b.call("f", args...)
			if err != nil {
				t.Fatal(err)
			}
			w, g := want[0], got[0]
			if !bitsOnly && double && isNaN64(w) {
				w = canonical64
			}
			if !double {
				if w, g = uint64(uint32(w)), uint64(uint32(g)); !bitsOnly && isNaN32(uint32(w)) {
					w = canonical32
				}
			}
			if g != w {
				t.Errorf("%s(%x) = %x, want %x", name, args, g, w)
			}
		}
	}
}

// TestConversionsOfNaN covers demotion and promotion.
func TestConversionsOfNaN(t *testing.T) {
	t.Parallel()
	m := newMachine(t, false, "")
	_, demote := pair(t, m, one("F", "i", nil, seq(get(0), ops(0xb6, 0xbc))).build())
	_, promote := pair(t, m, one("f", "I", nil, seq(get(0), ops(0xbb, 0xbd))).build())
	d, p := demote(plenty, 0), promote(plenty, 0)
	for _, x := range strange64() {
		got, err := d.call("f", x)
		if err != nil {
			t.Fatal(err)
		}
		want := math.Float32bits(float32(math.Float64frombits(x)))
		if isNaN64(x) {
			want = canonical32
		}
		if uint32(got[0]) != want {
			t.Errorf("demote(%x) = %x, want %x", x, got[0], want)
		}
	}
	for _, x := range strange32() {
		got, err := p.call("f", uint64(x))
		if err != nil {
			t.Fatal(err)
		}
		want := math.Float64bits(float64(math.Float32frombits(x)))
		if isNaN32(x) {
			want = canonical64
		}
		if got[0] != want {
			t.Errorf("promote(%x) = %x, want %x", x, got[0], want)
		}
	}
}

// TestVectorNaNs does the same for vectors.
func TestVectorNaNs(t *testing.T) {
	t.Parallel()
	m := newMachine(t, false, "")
	unary32, binary32 := []byte{0x67, 0x68, 0x69, 0x6a, 0xe3}, []byte{0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9}
	unary64, binary64 := []byte{0x74, 0x75, 0x7a, 0x94, 0xef}, []byte{0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5}
	for _, op := range slices.Concat(unary32, binary32, unary64, binary64) {
		double := slices.Contains(unary64, op) || slices.Contains(binary64, op)
		two := slices.Contains(binary32, op) || slices.Contains(binary64, op)
		splat := seq(get(0), ops(0xbe, 0xfd, 0x13))
		other := seq(get(1), ops(0xbe, 0xfd, 0x13))
		params, result, lane := "ii", "i", ops(0xfd, 0x1b, 3)
		if double {
			splat, other = seq(get(0), ops(0xbf, 0xfd, 0x14)), seq(get(1), ops(0xbf, 0xfd, 0x14))
			params, result, lane = "II", "I", ops(0xfd, 0x1d, 1)
		}
		code := splat
		if two {
			code = seq(code, other)
		}
		code = seq(code, ops(0xfd, op))
		if op >= 0x80 {
			code = append(code, 1)
		}
		before, after := pair(t, m, one(params, result, nil, seq(code, lane)).build())
		compareFloats(t, fmt.Sprintf("0xfd %#x", op), before(0, 0), after(plenty, 0), double, true, false)
	}
}

// TestNaNsInChains covers results that are not replaced because the next
// instruction does not see their bits, and such that look alike.
func TestNaNsInChains(t *testing.T) {
	t.Parallel()
	m := newMachine(t, false, "")
	zero, inf := f64bits(0), f64bits(math.Float64bits(math.Inf(1)))
	nan := seq(inf, zero, ops(0xa2)) // f64.mul
	nan32 := seq(f32bits(0x7f800000), f32bits(0), ops(0x94))
	vnan := seq(v128(0x7ff0000000000000, 0x7ff0000000000000), v128(0, 0), ops(0xfd, 0xf2, 1))
	for name, c := range map[string]struct {
		code []byte
		want uint64
		nans int
	}{
		"sum":               {seq(f64bits(1), nan, ops(0xa0, 0xbd)), canonical64, 1},
		"first operand":     {seq(nan, f64bits(1), ops(0xa0, 0xbd)), canonical64, 2},
		"sign":              {seq(nan, ops(0x9a, 0xbd)), canonical64 | 1<<63, 1},
		"copysign":          {seq(f64bits(1), nan, ops(0xa6, 0xbd)), 1, 1},
		"compared":          {seq(f64bits(1), nan, ops(0x61, 0xad)), 0, 0},
		"truncated":         {seq(nan, ops(0xfc, 6)), 0, 0},
		"demoted, promoted": {seq(nan, ops(0xb6, 0xbb, 0xbd)), canonical64, 1},
		"f32":               {seq(nan32, ops(0xbb, 0xbd)), canonical64, 1},
		"local":             {seq(nan, ops(0x21, 0, 0x20, 0, 0xbd)), canonical64, 1},
		"other lanes": {
			seq(vnan, v128(0, 0), ops(0xfd, 0xe4, 1, 0xfd, 0x1d, 0)),
			0x7fc0000000000000, 2,
		}, // f32x4.add takes the upper half of a double for a NaN of its own
		"same lanes": {seq(v128(0, 0), vnan, ops(0xfd, 0xf0, 1, 0xfd, 0x1d, 0)), canonical64, 1},
	} {
		module := one("", "I", seq(leb(1), leb(1), ops(0x7c)), c.code).build()
		if res := mustRewrite(t, module, options()); res.Info.NaNs != c.nans {
			t.Errorf("%s: %d replaced, want %d", name, res.Info.NaNs, c.nans)
		}
		_, after := pair(t, m, module)
		r := after(plenty, 0)
		got, err := r.call("f")
		if err != nil {
			t.Fatal(name, err)
		}
		if got[0] != c.want {
			t.Errorf("%s: %x, want %x", name, got[0], c.want)
		}
	}
}
