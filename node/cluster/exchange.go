package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

const (
	// exchangeTimeout bounds one exchange, and how long a change waits for the other members to hear of it.
	exchangeTimeout = time.Second
	// compareEvery is the pause between two comparisons with a random member, give or take a tenth.
	compareEvery = time.Second
	// maxCalls bounds the exchanges under way.
	maxCalls = 16
)

// Sync answers Options.Exchange of another node: it joins what came, and answers with this node's digest, and with its
// metadata unless the other has the same. Without state it only compares. Errors wrap ErrFormat, ErrForeign and
// ErrTooLarge; nothing is taken over then.
func (s *State) Sync(digest [32]byte, state []byte) ([32]byte, []byte, error) {
	v := s.View()
	if len(state) > 0 && digest != v.Digest {
		if err := s.take(state); err != nil {
			return [32]byte{}, nil, fmt.Errorf("take cluster metadata: %w", err)
		}
		v = s.View()
	}
	if digest == v.Digest {
		return v.Digest, nil, nil
	}
	return v.Digest, v.encoded, nil
}

// take joins encoded metadata.
func (s *State) take(state []byte) error {
	theirs, err := s.decode(state)
	if err != nil {
		return err
	}
	return s.join(theirs)
}

// exchange makes this node and another one agree. With push this node's metadata goes along at once, because the other
// is known to lack something; else digests are compared first.
func (s *State) exchange(node string, push bool) {
	ctx, cancel := context.WithTimeout(s.ctx, exchangeTimeout)
	defer cancel()
	select {
	case s.calls <- struct{}{}:
		defer func() { <-s.calls }()
	case <-ctx.Done():
		return
	}
	// The first round tells what the other has, the second gives it what it lacks.
	for range 2 {
		v := s.View()
		var state []byte
		if push {
			state = v.encoded
		}
		digest, theirs, err := s.o.Exchange(ctx, node, v.Digest, state)
		if err != nil {
			s.log.Debug("metadata not exchanged", "with", node, "err", err)
			return
		}
		if len(theirs) > 0 {
			if err := s.take(theirs); err != nil {
				s.warnTake(node, err)
				return
			}
		}
		if digest == s.View().Digest {
			return
		}
		push = true
	}
}

func (s *State) warnTake(node string, err error) {
	if s.ctx.Err() == nil && !errors.Is(err, ErrClosed) && s.rare.Allow("take "+node) {
		s.log.Warn("the metadata of another node were refused", "from", node, "err", err)
	}
}

// others returns the other members that can be reached.
func (s *State) others() []string {
	var ids []string
	for _, m := range s.View().Members {
		if m.ID != s.o.Self && s.health.reachable(m.ID) {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// spread exchanges with all members that can be reached, and waits for them until ctx ends or a second has passed.
func (s *State) spread(ctx context.Context) {
	if s.o.Exchange == nil {
		return
	}
	others := s.others()
	done := make(chan struct{}, len(others))
	under := 0
	for _, id := range others {
		if s.spawn(func() { s.exchange(id, true); done <- struct{}{} }) {
			under++
		}
	}
	timer := time.NewTimer(exchangeTimeout)
	defer timer.Stop()
	for range under {
		select {
		case <-done:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// heard takes a digest that was gossiped.
func (s *State) heard(id string, digest [32]byte) {
	v := s.View()
	if _, ok := v.Member(id); ok && id != s.o.Self && digest != v.Digest {
		s.compareSoon(id)
	}
}

// compareSoon has compare exchange with these nodes; it never blocks.
func (s *State) compareSoon(ids ...string) {
	s.pending.Lock()
	for _, id := range ids {
		s.pending.nodes[id] = struct{}{}
	}
	s.pending.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// compare keeps the metadata of the members equal: with those named by compareSoon at once, with a random one each second.
func (s *State) compare() {
	timer := time.NewTimer(s.pause())
	defer timer.Stop()
	for {
		var ids []string
		select {
		case <-s.ctx.Done():
			return
		case <-timer.C:
			ids = s.randomMember()
			timer.Reset(s.pause())
		case <-s.wake:
			ids = s.takePending()
		}
		done := make(chan struct{}, len(ids))
		for _, id := range ids {
			if !s.spawn(func() { s.exchange(id, false); done <- struct{}{} }) {
				return
			}
		}
		for range ids {
			<-done
		}
	}
}

func (s *State) takePending() []string {
	s.pending.Lock()
	defer s.pending.Unlock()
	ids := slices.Sorted(maps.Keys(s.pending.nodes))
	clear(s.pending.nodes)
	return ids
}

// randomMember returns another member, if there is one. It may be one that is not reachable: this is the way by which
// the metadata get through where gossip does not.
func (s *State) randomMember() []string {
	var ids []string
	for _, m := range s.View().Members {
		if m.ID != s.o.Self {
			ids = append(ids, m.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	i := s.draw(uint64(len(ids)))
	return ids[i : i+1]
}

func (s *State) pause() time.Duration {
	const jitter = compareEvery / 10
	return compareEvery - jitter + time.Duration(s.draw(uint64(2*jitter)))
}

// draw returns a number below n. Only compare draws.
func (s *State) draw(n uint64) uint64 {
	var b [8]byte
	if _, err := io.ReadFull(s.o.Rand, b[:]); err != nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b[:]) % n
}
