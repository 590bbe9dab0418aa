// Package config turns a cluster file into checked values.
//
// One YAML file describes the whole cluster and every node is started from the same file, so a mistake in it is a
// mistake everywhere at once. The package therefore refuses whatever it does not fully understand - unknown keys,
// wrong types, values out of range, YAML features that hide what a file says - and reports every mistake of a file in
// one go, each with file, line, column, the path of the key and, where there is one, a suggestion.
//
// It is also the one place of the defaults and of the limits of a cluster (see Limits).
//
// All values are plain data: nothing here keeps state, and everything is safe for concurrent use as long as nobody
// writes to the values.
package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// The bounds and defaults of a cluster file that are not Limits.
const (
	// DefaultPartitions is the number of partitions of a cluster whose file does not say otherwise.
	DefaultPartitions = 256
	// MinPartitions and MaxPartitions bound the number of partitions, which is a power of two.
	MinPartitions = 16
	MaxPartitions = 65536
	// DefaultN is the number of replicas of a key where the cluster has that many nodes.
	DefaultN = 3
	// DefaultZone is the zone of a node whose file does not name one.
	DefaultZone = "default"
	// DefaultKeyspace is the name of the keyspace that exists in every cluster from its birth.
	DefaultKeyspace = "default"
	// BuiltinPrefix marks a resolver that is shipped with the binary: "builtin:NAME".
	BuiltinPrefix = "builtin:"
)

// Role says what the holder of a token may do; each role includes the ones below it.
type Role string

// The roles, from the most to the least powerful.
const (
	RoleAdmin Role = "admin" // everything, membership and keyspaces included
	RoleWrite Role = "write" // read and write values
	RoleRead  Role = "read"  // read values
)

// Policy says what a keyspace does with siblings (versions of which none has seen the other).
type Policy string

// The conflict policies.
const (
	PolicySiblings Policy = "siblings" // readers get all of them
	PolicyLWW      Policy = "lww"      // the last writer, by its clock, wins
	PolicyResolver Policy = "resolver" // a WebAssembly module merges them
)

// Durability says what a replica has done with a write when it acknowledges it.
type Durability string

// The durabilities.
const (
	DurabilitySync     Durability = "sync"     // synced to disk
	DurabilityBuffered Durability = "buffered" // in memory and in the buffers of the write-ahead log; lost with the process
)

// Cluster is one checked cluster file.
type Cluster struct {
	// Name of the cluster; nodes of clusters with other names are refused.
	Name string
	// Partitions is the number of equal slices of the hash ring, a power of two. It is fixed at the birth of the cluster.
	Partitions int
	// Replication holds the defaults for new keyspaces.
	Replication Replication
	// Secret is shared by all nodes and proves to a node that the other one belongs to the cluster; empty = none.
	Secret string
	// Insecure lets a node listen beyond loopback without secret and tokens; see CheckExposure.
	Insecure bool
	// Tokens authenticate clients; none = everybody may do everything.
	Tokens []Token
	// Nodes in the order of the file, at least one.
	Nodes []Node
	// Keyspaces in the order of the file; see BirthKeyspaces for the list that a new cluster starts with.
	Keyspaces []Keyspace
	// Limits of every node of the cluster.
	Limits Limits
}

// Replication is how many nodes hold a key (N), and how many of them must answer a read (R) and a write (W).
type Replication struct{ N, R, W int }

// Majority returns the replication with n replicas in which any read quorum meets any write quorum.
func Majority(n int) Replication { return Replication{N: n, R: n/2 + 1, W: n/2 + 1} }

// WithN returns the defaults for a keyspace with n replicas: r itself if that is what it describes, and majorities
// otherwise, because quorums chosen for one N mean something else for another.
func (r Replication) WithN(n int) Replication {
	if n == r.N {
		return r
	}
	return Majority(n)
}

// Token lets a client in.
type Token struct {
	// Name is what logs and metrics call the holder; it is no secret.
	Name string
	// Token is what the client sends as "Authorization: Bearer ...".
	Token string
	Role  Role
	// Keyspaces are the only ones that the token opens; none = all.
	Keyspaces []string
}

// Node is one member of the cluster.
type Node struct {
	ID   string
	Zone string
	// Weight is the node's share of the partitions relative to the other nodes, 1 to 1000.
	Weight int
	// HTTP serves clients, Peer the other nodes, Gossip is both a TCP and a UDP address; all are host:port.
	HTTP, Peer, Gossip string
	// Data is the absolute path of the node's directory.
	Data string
}

// Keyspace is a named set of keys that are stored and merged alike.
type Keyspace struct {
	Name    string
	N, R, W int
	// Conflict is what happens to siblings.
	Conflict Policy
	// Resolver is the absolute path of a module or "builtin:NAME"; set if and only if Conflict is PolicyResolver.
	Resolver   string
	Durability Durability
	// MaxValueBytes is the size of the largest value, at most HardMaxValueBytes.
	MaxValueBytes int
	// Ancestors asks for the version that all siblings descend from, where the store still has it, for three-way
	// merges. Stores keep none so far, so it has no effect.
	Ancestors bool
}

// Builtin returns the cluster of `dynamo up` without a file: three nodes in three zones on loopback, with their data
// under dataDir.
func Builtin(dataDir string) *Cluster {
	if abs, err := filepath.Abs(dataDir); err == nil {
		dataDir = abs // without a working directory the relative path is as good as it gets
	}
	c := &Cluster{
		Name:        "local",
		Partitions:  DefaultPartitions,
		Replication: Majority(DefaultN),
		Limits:      DefaultLimits(),
	}
	for i, zone := range []string{"a", "b", "c"} {
		id := fmt.Sprintf("n%d", i+1)
		c.Nodes = append(c.Nodes, Node{
			ID: id, Zone: zone, Weight: 1,
			HTTP:   fmt.Sprintf("127.0.0.1:%d", 7101+i),
			Peer:   fmt.Sprintf("127.0.0.1:%d", 7201+i),
			Gossip: fmt.Sprintf("127.0.0.1:%d", 7301+i),
			Data:   filepath.Join(dataDir, id),
		})
	}
	return c
}

// Node returns the node with that id, and whether there is one.
func (c *Cluster) Node(id string) (Node, bool) {
	i := slices.IndexFunc(c.Nodes, func(n Node) bool { return n.ID == id })
	if i < 0 {
		return Node{}, false
	}
	return c.Nodes[i], true
}

// NewKeyspace returns the keyspace of that name with every setting at the cluster's default: conflict siblings, or lww
// for DefaultKeyspace, so that a first write and read work without knowing about siblings.
func (c *Cluster) NewKeyspace(name string) Keyspace {
	r := c.Replication
	if n := min(r.N, len(c.Nodes)); n > 0 {
		r = r.WithN(n)
	}
	k := Keyspace{
		Name: name, N: r.N, R: r.R, W: r.W,
		Conflict: PolicySiblings, Durability: DurabilitySync, MaxValueBytes: c.Limits.MaxValueBytes,
	}
	if name == DefaultKeyspace {
		k.Conflict = PolicyLWW
	}
	return k
}

// BirthKeyspaces returns the keyspaces that a new cluster starts with: those of the file, and DefaultKeyspace in front
// of them if the file does not list it.
func (c *Cluster) BirthKeyspaces() []Keyspace {
	if slices.ContainsFunc(c.Keyspaces, func(k Keyspace) bool { return k.Name == DefaultKeyspace }) {
		return slices.Clone(c.Keyspaces)
	}
	return append([]Keyspace{c.NewKeyspace(DefaultKeyspace)}, c.Keyspaces...)
}

// ErrExposed is wrapped by the error of CheckExposure.
var ErrExposed = errors.New("the node could be reached from other machines without authentication")

// CheckExposure refuses a node that would listen beyond loopback while the cluster lacks the secret or the tokens,
// unless the cluster says that it is insecure. Host names other than localhost count as reachable: what they resolve
// to is not known before the node listens, and may change. The error wraps ErrExposed.
func (c *Cluster) CheckExposure(n Node) error {
	var missing string
	switch {
	case c.Insecure || (c.Secret != "" && len(c.Tokens) > 0):
		return nil
	case c.Secret == "" && len(c.Tokens) == 0:
		missing = "neither secret nor tokens"
	case c.Secret == "":
		missing = "no secret"
	default:
		missing = "no tokens"
	}
	for _, a := range []struct{ key, address string }{{"http", n.HTTP}, {"peer", n.Peer}, {"gossip", n.Gossip}} {
		if !isLoopback(a.address) {
			return fmt.Errorf("node %s: %s: %s is not a loopback address and the cluster has %s: %w; set secret and tokens, or say insecure: true",
				n.ID, a.key, a.address, missing, ErrExposed)
		}
	}
	return nil
}
