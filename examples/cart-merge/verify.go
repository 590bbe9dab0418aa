package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"dynamo/client"
)

const (
	// settleTimeout is how long the nodes may take to agree on carts that nobody writes any more.
	settleTimeout = 15 * time.Second
	// maxComplaints bounds the list of what is wrong.
	maxComplaints = 20
)

// verdict is what reading every cart through every node found.
type verdict struct {
	carts, skus int
	// merged counts the carts that more than one sibling stands behind.
	merged int
	// Lines about SKUs that were acknowledged and are not there, about carts that nodes do not agree on, and about
	// carts that could not be read.
	missing, different, unread []string
}

func (v *verdict) join(w verdict) {
	v.carts += w.carts
	v.skus += w.skus
	v.merged += w.merged
	v.missing = append(v.missing, w.missing...)
	v.different = append(v.different, w.different...)
	v.unread = append(v.unread, w.unread...)
}

// verify reads every cart to which something was added, through every node.
func (r *replayer) verify(ctx context.Context) verdict {
	r.mu.Lock()
	added := maps.Clone(r.mu.added) // nobody writes any more, so its sets stay as they are
	r.mu.Unlock()
	queue := make(chan string)
	verdicts := make([]verdict, r.o.clients)
	deadline := time.Now().Add(settleTimeout)
	var clients sync.WaitGroup
	for i := range r.o.clients {
		clients.Go(func() {
			for customer := range queue {
				verdicts[i].join(r.verifyCart(ctx, customer, added[customer], deadline))
			}
		})
	}
	for _, customer := range slices.Sorted(maps.Keys(added)) {
		queue <- customer
	}
	close(queue)
	clients.Wait()
	var all verdict
	for _, v := range verdicts {
		all.join(v)
	}
	return all
}

// verifyCart reads one cart through every node. What a stand-in keeps for a node that was away, and what was written
// without an acknowledgement, may still be on its way: an answer that is not right is asked for again until deadline.
func (r *replayer) verifyCart(ctx context.Context, customer string, added map[string]bool, deadline time.Time) verdict {
	for {
		answers, err := r.readEverywhere(ctx, customer)
		if err != nil {
			return verdict{unread: []string{fmt.Sprintf("cart %s: %v", customer, err)}}
		}
		v := compare(customer, added, answers)
		if len(v.different)+len(v.missing) == 0 || time.Now().After(deadline) || ctx.Err() != nil {
			return v
		}
		pause := time.NewTimer(pollInterval)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
	}
}

// answer is what one node said.
type answer struct {
	node     string
	value    string
	cart     cart
	siblings int
}

func (r *replayer) readEverywhere(ctx context.Context, customer string) ([]answer, error) {
	ctx, cancel := context.WithTimeout(ctx, r.o.patience)
	defer cancel()
	answers := make([]answer, 0, len(r.nodes))
	for _, n := range r.nodes {
		err := poll(ctx, func(ctx context.Context) error {
			v, c, err := n.read(ctx, r.o.keyspace, customer, client.CallOptions{})
			if err != nil {
				return err
			}
			answers = append(answers, answer{node: n.name, value: string(v.Bytes), cart: c, siblings: v.Count})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// compare judges the answers of all nodes about one cart.
func compare(customer string, added map[string]bool, answers []answer) verdict {
	v := verdict{carts: 1, skus: len(added)}
	merged := false
	for i, a := range answers {
		for _, sku := range a.cart.missing(added) {
			v.missing = append(v.missing, fmt.Sprintf("cart %s via %s: %s", customer, a.node, sku))
		}
		if i > 0 && a.value != answers[0].value {
			v.different = append(v.different, fmt.Sprintf("cart %s: %s via %s, but %s via %s",
				customer, answers[0].value, answers[0].node, a.value, a.node))
		}
		merged = merged || a.siblings > 1
	}
	if merged {
		v.merged = 1
	}
	return v
}

func (r *replayer) report(out io.Writer, events []event, took time.Duration, v verdict) {
	customers := make(map[string]bool)
	for _, e := range events {
		customers[e.customer] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := &r.mu.tally
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "%-15s "+format+"\n", append([]any{name}, args...)...)
	}
	line("events", "%d", len(events))
	line("customers", "%d", len(customers))
	line("acknowledged", "%d", t.acknowledged)
	line("unknown", "%d", t.unknown)
	line("refused", "%d", t.refused)
	line("retries", "%d", t.retries)
	if t.hiccup != nil {
		line("", "the first because: %v", t.hiccup)
	}
	line("conflicts seen", "%d", t.conflicts)
	line("merged carts", "%d while writing, %d at the end", len(t.merged), v.merged)
	line("duration", "%.1f s", took.Seconds())
	line("writes/s", "%.0f", float64(t.acknowledged)/max(took.Seconds(), 1e-9))
	line("verified", "%d SKUs in %d carts via each of %d nodes", v.skus, v.carts, len(r.nodes))
	complain(out, "missing", v.missing)
	complain(out, "different", v.different)
	complain(out, "not readable", v.unread)
}

func complain(out io.Writer, name string, lines []string) {
	fmt.Fprintf(out, "%-15s %d\n", name, len(lines))
	for _, l := range lines[:min(len(lines), maxComplaints)] {
		fmt.Fprintf(out, "  %s\n", l)
	}
	if n := len(lines) - maxComplaints; n > 0 {
		fmt.Fprintf(out, "  and %d more\n", n)
	}
}

// judge makes an error of a replay that did not do what it was meant to show.
func (r *replayer) judge(events int, v verdict) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := &r.mu.tally
	var wrong []string
	if n := len(v.missing); n > 0 {
		wrong = append(wrong, fmt.Sprintf("%d acknowledged items are missing", n))
	}
	if n := len(v.different); n > 0 {
		wrong = append(wrong, fmt.Sprintf("nodes do not agree on %d carts", n))
	}
	if n := len(v.unread); n > 0 {
		wrong = append(wrong, fmt.Sprintf("%d carts could not be read", n))
	}
	if n := events - t.acknowledged - t.unknown - t.refused; n > 0 {
		wrong = append(wrong, fmt.Sprintf("stopped %d events early", n))
	}
	if t.acknowledged == 0 {
		wrong = append(wrong, "no write was acknowledged")
	}
	if len(wrong) == 0 {
		return nil
	}
	if t.failure != nil {
		wrong = append(wrong, "the first event that was given up: "+t.failure.Error())
	}
	return errors.New(strings.Join(wrong, "; "))
}
