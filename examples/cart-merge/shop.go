package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"dynamo/client"
)

// callTimeout bounds one request, and tells a node that hangs from one that is slow.
const callTimeout = 10 * time.Second

// pollInterval is how often something is asked for that is about to happen.
const pollInterval = 50 * time.Millisecond

// node is one node as its clients see it.
type node struct {
	name string
	c    *client.Client
}

// connect makes one client for each node: which node a request goes through matters here.
func connect(names, endpoints []string, token string) ([]node, error) {
	nodes := make([]node, len(endpoints))
	for i, e := range endpoints {
		c, err := client.New(client.Options{Endpoints: []string{e}, Token: token})
		if err != nil {
			return nil, err
		}
		nodes[i] = node{names[i], c}
	}
	return nodes, nil
}

// read reads a cart; one that does not exist is empty. Siblings that nobody merged are an error.
func (n node) read(ctx context.Context, keyspace, key string, o client.CallOptions) (client.Value, cart, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	v, err := n.c.Get(ctx, keyspace, key, o)
	switch {
	case err != nil:
		return v, nil, fmt.Errorf("read via %s: %w", n.name, err)
	case !v.Found:
		return v, cart{}, nil
	case len(v.Siblings) > 0:
		return v, nil, &unmergedError{n.name, key, len(v.Siblings), v.ResolverError}
	}
	c, err := parseCart(v.Bytes)
	if err != nil {
		return v, nil, fmt.Errorf("read via %s: %w", n.name, err)
	}
	return v, c, nil
}

// write writes a cart that supersedes what the context has seen.
func (n node) write(ctx context.Context, keyspace, key string, value []byte, o client.CallOptions) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	o.ContentType = "application/json"
	if _, err := n.c.Put(ctx, keyspace, key, value, o); err != nil {
		return fmt.Errorf("write via %s: %w", n.name, err)
	}
	return nil
}

// unmergedError is an answer with siblings where one cart was wanted.
type unmergedError struct {
	node, key string
	siblings  int
	// code is why the resolver failed; empty if there is none.
	code string
}

func (e *unmergedError) Error() string {
	why := "the keyspace has no active resolver"
	if e.code != "" {
		why = "the resolver failed: " + e.code
	}
	return fmt.Sprintf("read of %s via %s: %d siblings and no merged cart: %s", e.key, e.node, e.siblings, why)
}

// transient reports whether the same request may succeed later: the node said so, or it could not be reached, or a
// resolver that was just bound has not arrived there yet.
func transient(err error) bool {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return e.Retryable || e.Status == 503
	}
	if e, ok := errors.AsType[*unmergedError](err); ok {
		return e.code != ""
	}
	return !isNonsense(err)
}

// maybeStored reports whether a write that failed may have been stored all the same. Only a node that answered can say
// that it was not; a broken connection says nothing.
func maybeStored(err error) bool {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return e.MaybeStored || (e.Status >= 500 && e.Code == "")
	}
	return true
}

// poll calls ask until it succeeds, fails for good, or ctx ends. Its error is then the last one of ask.
func poll(ctx context.Context, ask func(context.Context) error) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil || !transient(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// upload is the answer to the upload of a resolver.
type upload struct {
	SHA256  string `json:"sha256"`
	Version int    `json:"version"`
	ABI     string `json:"abi"`
	Size    int    `json:"size"`
	Check   struct {
		Outcome string `json:"outcome"`
		Detail  string `json:"detail"`
	} `json:"check"`
}

// uploadResolver reads the module and binds it to the keyspace.
func (n node) uploadResolver(ctx context.Context, keyspace, file string) (upload, error) {
	var up upload
	module, err := os.ReadFile(file)
	if err != nil {
		return up, fmt.Errorf("the resolver: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout) // it is compiled and checked
	defer cancel()
	err = n.c.JSON(ctx, client.Request{
		Method: "PUT", Path: client.Path("keyspaces", keyspace, "resolver"), Body: module,
		Header: map[string][]string{"Content-Type": {"application/wasm"}},
	}, &up)
	if err != nil {
		return up, fmt.Errorf("upload the resolver via %s: %w", n.name, err)
	}
	return up, nil
}

// activeResolver returns the SHA-256 of the keyspace's active resolver as this node knows it; empty if it has none.
func (n node) activeResolver(ctx context.Context, keyspace string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var status struct {
		Active *struct {
			SHA256 string `json:"sha256"`
		} `json:"active"`
	}
	err := n.c.JSON(ctx, client.Request{Method: "GET", Path: client.Path("keyspaces", keyspace, "resolver")}, &status)
	if err != nil || status.Active == nil {
		return "", err
	}
	return status.Active.SHA256, nil
}

// awaitResolver waits until every node has heard of the resolver.
func awaitResolver(ctx context.Context, nodes []node, keyspace, sha256 string) error {
	for _, n := range nodes {
		err := poll(ctx, func(ctx context.Context) error {
			switch active, err := n.activeResolver(ctx, keyspace); {
			case isCode(err, "keyspace_unknown"):
				return fmt.Errorf("%w: it does not know keyspace %s", errNotYet, keyspace)
			case err != nil:
				return err
			case active != sha256:
				return fmt.Errorf("%w: its resolver of keyspace %s is %.12q, want %.12q", errNotYet, keyspace, active, sha256)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("wait for the resolver at %s: %w", n.name, err)
		}
	}
	return nil
}

var (
	// errNotYet is what a poll waits for.
	errNotYet = errors.New("not yet")
	// errMismatch is an answer that breaks what the store promises.
	errMismatch = errors.New("mismatch")
	// errNotCart is a value that somebody else must have written.
	errNotCart = errors.New("not a cart")
)

// isNonsense reports whether an answer came and waiting will not make it better.
func isNonsense(err error) bool {
	return errors.Is(err, errMismatch) || errors.Is(err, errNotCart) || errors.Is(err, errEnded)
}

func isCode(err error, code string) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && e.Code == code
}
