package fuel

import "errors"

// ErrExhausted is a run that wants more fuel than it has.
var ErrExhausted = errors.New("out of fuel")

// Meter hands the fuel of one run out in slices. It is plain arithmetic: the
// host reads GlobalFuel, asks the Meter, and writes GlobalFuel. The zero
// Meter has no fuel. Not safe for concurrent use.
type Meter struct {
	limit   uint64
	slice   uint64
	granted uint64
}

// maxUnits bounds fuel so that sums cannot overflow: no charge is larger than 2^48.
const maxUnits = 1 << 62

// NewMeter returns a Meter of so many units. The module calls ImportYield at
// least each time that it has used slice units, however much it took at once;
// 0 means DefaultSlice. The slice changes neither what a run uses nor where it
// ends.
func NewMeter(limit, slice uint64) *Meter {
	if slice == 0 {
		slice = DefaultSlice
	}
	return &Meter{limit: min(limit, maxUnits), slice: min(slice, maxUnits)}
}

// DefaultSlice is less than a millisecond of computing, and two or three of filling memory that was never used.
const DefaultSlice = 1 << 19

// First grants two slices in advance and returns the value for GlobalFuel, so that a short run need not call
// ImportYield at all: what follows may be that it goes on on another processor, whose cache knows nothing of it.
func (m *Meter) First() int64 {
	more := min(m.limit-m.granted, 2*m.slice)
	m.granted += more
	return int64(more)
}

// Yield is called with the value of GlobalFuel when the module calls
// ImportYield, and returns its new value: the module goes on if err is nil,
// else it must not, and err is ErrExhausted. In both cases GlobalFuel is to be
// set to the new value, so that Used is right.
//
// Between two looks at the fuel a module may overdraw it a little. Call Yield
// once more when a call has returned: then it has succeeded exactly if Used is
// within the limit.
func (m *Meter) Yield(global int64) (int64, error) {
	for global < 0 {
		left := m.limit - m.granted
		if left == 0 {
			return global, ErrExhausted
		}
		more := min(left, max(m.slice, uint64(-global)))
		m.granted += more
		global += int64(more)
	}
	return global, nil
}

// Charge takes units for work that the host does for the module, given the
// value of GlobalFuel, and returns its new value, as Yield does.
func (m *Meter) Charge(global int64, units uint64) (int64, error) {
	return m.Yield(global - int64(min(units, maxUnits/2)))
}

// Used returns the fuel that the run has used, given the value of GlobalFuel,
// and no more than its limit. It does not depend on the slices.
func (m *Meter) Used(global int64) uint64 {
	if global < 0 {
		return min(m.limit, m.granted+uint64(-global))
	}
	return m.granted - min(uint64(global), m.granted)
}
