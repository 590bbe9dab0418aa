//go:build mutants

package mutants_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dynamo/node/sim/drill"
	"dynamo/node/sim/mutants"
	"dynamo/node/sim/mutants/mutant"
	"dynamo/node/sim/plan"
	"dynamo/node/sim/storm"
	"dynamo/plugins"
)

var (
	only      = flag.String("mutants.only", "", "the names of the mutants to try, with commas between; all if empty")
	seeds     = flag.Int("mutants.seeds", 256, "how many runs a mutant may survive")
	first     = flag.Uint64("mutants.first", 1, "the first seed")
	whole     = flag.Int("mutants.whole", 64, "how many runs of a node that is not broken must find nothing")
	atime     = flag.Int("mutants.parallel", 2, "how many mutants are tried at one time")
	situation = flag.String("mutants.drill", "", "the drill that the process of one mutant plays; storms if empty")
	table     = flag.String("mutants.table", "", "a file for the table")
)

// finding is what one mutant came to.
type finding struct {
	// Runs until it was caught, Seed of that run; 0 runs: it survived.
	Runs int
	Seed uint64
	// Promises that fell in that run.
	Promises []string
	Detail   string
}

// perRun bounds the real time of a run: a mutant may hang the cluster.
const perRun = time.Minute

// length is the virtual time of a run's faults.
func length(seed uint64) time.Duration { return time.Duration(15+seed%16) * time.Second }

// TestMutants tries every mutant with seeds until the simulator catches it.
func TestMutants(t *testing.T) {
	if name, ok := os.LookupEnv(mutants.Variable); ok {
		one(t, name)
		return
	}
	found := map[string]finding{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	places := make(chan struct{}, *atime)
	try := func(name string, n int) {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			f := hunt(t.Context(), name, mutants.Drills()[name], n)
			mu.Lock()
			defer mu.Unlock()
			found[name] = f
			t.Logf("%-26s runs %2d, seed %2d: %s %s", name, f.Runs, f.Seed, strings.Join(f.Promises, ", "), f.Detail)
		})
	}
	// What a node that is not broken does is no sign of a mutant.
	for _, d := range append(drill.All(), drill.Drill{}) {
		if f := hunt(t.Context(), "", d.Name, *whole); f.Runs > 0 {
			t.Errorf("the node that is not broken breaks promises at seed %d of %q: %s: %s", f.Seed, d.Name, strings.Join(f.Promises, ", "), f.Detail)
		}
	}
	for _, m := range mutants.All() {
		if *only == "" || slices.Contains(strings.Split(*only, ","), m.Name) {
			try(m.Name, *seeds)
		}
	}
	wg.Wait()
	var b strings.Builder
	fmt.Fprintln(&b, "| Mutant | Rule that it breaks | Promise that fell | Found by | Runs |\n|---|---|---|---|---|")
	for _, m := range mutants.All() {
		f, tried := found[m.Name]
		if !tried {
			continue
		}
		by := "storms"
		if d := mutants.Drills()[m.Name]; d != "" {
			by = "drill " + d
		}
		if f.Runs == 0 {
			t.Errorf("%s survives %d runs of %s: %s", m.Name, *seeds, by, m.Rule)
			fmt.Fprintf(&b, "| %s | %s | **none** | %s | **over %d** |\n", m.Name, m.Rule, by, *seeds)
			continue
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %d |\n", m.Name, m.Rule, strings.Join(f.Promises, ", "), by, f.Runs)
	}
	if *table != "" {
		if err := os.WriteFile(*table, []byte(b.String()), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// hunt runs seeds in a process of their own, for a mutant may panic or hang.
func hunt(ctx context.Context, name, situation string, n int) finding {
	for i := 0; i < n; {
		seed := *first + uint64(i)
		ctx, cancel := context.WithTimeout(ctx, time.Duration(n-i+1)*perRun)
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestMutants$", "-test.timeout=0",
			fmt.Sprintf("-mutants.first=%d", seed), fmt.Sprintf("-mutants.seeds=%d", n-i), "-mutants.drill="+situation)
		cmd.Env = append(os.Environ(), mutants.Variable+"="+name)
		out, err := cmd.CombinedOutput()
		cancel()
		runs, last := 0, seed
		var f finding
		for line := range bytes.Lines(out) {
			if b, ok := bytes.CutPrefix(line, []byte("finding ")); ok {
				if json.Unmarshal(b, &f) == nil {
					f.Runs += i
					return f
				}
			}
			if bytes.HasPrefix(line, []byte("seed ")) {
				runs++
				_, _ = fmt.Sscanf(string(line), "seed %d", &last)
			}
		}
		if err != nil {
			return finding{Runs: i + runs, Seed: last, Promises: []string{"nodes do not crash or hang"}, Detail: reason(out)}
		}
		i += max(runs, 1)
	}
	return finding{}
}

// reason is the line that says why a process died.
func reason(out []byte) string {
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") || strings.Contains(line, "deadlock") {
			return strings.TrimSpace(line)
		}
	}
	return strings.TrimSpace(string(out[max(0, len(out)-200):]))
}

// one is the process of one mutant.
func one(t *testing.T, name string) {
	mutant.Choose(name)
	for i := range *seeds {
		seed := *first + uint64(i)
		fmt.Printf("seed %d\n", seed)
		hangs := time.AfterFunc(perRun, func() { panic("a run hangs") })
		f := run(t, seed, *situation)
		hangs.Stop()
		if len(f.Promises) == 0 {
			continue
		}
		f.Runs, f.Seed = i+1, seed
		b, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("finding %s\n", b)
		return
	}
}

// run plays one drill, or a storm if none is named.
func run(t *testing.T, seed uint64, situation string) (f finding) {
	modules := filepath.Join(os.TempDir(), "dynamo-test-modules")
	if i := slices.IndexFunc(drill.All(), func(d drill.Drill) bool { return d.Name == situation }); i >= 0 {
		d := drill.All()[i]
		synctest.Test(t, func(t *testing.T) {
			broken, err := d.Run(t.Context(), drill.Options{Seed: seed, Logger: slog.New(slog.DiscardHandler), Now: time.Now, ModuleCache: modules})
			if err != nil {
				f.Promises, f.Detail = []string{"a drill comes to its end"}, err.Error()
			}
			if len(broken) > 0 {
				f.Promises, f.Detail = []string{d.Promise}, broken[0]
			}
		})
		return f
	}
	p := plan.Draw(seed, 0, length(seed))
	p.Pause, p.Keys = 150*time.Millisecond, 2+int(seed%8) // a crowd meets more in the same time
	defer func() {
		// A store whose log failed cannot be closed: that its goroutines stay is no sign of a mutant.
		if r := recover(); r != nil && !(p.StaysOpen() && strings.Contains(fmt.Sprint(r), "blocked goroutines remain")) {
			panic(r)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		r, err := storm.Run(t.Context(), storm.Options{
			Request: storm.Request{Plan: p}, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
			Builtins: plugins.Module, ModuleCache: modules,
		})
		if err != nil {
			f.Promises, f.Detail = []string{"a run comes to its end"}, err.Error()
		}
		for _, v := range r.Violations {
			if v.Promise == storm.NothingLeft {
				continue // what a process holds that has had many runs, some of which left broken databases open, says nothing of a mutant
			}
			if !slices.Contains(f.Promises, v.Promise) {
				f.Promises = append(f.Promises, v.Promise)
				f.Detail = v.Key + " " + v.Detail
			}
		}
	})
	return f
}
