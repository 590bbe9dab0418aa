package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"dynamo/node/config"
)

// Gossip is a failure detector that also carries a digest. Block, fault injection, is not part of it.
type Gossip interface {
	// Start begins to listen and reports to e until Close. It is called once.
	Start(e Events) error
	// SetDigest tells the other nodes, some time later and perhaps not all of them, that this node's metadata has that
	// digest. It never blocks.
	SetDigest(digest [32]byte)
	// Close leaves; no event is reported once it has returned.
	Close() error
}

// Events are what Gossip reports, possibly from several goroutines; none of them blocks.
type Events struct {
	// Up and Down report changes: a node was heard for the first time or again; a node is gone.
	Up, Down func(id string)
	// Digest reports the digest of a node's metadata, which may be out of date.
	Digest func(id string, digest [32]byte)
}

// GossipOptions are what an implementation of Gossip is told about its node.
type GossipOptions struct {
	// Self is this node's id.
	Self string
	// Bind is the host:port to listen on, TCP and UDP, which is also what the other nodes are told. A host name is looked
	// up once.
	Bind string
	// Cluster and Partitions must be the same on all nodes; others are refused.
	Cluster    string
	Partitions int
	// Secret encrypts and authenticates what is gossiped; "" = neither.
	Secret string
	// Seeds returns the members by id with their gossip addresses; it may contain this node. It is called every 2 seconds.
	Seeds  func() map[string]string
	Logger *slog.Logger
	Now    func() time.Time
}

// Options of Open.
type Options struct {
	// Self is this node's id in File. Required.
	Self string
	// File is the cluster at its birth. Required.
	File *config.Cluster
	// Load returns what Save stored last, and whether there is anything. Required.
	Load func() ([]byte, bool, error)
	// Save stores the metadata; when it returns, they survive a power failure. Nothing is told to anybody before. Required.
	Save func([]byte) error
	// Gossip detects failures; nil = none, all members count as reachable until requests say otherwise.
	Gossip Gossip
	// Exchange calls Sync on another node; nil = this node keeps its metadata to itself. It may be called before Open
	// returns.
	Exchange func(ctx context.Context, node string, digest [32]byte, state []byte) ([32]byte, []byte, error)
	// Probe asks a member that seems dead for a small answer; nil error = it is back. It is called in the background, for one
	// member at a time once. nil = a suspicion ends by itself after a second.
	Probe func(ctx context.Context, node string) error
	// Now is the clock of bindings and of the failure detector. Required.
	Now func() time.Time
	// Rand chooses whom to compare metadata with; nil = crypto/rand.
	Rand io.Reader
	// Logger is required.
	Logger *slog.Logger
	// OnChange is called after each change, one at a time and in order, by whoever made it; it must neither block nor
	// change the State. May be nil.
	OnChange func(*View)
}

// State is this node's copy of the cluster's metadata and its opinion of who can be reached. All methods are safe for
// concurrent use.
type State struct {
	o    Options
	log  *slog.Logger
	rare *Limiter
	// view is the metadata that the disk holds, or is about to forget in favour of the next. Only commit replaces it.
	view atomic.Pointer[View]
	// changes makes one change wait for the other: a change is made from the view that it replaces.
	changes sync.Mutex
	health  *health

	ctx  context.Context
	stop context.CancelFunc
	// calls bounds the exchanges under way.
	calls chan struct{}
	// group counts everything that runs for the State; once closed nothing is added, so that Wait cannot race with Add.
	group struct {
		sync.Mutex
		closed bool
		sync.WaitGroup
	}
	// pending are the nodes to compare metadata with as soon as possible; wake says that there are some.
	pending struct {
		sync.Mutex
		nodes map[string]struct{}
	}
	wake chan struct{}
}

// WarnEvery is the pause between two warnings of the same thing.
const WarnEvery = time.Minute

// Open loads the metadata, or derives them from the cluster file if the disk has none, and starts to gossip. Errors wrap
// ErrForeign if the disk belongs to another cluster or has another number of partitions, and ErrFormat if what it holds
// cannot be read.
func Open(o Options) (*State, error) {
	if o.File == nil || o.Load == nil || o.Save == nil || o.Now == nil || o.Logger == nil {
		return nil, errors.New("cluster: File, Load, Save, Now and Logger are required")
	}
	if _, ok := o.File.Node(o.Self); !ok {
		return nil, fmt.Errorf("cluster %s: node %s: %w", o.File.Name, o.Self, ErrNotMember)
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	s := &State{
		o: o, log: o.Logger, rare: NewLimiter(o.Now, WarnEvery), health: newHealth(o.Now, o.Probe != nil),
		calls: make(chan struct{}, maxCalls), wake: make(chan struct{}, 1),
	}
	s.pending.nodes = make(map[string]struct{})
	if err := s.load(); err != nil {
		return nil, err
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	if o.Gossip != nil {
		o.Gossip.SetDigest(s.View().Digest)
		err := o.Gossip.Start(Events{Up: s.health.up, Down: s.health.down, Digest: s.heard})
		if err != nil {
			s.stop()
			return nil, fmt.Errorf("gossip: %w", err)
		}
	}
	if o.Exchange != nil {
		s.spawn(s.compare)
	}
	if o.Probe != nil {
		s.spawn(s.probeLoop)
	}
	return s, nil
}

// load makes the first view.
func (s *State) load() error {
	b, found, err := s.o.Load()
	if err != nil {
		return fmt.Errorf("load cluster metadata: %w", err)
	}
	d := document{cluster: s.o.File.Name, partitions: s.o.File.Partitions}
	if found {
		if d.records, err = s.decode(b); err != nil {
			return fmt.Errorf("cluster metadata on this disk: %w", err)
		}
	} else if d.records, err = birth(s.o.File); err != nil {
		return err
	}
	records, moved, err := ownAddresses(d.records, s.o.Self, s.o.File)
	if err != nil {
		return err
	}
	d.records = records
	v, err := newView(d, nil)
	if err != nil {
		return err
	}
	if !found || moved {
		if err := s.o.Save(v.encoded); err != nil {
			return fmt.Errorf("save cluster metadata: %w", err)
		}
	}
	s.view.Store(v)
	s.warnUnreadable(v, nil)
	if !found {
		s.log.Info("cluster born from its file", "cluster", d.cluster, "partitions", d.partitions, "members", len(v.Members))
		return nil
	}
	if moved {
		s.log.Info("this node's addresses changed in the cluster file, the others will be told")
	}
	for _, difference := range differences(s.o.File, v) {
		s.log.Warn("the cluster file was changed after the birth of the cluster and does not rule any more; "+
			"change members and keyspaces through the API", "difference", difference)
	}
	return nil
}

// decode decodes metadata and checks that it is of this cluster.
func (s *State) decode(b []byte) (records, error) {
	d, err := decode(b)
	if err != nil {
		return nil, err
	}
	if f := s.o.File; d.cluster != f.Name || d.partitions != f.Partitions {
		return nil, fmt.Errorf("%w: it is cluster %q with %d partitions, this node is configured for cluster %q with %d",
			ErrForeign, d.cluster, d.partitions, f.Name, f.Partitions)
	}
	return d.records, nil
}

// View returns the latest snapshot. It never waits.
func (s *State) View() *View { return s.view.Load() }

// Close stops gossip and waits for everything that runs. Changes fail from then on; View and Reachable still answer.
func (s *State) Close() error {
	s.group.Lock()
	closed := s.group.closed
	s.group.closed = true
	s.group.Unlock()
	if closed {
		return nil
	}
	s.stop()
	var err error
	if s.o.Gossip != nil {
		err = s.o.Gossip.Close()
	}
	s.group.Wait()
	// Whoever is changing something now finishes first.
	s.changes.Lock()
	defer s.changes.Unlock()
	return err
}

// spawn runs f in the group; it reports false after Close.
func (s *State) spawn(f func()) bool {
	s.group.Lock()
	defer s.group.Unlock()
	if s.group.closed {
		return false
	}
	s.group.Go(f)
	return true
}

// Reachable reports whether a request to that member is worth trying. Members are, until gossip says that they are gone
// or requests find them dead or silent; then a probe must be answered first. A member that gossip does not hear but that
// has just answered counts too.
func (s *State) Reachable(id string) bool {
	if id == s.o.Self {
		return true
	}
	if _, ok := s.View().Member(id); !ok {
		return false
	}
	return s.health.reachable(id)
}

// Observe tells how a request to a member went: nil if the member answered, whatever it was; ErrSilent if it has kept the
// request waiting for long, though it may still answer; another error if there is no way to it, and one such is enough.
// The end of a request's context tells nothing: silence was observed when it was due.
func (s *State) Observe(id string, err error) {
	switch {
	case id == s.o.Self || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
	case err == nil:
		s.health.answer(id)
	case errors.Is(err, ErrSilent):
		s.health.silence(id)
	default:
		s.health.broken(id)
	}
}

// commit makes next the metadata: disk first, then readers, then everybody else. The caller holds s.changes.
func (s *State) commit(next records) (*View, error) {
	if s.ctx.Err() != nil {
		return nil, ErrClosed
	}
	old := s.View()
	d := old.doc
	d.records = next
	v, err := newView(d, old)
	if err != nil {
		return nil, err
	}
	if err := s.o.Save(v.encoded); err != nil {
		return nil, fmt.Errorf("save cluster metadata: %w", err)
	}
	s.view.Store(v)
	s.warnUnreadable(v, old)
	if s.o.OnChange != nil {
		s.o.OnChange(v)
	}
	if s.o.Gossip != nil {
		s.o.Gossip.SetDigest(v.Digest)
	}
	return v, nil
}

func (s *State) warnUnreadable(v, old *View) {
	if len(v.unreadable) > 0 && (old == nil || len(old.unreadable) != len(v.unreadable)) {
		s.log.Warn("some cluster metadata cannot be read by this version and is ignored", "records", len(v.unreadable), "first", v.unreadable[0])
	}
}

// join takes over what is greater in records that came from elsewhere.
func (s *State) join(theirs records) error {
	s.changes.Lock()
	defer s.changes.Unlock()
	old := s.View()
	s.warnBirths(old.doc.records, theirs)
	next, grown := old.doc.records.join(theirs)
	if !grown {
		return nil
	}
	next, _, err := ownAddresses(next, s.o.Self, s.o.File)
	if err != nil {
		return err
	}
	_, err = s.commit(next)
	return err
}

// warnBirths notices nodes that were born from different cluster files.
func (s *State) warnBirths(ours, theirs records) {
	for key, a := range ours {
		b, ok := theirs[key]
		born := a.version == 1 && b.version == 1 && a.writer == "" && b.writer == ""
		if ok && born && string(a.body) != string(b.body) && s.rare.Allow("birth "+key) {
			s.log.Error("nodes of this cluster were started for the first time from cluster files that differ; one of them wins",
				"record", key, "here", string(a.body), "there", string(b.body))
		}
	}
}
