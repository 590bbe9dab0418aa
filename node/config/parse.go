package config

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"
)

// Options say where a cluster file comes from.
type Options struct {
	// File is the file's name in messages; relative paths in the file start at its directory.
	File string
	// Lookup returns the value of the variable in ${NAME} and whether it is set, as os.LookupEnv does; nil = none is.
	Lookup func(string) (string, bool)
}

// Load reads and checks the cluster file at path. Its error is one of reading the file, or that of Parse.
func Load(path string, lookup func(string) (string, bool)) (*Cluster, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cluster file: %w", err)
	}
	// One byte more than allowed, for Parse to refuse: the rest of a huge file is never read.
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("cluster file: %w", err)
	}
	return Parse(data, Options{File: path, Lookup: lookup})
}

// Parse checks a cluster file and fills in the defaults. It accepts any bytes; the error joins one *Error for each
// mistake, in the order of the file and up to 20 of them, and then the cluster is nil. It touches no file: whether
// data directories and modules exist is found out by who uses them.
func Parse(data []byte, o Options) (*Cluster, error) {
	dir, err := filepath.Abs(filepath.Dir(o.File))
	if err != nil {
		return nil, fmt.Errorf("cluster file %s: %w", o.File, err)
	}
	d := &decoder{report: report{file: o.File}, dir: dir, lookup: o.Lookup}
	if d.lookup == nil {
		d.lookup = func(string) (string, bool) { return "", false }
	}
	root := readYAML(data, &d.report)
	if root == nil {
		return nil, d.err()
	}
	c := d.cluster(root)
	if err := d.err(); err != nil {
		return nil, err
	}
	return c, nil
}

func (d *decoder) cluster(root *yaml.Node) *Cluster {
	f := d.mapping(root, "",
		[]string{"cluster", "partitions", "replication", "secret", "insecure", "tokens", "nodes", "keyspaces", "limits"},
		[]string{"cluster", "nodes"})
	c := &Cluster{
		Name:       f.word("cluster", "", nameRule, IsName),
		Partitions: f.integer("partitions", DefaultPartitions),
		Secret:     f.text("secret", "", checkSecret),
		Insecure:   f.boolean("insecure"),
	}
	if p := c.Partitions; p < MinPartitions || p > MaxPartitions || p&(p-1) != 0 {
		f.fail("partitions", fmt.Sprintf("the nearest is %d", nearestPowerOfTwo(p)),
			"%d is no power of two from %d to %d", p, MinPartitions, MaxPartitions)
	}
	d.tokens(f, c)
	d.nodes(f, c)
	nodes := len(c.Nodes)
	if f.broken["nodes"] || nodes == 0 {
		nodes = math.MaxInt // already reported; do not blame N for it
	}
	d.replication(f, c, nodes)
	d.limits(f, c)
	d.keyspaces(f, c, nodes)
	return c
}

// nearestPowerOfTwo returns the number of partitions that is the nearest to p.
func nearestPowerOfTwo(p int) int {
	best := MinPartitions
	p = min(max(p, 0), 2*MaxPartitions) // keeps the differences from overflowing
	for q := MinPartitions; q <= MaxPartitions; q *= 2 {
		if abs(p-q) < abs(p-best) {
			best = q
		}
	}
	return best
}

func abs(v int) int { return max(v, -v) }

// maxSecretBytes bounds secrets and tokens, which travel with each message and request.
const maxSecretBytes = 1024

func checkSecret(s string) string {
	switch {
	case s == "":
		return "the secret is empty"
	case len(s) > maxSecretBytes:
		return fmt.Sprintf("the secret is longer than %d bytes", maxSecretBytes)
	}
	return ""
}

// checkToken accepts what an Authorization header can carry after "Bearer ".
func checkToken(s string) string {
	switch {
	case s == "":
		return "the token is empty"
	case len(s) > maxSecretBytes:
		return fmt.Sprintf("the token is longer than %d bytes", maxSecretBytes)
	case strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' }):
		return "the token has characters that an HTTP header cannot carry, expected visible ASCII without spaces"
	}
	return ""
}

// unique reports a value that another key of the same kind has already. Empty values have been reported before.
func (f *fields) unique(seen map[string]string, value, key, what string) {
	if value == "" {
		return
	}
	if other, exists := seen[value]; exists {
		f.fail(key, "", "duplicate %s, already used by %s", what, other)
		return
	}
	seen[value] = fmt.Sprintf("%s at line %d", f.key(key), f.value[key].Line)
}

func (d *decoder) tokens(top *fields, c *Cluster) {
	names, values := map[string]string{}, map[string]string{}
	items := top.list("tokens")
	if top.value["tokens"] != nil && len(items) == 0 && !top.broken["tokens"] {
		top.fail("tokens", "remove the key to let everybody in on loopback", "the list of tokens is empty")
	}
	for i, n := range items {
		f := d.mapping(n, top.item("tokens", i), []string{"name", "token", "role", "keyspaces"}, []string{"name", "token", "role"})
		t := Token{
			Name:  f.word("name", "", nameRule, IsName),
			Token: f.text("token", "", checkToken),
			Role:  Role(f.enum("role", "", roles())),
		}
		f.unique(names, t.Name, "name", "token name "+f.shown("name"))
		f.unique(values, t.Token, "token", "token value")
		t.Keyspaces = d.tokenKeyspaces(f)
		c.Tokens = append(c.Tokens, t)
	}
}

// tokenKeyspaces reads the names of the keyspaces of a token. They need not be in the file: most are made later.
func (d *decoder) tokenKeyspaces(f *fields) []string {
	items := f.list("keyspaces")
	if f.value["keyspaces"] != nil && len(items) == 0 && !f.broken["keyspaces"] {
		f.fail("keyspaces", "remove the key to open all keyspaces", "the list of keyspaces is empty")
	}
	var names []string
	seen := map[string]string{}
	for i, n := range items {
		// An item is read like the value of a key, so that variables and types are treated alike.
		key := fmt.Sprintf("keyspaces[%d]", i)
		f.value[key] = n
		name := f.word(key, "", keyspaceNameRule, IsKeyspaceName)
		f.unique(seen, name, key, "keyspace "+f.raw(key))
		names = append(names, name)
	}
	return names
}

func (d *decoder) nodes(top *fields, c *Cluster) {
	items := top.list("nodes")
	if top.value["nodes"] != nil && len(items) == 0 && !top.broken["nodes"] {
		top.fail("nodes", "", "a cluster needs at least one node")
	}
	ids, addresses, dirs := map[string]string{}, map[string]string{}, map[string]string{}
	for i, item := range items {
		f := d.mapping(item, top.item("nodes", i),
			[]string{"id", "zone", "weight", "http", "peer", "gossip", "data"},
			[]string{"id", "http", "peer", "gossip", "data"})
		n := Node{
			ID:     f.word("id", "", nameRule, IsName),
			Zone:   f.word("zone", DefaultZone, nameRule, IsName),
			Weight: f.integer("weight", 1),
			HTTP:   f.address("http"),
			Peer:   f.address("peer"),
			Gossip: f.address("gossip"),
			Data:   d.absolute(f.file("data")),
		}
		if n.Weight < 1 || n.Weight > 1000 {
			f.fail("weight", "", "%d is out of the range 1 to 1000", n.Weight)
		}
		f.unique(ids, n.ID, "id", "node id "+f.shown("id"))
		for _, a := range []struct{ key, address string }{{"http", n.HTTP}, {"peer", n.Peer}, {"gossip", n.Gossip}} {
			if a.address != "" {
				f.unique(addresses, canonicalAddress(a.address), a.key, "address "+f.shown(a.key))
			}
		}
		f.unique(dirs, n.Data, "data", "data directory "+f.shown("data"))
		c.Nodes = append(c.Nodes, n)
	}
}

// shown is raw for keys that may be absent.
func (f *fields) shown(key string) string {
	if f.value[key] == nil {
		return ""
	}
	return f.raw(key)
}

func (f *fields) address(key string) string {
	return f.text(key, "", func(s string) string {
		if err := checkAddress(s); err != nil {
			return fmt.Sprintf("%s is no host:port: %s", f.raw(key), err)
		}
		return ""
	})
}

// replication reads the defaults of keyspaces. Without n a small cluster gets as many replicas as it has nodes, and
// without r and w majorities of n.
func (d *decoder) replication(top *fields, c *Cluster, nodes int) {
	c.Replication = Majority(min(DefaultN, nodes))
	n := top.value["replication"]
	if n == nil {
		return
	}
	f := d.mapping(n, "replication", []string{"n", "r", "w"}, nil)
	r := f.quorums(c.Replication)
	if f.adopt(checkReplication(r, nodes)); len(f.broken) == 0 {
		c.Replication = r // keyspaces inherit no mistake, which would be reported again with each of them
	}
}

// quorums reads n, r and w.
func (f *fields) quorums(defaults Replication) Replication {
	r := defaults.WithN(f.integer("n", defaults.N))
	r.R, r.W = f.integer("r", r.R), f.integer("w", r.W)
	return r
}

// adopt reports what a rule found wrong, unless that follows from a mistake that has been reported.
func (f *fields) adopt(wrong []*FieldError) {
	reported := maps.Clone(f.broken)
	for _, e := range wrong {
		switch {
		case reported[e.Field]:
		case reported["n"] && (e.Field == "r" || e.Field == "w"):
		case reported["conflict"] && e.Field == "resolver":
		default:
			f.fail(e.Field, "", "%s", e.Message)
		}
	}
}

func (d *decoder) keyspaces(top *fields, c *Cluster, nodes int) {
	names := map[string]string{}
	for i, item := range top.list("keyspaces") {
		f := d.mapping(item, top.item("keyspaces", i),
			[]string{"name", "n", "r", "w", "conflict", "resolver", "durability", "max_value_bytes", "ancestors"},
			[]string{"name"})
		name := f.word("name", "", keyspaceNameRule, IsKeyspaceName)
		k := c.NewKeyspace(name)
		r := f.quorums(Replication{N: k.N, R: k.R, W: k.W})
		k.N, k.R, k.W = r.N, r.R, r.W
		k.Conflict = Policy(f.enum("conflict", string(k.Conflict), policies()))
		k.Resolver = f.file("resolver")
		if !strings.HasPrefix(k.Resolver, BuiltinPrefix) {
			k.Resolver = d.absolute(k.Resolver)
		}
		k.Durability = Durability(f.enum("durability", string(k.Durability), durabilities()))
		k.MaxValueBytes = int(f.size("max_value_bytes", int64(k.MaxValueBytes)))
		k.Ancestors = f.boolean("ancestors")
		f.adopt(checkKeyspace(k, nodes, c.Limits))
		f.unique(names, name, "name", "keyspace "+f.shown("name"))
		c.Keyspaces = append(c.Keyspaces, k)
	}
}

func (d *decoder) limits(top *fields, c *Cluster) {
	c.Limits = DefaultLimits()
	n := top.value["limits"]
	if n == nil {
		return
	}
	table := c.Limits.table()
	known := make([]string, len(table))
	for i, row := range table {
		known[i] = row.key
	}
	f := d.mapping(n, "limits", known, nil)
	for _, row := range table {
		v := row.value
		switch row.unit {
		case count:
			v = int64(f.integer(row.key, int(v)))
		case size:
			v = f.size(row.key, v)
		case duration:
			v = f.duration(row.key, v)
		}
		if err := row.check(v); err != nil {
			f.adopt([]*FieldError{err})
			continue
		}
		row.set(v)
	}
	d.relations(f, c.Limits)
}

// relations reports limits that are at odds with each other, at one that the file gives: the default of the other
// cannot be wrong.
func (d *decoder) relations(f *fields, l Limits) {
	for _, r := range l.relations() {
		key, isKnown := r.Field, !f.broken[r.Field]
		for _, other := range r.others {
			isKnown = isKnown && !f.broken[other]
			if f.value[key] == nil && f.value[other] != nil {
				key = other
			}
		}
		if !isKnown {
			continue
		}
		message, suggestion := r.Message, ""
		if key != r.Field {
			message, suggestion = r.Error(), "set "+f.key(r.Field)+" as well"
		}
		f.fail(key, suggestion, "%s", message)
	}
}
