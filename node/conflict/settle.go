// Package conflict decides what stands for a key that holds several siblings: the keyspace's policy,
// the resolver behind it, the memoised view, and the collapse that bounds growth.
//
// Siblings are the truth and the merged value is a view: replicas keep and exchange siblings, and what
// a resolver makes of them is an answer to one read. So nodes that run different resolver versions
// disagree in answers at most, for as long as an activation takes, and never in state.
package conflict

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"dynamo/node/causal"
	"dynamo/node/config"
	"dynamo/resolver"
)

// Path says who asks for a merge; every path has a counter, so that one which bypasses the resolver
// shows.
type Path int

// The paths into Settle.
const (
	PathRead Path = iota
	PathCollapse
	PathTry
	PathExplain
	PathConflicts
	PathShadow
	paths
)

// String is the path's name in metrics.
func (p Path) String() string {
	return [...]string{"read", "collapse", "try", "explain", "conflicts", "shadow"}[p]
}

// Kind is what Settle came to.
type Kind int

// What a key's versions amount to.
const (
	// Absent: there are no versions.
	Absent Kind = iota
	// Deleted: only tombstones.
	Deleted
	// Single: one value.
	Single
	// Conflict: several siblings to show.
	Conflict
)

// Why a conflict was not merged, beside the resolver's own codes.
const (
	CodeNoResolver = "no_resolver"
	CodePending    = "pending"
)

// Policy is what Settle needs to know of a keyspace. Take it from one View for a whole request.
type Policy struct {
	Keyspace      string
	Conflict      config.Policy
	MaxValueBytes int
	// Module is the active resolver's SHA-256, zero if none; Epoch orders it among its versions.
	Module [32]byte
	Epoch  uint64
	// Lawful says that the active version passed the law check: only then siblings may be collapsed.
	Lawful bool
	// Releases is how often the active version was released from quarantine.
	Releases uint64
}

// Result is what stands for a key.
type Result struct {
	Kind  Kind
	Value causal.Value
	// Siblings in canonical order, if Kind is Conflict.
	Siblings []causal.Value
	// Count is the number of siblings behind the answer.
	Count int
	// Merged names the resolver (hex) if Value is a merge of Count siblings.
	Merged string
	// Code and Detail say why siblings were not merged.
	Code, Detail string
	Fuel         uint64
	Duration     time.Duration
}

// Options configure a Settler.
type Options struct {
	Runtime *resolver.Runtime
	// Fetch returns a module's bytes from this disk or from any node that has them.
	Fetch func(ctx context.Context, sha [32]byte) ([]byte, error)
	// ViewBytes bounds the memory of memoised views; too small a cache merges at every read.
	ViewBytes int
	Logger    *slog.Logger
	Now       func() time.Time
	// Patience bounds how long a read waits for a module that is still being fetched or compiled; 0: as long as its
	// deadline lets it.
	Patience time.Duration
	// Timeout is the wall-clock guard of a merge; 0: no merge that ran into it is held against its module.
	Timeout time.Duration
	// ThreadTime is the processor time of the calling thread; nil: as the system tells it.
	ThreadTime func() (d time.Duration, ok bool)
	// Keeper keeps quarantines over restarts; nil: nobody does.
	Keeper Keeper
}

// Settler turns siblings into answers. It is safe for concurrent use.
type Settler struct {
	o       Options
	modules *modules
	views   *views
	wards   *wards
	shadows shadows
	stats   stats
}

// New returns a Settler; Close it.
func New(o Options) *Settler {
	if o.ThreadTime == nil {
		o.ThreadTime = threadTime
	}
	return &Settler{o: o, modules: newModules(o), views: newViews(o.ViewBytes, o.Now), wards: newWards(o)}
}

// Close releases all modules and waits for compilations that are under way.
func (s *Settler) Close(ctx context.Context) error {
	s.closeShadows()
	return s.modules.close(ctx)
}

// Settle is the one way from siblings to a value, for every path. It never changes anything.
func (s *Settler) Settle(ctx context.Context, path Path, p Policy, key []byte, vs []causal.Version) Result {
	s.stats.paths[path].Add(1)
	if len(vs) == 0 {
		return Result{Kind: Absent}
	}
	if p.Conflict == config.PolicyLWW {
		vs = (causal.Object{Versions: vs}).Last().Versions
	}
	ordered := canonical(vs)
	values := withoutTombstones(ordered)
	switch {
	case len(values) == 0:
		return Result{Kind: Deleted, Count: len(ordered)}
	case p.Conflict == config.PolicyResolver && (len(values) > 1 || len(ordered) > 1):
		res := s.resolve(ctx, p, key, ordered, values)
		if path == PathRead {
			s.offer(p, key, ordered, res)
		}
		return res
	}
	return plain(distinct(values, true))
}

// plain answers without a resolver.
func plain(vs []causal.Version) Result {
	if len(vs) == 1 {
		return Result{Kind: Single, Value: vs[0].Value, Count: 1}
	}
	return Result{Kind: Conflict, Siblings: valuesOf(vs), Count: len(vs)}
}

// resolve merges through the active module. all includes tombstones, values does not.
func (s *Settler) resolve(ctx context.Context, p Policy, key []byte, all, values []causal.Version) Result {
	in := distinct(values, false)
	if q := s.wards.held(p); q != nil {
		res := plain(distinct(values, true))
		res.Code, res.Detail = CodeQuarantined, "the resolver is in quarantine on this node: "+q.Reason
		return res
	}
	var m *resolver.Module
	var err error
	if p.Module != ([32]byte{}) {
		m, err = s.modules.soon(ctx, p.Module)
	}
	if m != nil && m.WantsDeleted() {
		in = distinct(all, false)
	}
	if len(in) == 1 && !in[0].Deleted {
		return plain(in)
	}
	if m == nil {
		res := plain(distinct(values, true))
		res.Code, res.Detail = CodeNoResolver, "the keyspace has no active resolver"
		if err != nil {
			res.Code, res.Detail = codeOf(err), err.Error()
		}
		return res
	}
	v := s.views.get(ctx, viewKey(p, key, in), func() view { return s.watched(ctx, p, m, key, in) })
	res := outcome(p, v, in)
	if v.code != "" {
		shown := distinct(values, true)
		res.Siblings, res.Count = valuesOf(shown), len(shown)
	}
	return res
}

// Try merges given values in the order given, through the same door as every read. It stores nothing
// and keeps no view; err says that the module cannot be had.
func (s *Settler) Try(ctx context.Context, p Policy, key []byte, in []causal.Value) (Result, error) {
	s.stats.paths[PathTry].Add(1)
	m, err := s.modules.get(ctx, p.Module)
	if err != nil {
		return Result{}, err
	}
	vs := make([]causal.Version, 0, len(in))
	for _, v := range in {
		if !v.Deleted || m.WantsDeleted() {
			vs = append(vs, causal.Version{Value: v})
		}
	}
	if vs = distinct(vs, false); len(vs) < 2 {
		return s.Settle(ctx, PathTry, Policy{Conflict: config.PolicySiblings}, key, vs), nil
	}
	return outcome(p, s.merge(ctx, p, m, key, vs), vs), nil
}

// outcome turns a merge into what stands for the key; on failure the siblings stay.
func outcome(p Policy, v view, in []causal.Version) Result {
	res := Result{Kind: Conflict, Siblings: valuesOf(in), Count: len(in), Code: v.code, Detail: v.detail, Fuel: v.fuel, Duration: v.duration}
	if v.code != "" {
		return res
	}
	res.Siblings, res.Kind, res.Value = nil, Single, v.value
	res.Merged = hex.EncodeToString(p.Module[:])
	if v.value.Deleted {
		res.Kind = Deleted
	}
	return res
}

// watched is merge, and what came of it counts for or against the version. That a merge ran out of wall-clock
// time counts only if its thread had the processor for most of that time: on a machine with too much to do good
// modules are slow, too. It takes a first such merge for the time to be measured.
func (s *Settler) watched(ctx context.Context, p Policy, m *resolver.Module, key []byte, in []causal.Version) view {
	if !s.wards.suspects(p) || s.o.Timeout <= 0 {
		v := s.merge(ctx, p, m, key, in)
		s.wards.report(p, key, v, false)
		return v
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, ok := s.o.ThreadTime()
	v := s.merge(ctx, p, m, key, in)
	after, still := s.o.ThreadTime()
	s.wards.report(p, key, v, ok && still && after-before >= s.o.Timeout*3/4)
	return v
}

// merge runs the module once.
func (s *Settler) merge(ctx context.Context, p Policy, m *resolver.Module, key []byte, in []causal.Version) view {
	v := s.run(ctx, p, m, key, in)
	s.stats.merged(p.Module, resolver.Outcome{Duration: v.duration, Fuel: v.fuel}, v.code)
	if v.code != "" {
		s.o.Logger.Warn("resolver failed, siblings kept", "keyspace", p.Keyspace, "resolver", hex.EncodeToString(p.Module[:8]),
			"code", v.code, "siblings", len(in), "err", v.detail)
	}
	return v
}

// run calls the module and counts nothing.
func (s *Settler) run(ctx context.Context, p Policy, m *resolver.Module, key []byte, in []causal.Version) view {
	resp, out, err := m.Merge(ctx, request(p.Keyspace, key, in), p.MaxValueBytes)
	v := view{fuel: out.Fuel, duration: out.Duration}
	if err == nil && resp.Status == resolver.StatusKeep {
		err = &resolver.Error{Code: "keep", Message: "the resolver keeps the siblings"}
	}
	if err != nil {
		v.code, v.detail = codeOf(err), err.Error()
		// A merge that its caller gave up says nothing of the module.
		v.transient = ctx.Err() != nil
		return v
	}
	v.value = answer(resp, in)
	return v
}

// answer makes a value of a response that resolver has validated.
func answer(resp resolver.Response, in []causal.Version) causal.Value {
	newest := slices.MaxFunc(in, func(a, b causal.Version) int { return compareTimes(a.TimeMs, b.TimeMs) })
	switch resp.Status {
	case resolver.StatusSelect:
		return in[resp.Index].Value
	case resolver.StatusDeleted:
		return causal.Value{TimeMs: newest.TimeMs, Deleted: true}
	}
	ct := resp.ContentType
	if ct == "" {
		ct = newest.ContentType
	}
	return causal.Value{Bytes: resp.Payload, ContentType: ct, TimeMs: newest.TimeMs}
}

func compareTimes(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func request(keyspace string, key []byte, in []causal.Version) resolver.Request {
	r := resolver.Request{Keyspace: keyspace, Key: key, Siblings: make([]resolver.Sibling, len(in))}
	for i, v := range in {
		r.Siblings[i] = resolver.Sibling{Value: v.Bytes, ContentType: v.ContentType, TimeMs: v.TimeMs, Deleted: v.Deleted}
	}
	return r
}

// Ordered returns values in canonical order: the order in which a module sees them and a client is
// shown them, the same on every node for the same set.
func Ordered(vs []causal.Version) []causal.Value { return valuesOf(canonical(vs)) }

// canonical orders versions by their smallest live dot.
func canonical(vs []causal.Version) []causal.Version {
	out := slices.Clone(vs)
	slices.SortFunc(out, func(a, b causal.Version) int {
		da, _ := a.Live.Min()
		db, _ := b.Live.Min()
		return da.Compare(db)
	})
	return out
}

func withoutTombstones(vs []causal.Version) []causal.Version {
	return slices.DeleteFunc(slices.Clone(vs), func(v causal.Version) bool { return v.Deleted })
}

// distinct drops byte-equal duplicates, keeping the first with the largest time of its equals. With
// sameTime only those of one instant go: one client's write that two coordinators took.
func distinct(vs []causal.Version, sameTime bool) []causal.Version {
	out := make([]causal.Version, 0, len(vs))
	for _, v := range vs {
		i := slices.IndexFunc(out, func(w causal.Version) bool {
			return w.Deleted == v.Deleted && w.ContentType == v.ContentType && string(w.Bytes) == string(v.Bytes) &&
				(!sameTime || w.TimeMs == v.TimeMs)
		})
		if i < 0 {
			out = append(out, v)
			continue
		}
		out[i].TimeMs = max(out[i].TimeMs, v.TimeMs)
	}
	return out
}

func valuesOf(vs []causal.Version) []causal.Value {
	out := make([]causal.Value, len(vs))
	for i, v := range vs {
		out[i] = v.Value
	}
	return out
}

func codeOf(err error) string {
	if re, ok := errors.AsType[*resolver.Error](err); ok {
		return string(re.Code)
	}
	return CodePending
}
