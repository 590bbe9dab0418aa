package versions

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"dynamo/node/conflict"
	"dynamo/node/coordinator"
	"dynamo/node/peer"
	"dynamo/node/wire"
	"dynamo/resolver"
)

// spreadTimeout bounds how long an upload waits for the other members to compile a module.
const spreadTimeout = 20 * time.Second

// take stores a version on this node's disk and compiles it through the registry that merges use. With retry, a
// module that failed before gets another try.
func (r *Resolvers) take(ctx context.Context, id [32]byte, module, config []byte, retry bool) (*resolver.Module, error) {
	if err := r.s.Settler.Check(module); err != nil {
		return nil, err
	}
	blobs := [][]byte{module}
	if len(config) > 0 {
		if len(config) > r.s.Limits.ResolverModuleBytes {
			return nil, &resolver.Error{Code: resolver.CodeTooLarge, Message: fmt.Sprintf("configuration of %d bytes, limit %d", len(config), r.s.Limits.ResolverModuleBytes)}
		}
		blobs = append(blobs, config, resolver.Manifest(module, config))
	}
	for _, b := range blobs {
		sha := sha256.Sum256(b)
		r.want(sha) // before it is there: a sweep that comes between must find it wanted
		if err := r.s.Modules.PutModule(sha, b); err != nil {
			return nil, fmt.Errorf("store module: %w", err)
		}
	}
	if retry {
		// What is remembered of a failed trial goes by the module alone.
		for _, sha := range [][32]byte{sha256.Sum256(module), id} {
			if err := r.s.Settler.Retry(sha); err != nil {
				return nil, err
			}
		}
	}
	return r.s.Settler.Load(ctx, id)
}

// moduleRefusal is what the sender of a module is told.
func moduleRefusal(err error) error {
	switch code := resolver.CodeOf(err); code {
	case "":
		return err
	case resolver.CodeUnavailable, resolver.CodeCanceled, resolver.CodeClosed:
		return &peer.Error{Code: string(coordinator.CodeOverloaded), Detail: err.Error(), Retryable: true}
	}
	return &peer.Error{Code: string(coordinator.CodeResolverInvalid), Detail: err.Error()}
}

// spread has every member that can be reached store and compile a module, side by side. What one of them cannot
// compile must not be activated, nor what one of them has not compiled yet: it would show siblings where the
// others merge. Members that cannot be reached, or are starting, fetch and compile it before they merge.
func (r *Resolvers) spread(ctx context.Context, m *wire.ModulePut) error {
	ctx, cancel := context.WithTimeout(ctx, spreadTimeout)
	defer cancel()
	members := r.s.Catalog.View().Members
	errs := make([]error, len(members))
	var wg sync.WaitGroup
	for i, member := range members {
		if member.ID == r.s.Self || !r.s.Members.Reachable(member.ID) {
			continue
		}
		wg.Go(func() {
			if _, err := r.s.Transport.Call(ctx, member.ID, m); err != nil {
				errs[i] = r.missed(member.ID, err)
			}
		})
	}
	wg.Wait()
	var why *coordinator.Error
	var details []string
	for i, err := range errs {
		e, ok := errors.AsType[*coordinator.Error](err)
		if !ok {
			continue
		}
		details = append(details, fmt.Sprintf("node %s: %s", members[i].ID, e.Detail))
		if why == nil || e.Code == coordinator.CodeResolverInvalid {
			why = e
		}
	}
	if why == nil {
		return nil
	}
	slices.Sort(details)
	return &coordinator.Error{Code: why.Code, Retryable: why.Retryable, Detail: "nothing was activated: " + strings.Join(details, "; ")}
}

// ready has a version that was uploaded before compiled here and by every member that can be reached.
func (r *Resolvers) ready(ctx context.Context, id [32]byte) error {
	module, config, err := conflict.Parts(ctx, r.Fetch, id)
	if errors.Is(err, errNowhere) {
		return &coordinator.Error{Code: coordinator.CodeNotFound, Detail: err.Error(), Err: err}
	}
	if err != nil {
		return &coordinator.Error{Code: coordinator.CodeNotReady, Detail: err.Error(), Retryable: true, Err: err}
	}
	if _, err := r.take(ctx, id, module, config, true); err != nil {
		return resolverError(err)
	}
	return r.spread(ctx, &wire.ModulePut{Module: module, Config: config})
}

// missed judges why a member has not compiled a module; nil if it is away and will do so later.
func (r *Resolvers) missed(member string, err error) error {
	e, said := errors.AsType[*peer.Error](err)
	switch {
	case said && e.Code == string(coordinator.CodeResolverInvalid):
		return &coordinator.Error{Code: coordinator.CodeResolverInvalid, Detail: e.Detail, Err: err}
	case said && e.Code == string(coordinator.CodeNotReady), !said && !r.s.Members.Reachable(member), errors.Is(err, peer.ErrUnreachable):
		r.s.Logger.Warn("node did not take the module, it will fetch it", "member", member, "err", err)
		return nil
	}
	return &coordinator.Error{Code: coordinator.CodeNotReady, Detail: "has not compiled the module yet: " + err.Error(), Retryable: true, Err: err}
}
