package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"dynamo/node/causal"
	"dynamo/node/config"
	"dynamo/node/coordinator"
)

// fakeKV is one replica in memory with the real causality: it puts and reads causal objects.
type fakeKV struct {
	mu       sync.Mutex
	objects  map[string]causal.Object
	settings coordinator.Options
	ms       uint64
	// before runs ahead of each call, without the lock.
	before func(ctx context.Context, key []byte) error
	// merge, if set, makes one value of siblings; an error keeps them.
	merge func([]causal.Value) (causal.Value, error)
}

func newFakeKV() *fakeKV {
	return &fakeKV{objects: map[string]causal.Object{}, ms: 1_700_000_000_000}
}

func (f *fakeKV) hook(ctx context.Context, key []byte) error {
	f.mu.Lock()
	before := f.before
	f.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(ctx, key)
}

func (f *fakeKV) setBefore(before func(ctx context.Context, key []byte) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

func (f *fakeKV) seenOptions() coordinator.Options {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.settings
}

func seal(c causal.Context) string {
	if len(c) == 0 {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(causal.AppendContext(nil, c))
}

func unseal(token string) (causal.Context, error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil {
		var c causal.Context
		if c, b, err = causal.DecodeContext(b); err == nil && len(b) == 0 {
			return c, nil
		}
	}
	return nil, &coordinator.Error{Code: coordinator.CodeBadContext, Detail: "no context"}
}

func etagOf(o causal.Object) string {
	sum := sha256.Sum256(causal.AppendObject(nil, o))
	return `"` + hex.EncodeToString(sum[:6]) + `"`
}

func (f *fakeKV) answer(o causal.Object, raw bool) coordinator.Answer {
	a := coordinator.Answer{Token: seal(o.Context)}
	if len(o.Versions) == 0 {
		return a
	}
	a.ETag = etagOf(o)
	var all, live []causal.Value
	for _, v := range o.Versions {
		all = append(all, v.Value)
		if !v.Deleted {
			live = append(live, v.Value)
		}
	}
	a.Count = len(all)
	switch {
	case len(live) == 0:
	case len(all) == 1:
		a.Value = &all[0]
	case f.merge == nil || raw:
		a.Siblings = all
	default:
		v, err := f.merge(live)
		if err != nil {
			a.Siblings, a.ResolverError = all, err.Error()
			break
		}
		a.Value, a.Merged = &v, "feed"
	}
	return a
}

func (f *fakeKV) Get(ctx context.Context, r coordinator.ReadRequest) (coordinator.Answer, error) {
	if err := f.hook(ctx, r.Key); err != nil {
		return coordinator.Answer{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settings = r.Options
	return f.answer(f.objects[r.Keyspace+"/"+string(r.Key)], r.Raw), nil
}

func (f *fakeKV) Write(ctx context.Context, r coordinator.WriteRequest) (coordinator.Answer, error) {
	if err := f.hook(ctx, r.Key); err != nil {
		return coordinator.Answer{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.settings = r.Options
	name := r.Keyspace + "/" + string(r.Key)
	o := f.objects[name]
	var seen causal.Context
	if r.Token != "" {
		var err error
		if seen, err = unseal(r.Token); err != nil {
			return coordinator.Answer{}, err
		}
	} else if r.Value.Deleted {
		seen = o.Context
	}
	exists := slices.ContainsFunc(o.Versions, func(v causal.Version) bool { return !v.Deleted })
	if (r.IfNoneMatch && exists) || (r.IfMatch != "" && (!exists || (r.IfMatch != "*" && r.IfMatch != etagOf(o)))) {
		return coordinator.Answer{}, &coordinator.Error{Code: coordinator.CodePreconditionFailed, Detail: "precondition"}
	}
	f.ms++
	r.Value.TimeMs = f.ms
	o, _ = o.Put(seen, causal.Actor{Node: causal.NodeID{1}, Incarnation: 1, Seq: 1}, r.Value)
	f.objects[name] = o
	if r.ReturnValue {
		return f.answer(o, false), nil
	}
	return coordinator.Answer{Token: seal(o.Context), ETag: etagOf(o)}, nil
}

func (f *fakeKV) List(_ context.Context, r coordinator.ListRequest) (coordinator.ListPage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var page coordinator.ListPage
	for name, o := range f.objects {
		key, ok := bytes.CutPrefix([]byte(name), []byte(r.Keyspace+"/"))
		if !ok || !bytes.HasPrefix(key, r.Prefix) || bytes.Compare(key, r.After) <= 0 {
			continue
		}
		a := f.answer(o, false)
		if !a.Found() {
			continue
		}
		e := coordinator.ListEntry{Key: key}
		if r.Values {
			e.Answer = &a
		}
		page.Entries = append(page.Entries, e)
	}
	slices.SortFunc(page.Entries, func(a, b coordinator.ListEntry) int { return bytes.Compare(a.Key, b.Key) })
	if len(page.Entries) > r.Limit {
		page.Entries = page.Entries[:r.Limit]
		page.Next = page.Entries[r.Limit-1].Key
	}
	return page, nil
}

func (f *fakeKV) Explain(_ context.Context, keyspace string, key []byte) (coordinator.Explanation, error) {
	return coordinator.Explanation{Keyspace: keyspace, Key: string(key), Replicas: []coordinator.ExplainReplica{}}, nil
}

func (f *fakeKV) Conflicts(_ context.Context, r coordinator.ConflictRequest) (coordinator.ConflictPage, error) {
	page := coordinator.ConflictPage{Next: []byte{0xff}, Unheard: []string{"n3"}}
	for _, key := range []string{"a", "\xff"} {
		if key > string(r.After) {
			page.Entries = append(page.Entries, coordinator.ConflictEntry{Key: []byte(key), Count: r.Limit, Since: time.UnixMilli(1000), Why: fmt.Sprint("trap ", r.Unmerged)})
		}
	}
	return page, nil
}

// fakeAdmin keeps keyspaces and remembers what it was asked.
type fakeAdmin struct {
	mu     sync.Mutex
	spaces map[string]coordinator.KeyspaceInfo
	calls  []string
}

func newFakeAdmin() *fakeAdmin {
	info := func(name string) coordinator.KeyspaceInfo {
		return coordinator.KeyspaceInfo{Name: name, N: 3, R: 2, W: 2, Conflict: "siblings", Durability: "sync", MaxValueBytes: 20_000}
	}
	return &fakeAdmin{spaces: map[string]coordinator.KeyspaceInfo{"ks": info("ks"), "other": info("other")}}
}

func (f *fakeAdmin) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

func (f *fakeAdmin) last() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.calls) == 0 {
		return ""
	}
	return f.calls[len(f.calls)-1]
}

func (f *fakeAdmin) Keyspaces() []coordinator.KeyspaceInfo {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []coordinator.KeyspaceInfo
	for _, k := range f.spaces {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b coordinator.KeyspaceInfo) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func (f *fakeAdmin) Keyspace(name string) (coordinator.KeyspaceInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k, ok := f.spaces[name]
	if !ok {
		return k, &coordinator.Error{Code: coordinator.CodeKeyspaceUnknown, Detail: "no keyspace " + name}
	}
	return k, nil
}

func (f *fakeAdmin) PutKeyspace(_ context.Context, name string, c coordinator.KeyspaceChange) (coordinator.KeyspaceInfo, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k, ok := f.spaces[name]
	if !ok {
		k = coordinator.KeyspaceInfo{Name: name, N: 3, MaxValueBytes: 1000}
	}
	if ok && c.N != nil && *c.N != k.N {
		return k, false, &coordinator.Error{Code: coordinator.CodeConflict, Detail: "N cannot change"}
	}
	if c.W != nil {
		k.W = *c.W
	}
	f.spaces[name] = k
	return k, !ok, nil
}

func (f *fakeAdmin) DropKeyspace(_ context.Context, name string) error {
	if _, err := f.Keyspace(name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.spaces, name)
	return nil
}

func (f *fakeAdmin) Upload(ctx context.Context, ks string, u coordinator.Upload) (coordinator.ResolverUpload, error) {
	if u.Retry {
		f.note("retry %q", u.Module)
	}
	if u.Builtin != "" {
		f.note("builtin %s %s %s", ks, u.Builtin, u.Check)
		return coordinator.ResolverUpload{SHA256: "feed", Version: 2}, nil
	}
	more := ""
	if len(u.Config) > 0 {
		more = fmt.Sprintf(" with %q", u.Config)
	}
	if u.Inactive {
		more += " inactive"
	}
	f.note("upload %s %q %s%s", ks, u.Module, u.Check, more)
	if d, ok := ctx.Deadline(); !ok || time.Until(d) < 3*time.Second {
		return coordinator.ResolverUpload{}, errors.New("an upload has too little time")
	}
	if string(u.Module) == "bad" {
		return coordinator.ResolverUpload{}, &coordinator.Error{Code: coordinator.CodeResolverInvalid, Detail: "no module"}
	}
	return coordinator.ResolverUpload{SHA256: "feed", Version: 1, ABI: "v1", Size: len(u.Module)}, nil
}

func (f *fakeAdmin) Status(ks string) (coordinator.ResolverStatus, error) {
	f.note("status %s", ks)
	return coordinator.ResolverStatus{}, nil
}

func (f *fakeAdmin) Module(_ context.Context, ks string) ([]byte, error) {
	f.note("module %s", ks)
	return []byte("\x00asm"), nil
}

func (f *fakeAdmin) Rollback(_ context.Context, ks string, version int) (coordinator.ResolverVersion, error) {
	f.note("rollback %s %d", ks, version)
	return coordinator.ResolverVersion{Version: version}, nil
}

func (f *fakeAdmin) Remove(_ context.Context, ks string) error {
	f.note("remove %s", ks)
	return nil
}

func (f *fakeAdmin) Release(_ context.Context, ks string) (coordinator.ResolverRelease, error) {
	f.note("release %s", ks)
	return coordinator.ResolverRelease{Released: []string{"n1"}}, nil
}

func (f *fakeAdmin) Shadow(_ context.Context, ks, candidate string) (coordinator.ShadowStart, error) {
	f.note("shadow %s %s", ks, candidate)
	return coordinator.ShadowStart{SHA256: candidate, Nodes: []string{"n1"}}, nil
}

func (f *fakeAdmin) ShadowStatus(_ context.Context, ks string) (coordinator.ShadowStatus, error) {
	f.note("shadow status %s", ks)
	return coordinator.ShadowStatus{}, nil
}

func (f *fakeAdmin) StopShadow(_ context.Context, ks string) error {
	f.note("stop shadow %s", ks)
	return nil
}

func (f *fakeAdmin) Promote(_ context.Context, ks, candidate, check string) (coordinator.ResolverUpload, error) {
	f.note("promote %s %q %s", ks, candidate, check)
	return coordinator.ResolverUpload{}, nil
}

func (f *fakeAdmin) Try(_ context.Context, ks, candidate string, r coordinator.TryRequest) (coordinator.TryResult, error) {
	f.note("try %s %s %d", ks, candidate, len(r.Siblings))
	return coordinator.TryResult{Status: "value", Value: []byte("merged"), Fuel: 7}, nil
}

func (f *fakeAdmin) Info() coordinator.ClusterInfo {
	return coordinator.ClusterInfo{Name: "demo", Node: "n1", Partitions: 16}
}

func (f *fakeAdmin) Ring() coordinator.RingInfo { return coordinator.RingInfo{Partitions: 16, N: 3} }

func (f *fakeAdmin) Locate(ks string, key []byte) (coordinator.Location, error) {
	f.note("locate %s %q", ks, key)
	return coordinator.Location{Hash: "00", PreferenceList: []string{"n1"}}, nil
}

func (f *fakeAdmin) Partitions() []coordinator.PartitionCopy {
	return []coordinator.PartitionCopy{{Partition: 3, Keyspace: "carts", Count: 2, Sum: "ab", Sound: true}}
}

func (f *fakeAdmin) Cut(nodes []string) error {
	f.note("cut %v", nodes)
	return nil
}

// house is a server on loopback with its fakes.
type house struct {
	*Server
	kv    *fakeKV
	admin *fakeAdmin
	addr  string
	log   *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t testing.TB, change ...func(*Options)) *house {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &house{kv: newFakeKV(), admin: newFakeAdmin(), addr: l.Addr().String(), log: &logBuffer{}}
	o := Options{
		Node: "n1", Listener: l, KV: h.kv, Keyspaces: h.admin, Resolvers: h.admin, Cluster: h.admin,
		Limits: config.DefaultLimits(), Ready: func() error { return nil }, Now: time.Now, Rand: rand.Reader,
		Logger: slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&o)
	}
	if h.Server, err = Serve(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return h
}

func valueOf(b []byte) causal.Value { return causal.Value{Bytes: b} }
