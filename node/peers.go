package node

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"

	"dynamo/node/cluster"
	"dynamo/node/coordinator"
	"dynamo/node/peer"
	"dynamo/node/replica"
	"dynamo/node/ring"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// Handle answers the messages of other nodes. It implements peer.Handler.
func (n *Node) Handle(ctx context.Context, from string, m wire.Message) (wire.Message, error) {
	if m, ok := m.(*wire.MetaSync); ok {
		digest, state, err := n.state.Sync(m.Digest, m.State)
		return &wire.MetaSyncReply{Digest: digest, State: state}, err
	}
	if !n.serving.Load() {
		return nil, &peer.Error{Code: "not_ready", Detail: "the node is starting", Retryable: true}
	}
	if w, ok := m.(*wire.Write); ok {
		return n.coordinator.HandleWrite(ctx, from, w)
	}
	if m, ok := m.(*wire.Claim); ok {
		return n.coordinator.HandleClaim(from, m)
	}
	if reply, ok, err := n.replica.Handle(ctx, from, m); ok {
		return reply, err
	}
	if reply, ok, err := n.resolvers.Serve(ctx, m); ok {
		return reply, err
	}
	return nil, &peer.Error{Code: "bad_request", Detail: "not a message that a node answers"}
}

// hello is how this node introduces itself.
func (n *Node) hello() peer.Hello {
	id := n.store.Identity()
	return peer.Hello{
		Cluster: n.o.Cluster.Name, Partitions: n.o.Cluster.Partitions, Node: n.o.ID,
		Disk: id.Node, Incarnation: id.Incarnation, Boot: id.Boot, Nonce: n.nonce,
	}
}

// admit decides whether a node that proved the secret may speak as the member it says it is.
func (n *Node) admit(h peer.Hello) error {
	err := n.state.Admit(cluster.Identity{
		Node: h.Node, Disk: h.Disk, Incarnation: h.Incarnation, Boot: h.Boot, Nonce: h.Nonce,
	})
	if errors.Is(err, cluster.ErrStaleIdentity) {
		return staleIdentity{err}
	}
	return err
}

// staleIdentity tells the other side that its identity is an old copy.
type staleIdentity struct{ error }

// Stale implements what package peer looks for.
func (staleIdentity) Stale() bool { return true }

// refused hears what other nodes have against this one. Before it is ready confirmIdentity deals with it.
func (n *Node) refused(r *peer.Refused) {
	if r.Stale && n.isReady() {
		n.die(r)
	}
}

func (n *Node) peerAddress(id string) (string, bool) {
	m, ok := n.state.View().Member(id)
	return m.Peer, ok
}

func (n *Node) isMember(id string) bool {
	m, ok := n.state.View().Member(id)
	return ok && m.Status != cluster.Removed
}

func (n *Node) keyspaceDropped(id uint64) bool {
	return slices.Contains(n.state.View().DroppedIDs(), id)
}

// primaries are the nodes that ought to hold a key.
func (n *Node) primaries(t wire.Target) []string {
	v := n.state.View()
	ks, ok := v.Keyspace(t.Keyspace)
	if !ok || ks.ID() != t.KeyspaceID {
		return nil
	}
	list := v.Ring.PreferenceList(v.Ring.Partition(ring.Hash(t.Keyspace, t.Key)))
	return list[:min(ks.N, len(list))]
}

func (n *Node) gossipSeeds() map[string]string {
	out := make(map[string]string)
	if !n.connected.Load() {
		for _, m := range n.o.Cluster.Nodes {
			out[m.ID] = m.Gossip
		}
		return out
	}
	for _, m := range n.state.View().Members {
		out[m.ID] = m.Gossip
	}
	return out
}

// exchange sends this node's metadata to another and returns what that one answers.
func (n *Node) exchange(ctx context.Context, node string, digest [32]byte, state []byte) ([32]byte, []byte, error) {
	if !n.connected.Load() {
		return [32]byte{}, nil, peer.ErrUnreachable
	}
	m, err := n.transport.Call(ctx, node, &wire.MetaSync{Digest: digest, State: state})
	if err != nil {
		return [32]byte{}, nil, err
	}
	r, ok := m.(*wire.MetaSyncReply)
	if !ok {
		return [32]byte{}, nil, errors.New("answered by another kind of message")
	}
	return r.Digest, r.State, nil
}

// probe asks a member that seems dead for a small answer. It reads, rather than pings, so that a node
// whose disk is stuck does not count as back.
func (n *Node) probe(ctx context.Context, node string) error {
	if !n.connected.Load() {
		return peer.ErrUnreachable
	}
	_, err := n.transport.Call(ctx, node, &wire.Read{Target: wire.Target{Key: []byte{0}}})
	return err
}

// guarded stops the node when a peer says that this disk is an old copy: whatever it mints could name
// another write already.
type guarded struct {
	Transport
	n *Node
}

// Call implements coordinator.Transport.
func (g guarded) Call(ctx context.Context, node string, m wire.Message) (wire.Message, error) {
	reply, err := g.Transport.Call(ctx, node, m)
	if r, ok := errors.AsType[*peer.Refused](err); ok {
		g.n.refused(r)
	}
	if least, ok := replica.Fenced(err); ok {
		g.n.flights.Raise(least)
	}
	return reply, err
}

// stale reports whether a peer refused this node for its identity.
func stale(err error) bool {
	r, ok := errors.AsType[*peer.Refused](err)
	return ok && r.Stale
}

// faults implements fault injection.
type faults struct{ n *Node }

// Cut stops all traffic with the nodes named, until it is called again.
func (f faults) Cut(nodes []string) error {
	for _, id := range nodes {
		if _, ok := f.n.state.View().Member(id); !ok {
			return errors.New("there is no member " + id)
		}
	}
	done := false
	for _, part := range []any{f.n.transport.(guarded).Transport, f.n.gossip} {
		if b, ok := part.(blocker); ok {
			b.Block(nodes)
			done = true
		}
	}
	if !done {
		return errors.New("this node's network cannot be cut")
	}
	f.n.log.Warn("fault injection: cut", "from", nodes)
	return nil
}

// Partitions returns what this node holds of the partitions that it is a primary of.
func (f faults) Partitions() []coordinator.PartitionCopy {
	out := []coordinator.PartitionCopy{}
	v := f.n.state.View()
	for _, ks := range v.Keyspaces() {
		for p := range v.Ring.Q() {
			list := v.Ring.PreferenceList(ring.Partition(p))
			if !slices.Contains(list[:min(ks.N, len(list))], f.n.o.ID) {
				continue
			}
			root, sound := f.n.store.TreeRoot(store.TreeID{Partition: ring.Partition(p), Keyspace: ks.ID()})
			out = append(out, coordinator.PartitionCopy{
				Partition: uint32(p), Keyspace: ks.Name, Count: root.Count, Sum: hex.EncodeToString(root.Sum[:]), Sound: sound,
			})
		}
	}
	return out
}

// Partitions is what a GET of /v1/debug/partitions shows, for programs that run a node inside of them.
func (n *Node) Partitions() []coordinator.PartitionCopy { return faults{n}.Partitions() }
