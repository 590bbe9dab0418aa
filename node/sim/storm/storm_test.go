package storm

import (
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dynamo/node/sim/plan"
	"dynamo/plugins"
)

var (
	seeds = flag.Uint64("storm.seeds", 4, "how many plans are run")
	first = flag.Uint64("storm.first", 1000, "the seed of the first")
	lasts = flag.Duration("storm.length", 15*time.Second, "virtual time of each")
	kind  = flag.String("storm.kind", "", "the kind of fault that TestKinds is to run")
	only  = flag.String("storm.only", "", "the kinds of faults that TestStorm is to draw from, with commas between them")
	trace = flag.Bool("storm.trace", false, "print every line of the runs' logs")
)

// TestStorm runs a few seeds on the machine's own scheduler, under the race detector where tests have it: the order of
// what happens at one instant differs from run to run, the promises do not.
func TestStorm(t *testing.T) {
	var kinds []plan.Kind
	for k := range strings.SplitSeq(*only, ",") {
		if k != "" {
			kinds = append(kinds, plan.Kind(k))
		}
	}
	idle := 0
	for seed := *first; seed < *first+*seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			if r := bubble(t, plan.DrawOf(seed, 0, *lasts, kinds)); r.Acked == 0 || r.Verified == 0 {
				t.Log("nothing was acknowledged: the run tests nothing")
				idle++
			}
		})
	}
	if idle > int(*seeds)/10 {
		t.Errorf("%d of %d runs test nothing", idle, *seeds)
	}
}

// TestKinds runs each kind of fault alone.
func TestKinds(t *testing.T) {
	kinds := plan.Kinds()
	slices.Sort(kinds)
	for i, k := range slices.Compact(kinds) {
		p := plan.Draw(uint64(i), 4, 8*time.Second)
		p.Faults = nil
		if *kind != "" && plan.Kind(*kind) != k {
			continue
		}
		r := rand.New(rand.NewPCG(*first, uint64(i)))
		for at := time.Second; at < 7*time.Second; at += 5 * time.Second {
			f := plan.Fault{Kind: k, At: at, For: 2 * time.Second}
			f.Draw(r, p.Nodes)
			p.Faults = append(p.Faults, f)
		}
		t.Run(string(k), func(t *testing.T) {
			if report := bubble(t, p); report.Faults[k] == 0 || report.Faults[k] == 1 && k != plan.Late && k != plan.OldDisk { // there is no backup of a node that is down
				t.Errorf("happened %d times", report.Faults[k])
			}
		})
	}
}

// bubble runs a plan on virtual time, where no promise may be violated.
func bubble(t *testing.T, p plan.Plan) Report {
	r := storm(t, Request{Plan: p})
	for _, v := range r.Violations {
		t.Errorf("seed %d: %s: %s %s\n%s", p.Seed, v.Promise, v.Key, v.Detail, strings.Join(v.Story, "\n"))
	}
	return r
}

// storm runs a request on virtual time.
func storm(t *testing.T, q Request) (out Report) {
	p := q.Plan
	defer func() {
		if r := recover(); r != nil && !(p.StaysOpen() && strings.Contains(fmt.Sprint(r), "blocked goroutines remain")) {
			panic(r)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		o := Options{
			Request: q, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
			Builtins: plugins.Module, ModuleCache: filepath.Join(os.TempDir(), "dynamo-test-modules"),
		}
		if *trace {
			o.Logger = slog.New(slog.NewTextHandler(os.Stdout, nil))
			o.Line = func(s string) { fmt.Println(s) }
		}
		r, err := Run(t.Context(), o)
		if err != nil {
			t.Errorf("seed %d: %v", p.Seed, err)
			for _, f := range p.Faults {
				t.Log(f)
			}
		}
		t.Log(p.Seed, p.Nodes, r.Acked, r.Verified, r.Faults, r.SetAside, r.Watched.HeapBytes>>10)
		out = r
	})
	return out
}
