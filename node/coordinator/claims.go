package coordinator

import (
	"context"
	"sync"
	"time"

	"dynamo/node/peer"
	"dynamo/node/wire"
)

// claims see to it that a forwarded write is minted once. A node that is asked for it may be slow and not
// dead, so another is asked as well; and a request may be read by a paused process long after everybody
// else has moved on. Two mints of one write are two siblings, of which the client knows and supersedes
// one; the other would come back. So whoever is about to mint asks the node that forwarded the write, and
// that one says yes once.
type claims struct {
	// Invariant: a claim is in open from before its write leaves this node until the client is answered.
	mu struct {
		sync.Mutex
		next uint64
		open map[uint64]*claim
	}
}

type claim struct {
	// holder is the node that may mint, "" as long as nobody asked.
	holder string
	// barred are the nodes whose answer can no longer be heard.
	barred map[string]bool
}

// claimTimeout bounds the question: the node that forwarded the write is waiting for it.
const claimTimeout = time.Second

// init numbers claims from a time on, so that a write of an earlier life of this process finds none.
func (c *claims) init(now time.Time) {
	c.mu.next = uint64(now.UnixNano())
	c.mu.open = make(map[uint64]*claim)
}

func (c *claims) begin() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.next++
	c.mu.open[c.mu.next] = &claim{barred: make(map[string]bool)}
	return c.mu.next
}

func (c *claims) end(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.mu.open, id)
}

// take lets a node mint, unless another may, or it is too late.
func (c *claims) take(id uint64, node string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.mu.open[id]
	if k == nil || k.barred[node] || k.holder != "" {
		return false
	}
	k.holder = node
	return true
}

// holder returns who may mint, "" for nobody yet.
func (c *claims) holder(id uint64) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.open[id].holder
}

// release takes note that the holder minted nothing after all.
func (c *claims) release(id uint64, node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.mu.open[id]; k.holder == node {
		k.holder = ""
	}
}

// bar keeps a node from minting from now on, and reports whether it may have done so already.
func (c *claims) bar(id uint64, node string) (maybe bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.mu.open[id]
	k.barred[node] = true
	return k.holder == node
}

// giveUp bars nodes from minting, unless one may have done so already.
func (c *claims) giveUp(id uint64, nodes []string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.mu.open[id]
	if k.holder != "" {
		return false
	}
	for _, n := range nodes {
		k.barred[n] = true
	}
	return true
}

// HandleClaim answers a node that is about to mint a write which this one forwarded.
func (c *Coordinator) HandleClaim(from string, m *wire.Claim) (wire.Message, error) {
	if !c.claims.take(m.ID, from) {
		return nil, &peer.Error{Code: string(CodeNotReady), Detail: "the write is done by another node, or was given up", Retryable: true}
	}
	return &wire.Ack{}, nil
}

// claim asks the node that forwarded a write whether to mint it.
func (c *Coordinator) claim(ctx context.Context, from string, id uint64) error {
	ctx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	if _, err := c.s.Transport.Call(ctx, from, &wire.Claim{ID: id}); err != nil {
		return &Error{Code: CodeNotReady, Detail: "the node that forwarded the write does not want it any more", Retryable: true, Err: err}
	}
	return nil
}
