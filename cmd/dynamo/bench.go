package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"dynamo/client"
)

// errorPause keeps a client whose requests fail from doing nothing but that.
const errorPause = 10 * time.Millisecond

// load is what a benchmark does.
type load struct {
	keyspace   string
	clients    int
	keys       int
	valueBytes int
	reads      float64
	duration   time.Duration
	seed       uint64
	rate       float64
	call       client.CallOptions
}

func (l *load) check() error {
	for _, rule := range []struct {
		bad  bool
		what string
	}{
		{l.clients < 1 || l.clients > 4096, "--clients is not from 1 to 4096"},
		{l.keys < 1, "--keys is not positive"},
		{l.valueBytes < 0 || l.valueBytes > 16<<20, "--value-bytes is not from 0 to 16777216"},
		{!(l.reads >= 0 && l.reads <= 1), "--reads is not from 0 to 1"},
		{l.duration <= 0, "--duration is not positive"},
		{!(l.rate >= 0 && l.rate <= 10_000_000), "--rate is not from 0 to 10000000"},
	} {
		if rule.bad {
			return usageError{errors.New(rule.what)}
		}
	}
	return nil
}

func newBench() *cobra.Command {
	var r remote
	var l load
	c := &cobra.Command{
		Use:   "bench",
		Short: "Put load on a running cluster and measure it",
		Long: `Each client sends its next request when the last one is answered (closed loop), so
latencies are those at the throughput that was reached. With --rate requests begin at their
times whether or not others are answered (open loop, as far as there are clients free), and
latencies count from then: this is how to see a cluster under overload. Keys are chosen evenly; a put
carries the causal context of what that client last saw of the key. Writes to the
keyspace: use one of its own. A progress line goes to stderr. Ctrl-C ends it early and
shows what was measured. Exit 1 if any request failed.

  dynamo bench --clients 32 --duration 30s --reads 0.9`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := l.check(); err != nil {
				return err
			}
			cl, err := r.clientOver(&http.Client{Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: answerGrace}).DialContext,
				MaxIdleConnsPerHost: l.clients, MaxConnsPerHost: l.clients,
			}})
			if err != nil {
				return err
			}
			if err := cl.JSON(c.Context(), client.Request{Method: http.MethodGet, Path: client.Path("keyspaces", l.keyspace)}, nil); err != nil {
				return err
			}
			result := l.run(c.Context(), cl, c.ErrOrStderr())
			return result.print(c, r.output)
		},
	}
	r.register(c)
	f := c.Flags()
	f.StringVar(&l.keyspace, "keyspace", "default", "keyspace to write to")
	f.IntVar(&l.clients, "clients", 16, "requests at once")
	f.IntVar(&l.keys, "keys", 10000, "different keys")
	f.IntVar(&l.valueBytes, "value-bytes", 100, "size of a value")
	f.Float64Var(&l.reads, "reads", 0.5, "share of reads, 0 to 1")
	f.DurationVar(&l.duration, "duration", 10*time.Second, "how long")
	f.Float64Var(&l.rate, "rate", 0, "requests to begin per second, by all clients together; 0 = closed loop")
	f.Uint64Var(&l.seed, "seed", 1, "chooses keys and values")
	f.StringVar(&l.call.R, "r", "", "replicas that must answer: a number, one, quorum or all")
	f.StringVar(&l.call.W, "w", "", "replicas that must have a write on disk: likewise")
	return c
}

// worker is one client of the load.
type worker struct {
	*load
	cl       *client.Client
	rng      *rand.Rand
	seen     map[string]string // contexts by key
	value    []byte
	get, put latencies
	first    error // the first failure
	failed   int
	done     *atomic.Int64 // of all workers, for the progress line
}

// run puts the load on until its time is over or ctx ends; requests that are under way then still count.
func (l *load) run(ctx context.Context, cl *client.Client, progress io.Writer) benchResult {
	timed, cancel := context.WithTimeout(ctx, l.duration)
	defer cancel()
	var done atomic.Int64
	workers := make([]*worker, l.clients)
	start := time.Now()
	var wg sync.WaitGroup
	for i := range workers {
		workers[i] = &worker{
			load: l, cl: cl, rng: rand.New(rand.NewPCG(l.seed, uint64(i))), seen: make(map[string]string),
			value: make([]byte, l.valueBytes), done: &done,
		}
		wg.Go(func() { workers[i].run(ctx, timed) })
	}
	show(timed, start, &done, progress)
	wg.Wait()
	return l.sum(workers, time.Since(start))
}

// show keeps the progress line up to date until ctx ends.
func show(ctx context.Context, start time.Time, done *atomic.Int64, w io.Writer) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for last := int64(0); ; {
		select {
		case <-ctx.Done():
			fmt.Fprintln(w)
			return
		case <-tick.C:
			n := done.Load()
			fmt.Fprintf(w, "\r%4.0f s  %9d requests  %7d/s ", time.Since(start).Seconds(), n, n-last)
			last = n
		}
	}
}

// run sends one request after the other until timed ends. Only the end of ctx breaks a request off.
func (w *worker) run(ctx, timed context.Context) {
	due := time.Now()
	every := time.Duration(0)
	if w.rate > 0 {
		every = time.Duration(float64(w.clients) / w.rate * float64(time.Second))
		due = due.Add(time.Duration(w.rng.Float64() * float64(every))) // not all at once
	}
	for timed.Err() == nil {
		key := fmt.Sprintf("bench-%08d", w.rng.IntN(w.keys))
		start := time.Now()
		if w.rate > 0 {
			if !wait(timed, due.Sub(start)) {
				return
			}
			start, due = due, due.Add(every)
		}
		into, err := w.request(ctx, key)
		took := time.Since(start)
		if ctx.Err() != nil {
			return // broken off: neither a success nor a failure
		}
		w.done.Add(1)
		if err == nil {
			into.add(took)
			continue
		}
		w.failed++
		if w.first == nil {
			w.first = err
		}
		if w.rate == 0 {
			wait(timed, errorPause)
		}
	}
}

// wait reports whether d has passed before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// request sends one request and says where its latency belongs.
func (w *worker) request(ctx context.Context, key string) (*latencies, error) {
	ctx, cancel := context.WithTimeout(ctx, longestCall+answerGrace)
	defer cancel()
	o := w.call
	if w.rng.Float64() < w.reads {
		v, err := w.cl.Get(ctx, w.keyspace, key, o)
		if err == nil {
			w.seen[key] = v.Context
		}
		return &w.get, err
	}
	for i := range w.value {
		w.value[i] = byte(w.rng.Uint32())
	}
	o.Context = w.seen[key]
	token, err := w.cl.Put(ctx, w.keyspace, key, w.value, o)
	if err == nil {
		w.seen[key] = token
	}
	return &w.put, err
}
