package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	durations := []time.Duration{0, 1, 63, 64, 127, 128, 129, 255, 256, 1000, time.Millisecond, time.Hour, math.MaxInt64}
	for shift := range 62 {
		durations = append(durations, 1<<shift-1, 1<<shift, 1<<shift+1)
	}
	for _, d := range durations {
		b := bucketOf(d)
		top := bucketTop(b)
		if top < d || float64(top-d) > float64(d)/subBuckets || bucketOf(top) != b || (top < math.MaxInt64 && bucketOf(top+1) != b+1) {
			t.Errorf("%d is in bucket %d, up to %d", d, b, top)
		}
	}
	if new(latencies).quantile(500) != 0 {
		t.Error("no latencies have a median")
	}
	var l latencies
	l.add(-time.Second) // a clock that went back
	if l.quantile(999) != 0 {
		t.Error("a negative latency counts")
	}
}

// Quantiles agree with those of the sorted list.
func TestQuantiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 10, 999, 5000} {
		var halves [2]latencies
		var list []time.Duration
		for i := range n {
			d := time.Duration(math.Exp(rng.Float64() * 20))
			halves[i%2].add(d)
			list = append(list, d)
		}
		slices.Sort(list)
		halves[0].merge(&halves[1])
		for _, per := range []int{500, 950, 990, 999, 1000} {
			want := list[(n*per+999)/1000-1]
			if got := halves[0].quantile(uint64(per)); got < want || float64(got-want) > float64(want)/subBuckets {
				t.Errorf("%d of %d: %v, want %v", per, n, got, want)
			}
		}
	}
}

// The load does what its flags say, and every request is in the result.
func TestBench(t *testing.T) {
	var gets, puts, withContext atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Dynamo-Context", "tok")
		switch {
		case r.URL.Path == "/v1/keyspaces/load":
			fmt.Fprint(w, keyspaceJSON)
			return
		case r.Method == http.MethodPut:
			puts.Add(1)
			if r.Header.Get("X-Dynamo-Context") == "tok" {
				withContext.Add(1)
			}
			if r.ContentLength != 7 || r.URL.Query().Get("w") != "all" || r.URL.Path > "/v1/kv/load/bench-00000003" {
				t.Errorf("%s with %d bytes", r.URL, r.ContentLength)
			}
		default:
			gets.Add(1)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(s.Close)
	args := []string{
		"bench", "--keyspace", "load", "--clients", "3", "--keys", "4", "--value-bytes", "7", "--w", "all",
		"--duration", "200ms", "--endpoint", s.URL, "-o", "json",
	}
	code, out, errs := cli(t, args...)
	var r benchResult
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 || len(r.Ops) != 3 {
		t.Fatalf("exit %d, %v\n%s%s", code, err, out, errs)
	}
	if r.Ops[0].Count != uint64(gets.Load()) || r.Ops[1].Count != uint64(puts.Load()) || r.Ops[2].Count != r.Ops[0].Count+r.Ops[1].Count {
		t.Errorf("%+v, served %d gets and %d puts", r, gets.Load(), puts.Load())
	}
	if gets.Load() == 0 || puts.Load() < 20 || withContext.Load() < puts.Load()-12 {
		t.Errorf("%d gets, %d puts, %d with a context", gets.Load(), puts.Load(), withContext.Load())
	}
	if p := r.Ops[2]; !(p.P50 > 0 && p.P50 <= p.P95 && p.P95 <= p.P99 && p.P99 <= p.P999 && p.P999 <= p.Max) {
		t.Errorf("%+v", p)
	}
}

func TestBenchCountsFailures(t *testing.T) {
	n := newNode(t, map[string]http.HandlerFunc{"GET /v1/keyspaces/ks": says(keyspaceJSON)})
	code, out, errs := n.ask(t, "bench", "--keyspace", "ks", "--clients", "1", "--reads", "0", "--duration", "100ms")
	if code != 1 || !strings.Contains(errs, "requests failed, the first: keyspace_unknown") || !strings.Contains(out, "1 clients") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	if code, _, errs = n.ask(t, "bench", "--keyspace", "none"); code != 1 || !strings.Contains(errs, "keyspace_unknown") {
		t.Errorf("exit %d\n%s", code, errs)
	}
	for _, flag := range []string{"--clients=0", "--keys=0", "--reads=1.5", "--reads=NaN", "--duration=0s", "--value-bytes=-1"} {
		if code, _, errs = n.ask(t, "bench", flag); code != 2 || !strings.Contains(errs, strings.Split(flag, "=")[0]) {
			t.Errorf("%s: exit %d, %s", flag, code, errs)
		}
	}
}
