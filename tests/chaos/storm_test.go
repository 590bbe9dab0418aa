// Package chaos plays with real processes: five nodes, clients that write, and a nemesis that kills, stops, wipes and
// cuts nodes off by a plan that a seed gives. In the end every acknowledged write must be on every replica.
package chaos

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dynamo/client"
	"dynamo/node/sim/history"
)

var (
	seedFlag     = flag.Uint64("chaos.seed", 1, "the first seed")
	runsFlag     = flag.Int("chaos.runs", 1, "how many storms, each with the next seed")
	secondsFlag  = flag.Int("chaos.seconds", 6, "how long a storm lasts")
	raceFlag     = flag.Bool("chaos.race", false, "build the nodes with the race detector")
	networkFlag  = flag.String("chaos.network", "loopback", "loopback: nodes cut themselves off; netns: network namespaces; auto: these if they work here")
	binaryFlag   = flag.String("chaos.binary", "", "a binary to test instead of one built now")
	scenarioFlag = flag.Bool("chaos.scenarios", false, "play the scenarios with all keys")
	keysFlag     = flag.Int("chaos.keys", 100_000, "how many keys that is")
)

// readsHelp makes reads of all replicas part of becoming whole.
const readsHelp = false

// run is one storm.
type run struct {
	t     testing.TB
	c     *cluster
	seed  uint64
	began time.Time
	book  *book
	n     *nemesis
	// gate is held by clients during an operation, and by who wants them to pause.
	gate sync.RWMutex

	violated []string
	// quiet is how long it took until everything was whole after the storm.
	quiet               time.Duration
	elements, verified  int
	gone, strict, twins int
}

func (r *run) since() time.Duration { return time.Since(r.began) }

// TestStorm is the chaos test.
func TestStorm(t *testing.T) {
	t.Parallel()
	binary := buildBinary(t, t.TempDir())
	for i := range *runsFlag {
		seed := *seedFlag + uint64(i)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { storm(t, binary, seed, time.Duration(*secondsFlag)*time.Second) })
	}
}

func storm(t *testing.T, binary string, seed uint64, length time.Duration) {
	dir, err := os.MkdirTemp("", "dynamo-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			t.Logf("data and logs of the nodes are in %s; again with -chaos.seed %d -chaos.seconds %d", dir, seed, int(length.Seconds()))
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	}()
	c := newCluster(t, binary, dir, 5)
	defer c.close()
	r := &run{t: t, c: c, seed: seed, began: time.Now(), book: newBook()}
	r.n = &nemesis{run: r, c: c, counts: map[string]int{}}
	if err := c.startAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.weather(t.Context(), length)
	r.check(t.Context())
	r.report(filepath.Join(dir, "violations.txt"))
}

func (r *run) violation(format string, args ...any) {
	r.violated = append(r.violated, fmt.Sprintf(format, args...))
}

// weather is the storm: clients and nemesis, and then the sun.
func (r *run) weather(ctx context.Context, length time.Duration) {
	var ids []string
	for _, s := range r.c.servers {
		ids = append(ids, s.id)
	}
	faults := plan(rand.New(rand.NewPCG(r.seed, 0)), length, ids, r.c.network.oneWay())
	working, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	r.users(working, &wg)
	if err := r.n.play(ctx, faults, length); err != nil {
		r.violation("the nemesis was stopped: %v", err)
	}
	stop()
	wg.Wait()
	r.n.note("the clients are done")
	if err := r.c.network.heal(ctx); err != nil {
		r.violation("heal: %v", err)
	}
	for _, s := range r.c.servers {
		if s.running() && s.paused {
			if err := r.c.resume(s); err != nil {
				r.violation("resume %s: %v", s.id, err)
			}
		}
	}
	if err := r.c.startAll(ctx); err != nil {
		r.violation("start all: %v", err)
	}
	r.n.note("all is healed")
}

// whole waits until all replicas are equal and no hint is left.
func (r *run) whole(ctx context.Context) error {
	keys := r.book.names()
	return await(ctx, wholeWithin, func(ctx context.Context) error {
		if err := r.c.drained(ctx); err != nil {
			return err
		}
		if readsHelp {
			if err := r.readAll(ctx, keys); err != nil {
				return err
			}
		}
		return r.c.replicasEqual(ctx, keys)
	})
}

func (r *run) readAll(ctx context.Context, keys []keyName) error {
	return parallel(keys, func(k keyName) error {
		_, err := r.c.servers[len(k.key)%len(r.c.servers)].client.Get(ctx, k.keyspace, k.key, client.CallOptions{R: "all"})
		if err != nil {
			return fmt.Errorf("read all of %s/%s: %w", k.keyspace, k.key, err)
		}
		return nil
	})
}

// check compares the end with the histories.
func (r *run) check(ctx context.Context) {
	began := time.Now()
	if err := r.whole(ctx); err != nil {
		r.violation("the replicas do not become equal: %v", err)
	}
	r.quiet = time.Since(began)
	for _, s := range r.c.servers {
		r.checkServer(ctx, s)
	}
	for _, w := range r.book.mu.wrong {
		r.violation("%s", w)
	}
	var lock sync.Mutex
	err := parallel(r.book.names(), func(k keyName) error {
		found := r.checkKey(ctx, k)
		if len(found.violations) > 0 {
			found.violations = append(found.violations, r.story(ctx, k))
		}
		lock.Lock()
		defer lock.Unlock()
		if len(found.violations) > 0 {
			r.violation("%s/%s: %s", k.keyspace, k.key, strings.Join(found.violations, "\n"))
		}
		if strings.Contains(strings.Join(found.violations, " "), history.MintedTwice) {
			r.twins++
		}
		r.verified++
		switch {
		case k.keyspace == sets:
			r.elements += found.required
		case k.keyspace == plain && found.gone:
			r.gone++
		}
		if found.strict {
			r.strict++
		}
		return nil
	})
	if err != nil {
		r.violation("%v", err)
	}
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	r.violated = append(r.violated, r.c.mu.deaths...)
}

func (r *run) checkServer(ctx context.Context, s *server) {
	for name, label := range map[string]string{"dynamo_http_requests_total": `status="500"`, "dynamo_store_corrupt_total": ""} {
		n, err := s.metrics(ctx, name, label)
		if err != nil {
			r.violation("%s: %v", s.id, err)
		}
		if n > 0 {
			r.violation("%s: %s %s is %.0f", s.id, name, label, n)
		}
	}
	log, err := os.ReadFile(r.c.log(s))
	if err != nil {
		r.violation("%v", err)
	}
	for line := range strings.Lines(string(log)) {
		for _, bad := range []string{"panic:", "DATA RACE", "level=ERROR"} {
			if strings.Contains(line, bad) {
				r.violation("log of %s: %s", s.id, line)
			}
		}
		// A node that was stopped in a merge has used up its time, or the request's, when it goes on.
		if strings.Contains(line, "resolver failed") && !strings.Contains(line, "code=timeout") && !strings.Contains(line, "code=canceled") {
			r.violation("log of %s: %s", s.id, line)
		}
	}
}

type finding struct {
	violations   []string
	required     int
	gone, strict bool
}

func rules(keyspace string) history.Rule {
	return map[string]history.Rule{sets: history.Union, plain: history.Siblings, newest: history.Newest}[keyspace]
}

// checkKey looks at a key through each of its replicas alone, and at a quorum.
func (r *run) checkKey(ctx context.Context, k keyName) finding {
	e, err := r.c.explain(ctx, k.keyspace, k.key)
	// A message that was on its way when the network came back may leave a hint behind for a moment.
	for deadline := time.Now().Add(5 * time.Second); err == nil && e.equal() != nil && time.Now().Before(deadline); {
		<-time.After(100 * time.Millisecond)
		e, err = r.c.explain(ctx, k.keyspace, k.key)
	}
	if err != nil {
		return finding{violations: []string{fmt.Sprintf("explain: %v", err)}}
	}
	var f finding
	if err := e.equal(); err != nil {
		f.violations = append(f.violations, fmt.Sprintf("replicas differ: %v", err))
	}
	operations := r.book.history(k)
	type view struct{ node, quorum string }
	views := []view{{r.c.servers[len(operations)%len(r.c.servers)].id, "2"}}
	for _, id := range e.primaries() {
		views = append(views, view{id, "1"})
	}
	for _, v := range views {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		got, err := r.c.server(v.node).client.Get(ctx, k.keyspace, k.key, client.CallOptions{R: v.quorum})
		cancel()
		if err != nil {
			f.violations = append(f.violations, fmt.Sprintf("read via %s at r=%s: %v", v.node, v.quorum, err))
			continue
		}
		verdict, wrong := history.Judge(rules(k.keyspace), operations, valuesOf(k.keyspace, got))
		for _, w := range wrong {
			f.violations = append(f.violations, fmt.Sprintf("%s at r=%s: %s", v.node, v.quorum, w))
		}
		f.required, f.gone = len(verdict.Required), verdict.Gone()
		f.strict = len(verdict.Allowed) == len(verdict.Required)
	}
	return f
}

// story tells all that is known of a key.
func (r *run) story(ctx context.Context, k keyName) string {
	lines := strings.Split(strings.TrimSpace(history.Render(r.book.history(k))), "\n")
	lines = append(lines, r.n.steps...)
	slices.SortStableFunc(lines, func(a, b string) int { return compareTime(a, b) })
	out := "\n" + strings.Join(lines, "\n")
	e, err := r.c.explain(ctx, k.keyspace, k.key)
	if err != nil {
		return out + fmt.Sprintf("\nexplain: %v\n", err)
	}
	return out + "\nexplain: " + string(e.raw) + "\n"
}

// compareTime orders lines by the time at their beginning.
func compareTime(a, b string) int {
	var x, y float64
	if _, err := fmt.Sscanf(a, "%fs", &x); err != nil {
		return 0
	}
	if _, err := fmt.Sscanf(b, "%fs", &y); err != nil {
		return 0
	}
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// report prints the summary of a run, and what is wrong.
func (r *run) report(file string) {
	r.t.Helper()
	var writes, reads int
	var by [3]int
	for _, k := range r.book.names() {
		for _, o := range r.book.history(k) {
			if o.Kind == history.Get {
				reads++
				continue
			}
			writes++
			by[o.Outcome]++
		}
	}
	var faults []string
	for kind, n := range r.n.counts {
		faults = append(faults, fmt.Sprintf("%s %d", kind, n))
	}
	slices.Sort(faults)
	r.t.Logf("seed %d: %d reads, %d writes (%d acknowledged, %d unknown, %d refused); faults: %s; %d keys: %d elements verified, %d keys gone for good, %d of certain fate; slowest start %.1f s, clients held for %.1f s between wipes, whole after %.1f s; %d violations (%d of keys with a write that was perhaps made twice)",
		r.seed, reads, writes, by[history.Acked], by[history.Unknown], by[history.Refused], strings.Join(faults, ", "), r.verified, r.elements, r.gone, r.strict,
		r.c.mu.slowest.Seconds(), r.n.held.Seconds(), r.quiet.Seconds(), len(r.violated), r.twins)
	if len(r.violated) == 0 {
		return
	}
	text := strings.Join(append(r.violated, r.n.steps...), "\n")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		r.t.Error(err)
	}
	for i, v := range r.violated {
		if i == 3 {
			r.t.Errorf("and %d more, see %s", len(r.violated)-i, file)
			break
		}
		if len(v) > 6000 {
			v = v[:6000] + "… (all of it in " + file + ")"
		}
		r.t.Errorf("%s", v)
	}
}
