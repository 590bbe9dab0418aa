package conflict

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"dynamo/node/config"
	"dynamo/resolver"
)

// memoryKeeper is a Keeper that outlives its settlers.
type memoryKeeper struct {
	kept map[string][]byte
	err  error
}

func (k *memoryKeeper) LoadQuarantine(keyspace string) ([]byte, bool, error) {
	b, ok := k.kept[keyspace]
	return b, ok, k.err
}

func (k *memoryKeeper) SaveQuarantine(keyspace string, b []byte) error {
	k.kept[keyspace] = b
	return k.err
}

func newTestWards(k *memoryKeeper) *wards {
	return newWards(Options{Keeper: k, Now: func() time.Time { return time.UnixMilli(1_700_000_000_000) }, Logger: slog.New(slog.DiscardHandler)})
}

func TestQuarantineRules(t *testing.T) {
	p := Policy{Keyspace: "carts", Module: [32]byte{1}, Epoch: 3}
	type run struct {
		n     int
		code  string
		same  bool // the same key each time
		burnt bool
	}
	for _, c := range []struct {
		name string
		runs []run
		want bool
	}{
		{"19 in a row", []run{{n: 19, code: "trap"}}, false},
		{"20 in a row", []run{{n: 20, code: "trap"}}, true},
		{"20 in a row, by different codes", []run{{n: 10, code: "memory"}, {n: 10, code: "invalid_output"}}, true},
		{"a success between", []run{{n: 19, code: "trap"}, {n: 1}, {n: 19, code: "trap"}}, false},
		{"one poisoned key", []run{{n: 500, code: "trap", same: true}}, false},
		{"over half of 50", []run{{n: 12, code: "trap"}, {n: 12}, {n: 13, code: "trap"}, {n: 12}, {n: 1, code: "exit"}}, true},
		{"over half of 49", []run{{n: 12, code: "trap"}, {n: 12}, {n: 13, code: "trap"}, {n: 12}}, false},
		{"half of 60", []run{{n: 15}, {n: 15, code: "trap"}, {n: 15}, {n: 15, code: "trap"}}, false},
		{"old failures leave the window", []run{{n: 19, code: "trap"}, {n: 100}, {n: 19, code: "trap"}, {n: 100}, {n: 19, code: "trap"}}, false},
		{"refusals", []run{{n: 300, code: "guest_error"}, {n: 300, code: "keep"}}, false},
		{"refusals do not hide failures", []run{{n: 10, code: "trap"}, {n: 50, code: "guest_error"}, {n: 10, code: "trap"}}, true},
		{"callers gave up", []run{{n: 300, code: "canceled"}, {n: 300, code: "pending"}}, false},
		{"the machine is overloaded", []run{{n: 300, code: "timeout"}}, false},
		{"4 burnt all their time", []run{{n: 4, code: "timeout", burnt: true}}, false},
		{"5 burnt all their time", []run{{n: 5, code: "timeout", burnt: true}}, true},
		{"one key burns all its time", []run{{n: 50, code: "timeout", burnt: true, same: true}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, key := newTestWards(&memoryKeeper{kept: map[string][]byte{}}), 0
			for _, r := range c.runs {
				for range r.n {
					if !r.same {
						key++
					}
					w.report(p, fmt.Append(nil, key), view{code: r.code, detail: "why"}, r.burnt)
				}
			}
			if got := w.held(p) != nil; got != c.want {
				t.Fatalf("quarantined: %v", got)
			}
		})
	}
}

func trip(w *wards, p Policy) {
	for i := range failuresInRow {
		w.report(p, []byte{byte(i)}, view{code: "trap", detail: strings.Repeat("ä", 400)}, false)
	}
}

func TestQuarantineLastsUntilReleased(t *testing.T) {
	k := &memoryKeeper{kept: map[string][]byte{}}
	p := Policy{Keyspace: "carts", Module: [32]byte{1}, Epoch: 3}
	w := newTestWards(k)
	trip(w, p)
	q := w.held(p)
	if q == nil || q.Code != "trap" || q.Epoch != 3 || !strings.Contains(q.Reason, "20 merges in a row") {
		t.Fatalf("%+v", q)
	}
	w = newTestWards(k) // a restart
	if again := w.held(p); again == nil || *again != *q {
		t.Fatalf("after a restart %+v, before %+v", again, q)
	}
	if was, err := w.release(p); !was || err != nil || w.held(p) != nil {
		t.Fatalf("%v, %v", was, err)
	}
	if was, err := w.release(p); was || err != nil {
		t.Fatalf("released twice: %v, %v", was, err)
	}
	if w = newTestWards(k); w.held(p) != nil {
		t.Fatal("back after a restart")
	}
	trip(w, p)
	if was, err := w.release(p); !was || err != nil {
		t.Fatal("a released version cannot be quarantined again")
	}
}

// TestLaterReleaseEndsQuarantine: a node that was away when somebody released the version hears of it later, however
// often it restarts until then; a release from before the quarantine does not end it.
func TestLaterReleaseEndsQuarantine(t *testing.T) {
	k := &memoryKeeper{kept: map[string][]byte{}}
	p := Policy{Keyspace: "carts", Module: [32]byte{1}, Epoch: 3, Releases: 2}
	w := newTestWards(k)
	trip(w, p)
	w = newTestWards(k)
	if q := w.held(p); q == nil || q.Releases != 2 {
		t.Fatalf("%+v", q)
	}
	stale := p
	stale.Releases = 1
	if w.held(stale) == nil {
		t.Fatal("an earlier release ends it")
	}
	p.Releases = 3
	if w.held(p) != nil {
		t.Fatal("a later release does not end it")
	}
	if w = newTestWards(k); w.held(p) != nil || w.held(stale) != nil {
		t.Fatal("back after a restart")
	}
	trip(w, p)
	if w.held(p) == nil {
		t.Fatal("a released version cannot be quarantined again")
	}
	if err := w.condemn(p, "resolver_unlawful", "again"); err != nil || w.held(p).Releases != 3 {
		t.Fatalf("%v, %+v", err, w.held(p))
	}
}

func TestQuarantineIsOfOneVersion(t *testing.T) {
	k := &memoryKeeper{kept: map[string][]byte{}}
	w := newTestWards(k)
	old := Policy{Keyspace: "carts", Module: [32]byte{1}, Epoch: 3}
	trip(w, old)
	next := Policy{Keyspace: "carts", Module: [32]byte{1}, Epoch: 4}
	if w.held(Policy{Keyspace: "other", Module: [32]byte{1}, Epoch: 3}) != nil {
		t.Error("another keyspace")
	}
	if w.held(next) != nil {
		t.Error("the same module, activated anew")
	}
	trip(w, old) // requests that began before the activation
	if w.held(next) != nil {
		t.Error("late failures of the old version count against the new one")
	}
	if w = newTestWards(k); w.held(next) != nil {
		t.Error("the old version's quarantine is the new one's after a restart")
	}
}

func TestStoredQuarantine(t *testing.T) {
	q := Quarantine{SHA256: [32]byte{0xcc}, Epoch: 3, Since: time.UnixMilli(1_700_000_000_123).UTC(), Reason: "why", Code: "trap"}
	b, err := appendQuarantine(nil, q)
	if err != nil {
		t.Fatal(err)
	}
	const want = "\x01" + `{"sha256":"cc00000000000000000000000000000000000000000000000000000000000000","epoch":3,"since_ms":1700000000123,"reason":"why","code":"trap"}`
	if string(b) != want {
		t.Fatalf("%s", b)
	}
	if got, err := decodeQuarantine(b); err != nil || got != q {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "\x02{}", "\x01", "\x01{}", "\x01[]", "\x01" + `{"sha256":"cc"}`} {
		if _, err := decodeQuarantine([]byte(bad)); !errors.Is(err, errStoredQuarantine) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	k := &memoryKeeper{kept: map[string][]byte{"carts": []byte("junk")}}
	if newTestWards(k).held(Policy{Keyspace: "carts", Module: [32]byte{1}, Epoch: 1}) != nil {
		t.Error("junk on the disk is a quarantine")
	}
}

func FuzzStoredQuarantine(f *testing.F) {
	f.Add([]byte("\x01" + `{"sha256":"` + hex.EncodeToString(make([]byte, 32)) + `","epoch":3}`))
	f.Add([]byte("\x01{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := decodeQuarantine(b)
		if err != nil {
			return
		}
		again, err := appendQuarantine(nil, q)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeQuarantine(again); err != nil || back != q {
			t.Fatalf("%+v became %+v, %v", q, back, err)
		}
	})
}

// TestQuarantinedVersionIsNotCalled: readers get the siblings, those of views that were made before, too.
func TestQuarantinedVersionIsNotCalled(t *testing.T) {
	f := newFixture(t)
	p := f.policy(config.PolicyResolver)
	o := written(apples, pears)
	if res := f.Settle(t.Context(), PathRead, p, []byte("k"), o.Versions); res.Kind != Single {
		t.Fatalf("%+v", res)
	}
	trip(f.wards, p)
	calls := f.Module(f.sha).Calls
	for _, key := range []string{"k", "l"} {
		res := f.Settle(t.Context(), PathRead, p, []byte(key), o.Versions)
		if res.Kind != Conflict || res.Code != CodeQuarantined || len(res.Siblings) != 2 || !strings.Contains(res.Detail, "in a row") {
			t.Fatalf("%+v", res)
		}
	}
	if _, ok := f.Collapse(t.Context(), p, []byte("k"), o); ok {
		t.Error("a quarantined version collapsed an object")
	}
	if res := f.Settle(t.Context(), PathRead, p, []byte("k"), written(apples).Versions); res.Kind != Single || res.Code != "" {
		t.Errorf("one value: %+v", res)
	}
	if got := f.Module(f.sha).Calls; got != calls {
		t.Fatalf("%d calls in quarantine", got-calls)
	}
	if q := f.Quarantines(); len(q) != 1 || q["carts"].SHA256 != f.sha {
		t.Errorf("%+v", q)
	}
	if was, err := f.Release(p); !was || err != nil {
		t.Fatalf("%v, %v", was, err)
	}
	if res := f.Settle(t.Context(), PathRead, p, []byte("k"), o.Versions); res.Kind != Single || f.Quarantined(p) != nil {
		t.Fatalf("after the release: %+v", res)
	}
}

// TestTrapsLeadToQuarantine goes the whole way, through a module that traps.
func TestTrapsLeadToQuarantine(t *testing.T) {
	f := newFixtureOf(t, trap(), resolver.DefaultLimits())
	p := f.policy(config.PolicyResolver)
	for i := range failuresInRow + 5 {
		want := string(resolver.CodeTrap)
		if i >= failuresInRow {
			want = CodeQuarantined
		}
		if res := f.Settle(t.Context(), PathRead, p, []byte{byte(i)}, written(apples, pears).Versions); res.Code != want || len(res.Siblings) != 2 {
			t.Fatalf("conflict %d: %+v", i, res)
		}
	}
	if got := f.Module(f.sha); got.Calls != failuresInRow || got.Failures != failuresInRow {
		t.Fatalf("%+v", got)
	}
}

// TestTimeoutsCountByProcessorTime: the thread's own time tells a slow module from a slow machine.
func TestTimeoutsCountByProcessorTime(t *testing.T) {
	for _, c := range []struct {
		name string
		cpu  time.Duration // of each merge
		ok   bool
		want bool
	}{{"busy", time.Second, true, true}, {"starved", 100 * time.Millisecond, true, false}, {"unknown", time.Second, false, false}} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixtureOf(t, endless(), resolver.Limits{
				MemoryBytes: 1 << 20, ModuleBytes: 1 << 20, OutputBytes: 1 << 20, Timeout: 10 * time.Millisecond, CallDepth: 100, Fuel: 1 << 40,
			})
			var used time.Duration
			f.o.Timeout = time.Second
			f.o.ThreadTime = func() (time.Duration, bool) {
				used += c.cpu
				return used, c.ok
			}
			p := f.policy(config.PolicyResolver)
			for i := range 1 + costlyInRow {
				if f.Quarantined(p) != nil {
					t.Fatalf("quarantined after %d", i)
				}
				if res := f.Settle(t.Context(), PathRead, p, []byte{byte(i)}, written(apples, pears).Versions); res.Code != string(resolver.CodeTimeout) {
					t.Fatalf("%+v", res)
				}
			}
			if got := f.Quarantined(p) != nil; got != c.want {
				t.Fatalf("quarantined: %v", got)
			}
		})
	}
}

// TestCondemnedVersionIsNotCalled: a law that live values break is reason enough, however well merges go.
func TestCondemnedVersionIsNotCalled(t *testing.T) {
	f := newFixture(t)
	p := f.policy(config.PolicyResolver)
	for range 2 { // the second time changes nothing
		if err := f.Condemn(p, "resolver_unlawful", "it broke a law"); err != nil {
			t.Fatal(err)
		}
	}
	if res := f.Settle(t.Context(), PathRead, p, []byte("k"), written(apples, pears).Versions); res.Code != CodeQuarantined || !strings.Contains(res.Detail, "broke a law") {
		t.Fatalf("%+v", res)
	}
	if was, err := f.Release(p); !was || err != nil {
		t.Fatalf("%v, %v", was, err)
	}
	if res := f.Settle(t.Context(), PathRead, p, []byte("k"), written(apples, pears).Versions); res.Kind != Single {
		t.Fatalf("after the release: %+v", res)
	}
}
