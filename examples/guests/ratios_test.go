//go:build !race

package guests_test

import (
	"context"
	"math"
	"runtime"
	"sync"
	"testing"
	"time"
)

// tolerance is how far above its goal a ratio may be: a busy machine is no reason to fail, a price that has doubled is.
const tolerance = 2

// lap is the time of n merges, each.
func lap(t *testing.T, c contender, n int) float64 {
	t.Helper()
	start := time.Now()
	for range n {
		if _, err := c.merge(t.Context()); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
	}
	return float64(time.Since(start)) / float64(n)
}

// TestRatios holds the price of a merge against that of native Go. Only the best of several laps counts, which are
// taken in turns; as long as one is too slow, there are more of them.
func TestRatios(t *testing.T) {
	all := contenders(t)
	best := make([]float64, len(all))
	laps := make([]int, len(all))
	for i, c := range all {
		lap(t, c, 3)
		best[i] = math.Inf(1)
		laps[i] = 1 + int(float64(2*time.Millisecond)/lap(t, c, 2))
	}
	tooSlow := func(i int) bool { return all[i].most > 0 && best[i]/best[0] > tolerance*all[i].most }
	for round := range 60 {
		again := round < 5
		for i, c := range all {
			best[i] = min(best[i], lap(t, c, laps[i]))
		}
		for i := range all {
			again = again || tooSlow(i)
		}
		if !again {
			break
		}
	}
	for i, c := range all {
		t.Logf("%-16s %8.2f us %8.3f of native-json, goal %v", c.name, best[i]/1e3, best[i]/best[0], c.most)
		if tooSlow(i) {
			t.Errorf("%s takes %.3f of what native Go takes, the goal is %v", c.name, best[i]/best[0], c.most)
		}
	}
}

// TestParallelMerges wants half of what is usual from as many goroutines as there are processors, up to four.
func TestParallelMerges(t *testing.T) {
	n := min(4, runtime.GOMAXPROCS(0))
	var c contender
	for _, one := range contenders(t) {
		if one.name == "c" {
			c = one
		}
	}
	const merges = 1000
	one, many := math.Inf(1), math.Inf(1)
	for round := 0; round < 60 && (round < 5 || one/many < 0.375*float64(n)); round++ {
		one = min(one, lap(t, c, merges))
		start := time.Now()
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() {
				for range merges {
					if _, err := c.merge(context.WithoutCancel(t.Context())); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		many = min(many, float64(time.Since(start))/float64(n*merges))
	}
	t.Logf("%d goroutines merge %.2f times as much as one", n, one/many)
	if one/many < 0.375*float64(n) {
		t.Errorf("%d goroutines merge only %.2f times as much as one", n, one/many)
	}
}
