package coordinator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"dynamo/node/causal"
	"dynamo/node/cluster"
	"dynamo/node/config"
	"dynamo/node/conflict"
	"dynamo/node/peer"
	"dynamo/node/replica"
	"dynamo/node/wire"
	"dynamo/resolver"
)

// Bindings are the resolver versions in the cluster's metadata.
type Bindings interface {
	Bind(ctx context.Context, b cluster.Binding) (cluster.Binding, error)
	Activate(ctx context.Context, keyspace string, version int) error
	Unbind(ctx context.Context, keyspace string) error
}

// ModuleStore keeps modules by hash on this disk.
type ModuleStore interface {
	PutModule(sha [32]byte, b []byte) error
	Module(sha [32]byte) ([]byte, bool, error)
}

// ResolverSettings wire Resolvers. All fields are required.
type ResolverSettings struct {
	Self      string
	Catalog   Catalog
	Bindings  Bindings
	Members   Members
	Transport Transport
	Modules   ModuleStore
	Settler   *conflict.Settler
	Limits    config.Limits
	Builtins  func(name string) ([]byte, bool)
	// Laws tests a module on its samples and on values of the keyspace.
	Laws   func(ctx context.Context, ks cluster.Keyspace, m *resolver.Module, module []byte) ResolverCheck
	Logger *slog.Logger
}

// Resolvers administers the resolver of each keyspace.
type Resolvers struct{ s ResolverSettings }

// NewResolvers returns the administration of resolvers.
func NewResolvers(s ResolverSettings) *Resolvers { return &Resolvers{s} }

// pushTimeout bounds how long an upload waits for the other nodes to take the module; those that do
// not will fetch it by hash when they need it.
const pushTimeout = 5 * time.Second

// Check modes of an upload.
const (
	CheckStrict = "strict"
	CheckWarn   = "warn"
	CheckOff    = "off"
)

// Upload checks a module, stores it on every node that can be reached, and activates it.
func (r *Resolvers) Upload(ctx context.Context, keyspace string, module []byte, check string) (ResolverUpload, error) {
	return r.upload(ctx, keyspace, "", module, check)
}

// Retry forgets that a module failed to compile within limits, so that its next upload tries it again. An
// upload that succeeds does the same on the nodes it reaches.
func (r *Resolvers) Retry(module []byte) error {
	if err := r.s.Settler.Retry(sha256.Sum256(module)); err != nil {
		return asError(err)
	}
	return nil
}

// UploadBuiltin binds a module that comes with the binary.
func (r *Resolvers) UploadBuiltin(ctx context.Context, keyspace, name, check string) (ResolverUpload, error) {
	module, ok := r.s.Builtins(name)
	if !ok {
		return ResolverUpload{}, &Error{Code: CodeResolverInvalid, Detail: fmt.Sprintf("there is no builtin resolver %q", name)}
	}
	return r.upload(ctx, keyspace, name, module, check)
}

func (r *Resolvers) upload(ctx context.Context, keyspace, builtin string, module []byte, check string) (ResolverUpload, error) {
	ks, ok := r.s.Catalog.View().Keyspace(keyspace)
	if !ok {
		return ResolverUpload{}, unknownKeyspace(keyspace)
	}
	sha := sha256.Sum256(module)
	m, err := r.compile(ctx, sha, module)
	if err != nil {
		return ResolverUpload{}, err
	}
	up := ResolverUpload{
		SHA256: hex.EncodeToString(sha[:]), ABI: string(m.Info().ABI), Size: len(module),
		Check: ResolverCheck{Outcome: "untested", Detail: "check=off"},
	}
	if check != CheckOff {
		up.Check = r.s.Laws(ctx, ks, m, module)
	}
	if up.Check.Outcome == "unlawful" && check == CheckStrict {
		return ResolverUpload{}, &Error{Code: CodeResolverUnlawful, Detail: up.Check.Detail}
	}
	r.push(ctx, module)
	b, err := r.s.Bindings.Bind(ctx, cluster.Binding{
		Keyspace: keyspace, Generation: ks.Generation, SHA256: sha, Builtin: builtin, Size: len(module),
		ABI: up.ABI, Lawful: up.Check.Outcome == "lawful",
	})
	if err != nil {
		return ResolverUpload{}, metadataError(err)
	}
	if err := r.policy(ctx, keyspace, config.PolicyResolver); err != nil {
		return ResolverUpload{}, err
	}
	up.Version = b.Version
	r.s.Logger.Info("resolver activated", "keyspace", keyspace, "version", b.Version, "sha256", up.SHA256, "check", up.Check.Outcome)
	return up, nil
}

// compile stores a module and compiles it through the registry that merges use.
func (r *Resolvers) compile(ctx context.Context, sha [32]byte, module []byte) (*resolver.Module, error) {
	if _, err := resolver.Check(module, ResolverLimits(r.s.Limits)); err != nil {
		return nil, resolverError(err)
	}
	if err := r.s.Modules.PutModule(sha, module); err != nil {
		return nil, asError(fmt.Errorf("store module: %w", err))
	}
	m, err := r.s.Settler.Load(ctx, sha)
	if err != nil {
		return nil, resolverError(err)
	}
	return m, nil
}

// ResolverLimits are the limits of one merge as the cluster file sets them.
func ResolverLimits(l config.Limits) resolver.Limits {
	return resolver.Limits{
		MemoryBytes: uint64(l.ResolverMemoryBytes), ModuleBytes: l.ResolverModuleBytes, OutputBytes: l.MaxValueBytes,
		Timeout: l.ResolverTimeout, CallDepth: l.ResolverCallDepth, Fuel: uint64(l.ResolverFuel),
	}
}

func resolverError(err error) error {
	if re, ok := errors.AsType[*resolver.Error](err); ok {
		return &Error{Code: CodeResolverInvalid, Detail: re.Error(), Err: err}
	}
	return asError(err)
}

// push sends the module to every other node that can be reached, side by side.
func (r *Resolvers) push(ctx context.Context, module []byte) {
	ctx, cancel := context.WithTimeout(ctx, pushTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, m := range r.s.Catalog.View().Members {
		if m.ID == r.s.Self || !r.s.Members.Reachable(m.ID) {
			continue
		}
		wg.Go(func() {
			if _, err := r.s.Transport.Call(ctx, m.ID, &wire.ModulePut{Module: module}); err != nil {
				r.s.Logger.Warn("node did not take the module, it will fetch it", "member", m.ID, "err", err)
			}
		})
	}
	wg.Wait()
}

func (r *Resolvers) policy(ctx context.Context, keyspace string, p config.Policy) error {
	ks, ok := r.s.Catalog.View().Keyspace(keyspace)
	if !ok {
		return unknownKeyspace(keyspace)
	}
	if ks.Conflict == p {
		return nil
	}
	ks.Conflict = p
	_, err := r.s.Catalog.PutKeyspace(ctx, ks)
	return metadataError(err)
}

// Status shows the resolver of a keyspace, its history and what this node has merged with it.
func (r *Resolvers) Status(keyspace string) (ResolverStatus, error) {
	v := r.s.Catalog.View()
	ks, ok := v.Keyspace(keyspace)
	if !ok {
		return ResolverStatus{}, unknownKeyspace(keyspace)
	}
	active, bound := v.Active(keyspace)
	bound = bound && ks.Conflict == config.PolicyResolver
	st := ResolverStatus{History: []ResolverVersion{}, Paths: r.s.Settler.Totals().Paths}
	for _, b := range v.Bindings(keyspace) {
		rv := resolverVersion(b)
		rv.Active = bound && b.Epoch == active.Epoch && b.SHA256 == active.SHA256
		if rv.Active {
			st.Active = &rv
		}
		st.History = append(st.History, rv)
	}
	if bound {
		ms := r.s.Settler.Module(active.SHA256)
		st.Calls, st.Failures, st.Errors, st.Loaded = ms.Calls, ms.Failures, ms.Errors, r.s.Settler.Loaded(active.SHA256)
		st.Micros.Max, st.Fuel.Max = micros(ms.Max), ms.MaxFuel
		if ms.Calls > 0 {
			st.Micros.Mean = micros(ms.Total) / float64(ms.Calls)
			st.Fuel.Mean = float64(ms.Fuel) / float64(ms.Calls)
		}
	}
	return st, nil
}

func resolverVersion(b cluster.Binding) ResolverVersion {
	return ResolverVersion{
		Version: b.Version, Epoch: b.Epoch, SHA256: hex.EncodeToString(b.SHA256[:]), Size: b.Size, ABI: b.ABI,
		Builtin: b.Builtin, Time: time.UnixMilli(int64(b.Time)).UTC(),
	}
}

// Module returns the bytes of the active module.
func (r *Resolvers) Module(ctx context.Context, keyspace string) ([]byte, error) {
	v := r.s.Catalog.View()
	if _, ok := v.Keyspace(keyspace); !ok {
		return nil, unknownKeyspace(keyspace)
	}
	b, ok := v.Active(keyspace)
	if !ok {
		return nil, &Error{Code: CodeNotFound, Detail: "the keyspace has no resolver"}
	}
	return r.Fetch(ctx, b.SHA256)
}

// Fetch returns a module from this disk or, verified by its hash, from any node that has it; then it
// is kept here too.
func (r *Resolvers) Fetch(ctx context.Context, sha [32]byte) ([]byte, error) {
	if b, ok, err := r.s.Modules.Module(sha); ok || err != nil {
		return b, err
	}
	var errs []error
	for _, m := range r.s.Catalog.View().Members {
		if m.ID == r.s.Self {
			continue
		}
		reply, err := r.s.Transport.Call(ctx, m.ID, &wire.ModuleGet{SHA256: sha})
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.ID, err))
			continue
		}
		got, ok := reply.(*wire.ModuleReply)
		if !ok || !got.Found || sha256.Sum256(got.Module) != sha {
			continue
		}
		return got.Module, r.s.Modules.PutModule(sha, got.Module)
	}
	return nil, fmt.Errorf("no node that can be reached has module %s: %w", hex.EncodeToString(sha[:8]), errors.Join(errs...))
}

// Serve answers other nodes about modules. handled is false for other messages.
func (r *Resolvers) Serve(m wire.Message) (reply wire.Message, handled bool, err error) {
	switch m := m.(type) {
	case *wire.ModuleGet:
		b, ok, err := r.s.Modules.Module(m.SHA256)
		return &wire.ModuleReply{Found: ok, Module: b}, true, err
	case *wire.ModulePut:
		if _, err := resolver.Check(m.Module, ResolverLimits(r.s.Limits)); err != nil {
			return nil, true, &peer.Error{Code: string(CodeResolverInvalid), Detail: err.Error()}
		}
		sha := sha256.Sum256(m.Module)
		if err := r.s.Modules.PutModule(sha, m.Module); err != nil {
			return nil, true, err
		}
		// The sender has compiled it, so it deserves another try here.
		if err := r.s.Settler.Retry(sha); err != nil {
			return nil, true, err
		}
		r.s.Settler.Preload(sha)
		return &wire.Ack{}, true, nil
	}
	return nil, false, nil
}

// Rollback activates an earlier version again, under a new epoch.
func (r *Resolvers) Rollback(ctx context.Context, keyspace string, version int) (ResolverVersion, error) {
	v := r.s.Catalog.View()
	if _, ok := v.Keyspace(keyspace); !ok {
		return ResolverVersion{}, unknownKeyspace(keyspace)
	}
	if err := r.s.Bindings.Activate(ctx, keyspace, version); err != nil {
		if errors.Is(err, cluster.ErrUnknown) {
			return ResolverVersion{}, &Error{Code: CodeNotFound, Detail: fmt.Sprintf("keyspace %s has no resolver version %d", keyspace, version)}
		}
		return ResolverVersion{}, metadataError(err)
	}
	if err := r.policy(ctx, keyspace, config.PolicyResolver); err != nil {
		return ResolverVersion{}, err
	}
	b, _ := r.s.Catalog.View().Active(keyspace)
	rv := resolverVersion(b)
	rv.Active = true
	return rv, nil
}

// Remove goes back to policy siblings; the history stays.
func (r *Resolvers) Remove(ctx context.Context, keyspace string) error {
	if _, ok := r.s.Catalog.View().Keyspace(keyspace); !ok {
		return unknownKeyspace(keyspace)
	}
	if err := r.s.Bindings.Unbind(ctx, keyspace); err != nil {
		return metadataError(err)
	}
	return r.policy(ctx, keyspace, config.PolicySiblings)
}

// Try merges given values with the active module, or with another one that was uploaded (candidate,
// its SHA-256 in hex). It stores nothing.
func (r *Resolvers) Try(ctx context.Context, keyspace, candidate string, req TryRequest) (TryResult, error) {
	v := r.s.Catalog.View()
	ks, ok := v.Keyspace(keyspace)
	if !ok {
		return TryResult{}, unknownKeyspace(keyspace)
	}
	p := replica.PolicyOf(v, ks)
	if candidate != "" {
		sha, err := hex.DecodeString(candidate)
		if err != nil || len(sha) != len(p.Module) {
			return TryResult{}, &Error{Code: CodeBadRequest, Detail: "candidate is not a SHA-256 in hex"}
		}
		p.Module = [32]byte(sha)
	}
	if p.Module == ([32]byte{}) {
		return TryResult{}, &Error{Code: CodeNotFound, Detail: "the keyspace has no resolver"}
	}
	values := make([]causal.Value, len(req.Siblings))
	for i, s := range req.Siblings {
		values[i] = causal.Value{Bytes: s.Value, ContentType: s.ContentType, TimeMs: s.TimeMs, Deleted: s.Deleted}
	}
	res, err := r.s.Settler.Try(ctx, p, []byte(req.Key), values)
	if err != nil {
		return TryResult{}, &Error{Code: CodeNotFound, Detail: err.Error(), Err: err}
	}
	return tryResult(res), nil
}

func tryResult(res conflict.Result) TryResult {
	out := TryResult{Fuel: res.Fuel, Micros: micros(res.Duration), Error: res.Code, Detail: strings.TrimSpace(res.Detail)}
	switch res.Kind {
	case conflict.Single:
		out.Status, out.Value, out.ContentType = "value", res.Value.Bytes, res.Value.ContentType
	case conflict.Deleted, conflict.Absent:
		out.Status = "deleted"
	case conflict.Conflict:
		out.Status = "error"
		if res.Code == "keep" {
			out.Status = "keep"
		}
	}
	return out
}
