package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"dynamo/node/sim/campaign"
)

func newSim() *cobra.Command {
	var o campaign.Options
	var file string
	var seconds float64
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
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if err := checkSim(o, seconds); err != nil {
				return err
			}
			if file != "" {
				if o.Resolver, err = readModule(file); err != nil {
					return err
				}
			}
			if o.For > 0 && !c.Flags().Changed("seeds") {
				o.Seeds = math.MaxInt32
			}
			o.Length, o.Log = time.Duration(seconds*float64(time.Second)), c.ErrOrStderr()
			o.Progress, o.Clear = simProgress(c.ErrOrStderr(), o.Seeds)
			total, err := campaign.Run(c.Context(), o, c.OutOrStdout())
			if err == nil && total.Violations > 0 {
				err = fmt.Errorf("%d promises were violated; the first with seed %d", total.Violations, total.ViolatedSeeds[0])
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&file, "resolver", "", "a module that merges the values of one keyspace, or builtin:NAME")
	f.IntVar(&o.Nodes, "nodes", 0, "nodes of each cluster, 3 to 9; 0 lets the seed choose")
	f.Uint64Var(&o.Seed, "seed", 1, "the first seed")
	f.IntVar(&o.Seeds, "seeds", 1, "how many seeds to run, one after the other")
	f.DurationVar(&o.For, "for", 0, "begin seeds for so long, as 10m, instead of a number of them")
	f.Float64Var(&seconds, "seconds", 30, "how long clients and faults go on in each, in simulated seconds")
	f.BoolVar(&o.Trace, "trace", false, "print what clients, faults and nodes did")
	f.IntVar(&o.Parallel, "parallel", runtime.GOMAXPROCS(0), "seeds that run at the same time; each takes a few hundred MB")
	return c
}

func checkSim(o campaign.Options, seconds float64) error {
	for _, rule := range []struct {
		bad  bool
		what string
	}{
		{o.Nodes != 0 && (o.Nodes < 3 || o.Nodes > 9), "--nodes is not from 3 to 9"},
		{o.For < 0, "--for is negative"},
		{o.Seeds < 1, "--seeds is not positive"},
		{!(seconds >= 1 && seconds <= 3600), "--seconds is not from 1 to 3600"},
		{o.Parallel < 1 || o.Parallel > 256, "--parallel is not from 1 to 256"},
	} {
		if rule.bad {
			return usageError{errors.New(rule.what)}
		}
	}
	return nil
}

// progressEvery is the pause between two lines of progress in a log.
const progressEvery = time.Minute

// simProgress is a line for whoever watches, and how to take it away. In a log it is one a minute, and stays.
func simProgress(w io.Writer, seeds int) (show func(campaign.Summary), clean func()) {
	began := time.Now()
	of := ""
	if seeds != math.MaxInt32 {
		of = fmt.Sprintf(" of %d", seeds)
	}
	line := func(t campaign.Summary) string {
		return fmt.Sprintf("%d%s seeds, %.0f s simulated in %.0f s, %d writes acknowledged, %d faults, %d violations",
			t.Seeds, of, t.SimulatedSeconds, time.Since(began).Seconds(), t.Acked, t.Faults, t.Violations)
	}
	if onTerminal(w) {
		return func(t campaign.Summary) { fmt.Fprint(w, clearLine, line(t)) }, func() { fmt.Fprint(w, clearLine) }
	}
	next := began.Add(progressEvery)
	return func(t campaign.Summary) {
		if now := time.Now(); !now.Before(next) {
			fmt.Fprintln(w, line(t))
			next = now.Add(progressEvery)
		}
	}, func() {}
}
