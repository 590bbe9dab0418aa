package main

import (
	"fmt"
	"math/bits"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// subBuckets divide each power of two, so that a bucket's bounds are at most 1/64 apart.
const subBuckets = 64

// latencies is a histogram of constant size: exact below 128 ns, within 1.6 % above.
type latencies struct {
	counts [(64 - 5) * subBuckets]uint64
	n      uint64
	max    time.Duration
}

// bucketOf and bucketTop are inverse: bucketTop is the largest duration of a bucket.
func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	shift := max(bits.Len64(v)-7, 0) // leaves v with at most 7 bits
	return shift*subBuckets + int(v>>shift)
}

func bucketTop(b int) time.Duration {
	if b < 2*subBuckets {
		return time.Duration(b)
	}
	shift := b/subBuckets - 1
	return time.Duration(uint64(b-shift*subBuckets+1)<<shift - 1)
}

func (l *latencies) add(d time.Duration) {
	l.counts[bucketOf(d)]++
	l.n++
	l.max = max(l.max, d)
}

func (l *latencies) merge(o *latencies) {
	for i, n := range o.counts {
		l.counts[i] += n
	}
	l.n += o.n
	l.max = max(l.max, o.max)
}

// quantile is the smallest duration that per of 1000 latencies do not exceed; 0 if there are none.
func (l *latencies) quantile(per uint64) time.Duration {
	want := (l.n*per + 999) / 1000
	var sum uint64
	for b, n := range l.counts {
		if sum += n; n > 0 && sum >= want {
			return min(bucketTop(b), l.max)
		}
	}
	return 0
}

// opResult is what was measured of one kind of request; latencies in microseconds.
type opResult struct {
	Op        string  `json:"op"`
	Count     uint64  `json:"count"`
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_micros"`
	P95       float64 `json:"p95_micros"`
	P99       float64 `json:"p99_micros"`
	P999      float64 `json:"p999_micros"`
	Max       float64 `json:"max_micros"`
}

// benchResult is what a benchmark measured.
type benchResult struct {
	Clients int        `json:"clients"`
	Seconds float64    `json:"seconds"`
	Failed  int        `json:"failed"`
	Error   string     `json:"first_error,omitempty"`
	Ops     []opResult `json:"ops"`
}

func (l *load) sum(workers []*worker, took time.Duration) benchResult {
	out := benchResult{Clients: l.clients, Seconds: took.Seconds()}
	var get, put, all latencies
	for _, w := range workers {
		get.merge(&w.get)
		put.merge(&w.put)
		out.Failed += w.failed
		if out.Error == "" && w.first != nil {
			out.Error = w.first.Error()
		}
	}
	all.merge(&get)
	all.merge(&put)
	micros := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	for _, x := range []struct {
		op string
		*latencies
	}{{"get", &get}, {"put", &put}, {"all", &all}} {
		out.Ops = append(out.Ops, opResult{
			Op: x.op, Count: x.n, PerSecond: float64(x.n) / took.Seconds(), Max: micros(x.max),
			P50: micros(x.quantile(500)), P95: micros(x.quantile(950)), P99: micros(x.quantile(990)), P999: micros(x.quantile(999)),
		})
	}
	return out
}

// print shows the result; failed requests are an error.
func (b benchResult) print(c *cobra.Command, o output) error {
	if o == outputJSON {
		if err := printJSON(c, b); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(c.OutOrStdout(), "%d clients, %.1f s, latencies in ms\n\n", b.Clients, b.Seconds)
		w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 3, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, "OP\tCOUNT\tPER SECOND\tP50\tP95\tP99\tP99.9\tMAX\t")
		for _, x := range b.Ops {
			fmt.Fprintf(w, "%s\t%d\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t\n", x.Op, x.Count, x.PerSecond, x.P50/1e3, x.P95/1e3, x.P99/1e3, x.P999/1e3, x.Max/1e3)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if b.Failed > 0 {
		return fmt.Errorf("%d requests failed, the first: %s", b.Failed, b.Error)
	}
	return nil
}
