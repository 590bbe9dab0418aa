package storm

import (
	"context"
	"runtime"
	"time"

	"dynamo/node/sim/admin"
)

// NothingLeft is the promise about what a process holds after its nodes are closed.
const NothingLeft = "a closed node leaves nothing behind"

const (
	// goroutinesBeside may be left of libraries that keep some for the whole process.
	goroutinesBeside = 0
	// heapBeside is what caches of the process may have grown by, in bytes, with what was on the disks, which are memory.
	heapBeside = 24 << 20
)

// usage is what the process holds.
type usage struct {
	goroutines int
	heap       int64
}

func use() usage {
	runtime.GC()
	runtime.GC() // what was in a sync.Pool goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{runtime.NumGoroutine(), int64(m.HeapAlloc)}
}

// leaks compares what the process holds after the cluster is closed with what it held before.
func (r *run) leaks(ctx context.Context, before usage) {
	r.c, r.watcher, r.book = nil, nil, nil
	after := use()
	for range 50 { // some end by themselves, soon
		if after.goroutines <= before.goroutines {
			break
		}
		admin.Wait(ctx, 100*time.Millisecond)
		after.goroutines = runtime.NumGoroutine()
	}
	w := &r.report.Watched
	if r.deaths.Load() > 0 || r.report.SetAside > 0 {
		return // a database that failed cannot be closed: its goroutines stay until the process ends, which is what a node does
	}
	w.Goroutines, w.HeapBytes = after.goroutines-before.goroutines, after.heap-before.heap
	if w.Goroutines > goroutinesBeside {
		stacks := make([]byte, 64<<10)
		r.violation(NothingLeft, "", "%d goroutines:\n%s", w.Goroutines, stacks[:runtime.Stack(stacks, true)])
	}
	if w.HeapBytes > heapBeside {
		r.violation(NothingLeft, "", "%d bytes of heap", w.HeapBytes)
	}
}
