package node

import (
	"errors"

	"dynamo/node/cluster"
)

// realGossip has no network to talk over: a program that runs nodes here brings a Gossip of its own.
func realGossip(cluster.GossipOptions) cluster.Gossip { return noGossip{} }

type noGossip struct{}

// Start implements cluster.Gossip.
func (noGossip) Start(cluster.Events) error {
	return errors.New("node: there is no network here, Gossip is required")
}

// SetDigest implements cluster.Gossip.
func (noGossip) SetDigest([32]byte) {}

// Close implements cluster.Gossip.
func (noGossip) Close() error { return nil }
