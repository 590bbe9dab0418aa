package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"dynamo/node/sim/host"
	"dynamo/node/sim/storm"
)

// simulation is what `dynamo sim` is asked for.
type simulation struct {
	resolver string
	nodes    int
	seed     uint64
	seeds    int
	seconds  float64
	trace    bool
	parallel int
	module   []byte // of the resolver
}

func newSim() *cobra.Command {
	var s simulation
	c := &cobra.Command{
		Use:   "sim",
		Short: "Simulate whole clusters under faults, on virtual time",
		Long: `Runs clusters of real nodes - ring, quorums, handoff, repair, storage, resolvers - in one process,
on a virtual clock and a network and disks in memory that fail by a plan drawn from the seed. Clients
write meanwhile; afterwards every promise of the store is checked. A seed gives the same run
every time, to the byte: a violated promise is printed with its seed, the smallest
plan that still violates it, and the history of the key on all nodes. With --resolver a module of
yours merges the values of one keyspace; the samples that it carries are what is written there.

Exit 1 if a promise was violated. The last line is a summary as JSON.

  dynamo sim --seeds 20
  dynamo sim --resolver cart.wasm --nodes 7 --seed 42 --trace`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := s.check(); err != nil {
				return err
			}
			return s.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVar(&s.resolver, "resolver", "", "a module that merges the values of one keyspace")
	f.IntVar(&s.nodes, "nodes", 0, "nodes of each cluster, 3 to 9; 0 lets the seed choose")
	f.Uint64Var(&s.seed, "seed", 1, "the first seed")
	f.IntVar(&s.seeds, "seeds", 1, "how many seeds to run, one after the other")
	f.Float64Var(&s.seconds, "seconds", 30, "how long clients and faults go on in each, in simulated seconds")
	f.BoolVar(&s.trace, "trace", false, "print what clients, faults and nodes did")
	f.IntVar(&s.parallel, "parallel", runtime.GOMAXPROCS(0), "seeds that run at the same time; each takes a few hundred MB")
	return c
}

func (s *simulation) check() error {
	for _, rule := range []struct {
		bad  bool
		what string
	}{
		{s.nodes != 0 && (s.nodes < 3 || s.nodes > 9), "--nodes is not from 3 to 9"},
		{s.seeds < 1, "--seeds is not positive"},
		{!(s.seconds >= 1 && s.seconds <= 3600), "--seconds is not from 1 to 3600"},
		{s.parallel < 1 || s.parallel > 256, "--parallel is not from 1 to 256"},
	} {
		if rule.bad {
			return usageError{errors.New(rule.what)}
		}
	}
	if s.resolver == "" {
		return nil
	}
	b, err := readModule(s.resolver)
	s.module = b
	return err
}

// simSummary is the last line.
type simSummary struct {
	Seeds            int                     `json:"seeds"`
	SimulatedSeconds float64                 `json:"simulated_seconds"`
	Reads            int                     `json:"reads"`
	Acked            int                     `json:"acked"`
	Unknown          int                     `json:"unknown"`
	Refused          int                     `json:"refused"`
	Faults           int                     `json:"faults"`
	FaultsByKind     map[storm.FaultKind]int `json:"faults_by_kind"`
	Verified         int                     `json:"verified"`
	Violations       int                     `json:"violations"`
	// ViolatedSeeds are the first seeds that violated a promise.
	ViolatedSeeds []uint64 `json:"violated_seeds"`
}

func (t *simSummary) add(r storm.Report) {
	t.Seeds++
	t.SimulatedSeconds += r.Simulated.Seconds()
	t.Reads, t.Acked, t.Unknown, t.Refused = t.Reads+r.Reads, t.Acked+r.Acked, t.Unknown+r.Unknown, t.Refused+r.Refused
	t.Verified += r.Verified
	for kind, n := range r.Faults {
		t.Faults += n
		t.FaultsByKind[kind] += n
	}
	t.Violations += len(r.Violations)
	if len(r.Violations) > 0 && len(t.ViolatedSeeds) < 100 {
		t.ViolatedSeeds = append(t.ViolatedSeeds, r.Plan.Seed)
	}
}

// seedRun is one seed's run, under way or done.
type seedRun struct {
	done   chan struct{}
	trace  bytes.Buffer
	report storm.Report
	err    error
}

func (s *simulation) run(ctx context.Context, out, log io.Writer) error {
	cache := cacheDir()
	module, err := simulatorModule(ctx, cache, log)
	if err != nil {
		return err
	}
	machine, err := host.New(ctx, module, cache)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() {
		stop()
		wg.Wait()
		_ = machine.Close(context.WithoutCancel(ctx)) // the process ends
	}()
	queue := make(chan *seedRun, s.parallel)
	wg.Go(func() { s.start(ctx, &wg, machine, queue) })
	total := simSummary{FaultsByKind: map[storm.FaultKind]int{}, ViolatedSeeds: []uint64{}}
	progress := newSimProgress(log, s.seeds)
	for range s.seeds {
		var r *seedRun
		select {
		case r = <-queue:
			select {
			case <-r.done:
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.err != nil {
			return fmt.Errorf("seed %d: %w", r.report.Plan.Seed, r.err)
		}
		total.add(r.report)
		progress.show(total)
		if s.trace || len(r.report.Violations) > 0 || s.seeds == 1 {
			progress.clear()
			s.print(ctx, out, machine, r)
		}
	}
	progress.clear()
	if err := json.NewEncoder(out).Encode(total); err != nil {
		return err
	}
	if total.Violations > 0 {
		return fmt.Errorf("%d promises were violated; the first with seed %d", total.Violations, total.ViolatedSeeds[0])
	}
	return nil
}

// start starts the runs in the order of their seeds; the queue bounds how many are under way.
func (s *simulation) start(ctx context.Context, wg *sync.WaitGroup, machine *host.Machine, queue chan<- *seedRun) {
	free := make(chan struct{}, s.parallel)
	for i := range s.seeds {
		r := &seedRun{done: make(chan struct{})}
		plan := storm.Draw(s.seed+uint64(i), s.nodes, time.Duration(s.seconds*float64(time.Second)))
		r.report.Plan = plan
		for _, c := range []func() bool{
			func() bool {
				select {
				case free <- struct{}{}:
					return true
				case <-ctx.Done():
					return false
				}
			},
			func() bool {
				select {
				case queue <- r:
					return true
				case <-ctx.Done():
					return false
				}
			},
		} {
			if !c() {
				return
			}
		}
		wg.Go(func() {
			defer close(r.done)
			defer func() { <-free }()
			var trace io.Writer
			if s.trace {
				trace = &r.trace
			}
			if got, err := machine.Run(ctx, s.request(plan, s.trace), trace); err != nil {
				r.err = err
			} else {
				r.report = got
			}
		})
	}
}

func (s *simulation) request(p storm.Plan, trace bool) storm.Request {
	return storm.Request{Plan: p, Resolver: s.module, Trace: trace}
}

// print tells of one run. Nothing in it depends on the machine or the time of day.
func (s *simulation) print(ctx context.Context, out io.Writer, machine *host.Machine, run *seedRun) {
	_, _ = run.trace.WriteTo(out) // as with all output of commands
	r := run.report
	var faults []string
	for _, kind := range slices.Sorted(maps.Keys(r.Faults)) {
		faults = append(faults, fmt.Sprintf("%s %d", kind, r.Faults[kind]))
	}
	fmt.Fprintf(out, "seed %d: %d nodes, %d clients, %.1f s simulated\n  %d reads, %d writes acknowledged, %d unknown, %d refused; %d values verified\n  faults: %s\n  digest of the run: %s\n",
		r.Plan.Seed, r.Plan.Nodes, r.Plan.Clients, r.Simulated.Seconds(), r.Reads, r.Acked, r.Unknown, r.Refused, r.Verified,
		strings.Join(faults, ", "), r.Digest)
	if len(r.Violations) == 0 {
		return
	}
	v := r.Violations[0]
	for _, other := range r.Violations {
		fmt.Fprintf(out, "  VIOLATED: %s: %s %s\n", other.Promise, other.Key, other.Detail)
	}
	fmt.Fprintf(out, "\n  looking for the smallest plan that violates %q ...\n", v.Promise)
	small := s.shrunk(ctx, machine, r)
	fmt.Fprintf(out, "  %d nodes, %d clients, %.1f s, %d of %d faults:\n", small.Plan.Nodes, small.Plan.Clients, small.Plan.Length.Seconds(), len(small.Plan.Faults), len(r.Plan.Faults))
	for _, f := range small.Plan.Faults {
		fmt.Fprintf(out, "    %s\n", f)
	}
	for _, v := range small.Violations {
		if len(v.Story) > 0 {
			fmt.Fprintf(out, "\n  the history of %s: %s\n", v.Key, v.Detail)
			for _, line := range v.Story {
				fmt.Fprintf(out, "    %s\n", line)
			}
			break
		}
	}
	fmt.Fprintf(out, "\n  again: dynamo sim --seed %d --nodes %d --seconds %g --trace\n", r.Plan.Seed, s.nodes, s.seconds)
}

// shrinkTries bounds the runs that the search for a small plan may take.
const shrinkTries = 60

// shrunk returns the run of the smallest plan found that violates the same promise first.
func (s *simulation) shrunk(ctx context.Context, machine *host.Machine, r storm.Report) storm.Report {
	best := r
	storm.Shrink(r.Plan, func(p storm.Plan) bool {
		got, err := machine.Run(ctx, s.request(p, false), nil)
		if err != nil {
			return false
		}
		for _, v := range got.Violations {
			if v.Promise == r.Violations[0].Promise {
				best = got
				return true
			}
		}
		return false
	}, shrinkTries)
	return best
}

// simProgress is a line for whoever watches.
type simProgress struct {
	to    io.Writer
	seeds int
	began time.Time
	on    bool
}

func newSimProgress(w io.Writer, seeds int) *simProgress {
	return &simProgress{to: w, seeds: seeds, began: time.Now(), on: onTerminal(w)}
}

func (p *simProgress) show(t simSummary) {
	if p.on {
		fmt.Fprintf(p.to, "%s%d of %d seeds, %.0f s simulated in %.0f s, %d writes acknowledged, %d faults, %d violations",
			clearLine, t.Seeds, p.seeds, t.SimulatedSeconds, time.Since(p.began).Seconds(), t.Acked, t.Faults, t.Violations)
	}
}

func (p *simProgress) clear() {
	if p.on {
		fmt.Fprint(p.to, clearLine)
	}
}
