package cluster

import (
	"encoding/json"
	"fmt"
	"maps"

	"dynamo/node/config"
)

// birth derives the first metadata from the cluster file. All nodes come to the same bytes without talking.
func birth(f *config.Cluster) (records, error) {
	rs := make(records)
	for _, n := range f.Nodes {
		body, err := json.Marshal(bornMember(n))
		if err != nil {
			return nil, fmt.Errorf("member %s: %w", n.ID, err)
		}
		rs[memberKey(n.ID)] = record{version: 1, body: body}
	}
	for _, k := range f.BirthKeyspaces() {
		body, err := json.Marshal(bornKeyspace(k))
		if err != nil {
			return nil, fmt.Errorf("keyspace %s: %w", k.Name, err)
		}
		rs[keyspaceKey(k.Name)] = record{version: 1, body: body}
	}
	return rs, nil
}

func bornMember(n config.Node) Member {
	return Member{ID: n.ID, Zone: n.Zone, Weight: n.Weight, HTTP: n.HTTP, Peer: n.Peer, Gossip: n.Gossip, Status: Up, Joined: 1}
}

func bornKeyspace(k config.Keyspace) Keyspace {
	return Keyspace{
		Name: k.Name, Generation: 1, N: k.N, R: k.R, W: k.W, Conflict: k.Conflict, Durability: k.Durability,
		MaxValueBytes: k.MaxValueBytes, Ancestors: k.Ancestors,
	}
}

// ownAddresses returns rs with the addresses of self as the file has them: where a node listens is the one thing about
// a member that its own file decides. It reports whether that is a change.
func ownAddresses(rs records, self string, f *config.Cluster) (records, bool, error) {
	n, ok := f.Node(self)
	r, known := rs[memberKey(self)]
	var m Member
	if !ok || !known || json.Unmarshal(r.body, &m) != nil || m.Status == Removed {
		return rs, false, nil
	}
	if m.HTTP == n.HTTP && m.Peer == n.Peer && m.Gossip == n.Gossip {
		return rs, false, nil
	}
	m.HTTP, m.Peer, m.Gossip = n.HTTP, n.Peer, n.Gossip
	body, err := json.Marshal(m)
	if err != nil {
		return nil, false, fmt.Errorf("member %s: %w", self, err)
	}
	out := maps.Clone(rs)
	out[memberKey(self)] = record{version: r.version + 1, writer: self, body: body}
	return out, true, nil
}

// differences lists what the file says otherwise than the cluster about members, and keyspaces that it alone has.
func differences(f *config.Cluster, v *View) []string {
	var out []string
	for _, n := range f.Nodes {
		m, ok := v.Member(n.ID)
		switch {
		case !ok:
			out = append(out, fmt.Sprintf("node %s is not a member", n.ID))
		case m.Zone != n.Zone:
			out = append(out, fmt.Sprintf("node %s: zone is %s, not %s", n.ID, m.Zone, n.Zone))
		case m.Weight != n.Weight:
			out = append(out, fmt.Sprintf("node %s: weight is %d, not %d", n.ID, m.Weight, n.Weight))
		case m.HTTP != n.HTTP || m.Peer != n.Peer || m.Gossip != n.Gossip:
			out = append(out, fmt.Sprintf("node %s: its addresses are %s, %s and %s until it is started with the new ones", n.ID, m.HTTP, m.Peer, m.Gossip))
		}
	}
	for _, m := range v.Members {
		if _, ok := f.Node(m.ID); !ok {
			out = append(out, fmt.Sprintf("member %s is not in the file", m.ID))
		}
	}
	for _, k := range f.BirthKeyspaces() {
		if _, known := v.keyspaces[k.Name]; !known {
			out = append(out, fmt.Sprintf("keyspace %s was never created", k.Name))
		}
	}
	return out
}
