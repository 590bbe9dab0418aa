//go:build !wasip1

package node

import (
	"dynamo/node/cluster"
	"dynamo/node/gossip"
)

func realGossip(o cluster.GossipOptions) cluster.Gossip { return gossip.NewMemberlist(o) }
