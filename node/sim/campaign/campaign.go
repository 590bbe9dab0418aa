// Package campaign runs many seeds of the simulator and tells what came of them.
package campaign

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"dynamo/node/sim/host"
	"dynamo/node/sim/plan"
	"dynamo/node/sim/storm"
)

// Options say what to run.
type Options struct {
	// Nodes is how many nodes each cluster has; 0 lets the seed choose.
	Nodes int
	// Seed is the first one, Seeds how many there are.
	Seed  uint64
	Seeds int
	// For, if not 0, is how long seeds are begun, on the clock of this machine.
	For time.Duration
	// Length is how long clients and faults go on in each, on the simulated clock.
	Length time.Duration
	// Trace prints what clients, faults and nodes did.
	Trace bool
	// Parallel is how many seeds run at the same time.
	Parallel int
	// Resolver is a user's module, to merge the values of one keyspace; empty: none.
	Resolver []byte
	// Progress, if not nil, is told after each seed how far it is; Clear before anything is printed.
	Progress func(Summary)
	Clear    func()
	// Log is told what takes time.
	Log io.Writer
}

// Summary is what came of all seeds; a campaign prints it as its last line, in JSON.
type Summary struct {
	Seeds            int               `json:"seeds"`
	SimulatedSeconds float64           `json:"simulated_seconds"`
	Reads            int               `json:"reads"`
	Acked            int               `json:"acked"`
	Unknown          int               `json:"unknown"`
	Refused          int               `json:"refused"`
	Faults           int               `json:"faults"`
	FaultsByKind     map[plan.Kind]int `json:"faults_by_kind"`
	Verified         int               `json:"verified"`
	Violations       int               `json:"violations"`
	// ViolatedSeeds are the first seeds that violated a promise.
	ViolatedSeeds []uint64 `json:"violated_seeds"`
}

func (t *Summary) add(r storm.Report) {
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
	plan   plan.Plan
	done   chan struct{}
	trace  bytes.Buffer
	report storm.Report
	err    error
}

// run is one campaign.
type run struct {
	o       Options
	machine *host.Machine
	out     io.Writer
}

// Run runs all seeds and prints what came of them: nothing in that depends on the machine or the time of day. The error
// is about the simulator; violated promises are in the summary.
func Run(ctx context.Context, o Options, out io.Writer) (Summary, error) {
	total := Summary{FaultsByKind: map[plan.Kind]int{}, ViolatedSeeds: []uint64{}}
	cache := host.CacheDir()
	module, err := host.Module(ctx, cache, o.Log)
	if err != nil {
		return total, err
	}
	machine, err := host.New(ctx, module, cache)
	if err != nil {
		return total, err
	}
	c := &run{o, machine, out}
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() {
		stop()
		wg.Wait()
		_ = machine.Close(context.WithoutCancel(ctx)) // nobody needs it any more
	}()
	started := make(chan *seedRun, ahead*o.Parallel)
	wg.Go(func() {
		defer close(started)
		c.start(ctx, &wg, started)
	})
	for r := range started {
		select {
		case <-r.done:
		case <-ctx.Done():
			return total, ctx.Err()
		}
		if r.err != nil {
			return total, fmt.Errorf("seed %d: %w", r.plan.Seed, r.err)
		}
		total.add(r.report)
		o.Progress(total)
		if o.Trace || len(r.report.Violations) > 0 || o.Seeds == 1 {
			o.Clear()
			c.print(ctx, r)
		}
	}
	o.Clear()
	if err := ctx.Err(); err != nil {
		return total, err
	}
	return total, json.NewEncoder(out).Encode(total)
}

// ahead bounds how many runs a slow one may be overtaken by, for each that goes on at the same time. What is kept of one
// that has ended is small.
const ahead = 16

// start starts the runs in the order of their seeds, and so many at a time.
func (c *run) start(ctx context.Context, wg *sync.WaitGroup, started chan<- *seedRun) {
	free := make(chan struct{}, c.o.Parallel)
	var over <-chan time.Time
	if c.o.For > 0 {
		timer := time.NewTimer(c.o.For)
		defer timer.Stop()
		over = timer.C
	}
	for i := range c.o.Seeds {
		select {
		case free <- struct{}{}:
		case <-over:
			return
		case <-ctx.Done():
			return
		}
		r := &seedRun{plan: plan.Draw(c.o.Seed+uint64(i), c.o.Nodes, c.o.Length), done: make(chan struct{})}
		wg.Go(func() {
			defer close(r.done)
			defer func() { <-free }()
			var trace io.Writer
			switch {
			case c.o.Trace && c.o.Seeds == 1:
				trace = c.out // which nobody else writes to before the end
			case c.o.Trace:
				trace = &r.trace
			}
			r.report, r.err = c.simulate(ctx, r.plan, trace)
		})
		select {
		case started <- r:
		case <-ctx.Done():
			return
		}
	}
}

// simulate makes one run. One that fails, as a node may panic or wait for ever, violates a promise, too.
func (c *run) simulate(ctx context.Context, p plan.Plan, trace io.Writer) (storm.Report, error) {
	r, err := c.machine.Run(ctx, storm.Request{Plan: p, Resolver: c.o.Resolver}, trace)
	if err == nil || ctx.Err() != nil || errors.Is(err, storm.ErrRequest) {
		return r, err
	}
	return storm.Report{Plan: p, Violations: []storm.Violation{{Promise: "the run comes to an end", Detail: err.Error()}}}, nil
}

// shownViolations is how many of each promise are printed.
const shownViolations = 2

// print tells of one run. Nothing in it depends on the machine or the time of day.
func (c *run) print(ctx context.Context, run *seedRun) {
	out := c.out
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
	more := map[string]int{}
	for _, other := range r.Violations {
		if more[other.Promise]++; more[other.Promise] <= shownViolations {
			fmt.Fprintf(out, "  VIOLATED: %s: %s %s\n", other.Promise, other.Key, other.Detail)
		}
	}
	for _, promise := range slices.Sorted(maps.Keys(more)) {
		if n := more[promise] - shownViolations; n > 0 {
			fmt.Fprintf(out, "  and %d more of %q\n", n, promise)
		}
	}
	fmt.Fprintf(out, "\n  looking for the smallest plan that violates %q ...\n", v.Promise)
	small := c.shrunk(ctx, r)
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
	fmt.Fprintf(out, "\n  again: dynamo sim --seed %d --nodes %d --seconds %g --trace\n", r.Plan.Seed, c.o.Nodes, c.o.Length.Seconds())
}

// shrinkTries bounds the runs that the search for a small plan may take.
const shrinkTries = 60

// shrunk returns the run of the smallest plan found that violates the same promise first.
func (c *run) shrunk(ctx context.Context, r storm.Report) storm.Report {
	best := r
	plan.Shrink(r.Plan, func(p plan.Plan) bool {
		got, err := c.simulate(ctx, p, nil)
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
