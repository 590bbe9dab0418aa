package repair

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"dynamo/node/peer"
	"dynamo/node/store"
	"dynamo/node/wire"
)

// Bounds on the hints of one primary that are read from the disk before they are sent.
const (
	handoffBatch      = 256
	handoffBatchBytes = 8 << 20
)

// maxHandoffPause bounds the pause after failures.
const maxHandoffPause = 5 * time.Second

// runHandoff gives hints back to primaries that have returned (Dynamo paper, section 4.6), each primary by
// a goroutine of its own, so that a slow one holds up nobody else.
func (r *Repairer) runHandoff() {
	defer r.handoff.Store(int32(Done))
	var wg sync.WaitGroup
	defer wg.Wait()
	var busy sync.Map // node to *primary; present as long as the member has had hints
	t := time.NewTicker(r.o.HandoffEvery)
	defer t.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-t.C:
		}
		working := false
		for node, st := range r.o.Hints.HintStats() {
			v, _ := busy.LoadOrStore(node, &primary{r: r, node: node})
			p := v.(*primary)
			if p.running.Load() {
				working = true
				continue
			}
			p.look()
			work := p.choose(st)
			if work == nil || r.o.Now().Before(p.notBefore) {
				continue
			}
			working = true
			p.running.Store(true)
			wg.Go(func() {
				defer p.running.Store(false)
				p.settle(p.each(work))
			})
		}
		if working {
			r.handoff.Store(int32(Busy))
		} else {
			r.handoff.Store(int32(Idle))
		}
	}
}

// primary is the handoff to one node. All but running belongs to its goroutine while running is set, and to
// the loop otherwise.
type primary struct {
	r         *Repairer
	node      string
	running   atomic.Bool
	window    window
	failures  int
	reachable bool // at the last look
	notBefore time.Time
}

// look ends the pause of a primary that has just come back.
func (p *primary) look() {
	now := p.r.o.Reachable(p.node)
	if now && !p.reachable {
		p.failures, p.notBefore = 0, time.Time{}
	}
	p.reachable = now
}

// nameless lets the hint of a dropped keyspace go. One that this node has not heard of yet stays.
func (p *primary) nameless(h store.Hint) verdict {
	if !p.r.o.KeyspaceDropped(h.Ref.Keyspace) {
		return kept
	}
	p.r.stats.droppedKeyspace.Add(1)
	return done
}

// choose returns what is to be done with the hints now, nil for nothing.
func (p *primary) choose(st store.HintStat) func(store.Hint) verdict {
	switch {
	case st.Count == 0:
		return nil
	case !p.r.o.Member(p.node) || p.node == p.r.o.Self:
		return p.redirect
	case p.r.o.Reachable(p.node):
		return p.deliver
	case !st.Oldest.IsZero() && p.expired(st.Oldest):
		return p.expire
	}
	return nil
}

func (p *primary) expired(first time.Time) bool { return p.r.o.Now().Sub(first) > p.r.o.HintMaxAge }

// settle paces the next attempt by how this one went.
func (p *primary) settle(ok bool) {
	if ok {
		p.failures, p.notBefore = 0, time.Time{}
		return
	}
	p.failures++
	pause := min(p.r.o.HandoffEvery<<min(p.failures-1, 10), maxHandoffPause)
	p.notBefore = p.r.o.Now().Add(pause)
}

// verdict says how the work on one hint ended.
type verdict int

const (
	done   verdict = iota // the hint may go
	kept                  // it stays; the others go on
	slower                // the primary is overloaded or slow: less at a time, then again
	stop                  // nothing more of this primary now
	enough                // nor is there any need
)

// outcome is the verdict on one hint, and how long it took.
type outcome struct {
	hint store.Hint
	verdict
	took time.Duration
}

// each does the work on all hints of the node, oldest first, batch by batch, until none is left; false if
// some stay because of a failure.
func (p *primary) each(work func(store.Hint) verdict) bool {
	after := uint64(0)
	ok := true
	for p.r.ctx.Err() == nil {
		var batch []store.Hint
		size := 0
		err := p.r.o.Hints.ScanQueue(p.node, after, func(h store.Hint) bool {
			batch = append(batch, h)
			size += h.Bytes
			return len(batch) < handoffBatch && size < handoffBatchBytes
		})
		if err != nil {
			p.r.o.Logger.Error("hints cannot be read", "for", p.node, "err", err)
			ok = false
		}
		if len(batch) == 0 {
			return ok
		}
		after = batch[len(batch)-1].Seq
		settled, more := p.batch(batch, work)
		ok = ok && settled
		if !more {
			return ok
		}
	}
	return false
}

// batch works on some hints, no more at a time than the window allows, and removes those that may go with
// one sync. settled says that none failed; more that the next batch may follow.
func (p *primary) batch(hints []store.Hint, work func(store.Hint) verdict) (settled, more bool) {
	settled, more = true, true
	results := make(chan outcome, len(hints))
	var gone []store.HintContent
	flight, turned := 0, 0
	var wg sync.WaitGroup
	defer wg.Wait()
	for len(hints) > 0 || flight > 0 {
		for len(hints) > 0 && more && flight < p.window.size() {
			h := hints[0]
			hints = hints[1:]
			flight++
			wg.Go(func() {
				from := p.r.o.Now()
				v := work(h)
				results <- outcome{h, v, p.r.o.Now().Sub(from)}
			})
		}
		if flight == 0 {
			break
		}
		o := <-results
		flight--
		p.window.observe(o.verdict, o.took)
		switch o.verdict {
		case done:
			gone = append(gone, store.HintContent{Ref: o.hint.Ref, Content: o.hint.Record.Object.Hash()})
			turned = 0
		case kept:
			settled = false
		case slower:
			if turned++; turned > maxTurned || !p.rest(turned) {
				settled, more = false, false
				continue
			}
			hints = append([]store.Hint{o.hint}, hints...)
		case stop:
			settled, more = false, false
		case enough:
			more = false
		}
	}
	if len(gone) > 0 {
		if _, err := p.r.o.Hints.DeleteHints(gone); err != nil {
			p.r.o.Logger.Error("delivered hints cannot be removed", "for", p.node, "err", err)
			return false, false
		}
	}
	return settled, more
}

// maxTurned is how often in a row a primary may turn hints away before it is left alone for a while.
const maxTurned = 64

// rest waits a little after a hint was turned away; false when the Repairer stops.
func (p *primary) rest(turned int) bool {
	t := time.NewTimer(min(10*time.Millisecond<<min(turned, 7), time.Second))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.r.ctx.Done():
		return false
	}
}

// deliver sends one hint to its primary. Only an acknowledgement of that very content lets it go.
func (p *primary) deliver(h store.Hint) verdict {
	t, known := p.target(h)
	if !known {
		return p.nameless(h)
	}
	err := p.r.apply(p.node, t, h.Record.Object)
	if err == nil {
		p.r.stats.delivered.Add(1)
		return done
	}
	if p.r.ctx.Err() != nil {
		return stop
	}
	p.r.stats.deliveryFailed.Add(1)
	p.r.o.Logger.Debug("hint not delivered", "for", p.node, "err", err)
	return judge(err)
}

// judge tells a primary that is busy from one that is away, and both from a hint that it does not take.
func judge(err error) verdict {
	var e *peer.Error
	switch {
	case errors.As(err, &e) && (e.Code == peer.CodeOverloaded || e.Code == peer.CodeTimeout):
		return slower
	case errors.As(err, &e) && !e.Retryable:
		return kept
	case errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, peer.ErrUnreachable):
		return slower
	}
	return stop
}

// redirect gives the hint of a node that is no member any more to all present primaries.
func (p *primary) redirect(h store.Hint) verdict {
	acks, asked, known := p.push(h)
	switch {
	case !known:
		return p.nameless(h)
	case p.r.ctx.Err() != nil:
		return stop
	case asked > 0 && acks == asked || acks > 0 && p.expired(h.First):
		p.r.stats.redirected.Add(1)
		return done
	}
	return kept
}

// expire lets a hint go that is too old, once at least one other primary holds its content durably: from
// there anti-entropy takes it to the absent one. A younger hint, and with it all that follow, stays.
func (p *primary) expire(h store.Hint) verdict {
	if !p.expired(h.First) {
		return enough
	}
	acks, _, known := p.push(h)
	switch {
	case !known:
		return p.nameless(h)
	case p.r.ctx.Err() != nil:
		return stop
	case acks == 0:
		return kept
	}
	p.r.stats.expired.Add(1)
	return done
}

// push joins a hint's object into the primaries other than the one it is kept for.
func (p *primary) push(h store.Hint) (acks, asked int, known bool) {
	t, known := p.target(h)
	if !known {
		return 0, 0, false
	}
	for _, id := range p.r.o.Primaries(t) {
		var err error
		switch {
		case id == p.node && id != p.r.o.Self:
			continue
		case id == p.r.o.Self:
			err = p.local(t, h)
		case !p.r.o.Reachable(id):
			err = peer.ErrUnreachable
		default:
			err = p.r.apply(id, t, h.Record.Object)
		}
		asked++
		if err == nil {
			acks++
		} else {
			p.r.o.Logger.Debug("hint not pushed", "for", p.node, "to", id, "err", err)
		}
	}
	return acks, asked, true
}

func (p *primary) local(t wire.Target, h store.Hint) error {
	ctx, cancel := context.WithTimeout(p.r.ctx, p.r.o.CallTimeout)
	defer cancel()
	return p.r.o.Local(ctx, t, h.Record.Object)
}

func (p *primary) target(h store.Hint) (wire.Target, bool) {
	name, known := p.r.o.KeyspaceName(h.Ref.Keyspace)
	return wire.Target{Keyspace: name, KeyspaceID: h.Ref.Keyspace, Key: h.Ref.Key}, known
}

// A window bounds the messages to one primary that wait for their answer: one more for each that comes
// soon, half as many when one comes late or is turned away.
type window struct{ n int }

const (
	maxWindow = 64
	// lateAfter is above a busy disk's fsync.
	lateAfter = 500 * time.Millisecond
)

func (w *window) size() int { return max(w.n, 1) }

func (w *window) observe(v verdict, took time.Duration) {
	switch {
	case v == slower, v == stop, took > lateAfter:
		w.n = max(w.size()/2, 1)
	case v == done:
		w.n = min(w.size()+1, maxWindow)
	}
}
