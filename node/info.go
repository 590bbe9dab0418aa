package node

import (
	"encoding/hex"

	"dynamo/node/coordinator"
	"dynamo/node/ring"
	"dynamo/node/store"
)

// clusterInfo shows the cluster as this node sees it.
type clusterInfo struct{ n *Node }

// Info implements api.Cluster.
func (c clusterInfo) Info() coordinator.ClusterInfo {
	v := c.n.state.View()
	info := coordinator.ClusterInfo{
		Name: c.n.o.Cluster.Name, Partitions: v.Ring.Q(), Node: c.n.o.ID, Version: v.Version, Digest: hex.EncodeToString(v.Digest[:]),
		Members: []coordinator.MemberInfo{},
	}
	hints := c.n.store.HintStats()
	for _, m := range v.Members {
		info.Members = append(info.Members, coordinator.MemberInfo{
			ID: m.ID, Zone: m.Zone, Weight: m.Weight, HTTP: m.HTTP, Peer: m.Peer, Gossip: m.Gossip, Status: string(m.Status),
			Reachable:  m.ID == c.n.o.ID || c.n.state.Reachable(m.ID),
			Partitions: v.Ring.Tokens(m.ID), Replicas: v.Ring.Replicas(m.ID, c.n.o.Cluster.Replication.N),
			Hints: c.hints(hints[m.ID]),
		})
	}
	return info
}

func (c clusterInfo) hints(h store.HintStat) coordinator.HintInfo {
	out := coordinator.HintInfo{Count: h.Count, Bytes: h.Bytes}
	if !h.Oldest.IsZero() {
		out.OldestSeconds = max(0, c.n.o.Now().Sub(h.Oldest).Seconds())
	}
	return out
}

// Ring implements api.Cluster.
func (c clusterInfo) Ring() coordinator.RingInfo {
	r := c.n.state.View().Ring
	n := c.n.o.Cluster.Replication.N
	info := coordinator.RingInfo{Partitions: r.Q(), N: n, Primaries: make([][]string, r.Q())}
	for p := range info.Primaries {
		list := r.PreferenceList(ring.Partition(p))
		info.Primaries[p] = list[:min(n, len(list))]
	}
	return info
}

// Locate implements api.Cluster.
func (c clusterInfo) Locate(keyspace string, key []byte) (coordinator.Location, error) {
	return c.n.coordinator.Locate(keyspace, key)
}
