// Package storm breaks simulated clusters: clients work while a nemesis plays a plan of faults, and afterwards every
// promise of the store is checked. One seed determines a run.
package storm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"log/slog"
	"slices"
	"sync"
	"time"

	"dynamo/node/config"
	"dynamo/node/sim"
	"dynamo/node/sim/history"
)

// Request is what a run is asked for; it determines all of it.
type Request struct {
	Plan Plan
	// Resolver is a user's module, to be tried in a keyspace of its own; empty: none.
	Resolver []byte `json:",omitempty"`
	// Trace asks for every line of the run's log, and of the nodes' logs.
	Trace bool `json:",omitempty"`
}

// Options describe a run.
type Options struct {
	Request
	Logger *slog.Logger
	Now    func() time.Time
	// Builtins are the ready-made resolver modules by name.
	Builtins    func(name string) ([]byte, bool)
	ModuleCache string
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

// Report is what came of a run.
type Report struct {
	Plan Plan
	// Simulated is how long the run took on the cluster's clock.
	Simulated time.Duration
	Reads     int
	// Acked, Unknown and Refused count writes.
	Acked, Unknown, Refused int
	// Faults counts what was done, by kind.
	Faults map[FaultKind]int
	// SetAside counts databases that were unusable after damage.
	SetAside int
	// Verified counts the values that had to be there, and were.
	Verified   int
	Violations []Violation
	// Digest is a hash of everything that clients and nemesis saw and when: equal runs have equal ones.
	Digest string
}

// run is one run. It belongs to the goroutine of Run, but for book and gate.
type run struct {
	o     Options
	plan  Plan
	c     *sim.Cluster
	began time.Time
	book  book
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
	fatal   chan string
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
	r.report.Violations = append(r.report.Violations, v)
}

// The keyspaces of every run.
const (
	sets   = "sets"   // unions of elements through a resolver
	plain  = "plain"  // siblings, deletes with contexts
	newest = "newest" // last write wins
)

func (r *run) config() *config.Cluster {
	ks := func(name string, p config.Policy, resolver string) config.Keyspace {
		n := min(3, r.plan.Nodes)
		return config.Keyspace{
			Name: name, N: n, R: 2, W: 2, Conflict: p, Resolver: resolver, Durability: config.DurabilitySync, MaxValueBytes: 64 << 10,
		}
	}
	c := sim.Config(r.plan.Nodes, 16, ks(sets, config.PolicyResolver, "builtin:set-union"), ks(plain, config.PolicySiblings, ""), ks(newest, config.PolicyLWW, ""))
	c.Limits.RequestTimeout, c.Limits.MaxTimeout = 2*time.Second, 5*time.Second
	c.Limits.ContextLifetime, c.Limits.SettleAfter = 12*time.Second, 18*time.Second
	c.Limits.ResolverTimeout = time.Minute
	return c
}

// Run plays a plan and checks the promises.
func Run(ctx context.Context, o Options) (Report, error) {
	r := &run{o: o, plan: o.Plan, began: o.Now(), report: Report{Plan: o.Plan, Faults: map[FaultKind]int{}}, fatal: make(chan string, 64)}
	r.log.digest = sha256.New()
	r.gate = make(chan struct{}, o.Plan.Clients)
	r.release()
	r.book.keys = map[name][]history.Operation{}
	r.c = sim.New(sim.Options{
		Config: r.config(), Seed: o.Plan.Seed, Logger: o.Logger, Now: o.Now, ModuleCache: o.ModuleCache, Builtins: o.Builtins,
		Fatal: r.died,
	})
	r.arm()
	if err := r.c.StartAll(ctx); err != nil {
		return r.report, err
	}
	r.began = o.Now()
	r.note("%d nodes are up", o.Plan.Nodes)
	var wg sync.WaitGroup
	working, stop := context.WithCancel(ctx)
	r.clients(working, &wg)
	err := r.play(ctx)
	stop()
	wg.Wait()
	if err == nil {
		err = r.check(ctx)
	}
	if closing := r.c.Close(ctx); err == nil {
		err = closing
	}
	r.report.Simulated = r.since()
	r.report.Digest = hex.EncodeToString(r.log.digest.Sum(nil))
	r.count()
	return r.report, err
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
	r.note("%s must stop: %v", id, err)
	select {
	case r.fatal <- id:
	default: // there are fewer nodes than room
	}
}

func (r *run) count() {
	for _, k := range r.book.names() {
		for _, o := range r.book.history(k) {
			switch {
			case o.Kind == history.Get:
				r.report.Reads++
			case o.Outcome == history.Acked:
				r.report.Acked++
			case o.Outcome == history.Unknown:
				r.report.Unknown++
			default:
				r.report.Refused++
			}
		}
	}
}

// name is a key of a keyspace.
type name struct{ keyspace, key string }

// String is how stories name the key.
func (n name) String() string { return n.keyspace + "/" + n.key }

// book holds the histories of all keys.
type book struct {
	mu   sync.Mutex
	keys map[name][]history.Operation
}

func (b *book) add(k name, o history.Operation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keys[k] = append(b.keys[k], o)
}

func (b *book) history(k name) []history.Operation {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.keys[k])
}

// names lists the keys in order.
func (b *book) names() []name {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []name
	for k := range b.keys {
		out = append(out, k)
	}
	slices.SortFunc(out, func(x, y name) int {
		return slices.Compare([]string{x.keyspace, x.key}, []string{y.keyspace, y.key})
	})
	return out
}
