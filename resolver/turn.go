package resolver

import (
	"context"
	"errors"
	"time"

	"github.com/tetratelabs/wazero/api"

	"dynamo/resolver/fuel"
	"dynamo/resolver/wasi"
)

// turn is one run of a module: what it sees of the outside, its fuel and its time. It is the context of the calls
// into the module, as far as those who run them ask: Err is all that tells of its end, and nothing of the caller's
// values is in it. One turn after the other takes place in the same turn, which therefore allocates nothing; nor
// does it set a timer, since only the goroutine that it is for asks.
type turn struct {
	caller context.Context
	world  wasi.World
	meter  fuel.Meter
	fuel   api.MutableGlobal // see package fuel; nil until the instance is there
	begun  time.Time
	limit  time.Duration
	late   bool // the time limit has been seen to be over
}

type turnKey struct{}

// begin starts the time.
func (t *turn) begin(ctx context.Context, l Limits, o wasi.Options) {
	t.caller, t.meter, t.late = ctx, *fuel.NewMeter(l.Fuel, 0), false
	t.begun, t.limit = time.Now(), l.Timeout
	t.world.Reset(o)
}

// rest lets go of what belongs to the merge that is over.
func (t *turn) rest() {
	t.caller = nil
	t.world.Reset(wasi.Options{})
}

// Err implements context.Context: the caller gave up, or the time limit is over.
func (t *turn) Err() error {
	if t.late {
		return context.DeadlineExceeded
	}
	if err := t.caller.Err(); err != nil {
		return err
	}
	if t.late = time.Since(t.begun) >= t.limit; t.late {
		return context.DeadlineExceeded
	}
	return nil
}

// Deadline implements context.Context.
func (t *turn) Deadline() (time.Time, bool) { return t.begun.Add(t.limit), true }

// Done implements context.Context. The channel is the caller's, and is not closed when the time limit is over.
func (t *turn) Done() <-chan struct{} { return t.caller.Done() }

// Value implements context.Context.
func (t *turn) Value(key any) any {
	if _, ok := key.(turnKey); ok {
		return t
	}
	return nil
}

func turnOf(ctx context.Context) *turn {
	if t, ok := ctx.(*turn); ok {
		return t
	}
	t, ok := ctx.Value(turnKey{}).(*turn)
	if !ok {
		panic(errors.New("a module runs outside of a turn"))
	}
	return t
}

// counts makes sure that the turn knows where the module counts its fuel: the start section runs before the
// instance is there.
func (t *turn) counts(m api.Module) {
	if t.fuel != nil {
		return
	}
	g, ok := m.ExportedGlobal(fuel.GlobalFuel).(api.MutableGlobal)
	if !ok {
		panic(errors.New("the module has no fuel"))
	}
	t.fuel = g
}

// take pays for work of the host, and gives the module more fuel if it has none left.
func (t *turn) take(units uint64) error {
	next, err := t.meter.Charge(int64(t.fuel.Get()), units)
	t.fuel.Set(uint64(next))
	return err
}
