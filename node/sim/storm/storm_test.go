package storm

import (
	"encoding/json"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dynamo/plugins"
)

var (
	seeds = flag.Uint64("storm.seeds", 4, "seeds that TestStorm runs")
	first = flag.Uint64("storm.first", 1000, "the first of them")
	lasts = flag.Duration("storm.length", 15*time.Second, "virtual time of each")
)

// storm runs a request on the machine's own scheduler, under the race detector where tests have it: the order of
// what happens at one instant differs from run to run, the promises do not.
func storm(t *testing.T, q Request) (r Report) {
	synctest.Test(t, func(t *testing.T) {
		var err error
		r, err = Run(t.Context(), Options{
			Request: q, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
			Builtins: plugins.Module, ModuleCache: filepath.Join(os.TempDir(), "dynamo-test-modules"),
		})
		if err != nil {
			t.Fatalf("seed %d: %v", q.Plan.Seed, err)
		}
	})
	return r
}

func TestStorm(t *testing.T) {
	all := map[string]Counts{}
	for seed := *first; seed < *first+*seeds; seed++ {
		r := storm(t, Request{Plan: Draw(seed, 0, *lasts)})
		if r.Acked == 0 || r.Verified == 0 {
			t.Errorf("seed %d: nothing was acknowledged: the run tests nothing", seed)
		}
		for _, v := range r.Violations {
			t.Errorf("seed %d: %s: %s %s\n%s", seed, v.Promise, v.Key, v.Detail, strings.Join(v.Story, "\n"))
		}
		t.Logf("seed %d: %d nodes, %+v", seed, r.Plan.Nodes, r.Watched)
		for k, w := range r.Workloads {
			all[k] = all[k].plus(w)
		}
	}
	b, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", b)
}
