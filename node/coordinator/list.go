package coordinator

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"dynamo/node/causal"
	"dynamo/node/ring"
	"dynamo/node/wire"
)

// List returns one page of a keyspace's live keys in byte order over the whole cluster. Every member
// is asked for its next keys; the page ends where the first of them has no more to say. It needs R
// replicas of every partition.
func (c *Coordinator) List(ctx context.Context, req ListRequest) (ListPage, error) {
	p, err := c.plan(req.Keyspace, []byte{0}, req.Options)
	if err != nil {
		return ListPage{}, err
	}
	page, after := ListPage{}, req.After
	for {
		s, err := c.sweep(ctx, p, req, after)
		if err != nil {
			return ListPage{}, err
		}
		for _, k := range s.keys {
			if e, ok := c.listEntry(ctx, p, req, k, s.objects[k]); ok {
				page.Entries = append(page.Entries, e)
			}
			if len(page.Entries) == req.Limit {
				page.Next = []byte(k)
				return page, nil
			}
		}
		if s.end == nil {
			return page, nil
		}
		after = s.end
	}
}

func (c *Coordinator) listEntry(ctx context.Context, p plan, req ListRequest, key string, o causal.Object) (ListEntry, bool) {
	alive := slices.ContainsFunc(o.Versions, func(v causal.Version) bool { return !v.Deleted })
	if !alive {
		return ListEntry{}, false
	}
	e := ListEntry{Key: []byte(key)}
	if req.Values {
		p.target.Key = e.Key
		a := c.answer(ctx, p, o, false)
		if !a.Found() {
			return ListEntry{}, false
		}
		e.Answer = &a
	}
	return e, true
}

// swept are the joined objects of one step of a listing, up to end, which is nil when nothing follows.
type swept struct {
	keys    []string
	objects map[string]causal.Object
	end     []byte
	// unheard are the members that did not answer.
	unheard []string
}

func (c *Coordinator) sweep(ctx context.Context, p plan, req ListRequest, after []byte) (swept, error) {
	m := &wire.List{
		Keyspace: p.keyspace.Name, KeyspaceID: p.keyspace.ID(), Prefix: req.Prefix, After: after, Limit: req.Limit + 1, Values: req.Values,
		Conflicts: req.conflicts,
	}
	replies := make(chan reply, len(p.list))
	for _, id := range p.list {
		c.callInto(ctx, target{node: id}, m, replies)
	}
	s := swept{objects: make(map[string]causal.Object)}
	t := newTally(p.r)
	for range p.list {
		select {
		case a := <-replies:
			l, ok := a.message.(*wire.ListReply)
			if a.err == nil && !ok {
				a.err = fmt.Errorf("answered by another kind of message")
			}
			if a.err == nil {
				a.err = s.add(l)
			}
			if a.err != nil {
				t.fail(a.node, a.err)
				continue
			}
			t.counted[a.node] = true
		case <-ctx.Done():
			t.fail("deadline", ctx.Err())
		}
		if ctx.Err() != nil {
			break
		}
	}
	if missing, ok := uncovered(p, t.counted); !ok {
		return swept{}, &Error{
			Code: CodeQuorumUnmet, Retryable: true,
			Detail: fmt.Sprintf("partition %d was not heard from %d replicas; %s", missing, p.r, t.describe("the listing", len(t.counted))),
		}
	}
	s.unheard = slices.DeleteFunc(slices.Clone(p.list), func(id string) bool { return t.counted[id] })
	s.cut()
	return s, nil
}

// add joins one node's page. The sweep reaches only as far as the shortest unfinished page.
func (s *swept) add(l *wire.ListReply) error {
	for _, e := range l.Entries {
		var o causal.Object
		if len(e.Object) > 0 {
			var err error
			if o, err = causal.DecodeObject(e.Object); err != nil {
				return err
			}
		}
		s.objects[string(e.Key)] = s.objects[string(e.Key)].Join(o)
	}
	if n := len(l.Entries); l.More && n > 0 {
		if last := l.Entries[n-1].Key; s.end == nil || bytes.Compare(last, s.end) < 0 {
			s.end = last
		}
	}
	return nil
}

// cut leaves out what lies beyond the end and sorts the keys.
func (s *swept) cut() {
	for k := range s.objects {
		if s.end != nil && k > string(s.end) {
			delete(s.objects, k)
			continue
		}
		s.keys = append(s.keys, k)
	}
	slices.Sort(s.keys)
}

// uncovered returns a partition of which fewer than R primaries were heard.
func uncovered(p plan, heard map[string]bool) (ring.Partition, bool) {
	for i := range p.view.Ring.Q() {
		n := 0
		list := p.view.Ring.PreferenceList(ring.Partition(i))
		for _, id := range list[:min(p.keyspace.N, len(list))] {
			if heard[id] {
				n++
			}
		}
		if n < p.r {
			return ring.Partition(i), false
		}
	}
	return 0, true
}
