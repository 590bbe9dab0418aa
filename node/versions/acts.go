package versions

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"dynamo/node/config"
	"dynamo/node/coordinator"
	"dynamo/node/peer"
	"dynamo/node/replica"
	"dynamo/node/wire"
)

// actTimeout bounds how long a person's word about a resolver waits for a member.
const actTimeout = 3 * time.Second

// act does on this node what somebody asked any node to have done on all.
func (r *Resolvers) act(m *wire.ResolverAct) (*wire.ResolverActReply, error) {
	v := r.s.Catalog.View()
	ks, ok := v.Keyspace(m.Keyspace)
	if !ok {
		return nil, &peer.Error{Code: string(coordinator.CodeKeyspaceUnknown), Detail: "there is no such keyspace here", Retryable: true}
	}
	switch m.Act {
	case wire.ActRelease:
		p := replica.PolicyOf(v, ks)
		if p.Module != m.SHA256 {
			return nil, &peer.Error{Code: string(coordinator.CodeConflict), Detail: "another version is active here", Retryable: true}
		}
		was, err := r.s.Settler.Release(p)
		return &wire.ResolverActReply{Done: was}, err
	case wire.ActShadow:
		if err := r.s.Settler.StartShadow(m.Keyspace, m.SHA256); err != nil {
			return nil, &peer.Error{Code: string(coordinator.CodeOverloaded), Detail: err.Error(), Retryable: true}
		}
		return &wire.ResolverActReply{Done: true}, nil
	case wire.ActShadowStop:
		return &wire.ResolverActReply{Done: r.s.Settler.StopShadow(m.Keyspace)}, nil
	case wire.ActShadowReport:
		report, ok := r.s.Settler.Shadow(m.Keyspace)
		if !ok {
			return &wire.ResolverActReply{}, nil
		}
		b, err := json.Marshal(report)
		return &wire.ResolverActReply{Done: true, Report: b}, err
	}
	return nil, &peer.Error{Code: string(coordinator.CodeBadRequest), Detail: "not something that can be done about a resolver"}
}

// acted is what one member answered.
type acted struct {
	member string
	reply  *wire.ResolverActReply
	err    error
}

// everywhere has all members do something about a resolver, side by side, this node included. The answers are in
// the order of the members.
func (r *Resolvers) everywhere(ctx context.Context, m *wire.ResolverAct) []acted {
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	members := r.s.Catalog.View().Members
	out := make([]acted, len(members))
	var wg sync.WaitGroup
	for i, member := range members {
		out[i].member = member.ID
		wg.Go(func() { out[i].reply, out[i].err = r.tell(ctx, member.ID, m) })
	}
	wg.Wait()
	return out
}

func (r *Resolvers) tell(ctx context.Context, member string, m *wire.ResolverAct) (*wire.ResolverActReply, error) {
	if member == r.s.Self {
		return r.act(m)
	}
	reply, err := r.s.Transport.Call(ctx, member, m)
	if err != nil {
		return nil, err
	}
	done, ok := reply.(*wire.ResolverActReply)
	if !ok {
		return nil, errors.New("answered by another kind of message")
	}
	return done, nil
}

// Release lets the active version be called again by all nodes that have it in quarantine. A node that cannot be
// told keeps it there until it hears of the release from the metadata.
func (r *Resolvers) Release(ctx context.Context, keyspace string) (coordinator.ResolverRelease, error) {
	v := r.s.Catalog.View()
	ks, ok := v.Keyspace(keyspace)
	if !ok {
		return coordinator.ResolverRelease{}, coordinator.UnknownKeyspace(keyspace)
	}
	p := replica.PolicyOf(v, ks)
	if p.Conflict != config.PolicyResolver || p.Module == ([32]byte{}) {
		return coordinator.ResolverRelease{}, &coordinator.Error{Code: coordinator.CodeNotFound, Detail: "the keyspace has no resolver"}
	}
	out := coordinator.ResolverRelease{Released: []string{}}
	for _, a := range r.everywhere(ctx, &wire.ResolverAct{Act: wire.ActRelease, Keyspace: keyspace, SHA256: p.Module}) {
		switch {
		case a.err != nil:
			r.s.Logger.Warn("a member was not told to release the resolver", "keyspace", keyspace, "member", a.member, "err", a.err)
			out.Unheard = append(out.Unheard, a.member)
		case a.reply.Done:
			out.Released = append(out.Released, a.member)
		}
	}
	slices.Sort(out.Released)
	// Last, so that the members above could say whether they had it in quarantine.
	if err := r.s.Bindings.Release(ctx, keyspace); err != nil {
		return out, coordinator.MetadataError(err)
	}
	return out, nil
}
