// Package storm breaks simulated clusters: clients work while a nemesis plays a plan of faults, and afterwards every
// promise of the store is checked. One seed determines a run.
package storm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"dynamo/node/config"
	"dynamo/node/sim"
	"dynamo/node/sim/history"
	"dynamo/node/sim/plan"
	"dynamo/resolver"
)

// Request is what a run is asked for; it determines all of it.
type Request struct {
	Plan plan.Plan
	// Resolver is a user's module, to be tried in a keyspace of its own; empty: none.
	Resolver []byte `json:",omitempty"`
}

// ErrRequest says that there can be no run of what was asked for.
var ErrRequest = errors.New("storm")

// ExitRequest is the status that the simulator's process ends with on ErrRequest.
const ExitRequest = 3

// Options describe a run.
type Options struct {
	Request
	Logger *slog.Logger
	Now    func() time.Time
	// Builtins are the ready-made resolver modules by name.
	Builtins    func(name string) ([]byte, bool)
	ModuleCache string
	// Engine runs the resolver modules [this process].
	Engine resolver.Engine
	// Line, if not nil, is told each line of the run's log.
	Line func(line string)
}

// Violation is a broken promise.
type Violation struct {
	// Promise is the short name of what was promised.
	Promise string
	// Key is keyspace/key, empty if it is about none.
	Key    string `json:",omitempty"`
	Detail string
	// Story is all that is known of the key, line by line.
	Story []string `json:",omitempty"`
}

// Counts say how much was done and checked.
type Counts struct {
	// Keys were used, and read Reads times.
	Keys, Reads int
	// Acked, Unknown and Refused count writes.
	Acked, Unknown, Refused int
	// Verified counts the values that had to be there, and were looked for.
	Verified int
}

func (c Counts) plus(d Counts) Counts {
	return Counts{c.Keys + d.Keys, c.Reads + d.Reads, c.Acked + d.Acked, c.Unknown + d.Unknown, c.Refused + d.Refused, c.Verified + d.Verified}
}

// Watched says what was looked at while a run went on, and the most that was seen.
type Watched struct {
	// Looks at all nodes were taken, which met Objects that had changed since the last.
	Looks, Objects int
	// Siblings and Context are the most versions and context entries of one object, Hints the most hints of one node.
	Siblings, Context, Hints int
	// Settled says that the run went on until all was forgotten that may be; Goroutines and HeapBytes are what was left
	// after the cluster was closed, beyond what there was before.
	Settled, Goroutines int
	HeapBytes           int64
}

// Report is what came of a run.
type Report struct {
	Plan plan.Plan
	// Simulated is how long the run took on the cluster's clock.
	Simulated time.Duration
	// Counts are those of all workloads together.
	Counts
	// Workloads are counted by keyspace.
	Workloads map[string]Counts
	// Watched is what the watcher saw of the nodes' disks.
	Watched Watched
	// Faults counts what was done, by kind.
	Faults map[plan.Kind]int
	// SetAside counts databases that were unusable after damage.
	SetAside   int
	Violations []Violation
	// Digest is a hash of everything that clients and nemesis saw and when: equal runs have equal ones.
	Digest string
}

// run is one run. It belongs to the goroutine of Run, but for book and gate.
type run struct {
	o     Options
	plan  plan.Plan
	c     *sim.Cluster
	began time.Time
	book  *book
	// samples are values for the user's resolver.
	samples [][]byte
	// trialed is the fuel that trial merges have used.
	trialed   uint64
	workloads []workload
	limits    config.Limits
	watcher   *watcher
	// dropped belongs to the administrator until the clients have ended.
	dropped   drop
	resolvers binder
	// gate has a token for each client: one is taken for each call, and whoever takes all holds the clients. It is a
	// channel because a goroutine that waits for a lock keeps virtual time from passing.
	gate   chan struct{}
	report Report
	log    struct {
		sync.Mutex
		digest hash.Hash
		steps  []string
	}
	// fatal are nodes that must not go on.
	fatal chan string
	// deaths counts them.
	deaths  atomic.Int64
	nemesis nemesis
}

func (r *run) since() time.Duration { return r.o.Now().Sub(r.began) }

// note keeps what happened, with its time.
func (r *run) note(format string, args ...any) {
	line := fmt.Sprintf("%8.3fs ", r.since().Seconds()) + fmt.Sprintf(format, args...)
	r.log.Lock()
	defer r.log.Unlock()
	r.log.steps = append(r.log.steps, line)
	r.write(line)
}

// write adds a line to the digest; r.log is locked.
func (r *run) write(line string) {
	fmt.Fprintln(r.log.digest, r.since().Nanoseconds(), line)
	if r.o.Line != nil {
		r.o.Line(line)
	}
}

func (r *run) violation(promise, key, format string, args ...any) {
	v := Violation{Promise: promise, Key: key, Detail: fmt.Sprintf(format, args...)}
	r.note("VIOLATION of %s: %s %s", promise, key, v.Detail)
	r.log.Lock()
	defer r.log.Unlock()
	if len(r.report.Violations) < maxViolations {
		r.report.Violations = append(r.report.Violations, v)
	}
}

// maxViolations bounds a report: what is broken breaks many keys.
const maxViolations = 100

const (
	maxValue        = 64 << 10
	contextLifetime = 12 * time.Second
	settleAfter     = 18 * time.Second
	// clockSlack is how far the clocks of nodes may be apart.
	clockSlack = 2 * time.Second
	// maxSiblings and maxRefusal are low, so that runs get there.
	maxSiblings, siblingRefusal = 8, 24
)

func (r *run) config() *config.Cluster {
	var all []config.Keyspace
	for _, w := range r.workloads {
		if w.keyspace == fleeting {
			continue // made by the administrator
		}
		n := min(3, r.plan.Nodes)
		k := config.Keyspace{
			Name: w.keyspace, N: n, R: 2, W: 2, Conflict: w.policy, Durability: config.DurabilitySync, MaxValueBytes: maxValue,
		}
		if w.resolver != "" {
			k.Resolver = config.BuiltinPrefix + w.resolver
		}
		all = append(all, k)
	}
	c := sim.Config(r.plan.Nodes, 16, all...)
	c.Limits.RequestTimeout, c.Limits.MaxTimeout = 2*time.Second, 5*time.Second
	c.Limits.ContextLifetime, c.Limits.SettleAfter = contextLifetime, settleAfter
	c.Limits.MaxSiblings, c.Limits.SiblingRefusal = maxSiblings, siblingRefusal
	c.Limits.ResolverTimeout = time.Minute
	return c
}

// lawRounds is enough to find out that a module works; whether it is lawful is for other tests.
const lawRounds = 1

// Run plays a plan and checks the promises.
func Run(ctx context.Context, o Options) (Report, error) {
	r := &run{o: o, plan: o.Plan, began: o.Now(), book: newBook(), report: Report{Plan: o.Plan, Faults: map[plan.Kind]int{}, Workloads: map[string]Counts{}}, fatal: make(chan string, 64)}
	before := use()
	defer time.AfterFunc(o.Plan.Length+overdue, stuck).Stop()
	r.log.digest = sha256.New()
	r.workloads = r.drawWorkloads()
	if len(o.Resolver) > 0 {
		var err error
		if r.samples, err = samplesOf(o.Resolver); err != nil {
			return r.report, fmt.Errorf("%w: %w", ErrRequest, err)
		}
	}
	r.gate = make(chan struct{}, o.Plan.Clients)
	r.release()
	c := r.config()
	r.limits = c.Limits
	r.watcher = r.newWatcher()
	r.c = sim.New(sim.Options{
		Config: c, Seed: o.Plan.Seed, Logger: o.Logger, Now: o.Now, ModuleCache: o.ModuleCache, Engine: o.Engine, Builtins: r.builtins,
		Fatal: r.died, PauseNetworkOnly: runtime.GOARCH != "wasm", LawRounds: lawRounds,
	})
	r.arm()
	if err := r.start(ctx); err != nil {
		return r.report, errors.Join(err, r.c.Close(ctx))
	}
	if err := r.prepare(ctx); err != nil {
		return r.report, errors.Join(err, r.c.Close(ctx))
	}
	r.began = o.Now()
	r.note("%d nodes are up", o.Plan.Nodes)
	var wg sync.WaitGroup
	working, stop := context.WithCancel(ctx)
	r.watcher.start(ctx)
	r.resolvers = newBinder(working, &wg)
	r.clients(working, &wg)
	r.administer(working, &wg)
	err := r.play(ctx)
	stop()
	r.c.Resume(r.ids()...) // the administrator may wait for the disk of one that stands still
	wg.Wait()
	if err == nil {
		err = r.check(ctx)
	}
	r.watcher.end()
	if closing := r.c.Close(ctx); err == nil {
		err = closing
	}
	r.report.Simulated = r.since()
	r.count()
	r.leaks(ctx, before)
	r.report.Digest = hex.EncodeToString(r.log.digest.Sum(nil))
	return r.report, err
}

// overdue is how much longer than its plan a run may take; healing, settling and closing have limits of their own.
const overdue = 20 * time.Minute

// stuck ends a run that waits for what never happens, and shows where.
func stuck() {
	stacks := make([]byte, 1<<20)
	panic(fmt.Sprintf("the run does not end\n%s", stacks[:runtime.Stack(stacks, true)]))
}

// hold waits until no client has a call under way, and lets none begin until release.
func (r *run) hold() {
	for range cap(r.gate) {
		<-r.gate
	}
}

func (r *run) release() {
	for range cap(r.gate) {
		r.gate <- struct{}{}
	}
}

func (r *run) died(id string, err error) {
	r.deaths.Add(1)
	r.note("%s must stop: %v", id, err)
	select {
	case r.fatal <- id:
	default: // there are fewer nodes than room
	}
}

func (r *run) count() {
	for _, k := range r.book.names() {
		w := r.report.Workloads[k.keyspace]
		w.Keys++
		for _, o := range r.book.history(k) {
			switch {
			case o.Kind == history.Get:
				w.Reads++
			case o.Outcome == history.Acked:
				w.Acked++
			case o.Outcome == history.Unknown:
				w.Unknown++
			default:
				w.Refused++
			}
		}
		r.report.Workloads[k.keyspace] = w
	}
	for _, w := range r.report.Workloads {
		r.report.Counts = r.report.plus(w)
	}
}
