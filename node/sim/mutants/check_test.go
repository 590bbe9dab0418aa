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

	"dynamo/node/sim/history"
	"dynamo/node/sim/mutants"
	"dynamo/node/sim/mutants/mutant"
	"dynamo/node/sim/storm"
	"dynamo/plugins"
)

var (
	only  = flag.String("mutants.only", "", "the names of the mutants to try, with commas between; all if empty")
	seeds = flag.Int("mutants.seeds", 64, "how many runs a mutant may survive")
	first = flag.Uint64("mutants.first", 1, "the first seed")
	whole = flag.Int("mutants.whole", 16, "how many runs of a node that is not broken must find nothing")
	// A read right after an unclean boot, a merge whose module is still being compiled, and a hint that a late message leaves after the end, can be seen with a whole
	// node, too.
	noise = flag.String("mutants.ignore", "reads succeed when nothing is wrong;hints are delivered;clients never see a conflict", "promises that do not count, with semicolons between")
	atime = flag.Int("mutants.parallel", 2, "how many mutants are tried at one time")
	table = flag.String("mutants.table", "", "a file for the table")
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
const perRun = 2 * time.Minute

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
			f := hunt(t.Context(), name, n)
			mu.Lock()
			defer mu.Unlock()
			found[name] = f
			t.Logf("%-26s runs %2d, seed %2d: %s %s", name, f.Runs, f.Seed, strings.Join(f.Promises, ", "), f.Detail)
		})
	}
	// What a node that is not broken does is no sign of a mutant.
	for *whole > 0 {
		f := hunt(t.Context(), "", *whole)
		if f.Runs == 0 {
			break
		}
		t.Errorf("the node that is not broken breaks promises at seed %d: %s: %s", f.Seed, strings.Join(f.Promises, ", "), f.Detail)
		*noise += ";" + strings.Join(f.Promises, ";")
	}
	for _, m := range mutants.All() {
		if *only == "" || slices.Contains(strings.Split(*only, ","), m.Name) {
			try(m.Name, *seeds)
		}
	}
	wg.Wait()
	var b strings.Builder
	fmt.Fprintln(&b, "| Mutant | Rule that it breaks | Promise that fell | Runs | Seed |\n|---|---|---|---|---|")
	for _, m := range mutants.All() {
		f, tried := found[m.Name]
		if !tried {
			continue
		}
		why := mutants.Blind()[m.Name]
		if f.Runs == 0 {
			if why == "" {
				t.Errorf("%s survives %d runs: %s", m.Name, *seeds, m.Rule)
			}
			fmt.Fprintf(&b, "| %s | %s | **none in %d runs**; it needs %s | | |\n", m.Name, m.Rule, *seeds, why)
			continue
		}
		if why != "" {
			t.Logf("%s is caught after %d runs, at least this time: perhaps take it off the list of what the simulator is blind to", m.Name, f.Runs)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %d |\n", m.Name, m.Rule, strings.Join(f.Promises, ", "), f.Runs, f.Seed)
	}
	if *table != "" {
		if err := os.WriteFile(*table, []byte(b.String()), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// hunt runs seeds in a process of their own, for a mutant may panic or hang.
func hunt(ctx context.Context, name string, n int) finding {
	for i := 0; i < n; {
		seed := *first + uint64(i)
		ctx, cancel := context.WithTimeout(ctx, time.Duration(n-i)*perRun)
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestMutants$", "-test.timeout=0",
			fmt.Sprintf("-mutants.first=%d", seed), fmt.Sprintf("-mutants.seeds=%d", n-i), "-mutants.ignore="+*noise)
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
		f := run(t, seed, mutants.Faults()[name])
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

func run(t *testing.T, seed uint64, faults []storm.FaultKind) (f finding) {
	synctest.Test(t, func(t *testing.T) {
		r, err := storm.Run(t.Context(), storm.Options{
			Request: storm.Request{Plan: storm.DrawOf(seed, 0, length(seed), faults)}, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
			Builtins: plugins.Module, ModuleCache: filepath.Join(os.TempDir(), "dynamo-test-modules"),
		})
		if err != nil {
			f.Promises, f.Detail = []string{"a run comes to its end"}, err.Error()
		}
		for _, v := range r.Violations {
			if strings.Contains(v.Detail, history.MintedTwice) && !mutant.On("write-not-claimed") {
				continue // seen once in a while in runs that do not repeat it; it is the sign of that mutant alone
			}
			if !slices.Contains(f.Promises, v.Promise) && !slices.Contains(strings.Split(*noise, ";"), v.Promise) {
				f.Promises = append(f.Promises, v.Promise)
				f.Detail = v.Key + " " + v.Detail
			}
		}
	})
	return f
}
