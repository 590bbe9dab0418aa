// Package versions is the life of resolver versions: upload, activation, quarantine, and going back.
package versions

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"dynamo/node/causal"
	"dynamo/node/cluster"
	"dynamo/node/config"
	"dynamo/node/conflict"
	"dynamo/node/coordinator"
	"dynamo/node/replica"
	"dynamo/node/wire"
	"dynamo/resolver"
)

// Bindings are the resolver versions in the cluster's metadata.
type Bindings interface {
	Bind(ctx context.Context, b cluster.Binding) (cluster.Binding, error)
	Activate(ctx context.Context, keyspace string, version int) error
	Unbind(ctx context.Context, keyspace string) error
	Shadow(ctx context.Context, keyspace string, candidate [32]byte) error
	Release(ctx context.Context, keyspace string) error
}

// ModuleStore keeps modules by hash on this disk.
type ModuleStore interface {
	PutModule(sha [32]byte, b []byte) error
	Module(sha [32]byte) ([]byte, bool, error)
}

// Settings wire Resolvers. All fields but BuiltinNames are required.
type Settings struct {
	Self      string
	Catalog   coordinator.Catalog
	Bindings  Bindings
	Members   coordinator.Members
	Transport coordinator.Transport
	Modules   Shelf
	Settler   *conflict.Settler
	Limits    config.Limits
	Builtins  func(name string) ([]byte, bool)
	// BuiltinNames lists what Builtins knows; unlike the other fields it may be empty.
	BuiltinNames []string
	// Laws tests a module on its samples and on values of the keyspace.
	Laws func(ctx context.Context, ks cluster.Keyspace, m *resolver.Module, module []byte) coordinator.ResolverCheck
	// Certificate returns what the last law check of a version found, as JSON; nil for nothing.
	Certificate func(id [32]byte) json.RawMessage
	Logger      *slog.Logger
	Now         func() time.Time
}

// Resolvers administers the resolver of each keyspace.
type Resolvers struct {
	s     Settings
	shelf shelf
}

// New returns the administration of resolvers.
func New(s Settings) *Resolvers { return &Resolvers{s: s, shelf: shelf{disk: s.Modules, now: s.Now}} }

// builtin fills in a module that comes with the binary.
func (r *Resolvers) builtin(u *coordinator.Upload) error {
	if u.Builtin == "" {
		return nil
	}
	var ok bool
	if u.Module, ok = r.s.Builtins(u.Builtin); ok {
		return nil
	}
	known := "there are none"
	if names := r.s.BuiltinNames; len(names) > 0 {
		known = "there are " + strings.Join(names, ", ")
	}
	return &coordinator.Error{Code: coordinator.CodeResolverInvalid, Detail: fmt.Sprintf("there is no builtin resolver %q: %s", u.Builtin, known)}
}

// Upload checks a module, has it stored and compiled by every member that can be reached, and activates it. A
// member that cannot compile it is a refusal; one that cannot be reached fetches and compiles it later, and shows
// siblings until then.
func (r *Resolvers) Upload(ctx context.Context, keyspace string, u coordinator.Upload) (coordinator.ResolverUpload, error) {
	ks, ok := r.s.Catalog.View().Keyspace(keyspace)
	if !ok {
		return coordinator.ResolverUpload{}, coordinator.UnknownKeyspace(keyspace)
	}
	if err := r.builtin(&u); err != nil {
		return coordinator.ResolverUpload{}, err
	}
	id := resolver.Identity(u.Module, u.Config)
	m, err := r.take(ctx, id, u.Module, u.Config, u.Retry)
	if err != nil {
		return coordinator.ResolverUpload{}, resolverError(err)
	}
	up := coordinator.ResolverUpload{
		SHA256: hex.EncodeToString(id[:]), ABI: string(m.Info().ABI), Size: len(u.Module), ConfigSize: len(u.Config),
		Check: coordinator.ResolverCheck{Outcome: "untested", Detail: "check=off"},
	}
	if u.Check != coordinator.CheckOff {
		if up.Check = r.s.Laws(ctx, ks, m, u.Module); m.Closed() { // a check that was cut short says nothing
			return coordinator.ResolverUpload{}, &coordinator.Error{Code: coordinator.CodeNotReady, Detail: "the node is stopping", Retryable: true}
		}
	}
	if up.Check.Outcome == "unlawful" && u.Check == coordinator.CheckStrict {
		return coordinator.ResolverUpload{}, &coordinator.Error{Code: coordinator.CodeResolverUnlawful, Detail: up.Check.Detail}
	}
	if !u.Alone {
		if err := r.spread(ctx, &wire.ModulePut{Module: u.Module, Config: u.Config}); err != nil {
			return coordinator.ResolverUpload{}, err
		}
	}
	if u.Inactive {
		return up, nil
	}
	b, err := r.s.Bindings.Bind(ctx, cluster.Binding{
		Keyspace: keyspace, Generation: ks.Generation, SHA256: id, Builtin: u.Builtin, Size: len(u.Module),
		ABI: up.ABI, Lawful: up.Check.Outcome == "lawful",
	})
	if err != nil {
		return coordinator.ResolverUpload{}, coordinator.MetadataError(err)
	}
	if err := r.policy(ctx, keyspace, config.PolicyResolver); err != nil {
		return coordinator.ResolverUpload{}, err
	}
	up.Version = b.Version
	r.s.Logger.Info("resolver activated", "keyspace", keyspace, "version", b.Version, "sha256", up.SHA256, "check", up.Check.Outcome)
	return up, nil
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
		return &coordinator.Error{Code: coordinator.CodeResolverInvalid, Detail: re.Error(), Err: err}
	}
	return coordinator.AsError(err)
}

func (r *Resolvers) policy(ctx context.Context, keyspace string, p config.Policy) error {
	ks, ok := r.s.Catalog.View().Keyspace(keyspace)
	if !ok {
		return coordinator.UnknownKeyspace(keyspace)
	}
	if ks.Conflict == p {
		return nil
	}
	ks.Conflict = p
	_, err := r.s.Catalog.PutKeyspace(ctx, ks)
	return coordinator.MetadataError(err)
}

// Status shows the resolver of a keyspace, its history and what this node has merged with it.
func (r *Resolvers) Status(keyspace string) (coordinator.ResolverStatus, error) {
	v := r.s.Catalog.View()
	ks, ok := v.Keyspace(keyspace)
	if !ok {
		return coordinator.ResolverStatus{}, coordinator.UnknownKeyspace(keyspace)
	}
	active, bound := v.Active(keyspace)
	bound = bound && ks.Conflict == config.PolicyResolver
	st := coordinator.ResolverStatus{History: []coordinator.ResolverVersion{}, Paths: r.s.Settler.Totals().Paths}
	for _, b := range v.Bindings(keyspace) {
		rv := resolverVersion(b)
		ms := r.s.Settler.Module(b.SHA256)
		rv.Calls, rv.Failures, rv.Errors = ms.Calls, ms.Failures, ms.Errors
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
		st.Certificate = r.s.Certificate(active.SHA256)
		if q := r.s.Settler.Quarantined(replica.PolicyOf(v, ks)); q != nil {
			st.Quarantine = &coordinator.ResolverQuarantine{Since: q.Since, Code: q.Code, Reason: q.Reason}
		}
	}
	return st, nil
}

func resolverVersion(b cluster.Binding) coordinator.ResolverVersion {
	return coordinator.ResolverVersion{
		Version: b.Version, Epoch: b.Epoch, SHA256: hex.EncodeToString(b.SHA256[:]), Size: b.Size, ABI: b.ABI,
		Builtin: b.Builtin, Time: time.UnixMilli(int64(b.Time)).UTC(),
	}
}

// Module returns the bytes of the active module.
func (r *Resolvers) Module(ctx context.Context, keyspace string) ([]byte, error) {
	v := r.s.Catalog.View()
	if _, ok := v.Keyspace(keyspace); !ok {
		return nil, coordinator.UnknownKeyspace(keyspace)
	}
	b, ok := v.Active(keyspace)
	if !ok {
		return nil, &coordinator.Error{Code: coordinator.CodeNotFound, Detail: "the keyspace has no resolver"}
	}
	module, _, err := conflict.Parts(ctx, r.Fetch, b.SHA256)
	return module, err
}

// errNowhere says that all members answered, and none has the module.
var errNowhere = errors.New("no member has it")

// fetchTimeout bounds how long one member may take to hand over a module: the next may have it, too, and whoever fetches a
// resolver that is bound already has no deadline of its own.
const fetchTimeout = 10 * time.Second

// Fetch returns a module from this disk or, verified by its hash, from any node that has it; then it
// is kept here too.
func (r *Resolvers) Fetch(ctx context.Context, sha [32]byte) ([]byte, error) {
	b, ok, err := r.s.Modules.Module(sha)
	if ok {
		return b, nil
	}
	var errs []error
	if err != nil { // a copy that cannot be read is replaced by another member's
		errs = append(errs, fmt.Errorf("this node's copy: %w", err))
	}
	for _, m := range r.s.Catalog.View().Members {
		if m.ID == r.s.Self {
			continue
		}
		reply, err := r.fetchFrom(ctx, m.ID, sha)
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
	if len(errs) == 0 {
		return nil, fmt.Errorf("module %s: %w", hex.EncodeToString(sha[:8]), errNowhere)
	}
	return nil, fmt.Errorf("no node that can be reached has module %s: %w", hex.EncodeToString(sha[:8]), errors.Join(errs...))
}

// fetchFrom asks one node, and not for ever: a message may be lost, and whoever waits for the module waits for it.
func (r *Resolvers) fetchFrom(ctx context.Context, node string, sha [32]byte) (wire.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	return r.s.Transport.Call(ctx, node, &wire.ModuleGet{SHA256: sha})
}

// Serve answers other nodes about modules. handled is false for other messages.
func (r *Resolvers) Serve(ctx context.Context, m wire.Message) (reply wire.Message, handled bool, err error) {
	switch m := m.(type) {
	case *wire.ResolverAct:
		reply, err := r.act(m)
		return reply, true, err
	case *wire.ModuleGet:
		r.want(m.SHA256)
		b, ok, err := r.s.Modules.Module(m.SHA256)
		return &wire.ModuleReply{Found: ok, Module: b}, true, err
	case *wire.ModulePut:
		if _, err := r.take(ctx, resolver.Identity(m.Module, m.Config), m.Module, m.Config, true); err != nil {
			return nil, true, moduleRefusal(err)
		}
		return &wire.Ack{}, true, nil
	}
	return nil, false, nil
}

// Rollback activates an earlier version again, under a new epoch, once it is compiled as by Upload.
func (r *Resolvers) Rollback(ctx context.Context, keyspace string, version int) (coordinator.ResolverVersion, error) {
	v := r.s.Catalog.View()
	if _, ok := v.Keyspace(keyspace); !ok {
		return coordinator.ResolverVersion{}, coordinator.UnknownKeyspace(keyspace)
	}
	if history := v.Bindings(keyspace); version >= 1 && version <= len(history) {
		if err := r.ready(ctx, history[version-1].SHA256); err != nil {
			return coordinator.ResolverVersion{}, err
		}
	}
	if err := r.s.Bindings.Activate(ctx, keyspace, version); err != nil {
		if errors.Is(err, cluster.ErrUnknown) {
			return coordinator.ResolverVersion{}, &coordinator.Error{Code: coordinator.CodeNotFound, Detail: fmt.Sprintf("keyspace %s has no resolver version %d", keyspace, version)}
		}
		return coordinator.ResolverVersion{}, coordinator.MetadataError(err)
	}
	if err := r.policy(ctx, keyspace, config.PolicyResolver); err != nil {
		return coordinator.ResolverVersion{}, err
	}
	b, _ := r.s.Catalog.View().Active(keyspace)
	rv := resolverVersion(b)
	rv.Active = true
	return rv, nil
}

// Remove goes back to policy siblings; the history stays.
func (r *Resolvers) Remove(ctx context.Context, keyspace string) error {
	if _, ok := r.s.Catalog.View().Keyspace(keyspace); !ok {
		return coordinator.UnknownKeyspace(keyspace)
	}
	if err := r.s.Bindings.Unbind(ctx, keyspace); err != nil {
		return coordinator.MetadataError(err)
	}
	return r.policy(ctx, keyspace, config.PolicySiblings)
}

// Try merges given values with the active module, or with another one that was uploaded (candidate,
// its SHA-256 in hex). It stores nothing.
func (r *Resolvers) Try(ctx context.Context, keyspace, candidate string, req coordinator.TryRequest) (coordinator.TryResult, error) {
	v := r.s.Catalog.View()
	ks, ok := v.Keyspace(keyspace)
	if !ok {
		return coordinator.TryResult{}, coordinator.UnknownKeyspace(keyspace)
	}
	p := replica.PolicyOf(v, ks)
	if candidate != "" {
		var err error
		if p.Module, err = parseSHA256("candidate", candidate); err != nil {
			return coordinator.TryResult{}, err
		}
		r.want(p.Module)
	}
	if p.Module == ([32]byte{}) {
		return coordinator.TryResult{}, &coordinator.Error{Code: coordinator.CodeNotFound, Detail: "the keyspace has no resolver"}
	}
	values := make([]causal.Value, len(req.Siblings))
	for i, s := range req.Siblings {
		values[i] = causal.Value{Bytes: s.Value, ContentType: s.ContentType, TimeMs: s.TimeMs, Deleted: s.Deleted}
	}
	res, err := r.s.Settler.Try(ctx, p, []byte(req.Key), values)
	if err != nil {
		return coordinator.TryResult{}, &coordinator.Error{Code: coordinator.CodeNotFound, Detail: err.Error(), Err: err}
	}
	return tryResult(res), nil
}

func tryResult(res conflict.Result) coordinator.TryResult {
	out := coordinator.TryResult{Fuel: res.Fuel, Micros: micros(res.Duration), Error: res.Code, Detail: strings.TrimSpace(res.Detail)}
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

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
