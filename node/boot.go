package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"dynamo/node/config"
	"dynamo/node/coordinator"
	"dynamo/node/replica"
	"dynamo/node/wire"
)

const (
	// probeTimeout bounds how long a booting node waits to hear whether its identity is still its own.
	probeTimeout = time.Second
	// peerMaxBackoff and peerSilence let a node that returns be found within a second: the first bounds the
	// pause between two attempts to connect, the second how long a connection is kept that says nothing
	// (behind a healed cut TCP itself would wait for twice as long as the cut has lasted).
	peerMaxBackoff = 400 * time.Millisecond
	peerSilence    = 3 * time.Second
	// peerInflightBytes bounds the memory of the messages on one connection, on each of its ends.
	peerInflightBytes = 64 << 20
	// handoffEvery is the pause between two looks at the hints.
	handoffEvery = 500 * time.Millisecond
	// repairQueue bounds the replicas that wait for read repair.
	repairQueue = 1024
	// dropEvery is the pause between two looks for data of dropped keyspaces.
	dropEvery = 30 * time.Second
	// repairMost and repairLeast bound what background work moves, in bytes per second; foregroundGoal is the
	// 99th percentile of clients' latencies above which it gives way.
	repairMost     = 64 << 20
	repairLeast    = 1 << 20
	foregroundGoal = 50 * time.Millisecond
	// sweepEvery is the pause between two looks for modules that nobody needs.
	sweepEvery = time.Hour
	// bindRetry is the pause after a failed attempt to bind a keyspace's first resolver.
	bindRetry = time.Second
	// sureTimeout bounds how long readiness waits for the comparison with peers, sureEvery is the pause between
	// two looks.
	sureTimeout = 2 * time.Second
	sureEvery   = 20 * time.Millisecond
	// mergePatience bounds how long a read waits for a module that this node has not compiled yet.
	mergePatience = 500 * time.Millisecond
	// loadTimeout bounds how long readiness waits for the active resolvers to be compiled.
	loadTimeout = 2 * time.Second
)

// becomeReady does what must happen before this node mints dots.
func (n *Node) becomeReady() {
	if err := n.confirmIdentity(); err != nil {
		n.die(err)
		return
	}
	n.dropKeyspaces()
	n.bindBirthResolvers()
	n.loadResolvers()
	n.awaitSure()
	if n.ctx.Err() == nil {
		close(n.ready)
		n.log.Info("node ready", "http", n.self.HTTP)
	}
}

// awaitSure gives a node that was stopped uncleanly, or has an empty disk, the time to compare itself with
// its peers: until then its answers do not count, and with all nodes in that state no read succeeds.
func (n *Node) awaitSure() {
	began := n.o.Now()
	t := time.NewTicker(sureEvery)
	defer t.Stop()
	for n.repairer.Unsure() && n.o.Now().Sub(began) < sureTimeout {
		select {
		case <-n.ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (n *Node) isReady() bool {
	select {
	case <-n.ready:
		return true
	default:
		return false
	}
}

// readiness is what /readyz answers.
func (n *Node) readiness() error {
	if !n.isReady() {
		return errors.New("the node is starting")
	}
	return nil
}

// confirmIdentity asks the peers that can be reached whether they know a later boot of this disk. If so
// the directory is an old copy, or a clone: what it holds is good, but its identity is spent, and it
// takes a new one.
func (n *Node) confirmIdentity() error {
	if !n.refusedAnywhere() {
		return nil
	}
	old := n.store.Identity()
	if err := n.store.RenewIdentity(); err != nil {
		return fmt.Errorf("renew identity: %w", err)
	}
	n.log.Warn("this directory is an old copy of a disk that has been seen since; it goes on under a new identity",
		"old", old.Node, "boot", old.Boot, "new", n.store.Identity().Node)
	if n.refusedAnywhere() {
		return errors.New("the peers refuse this node's new identity too")
	}
	return nil
}

func (n *Node) refusedAnywhere() bool {
	ctx, cancel := context.WithTimeout(n.ctx, probeTimeout)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	refused := false
	for _, m := range n.state.View().Members {
		if m.ID == n.o.ID {
			continue
		}
		wg.Go(func() {
			_, err := n.transport.Call(ctx, m.ID, &wire.Ping{})
			mu.Lock()
			defer mu.Unlock()
			refused = refused || stale(err)
		})
	}
	wg.Wait()
	return refused
}

// bindBirthResolvers binds the resolvers that the cluster file names to keyspaces which never had one.
// Every node does it and all come to the same binding.
func (n *Node) bindBirthResolvers() {
	for _, ks := range n.o.Cluster.BirthKeyspaces() {
		for ks.Conflict == config.PolicyResolver && n.ctx.Err() == nil {
			err := n.bindBirthResolver(ks)
			if err == nil {
				break
			}
			n.log.Error("the keyspace's resolver cannot be bound", "keyspace", ks.Name, "resolver", ks.Resolver, "err", err)
			if e, ok := errors.AsType[*coordinator.Error](err); !ok || !e.Retryable {
				break
			}
			select {
			case <-n.ctx.Done():
			case <-time.After(bindRetry):
			}
		}
	}
}

func (n *Node) bindBirthResolver(ks config.Keyspace) error {
	v := n.state.View()
	now, ok := v.Keyspace(ks.Name)
	if !ok || now.Generation != 1 || now.Conflict != config.PolicyResolver || len(v.Bindings(ks.Name)) > 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(n.ctx, n.o.Cluster.Limits.MaxTimeout)
	defer cancel()
	if name, builtin := strings.CutPrefix(ks.Resolver, "builtin:"); builtin {
		_, err := n.resolvers.Upload(ctx, ks.Name, coordinator.Upload{Builtin: name, Check: coordinator.CheckWarn, Alone: true})
		return err
	}
	module, err := os.ReadFile(ks.Resolver)
	if err != nil {
		return err
	}
	_, err = n.resolvers.Upload(ctx, ks.Name, coordinator.Upload{Module: module, Check: coordinator.CheckWarn, Alone: true})
	return err
}

// loadResolvers compiles the active modules, so that the first conflict does not wait for it, and recalls which of
// them are in quarantine.
func (n *Node) loadResolvers() {
	ctx, cancel := context.WithTimeout(n.ctx, loadTimeout)
	defer cancel()
	v := n.state.View()
	var wg sync.WaitGroup
	for _, ks := range v.Keyspaces() {
		if b, ok := v.Active(ks.Name); ok && ks.Conflict == config.PolicyResolver {
			if q := n.settler.Quarantined(replica.PolicyOf(v, ks)); q != nil {
				n.log.Warn("the active resolver is in quarantine on this node", "keyspace", ks.Name, "since", q.Since, "reason", q.Reason)
			}
			wg.Go(func() {
				if _, err := n.settler.Load(ctx, b.SHA256); err != nil {
					n.log.Warn("resolver not loaded yet", "keyspace", ks.Name, "err", err)
				}
			})
		}
	}
	wg.Wait()
}

// preloadResolvers starts to fetch and compile the active modules that could not be had before.
func (n *Node) preloadResolvers() {
	v := n.state.View()
	for _, ks := range v.Keyspaces() {
		if b, ok := v.Active(ks.Name); ok && ks.Conflict == config.PolicyResolver {
			n.settler.Preload(b.SHA256)
		}
	}
}

// metadataChanged wakes followMetadata; it never blocks.
func (n *Node) metadataChanged() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// followMetadata does on this disk what the cluster's metadata says: data of dropped keyspaces goes,
// modules are fetched and compiled.
func (n *Node) followMetadata() {
	again := time.NewTicker(dropEvery)
	defer again.Stop()
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	shadows := make(map[string][32]byte)
	n.followShadows(shadows, false)
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-n.changed:
			n.dropKeyspaces()
			n.followShadows(shadows, false)
			n.loadResolvers()
		case <-again.C:
			n.dropKeyspaces()
			n.preloadResolvers()
			n.followShadows(shadows, true)
		case <-sweep.C:
			if err := n.resolvers.Sweep(n.ctx, n.forgetCertificate); err != nil {
				n.log.Error("modules are not removed", "err", err)
			}
		}
	}
}

// followShadows runs the candidates that the metadata names beside the active versions. Those of following were there
// the last time, and what has not changed since then is left alone: a peer may have told of a change which the
// metadata here does not have yet. With prune, others than those that the metadata names are ended.
func (n *Node) followShadows(following map[string][32]byte, prune bool) {
	v := n.state.View()
	now := make(map[string][32]byte)
	for _, ks := range v.Keyspaces() {
		if candidate, ok := v.Shadow(ks.Name); ok {
			now[ks.Name] = candidate
		}
	}
	if prune {
		n.settler.PruneShadows(func(keyspace string) bool {
			_, runs := now[keyspace]
			return runs
		})
	}
	for keyspace := range following {
		if _, runs := now[keyspace]; !runs {
			n.settler.StopShadow(keyspace)
			delete(following, keyspace)
		}
	}
	for keyspace, candidate := range now {
		if following[keyspace] == candidate {
			continue
		}
		if err := n.settler.StartShadow(keyspace, candidate); err != nil {
			n.log.Warn("a candidate does not run beside the active resolver", "keyspace", keyspace, "err", err)
			continue // and again later
		}
		following[keyspace] = candidate
	}
}

// dropKeyspaces removes the data of dropped keyspaces, and what a write that was on its way left behind
// the last time.
func (n *Node) dropKeyspaces() {
	if err := n.store.DropKeyspaces(n.state.View().DroppedIDs()); err != nil {
		n.log.Error("the data of dropped keyspaces cannot be removed", "err", err)
	}
}

func (n *Node) keyspaceName(id uint64) (string, bool) {
	for _, ks := range n.state.View().Keyspaces() {
		if ks.ID() == id {
			return ks.Name, true
		}
	}
	return "", false
}
