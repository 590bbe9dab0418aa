package versions

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dynamo/node/cluster"
	"dynamo/node/config"
	"dynamo/node/conflict"
	"dynamo/node/coordinator"
	"dynamo/node/peer"
	"dynamo/node/wire"
	"dynamo/resolver"
)

// blobs is a ModuleStore in memory.
type blobs struct {
	mu   sync.Mutex
	byID map[[32]byte][]byte
	meta map[string][]byte
	// sick is what reading answers.
	sick error
}

func (b *blobs) PutModule(sha [32]byte, content []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if sha256.Sum256(content) != sha {
		return errors.New("not what it is called")
	}
	b.byID[sha] = content
	return nil
}

func (b *blobs) DeleteModule(sha [32]byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.byID, sha)
	return nil
}

func (b *blobs) Modules() (all [][32]byte, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for sha := range b.byID {
		all = append(all, sha)
	}
	return all, nil
}

func (b *blobs) Meta(name string) ([]byte, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.meta[name]
	return v, ok, nil
}

func (b *blobs) PutMeta(name string, value []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.meta[name] = value
	return nil
}

func (b *blobs) Module(sha [32]byte) ([]byte, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sick != nil {
		return nil, false, b.sick
	}
	content, ok := b.byID[sha]
	return content, ok, nil
}

// others are the members beside n1: what they answer, and what they were sent.
type others struct {
	mu      sync.Mutex
	answers map[string]func(ctx context.Context, m wire.Message) (wire.Message, error)
	away    []string
	sent    []string
}

func (o *others) Call(ctx context.Context, node string, m wire.Message) (wire.Message, error) {
	o.mu.Lock()
	o.sent = append(o.sent, fmt.Sprintf("%s %s", node, m.Kind()))
	f := o.answers[node]
	o.mu.Unlock()
	if f == nil {
		return &wire.Ack{}, nil
	}
	return f(ctx, m)
}

func (o *others) Reachable(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !slices.Contains(o.away, id)
}

type members struct {
	*cluster.State
	*others
}

func (m members) Reachable(id string) bool { return m.others.Reachable(id) }
func (members) Observe(string, error)      {}
func (m members) View() *cluster.View      { return m.State.View() }

type fixture struct {
	*Resolvers
	others *others
	state  *cluster.State
	blobs  *blobs
	// late is how far the clock of the sweep is ahead.
	late time.Duration
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	file := config.Builtin(t.TempDir())
	for _, id := range []string{"n2", "n3"} {
		n := file.Nodes[0]
		n.ID, n.HTTP, n.Peer, n.Gossip = id, id+":1", id+":2", id+":3"
		file.Nodes = append(file.Nodes, n)
	}
	ks := file.NewKeyspace("notes")
	ks.Conflict = config.PolicySiblings
	file.Keyspaces = append(file.Keyspaces, ks)
	var saved []byte
	state, err := cluster.Open(cluster.Options{
		Self: file.Nodes[0].ID, File: file, Now: time.Now, Rand: rand.Reader, Logger: log,
		Load: func() ([]byte, bool, error) { return saved, saved != nil, nil },
		Save: func(b []byte) error { saved = b; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{others: &others{answers: map[string]func(context.Context, wire.Message) (wire.Message, error){}}, state: state, blobs: &blobs{byID: map[[32]byte][]byte{}, meta: map[string][]byte{}}}
	rt, err := resolver.New(resolver.Options{Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	settler := conflict.New(conflict.Options{
		Runtime: rt, ViewBytes: 1 << 20, Logger: log, Now: time.Now,
		Fetch: func(ctx context.Context, sha [32]byte) ([]byte, error) { return f.Fetch(ctx, sha) },
	})
	f.Resolvers = New(Settings{
		Self: file.Nodes[0].ID, Catalog: state, Bindings: state, Members: members{state, f.others}, Transport: f.others, Modules: f.blobs,
		Settler: settler, Limits: config.DefaultLimits(), Builtins: func(string) ([]byte, bool) { return nil, false }, Logger: log,
		Now: func() time.Time { return time.Now().Add(f.late) },
	})
	t.Cleanup(func() {
		if err := errors.Join(settler.Close(context.Background()), rt.Close(context.Background()), state.Close()); err != nil {
			t.Error(err)
		}
	})
	return f
}

// selecting returns a module whose every merge takes the sibling of the given index.
func selecting(index byte) []byte {
	section := func(id byte, content []byte) []byte { return slices.Concat([]byte{id, byte(len(content))}, content) }
	export := func(name string, kind, index byte) []byte {
		return slices.Concat([]byte{byte(len(name))}, []byte(name), []byte{kind, index})
	}
	response := []byte{4, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, index, 0, 0, 0}
	return slices.Concat([]byte("\x00asm\x01\x00\x00\x00"),
		section(1, []byte{2, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 2, 0x7f, 0x7f, 1, 0x7e}),
		section(3, []byte{2, 0, 1}),
		section(5, []byte{1, 0, 1}),
		section(7, slices.Concat([]byte{3}, export("memory", 2, 0), export("dynamo_alloc", 0, 0), export("dynamo_resolve_v1", 0, 1))),
		// alloc gives 64; the result is at 0, 16 bytes long.
		section(10, []byte{2, 5, 0, 0x41, 0xc0, 0, 0x0b, 4, 0, 0x42, 16, 0x0b}),
		section(11, slices.Concat([]byte{1, 0, 0x41, 0, 0x0b, byte(len(response))}, response)),
	)
}

func (f *fixture) upload(t *testing.T, module []byte) error {
	t.Helper()
	_, err := f.Upload(t.Context(), "notes", coordinator.Upload{Module: module, Check: coordinator.CheckOff})
	return err
}

// TestCheckOfAClosedModuleIsNone: a node that stops while it checks a module has not checked it.
func TestCheckOfAClosedModuleIsNone(t *testing.T) {
	f := newFixture(t)
	f.s.Laws = func(ctx context.Context, _ cluster.Keyspace, m *resolver.Module, _ []byte) coordinator.ResolverCheck {
		if err := m.Close(ctx); err != nil {
			t.Error(err)
		}
		return coordinator.ResolverCheck{Outcome: "untested"}
	}
	_, err := f.Upload(t.Context(), "notes", coordinator.Upload{Module: selecting(1), Check: coordinator.CheckStrict, Inactive: true, Alone: true})
	if e, ok := errors.AsType[*coordinator.Error](err); !ok || e.Code != coordinator.CodeNotReady || !e.Retryable {
		t.Errorf("%v", err)
	}
}

// TestActivationWaitsForEveryMember: what a member cannot compile is not activated anywhere; one that is away, or
// starting, does not hold the others up.
func TestActivationWaitsForEveryMember(t *testing.T) {
	says := func(err error) func(context.Context, wire.Message) (wire.Message, error) {
		return func(context.Context, wire.Message) (wire.Message, error) { return nil, err }
	}
	for _, c := range []struct {
		name   string
		answer func(context.Context, wire.Message) (wire.Message, error)
		away   bool
		code   coordinator.Code
		detail string
	}{
		{"all compiled it", nil, false, "", ""},
		{"cannot compile it", says(&peer.Error{Code: "resolver_invalid", Detail: "no such instruction"}), false, coordinator.CodeResolverInvalid, "node n3: no such instruction"},
		{"has no process to compile it in", says(&peer.Error{Code: "overloaded", Detail: "busy", Retryable: true}), false, coordinator.CodeNotReady, "node n3"},
		{"says nothing in time", says(context.DeadlineExceeded), false, coordinator.CodeNotReady, "node n3"},
		{"is starting", says(&peer.Error{Code: "not_ready", Retryable: true}), false, "", ""},
		{"cannot be reached", says(&peer.UnreachableError{Node: "n3"}), false, "", ""},
		{"is away", says(errors.New("must not be asked")), true, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			f.others.answers["n3"] = c.answer
			if c.away {
				f.others.away = []string{"n3"}
			}
			err := f.upload(t, selecting(1))
			e, _ := errors.AsType[*coordinator.Error](err)
			_, active := f.state.View().Active("notes")
			if c.code == "" {
				if err != nil || !active {
					t.Fatalf("%v, active %v", err, active)
				}
				return
			}
			if e == nil || e.Code != c.code || !strings.Contains(e.Detail, c.detail) || active {
				t.Fatalf("%v, active %v", err, active)
			}
			if ks, _ := f.state.View().Keyspace("notes"); ks.Conflict != config.PolicySiblings {
				t.Fatalf("policy %s", ks.Conflict)
			}
		})
	}
}

// TestRollbackWaitsToo: going back is an activation like any other.
func TestRollbackWaitsToo(t *testing.T) {
	f := newFixture(t)
	for i := range byte(2) {
		if err := f.upload(t, selecting(i)); err != nil {
			t.Fatal(err)
		}
	}
	f.others.answers["n2"] = func(context.Context, wire.Message) (wire.Message, error) {
		return nil, &peer.Error{Code: "resolver_invalid", Detail: "lost it"}
	}
	if _, err := f.Rollback(t.Context(), "notes", 1); err == nil || !strings.Contains(err.Error(), "lost it") {
		t.Fatalf("%v", err)
	}
	delete(f.others.answers, "n2")
	v, err := f.Rollback(t.Context(), "notes", 1)
	if err != nil || v.Version != 3 || !v.Active {
		t.Fatalf("%+v, %v", v, err)
	}
	if _, err := f.Rollback(t.Context(), "notes", 9); err == nil {
		t.Fatal("back to a version that never was")
	}
}

// TestServeTellsWhetherItCompiles is the other side of an upload.
func TestServeTellsWhetherItCompiles(t *testing.T) {
	f := newFixture(t)
	if reply, handled, err := f.Serve(t.Context(), &wire.ModulePut{Module: selecting(0)}); err != nil || !handled || reply.Kind() != wire.KindAck {
		t.Fatalf("%v, %v", reply, err)
	}
	if !f.s.Settler.Loaded(sha256.Sum256(selecting(0))) {
		t.Fatal("acknowledged and not compiled")
	}
	for _, bad := range []*wire.ModulePut{{Module: []byte("junk")}, {Module: selecting(0), Config: []byte("no configure export")}} {
		_, _, err := f.Serve(t.Context(), bad)
		if e, ok := errors.AsType[*peer.Error](err); !ok || e.Code != string(coordinator.CodeResolverInvalid) {
			t.Errorf("%v", err)
		}
	}
}

// TestUnreadableModule: a copy that this disk cannot read is replaced by another member's.
func TestUnreadableModule(t *testing.T) {
	f := newFixture(t)
	module := []byte("a module")
	sha := sha256.Sum256(module)
	f.blobs.sick = errors.New("corrupt")
	if _, err := f.Fetch(t.Context(), sha); !errors.Is(err, f.blobs.sick) {
		t.Errorf("with no other copy: %v", err)
	}
	f.others.answers["n3"] = func(context.Context, wire.Message) (wire.Message, error) {
		return &wire.ModuleReply{Found: true, Module: module}, nil
	}
	if got, err := f.Fetch(t.Context(), sha); err != nil || string(got) != "a module" || f.blobs.byID[sha] == nil {
		t.Errorf("%q, %v", got, err)
	}
}
