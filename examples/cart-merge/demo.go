package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"dynamo/client"
)

const (
	// demoTimeout bounds the whole story, the stop of the nodes aside.
	demoTimeout = 25 * time.Second
	// healTimeout bounds every wait for the nodes to agree.
	healTimeout = 15 * time.Second

	demoKeyspace, demoKey = "carts", "alice-and-bob"
	aliceCart             = `{"items":{"apples":3}}`
	bobCart               = `{"items":{"bread":1}}`
	bothCarts             = `{"items":{"apples":3,"bread":1}}`
	finalCart             = `{"items":{"apples":3,"bread":1,"milk":2}}`
)

type demoOptions struct{ dynamo, config, module string }

// story tells the demo: it does one step after the other and prints what came back.
type story struct {
	nodes []node
	out   io.Writer
	step  int
	// sha256 is the resolver that must have merged.
	sha256 string
}

// demo runs the story on a cluster of its own. Whatever happens, no process and no file is left.
func demo(ctx context.Context, o demoOptions, out io.Writer) (err error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	fmt.Fprintln(out, "Two people fill one cart while the network between them is broken.")
	l, err := launch(ctx, o)
	s := &story{nodes: l.nodes, out: out}
	if err == nil {
		err = s.tell(ctx, o)
	}
	interrupted := errors.Is(context.Cause(ctx), context.Canceled)
	err = errors.Join(err, l.stop())
	switch {
	case interrupted:
		return errors.New("interrupted; all nodes are stopped")
	case err != nil:
		return err
	}
	s.title("All nodes are stopped and their data is removed. That took %.1f s.", time.Since(began).Seconds())
	return nil
}

func (s *story) title(format string, args ...any) {
	s.step++
	fmt.Fprintf(s.out, "\n%d. %s\n", s.step, fmt.Sprintf(format, args...))
}

func (s *story) say(format string, args ...any) {
	fmt.Fprintf(s.out, "     %s\n", fmt.Sprintf(format, args...))
}

func (s *story) tell(ctx context.Context, o demoOptions) error {
	s.title("A cluster of %d nodes, every cart on three of them", len(s.nodes))
	for _, step := range []func(context.Context) error{
		s.showNodes,
		func(ctx context.Context) error { return s.upload(ctx, o.module) },
		s.cut, s.shop, s.heal, s.readEverywhere, s.checkOut,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *story) showNodes(ctx context.Context) error {
	var c struct {
		Members []struct {
			ID, Zone, HTTP, Status string
		} `json:"members"`
	}
	if err := s.nodes[0].c.JSON(ctx, client.Request{Method: "GET", Path: client.Path("cluster")}, &c); err != nil {
		return err
	}
	for _, m := range c.Members {
		s.say("%s  http://%s  zone %s  %s", m.ID, strings.TrimPrefix(m.HTTP, "http://"), m.Zone, m.Status)
	}
	return nil
}

func (s *story) upload(ctx context.Context, file string) error {
	s.title("Keyspace %q merges concurrent carts with a WebAssembly module", demoKeyspace)
	// The store tries a module on values that are there already, so let there be some.
	for customer, value := range map[string]string{"carol": `{"items":{"coffee":1,"milk":1}}`, "dave": `{"items":{"milk":2,"tea":5}}`} {
		if err := s.nodes[0].write(ctx, demoKeyspace, customer, []byte(value), client.CallOptions{W: "all"}); err != nil {
			return err
		}
	}
	s.say("two other customers have carts; the module is checked with them")
	up, err := s.nodes[0].uploadResolver(ctx, demoKeyspace, file)
	if err != nil {
		return err
	}
	if err := awaitResolver(ctx, s.nodes, demoKeyspace, up.SHA256); err != nil {
		return err
	}
	s.sha256 = up.SHA256
	s.say("uploaded %s: %d bytes, version %d", file, up.Size, up.Version)
	s.say("sha256 %s", up.SHA256)
	check := up.Check.Outcome
	if up.Check.Detail != "" {
		check += " (" + up.Check.Detail + ")"
	}
	s.say("merge laws (any order, any grouping, the same bytes): %s", check)
	return nil
}

// names lists nodes for the eye.
func names(nodes []node) string {
	var out []string
	for _, n := range nodes {
		out = append(out, n.name)
	}
	return strings.Join(out, " ")
}

func (s *story) cut(ctx context.Context) error {
	alone, rest := s.nodes[:1], s.nodes[1:]
	s.title("The network breaks: %s | %s", names(alone), names(rest))
	for _, side := range []struct{ here, there []node }{{alone, rest}, {rest, alone}} {
		for _, n := range side.here {
			if err := n.cutOff(ctx, side.there); err != nil {
				return err
			}
		}
	}
	return nil
}

// cutOff makes a node ignore others and be ignored by them, from now until the next call; none heals it.
func (n node) cutOff(ctx context.Context, from []node) error {
	ids := make([]string, 0, len(from))
	for _, f := range from {
		ids = append(ids, f.name)
	}
	body, err := json.Marshal(map[string][]string{"nodes": ids})
	if err != nil {
		return err
	}
	_, err = n.c.Do(ctx, client.Request{
		Method: "PUT", Path: client.Path("debug", "cut"), Body: body,
		Header: map[string][]string{"Content-Type": {"application/json"}},
	})
	if err != nil {
		return fmt.Errorf("cut %s off: %w", n.name, err)
	}
	return nil
}

// shop: each side writes what it can and sees what it has.
func (s *story) shop(ctx context.Context) error {
	s.title("Alice and Bob write the cart %q, each on one side; both succeed", demoKey)
	sides := []struct {
		who, cart string
		n         node
		o         client.CallOptions
	}{
		{"Alice", aliceCart, s.nodes[0], client.CallOptions{R: "1", W: "1"}},
		{"Bob  ", bobCart, s.nodes[1], client.CallOptions{R: "2", W: "2"}},
	}
	for _, side := range sides {
		// Until the nodes have noticed the cut, a request may wait in vain for the other side.
		err := s.retry(ctx, func(ctx context.Context) error {
			return side.n.write(ctx, demoKeyspace, demoKey, []byte(side.cart), side.o)
		})
		if err != nil {
			return err
		}
		s.say("%s PUT via %s (w=%s)  %s", side.who, side.n.name, side.o.W, side.cart)
	}
	for _, side := range sides {
		var v client.Value
		err := s.retry(ctx, func(ctx context.Context) (err error) {
			v, _, err = side.n.read(ctx, demoKeyspace, demoKey, side.o)
			return err
		})
		if err != nil {
			return err
		}
		s.say("%s GET via %s (r=%s)  %s", side.who, side.n.name, side.o.R, v.Bytes)
		if err := s.expect("the cart of one side only", side.n, v, side.cart, 1); err != nil {
			return err
		}
	}
	return nil
}

// retry asks until it is served, for a bounded time.
func (s *story) retry(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	return poll(ctx, ask)
}

// expect checks one answer, bytes and number of siblings, and who merged them.
func (s *story) expect(what string, n node, v client.Value, value string, siblings int) error {
	merged := ""
	if siblings > 1 {
		merged = s.sha256
	}
	if string(v.Bytes) != value || v.Count != siblings || v.Merged != merged {
		return fmt.Errorf("%w: %s via %s: expected %s with %d sibling(s) merged by %.12q, got %s with %d merged by %.12q",
			errMismatch, what, n.name, value, siblings, merged, v.Bytes, v.Count, v.Merged)
	}
	return nil
}

func (s *story) heal(ctx context.Context) error {
	s.title("The network heals")
	for _, n := range s.nodes {
		if err := n.cutOff(ctx, nil); err != nil {
			return err
		}
	}
	began := time.Now()
	n := s.nodes[0]
	var v client.Value
	err := s.retry(ctx, func(ctx context.Context) (err error) {
		v, _, err = n.read(ctx, demoKeyspace, demoKey, client.CallOptions{R: "all", Timeout: time.Second})
		return err
	})
	if err != nil {
		return err
	}
	s.say("GET via %s (r=all)  %s", n.name, v.Bytes)
	s.say("served by all replicas %.1f s after the healing", time.Since(began).Seconds())
	return s.expect("the merged cart", n, v, bothCarts, 2)
}

func (s *story) readEverywhere(ctx context.Context) error {
	// The read of all replicas has repaired them in passing; how far that is, explain knows.
	e, err := s.await(ctx, 2)
	if err != nil {
		return err
	}
	s.title("Through every node everybody reads the same cart, and nothing is lost")
	for _, n := range s.nodes {
		v, _, err := n.read(ctx, demoKeyspace, demoKey, client.CallOptions{})
		if err != nil {
			return err
		}
		s.say("GET via %s  %s  X-Dynamo-Siblings: %d  X-Dynamo-Merged: %.12s…", n.name, v.Bytes, v.Count, v.Merged)
		if err := s.expect("the merged cart", n, v, bothCarts, 2); err != nil {
			return err
		}
	}
	s.title("dynamo explain %s %s: the replicas keep both versions, the merge is a view of them", demoKeyspace, demoKey)
	e.print(s.say)
	return nil
}

// checkOut: a write with the context of a merged read replaces the siblings behind it.
func (s *story) checkOut(ctx context.Context) error {
	n := s.nodes[2]
	s.title("Bob adds milk via %s, with the context of the merged cart: the conflict is over", n.name)
	v, c, err := n.read(ctx, demoKeyspace, demoKey, client.CallOptions{})
	if err != nil {
		return err
	}
	next, err := c.plus("milk", 2).encode()
	if err != nil {
		return err
	}
	if err := n.write(ctx, demoKeyspace, demoKey, next, client.CallOptions{Context: v.Context}); err != nil {
		return err
	}
	s.say("PUT via %s  %s", n.name, next)
	e, err := s.await(ctx, 1)
	if err != nil {
		return err
	}
	e.print(s.say)
	for _, n := range s.nodes {
		v, _, err := n.read(ctx, demoKeyspace, demoKey, client.CallOptions{})
		if err != nil {
			return err
		}
		s.say("GET via %s  %s  X-Dynamo-Siblings: %d", n.name, v.Bytes, v.Count)
		if err := s.expect("the final cart", n, v, finalCart, 1); err != nil {
			return err
		}
	}
	return nil
}

// explanation is what the demo needs of GET /v1/explain.
type explanation struct {
	Replicas []struct {
		Node, Role string
		Reachable  bool
		Versions   []struct {
			Size   int
			SHA256 string
		}
	}
	Result struct {
		Status, Siblings int
		Merge            *struct {
			Resolver, Outcome string
			Fuel              uint64
			Micros            float64
		}
	}
}

// await asks for an explanation until every primary holds that many versions.
func (s *story) await(ctx context.Context, versions int) (explanation, error) {
	var e explanation
	err := s.retry(ctx, func(ctx context.Context) error {
		e = explanation{}
		if err := s.nodes[0].c.JSON(ctx, client.Request{Method: "GET", Path: client.Path("explain", demoKeyspace, demoKey)}, &e); err != nil {
			return err
		}
		return e.check(versions)
	})
	return e, err
}

func (e explanation) check(versions int) error {
	primaries := 0
	for _, r := range e.Replicas {
		if r.Role != "primary" {
			continue
		}
		primaries++
		if !r.Reachable || len(r.Versions) != versions {
			return fmt.Errorf("%w: expected %d version(s) on replica %s, got %d (reachable: %v)", errNotYet, versions, r.Node, len(r.Versions), r.Reachable)
		}
	}
	if primaries == 0 || e.Result.Siblings != versions {
		return fmt.Errorf("%w: expected %d version(s) on all replicas, got %d on %d replicas", errNotYet, versions, e.Result.Siblings, primaries)
	}
	return nil
}

func (e explanation) print(say func(string, ...any)) {
	for _, r := range e.Replicas {
		var versions []string
		for _, v := range r.Versions {
			versions = append(versions, fmt.Sprintf("[%d bytes, sha256 %.8s…]", v.Size, v.SHA256))
		}
		say("%s (%s) holds %d: %s", r.Node, r.Role, len(r.Versions), strings.Join(versions, " "))
	}
	if m := e.Result.Merge; m != nil {
		cost := fmt.Sprintf("%.0f µs", m.Micros)
		if m.Fuel > 0 {
			cost = fmt.Sprintf("%d instructions, %s", m.Fuel, cost)
		}
		say("a read gives %d: %s by %.12s…, %s", e.Result.Status, m.Outcome, m.Resolver, cost)
	}
}
