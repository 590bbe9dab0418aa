package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"dynamo/client"
)

const (
	// defaultPatience is longer than the cluster needs to notice that a node is gone.
	defaultPatience = 30 * time.Second
	// maxClients bounds --clients.
	maxClients = 1024
	// maxGivenUp events without an acknowledgement end a replay: the cluster does not serve.
	maxGivenUp = 16
	// Waits between two attempts of one request.
	firstBackoff, maxBackoff = 5 * time.Millisecond, 500 * time.Millisecond
	// progressInterval is how often a long replay says how far it is.
	progressInterval = 5 * time.Second
	// setupTimeout bounds the creation of the keyspace and the upload of the resolver.
	setupTimeout = 30 * time.Second
)

type replayOptions struct {
	endpoints              []string
	file, keyspace, module string
	token                  string
	clients, limit         int
	seed                   uint64
	patience               time.Duration
}

// replayer is the state that the clients of one replay share.
type replayer struct {
	o     replayOptions
	nodes []node

	// mu guards the tally. A SKU is in added only after a write that contained it was acknowledged.
	mu struct {
		sync.Mutex
		tally
	}
}

// tally is what a replay counted.
type tally struct {
	// acknowledged events were answered with success; unknown ones failed but may have been stored; refused ones were
	// certainly not stored.
	acknowledged, unknown, refused int
	// retries of single requests; conflicts are reads that stood for more than one sibling.
	retries, conflicts int
	// merged are the customers whose cart was seen merged; added says which SKUs must be in whose cart.
	merged map[string]bool
	added  map[string]map[string]bool
	// failure is the first reason why an event was given up, hiccup the first one why a request was sent again.
	failure, hiccup error
}

func newReplayer(o replayOptions, nodes []node) *replayer {
	r := &replayer{o: o, nodes: nodes}
	r.mu.tally = tally{merged: make(map[string]bool), added: make(map[string]map[string]bool)}
	return r
}

// replay replays a file of events and checks that nothing is missing.
func replay(ctx context.Context, o replayOptions, out, errs io.Writer) error {
	events, err := readEvents(o.file, o.limit)
	if err != nil {
		return err
	}
	nodes, err := connect(o.endpoints, o.endpoints, o.token)
	if err != nil {
		return err
	}
	if err := prepare(ctx, nodes, o, out); err != nil {
		return err
	}
	r := newReplayer(o, nodes)
	began := time.Now()
	r.work(ctx, deal(events, len(nodes), o.seed), errs)
	took := time.Since(began)
	if ctx.Err() != nil {
		return errors.New("interrupted; nothing was verified")
	}
	v := r.verify(ctx)
	if ctx.Err() != nil {
		return errors.New("interrupted; not everything was verified")
	}
	r.report(out, events, took, v)
	return r.judge(len(events), v)
}

// prepare creates the keyspace, and gives it a resolver, unless it is there and has one.
func prepare(ctx context.Context, nodes []node, o replayOptions, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	n := nodes[0]
	sha, err := n.activeResolver(ctx, o.keyspace)
	if isCode(err, "keyspace_unknown") {
		_, err = n.c.Do(ctx, client.Request{Method: "PUT", Path: client.Path("keyspaces", o.keyspace), Body: []byte("{}")})
	}
	if err != nil {
		return fmt.Errorf("keyspace %s: %w", o.keyspace, err)
	}
	if sha == "" {
		up, err := n.uploadResolver(ctx, o.keyspace, o.module)
		if err != nil {
			return err
		}
		sha = up.SHA256
		fmt.Fprintf(out, "uploaded        %s, sha256 %.12s, check %s\n", o.module, sha, up.Check.Outcome)
	}
	return awaitResolver(ctx, nodes, o.keyspace, sha)
}

// work lets the clients work off the tasks, in their order: each takes the next one when it is done with its last. It
// ends early when ctx ends or too many events were given up.
func (r *replayer) work(ctx context.Context, tasks []task, progress io.Writer) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := make(chan task)
	var clients sync.WaitGroup
	for range r.o.clients {
		clients.Go(func() {
			for t := range queue {
				if r.apply(ctx, t) >= maxGivenUp {
					cancel()
				}
			}
		})
	}
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
feed:
	for i := 0; i < len(tasks); {
		select {
		case queue <- tasks[i]:
			i++
		case <-tick.C:
			fmt.Fprintf(progress, "%d of %d events\n", i, len(tasks))
		case <-ctx.Done():
			break feed
		}
	}
	close(queue)
	clients.Wait()
}

// apply reads the customer's cart, changes it, writes it, and counts the outcome. It returns how many events were given
// up so far.
func (r *replayer) apply(ctx context.Context, t task) int {
	var seen client.Value
	var before cart
	err := r.retry(ctx, t.readVia, func(ctx context.Context, n node) (err error) {
		seen, before, err = n.read(ctx, r.o.keyspace, t.customer, client.CallOptions{})
		return err
	})
	stored := false // may an attempt have been stored that was not acknowledged?
	if err == nil {
		r.countRead(t.customer, seen)
		stored, err = r.write(ctx, t, before.plus(t.sku, t.quantity), seen.Context)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.mu.acknowledged++
		if t.quantity > 0 {
			r.mu.add(t.customer, t.sku)
		}
	case ctx.Err() != nil: // interrupted: nobody's fault
	case stored:
		r.mu.unknown++
	default:
		r.mu.refused++
	}
	if err != nil && r.mu.failure == nil && ctx.Err() == nil {
		r.mu.failure = err
	}
	return r.mu.unknown + r.mu.refused
}

func (t *tally) add(customer, sku string) {
	skus := t.added[customer]
	if skus == nil {
		skus = make(map[string]bool)
		t.added[customer] = skus
	}
	skus[sku] = true
}

func (r *replayer) countRetry(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.retries++
	if r.mu.hiccup == nil {
		r.mu.hiccup = err
	}
}

func (r *replayer) countRead(customer string, v client.Value) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v.Count > 1 {
		r.mu.conflicts++
	}
	if v.Merged != "" {
		r.mu.merged[customer] = true
	}
}

// write stores the cart. Every attempt sends the same bytes under the same context. So it does no harm if an attempt
// that seemed to fail was stored after all: its twin becomes a sibling of the same content, and a cart merged with
// itself is the same cart. (Had we read again and added again, the quantity might count twice.)
func (r *replayer) write(ctx context.Context, t task, c cart, seen string) (stored bool, err error) {
	value, err := c.encode()
	if err != nil {
		return false, err
	}
	err = r.retry(ctx, t.writeVia, func(ctx context.Context, n node) error {
		err := n.write(ctx, r.o.keyspace, t.customer, value, client.CallOptions{Context: seen})
		stored = stored || (err != nil && maybeStored(err))
		return err
	})
	return stored, err
}

// retry tries one node after the other, beginning with the one at index first, until the call succeeds, fails for good,
// or our patience ends.
func (r *replayer) retry(ctx context.Context, first int, call func(context.Context, node) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.o.patience)
	defer cancel()
	backoff := firstBackoff
	for i := 0; ; i++ {
		err := call(ctx, r.nodes[(first+i)%len(r.nodes)])
		if err == nil || !transient(err) || ctx.Err() != nil {
			return err
		}
		r.countRetry(err)
		pause := time.NewTimer(backoff)
		select {
		case <-ctx.Done():
			pause.Stop()
			return err
		case <-pause.C:
		}
		backoff = min(2*backoff, maxBackoff)
	}
}
