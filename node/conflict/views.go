package conflict

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"dynamo/node/causal"
	"dynamo/resolver"
)

// view is one merge, kept: a conflicted key is merged once per node, not once per read.
type view struct {
	value        causal.Value
	code, detail string
	fuel         uint64
	duration     time.Duration
	// transient failures are not kept.
	transient bool
	// timeouts counts the merges in a row that ran out of wall-clock time, this one included.
	timeouts int
}

// failureLife is how long a failed merge is remembered, so that a module which burns its whole time
// limit does so once in a while and not at every read.
const failureLife = 5 * time.Second

// timeoutLife is how long the first of several timeouts is remembered, each further one twice as long as the one
// before, up to failureLife. The clock on the wall says as much of the machine as of the module, so it
// is no verdict: the next moment may be a better one.
const timeoutLife = 500 * time.Millisecond

// life is how long a view is kept, 0: as long as there is room.
func (v view) life() time.Duration {
	switch {
	case v.code == "":
		return 0
	case v.timeouts > 0:
		return min(failureLife, timeoutLife<<min(v.timeouts-1, 8))
	}
	return failureLife
}

// viewOverhead is charged for an entry beside its value.
const viewOverhead = 256

type viewID [32]byte

// viewKey names a merge by all that it depends on: module, keyspace, key and the siblings in order.
func viewKey(p Policy, key []byte, in []causal.Version) viewID {
	h := sha256.New()
	var n [8]byte
	field := func(b []byte) {
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	h.Write(p.Module[:])
	binary.BigEndian.PutUint64(n[:], uint64(p.MaxValueBytes))
	h.Write(n[:])
	field([]byte(p.Keyspace))
	field(key)
	for _, v := range in {
		var dots []byte
		for _, r := range v.Label {
			dots = causal.AppendActor(dots, r.Actor)
			dots = binary.AppendUvarint(dots, r.From)
			dots = binary.AppendUvarint(dots, r.To)
		}
		field(dots)
		field([]byte(v.ContentType))
		field(v.Bytes)
		binary.BigEndian.PutUint64(n[:], v.TimeMs)
		h.Write(n[:])
	}
	return viewID(h.Sum(nil))
}

// views is a cache of merges bounded by bytes, least recently used out first; concurrent requests for
// one merge share it.
type views struct {
	limit int
	now   func() time.Time
	// mu guards all below. Invariant: size is the sum of cost over the entries of byID, which are those
	// of order; an id is in flight or in byID, never both.
	mu struct {
		sync.Mutex
		byID   map[viewID]*list.Element
		order  *list.List
		flight map[viewID]*flight
		size   int
	}
}

type entry struct {
	id      viewID
	view    view
	cost    int
	expires time.Time
}

type flight struct {
	done chan struct{}
	view view
}

func newViews(limit int, now func() time.Time) *views {
	v := &views{limit: limit, now: now}
	v.mu.byID = make(map[viewID]*list.Element)
	v.mu.order = list.New()
	v.mu.flight = make(map[viewID]*flight)
	return v
}

// get returns the view of id, made by make if it is not kept. A caller whose ctx ends while another
// makes the view gets a transient failure.
func (s *views) get(ctx context.Context, id viewID, create func() view) view {
	s.mu.Lock()
	before, ok := s.kept(id)
	if ok {
		s.mu.Unlock()
		return before
	}
	if f, ok := s.mu.flight[id]; ok {
		s.mu.Unlock()
		select {
		case <-f.done:
			if f.view.transient && ctx.Err() == nil {
				return create()
			}
			return f.view
		case <-ctx.Done():
			return view{code: CodePending, detail: "the merge is still running", transient: true}
		}
	}
	f := &flight{done: make(chan struct{})}
	s.mu.flight[id] = f
	s.mu.Unlock()

	if f.view = create(); f.view.code == string(resolver.CodeTimeout) {
		f.view.timeouts = before.timeouts + 1
	}

	s.mu.Lock()
	delete(s.mu.flight, id)
	if !f.view.transient {
		s.keep(id, f.view)
	}
	s.mu.Unlock()
	close(f.done)
	return f.view
}

// kept looks id up under s.mu. What has expired is returned for the last time, and does not count.
func (s *views) kept(id viewID) (view, bool) {
	el, ok := s.mu.byID[id]
	if !ok {
		return view{}, false
	}
	e := el.Value.(*entry)
	if !e.expires.IsZero() && s.now().After(e.expires) {
		s.drop(el)
		return e.view, false
	}
	s.mu.order.MoveToFront(el)
	return e.view, true
}

// keep stores v under s.mu.
func (s *views) keep(id viewID, v view) {
	e := &entry{id: id, view: v, cost: viewOverhead + len(v.value.Bytes) + len(v.detail)}
	if life := v.life(); life > 0 {
		e.expires = s.now().Add(life)
	}
	if e.cost > s.limit {
		return
	}
	s.mu.byID[id] = s.mu.order.PushFront(e)
	s.mu.size += e.cost
	for s.mu.size > s.limit {
		s.drop(s.mu.order.Back())
	}
}

func (s *views) drop(el *list.Element) {
	e := s.mu.order.Remove(el).(*entry)
	delete(s.mu.byID, e.id)
	s.mu.size -= e.cost
}

// bytes returns the memory charged.
func (s *views) bytes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.size
}
