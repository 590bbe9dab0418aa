package host

import (
	"bytes"
	"flag"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"dynamo/node/sim/plan"
	"dynamo/node/sim/storm"
)

var repeats = flag.Int("host.repeats", 6, "how often TestSameSeedSameRun makes the same run")

func machine(t *testing.T) *Machine {
	t.Helper()
	cache := CacheDir()
	module, err := Module(t.Context(), cache, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(t.Context(), module, cache)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return m
}

// TestSameSeedSameRun: a seed gives one run, to the nanosecond and the last line of every node's log, whatever else the
// machine does; another seed gives another.
func TestSameSeedSameRun(t *testing.T) {
	m := machine(t)
	run := func(seed uint64) (storm.Report, []byte) {
		var trace bytes.Buffer
		r, err := m.Run(t.Context(), storm.Request{Plan: plan.Draw(seed, 0, 4*time.Second)}, &trace)
		if err != nil {
			t.Error(err)
		}
		return r, trace.Bytes()
	}
	first, log := run(7)
	if first.Acked == 0 || first.Verified == 0 || len(first.Faults) == 0 || len(log) < 1000 {
		t.Fatalf("the run tests nothing: %+v", first)
	}
	if len(first.Violations) > 0 {
		t.Errorf("%+v", first.Violations)
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for range *repeats / 2 {
				if again, same := run(7); again.Digest != first.Digest || !bytes.Equal(same, log) {
					t.Errorf("the same seed gives digest %s and then %s", first.Digest, again.Digest)
				}
			}
		})
	}
	wg.Wait()
	if other, _ := run(8); other.Digest == first.Digest {
		t.Error("two seeds give one run")
	}
}

// TestFailureIsTold: what the simulator dies of reaches the caller.
func TestFailureIsTold(t *testing.T) {
	m := machine(t)
	empty := plan.Draw(7, 3, time.Second)
	empty.Nodes = 0
	if _, err := m.Run(t.Context(), storm.Request{Plan: empty}, nil); err == nil {
		t.Fatal("a cluster without nodes runs")
	}
}

func TestLastLine(t *testing.T) {
	var out bytes.Buffer
	l := &lastLine{to: &out}
	for _, s := range []string{"a\nb", "c\n", "d\n{", "}\n"} {
		if _, err := l.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	if got := slices.Concat(out.Bytes(), []byte("|"), l.line); string(got) != "a\nbc\nd\n|{}\n" {
		t.Errorf("%q", got)
	}
}
