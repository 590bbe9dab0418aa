package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"dynamo/node/causal"
	"dynamo/node/record"
)

// Hint is an object kept for another node until it can be delivered (Dynamo paper, section 4.6).
type Hint struct {
	Ref    Ref
	Record Record
	// Bytes is the stored size, key included.
	Bytes int
	// Seq orders the hints of a node by their first write; First is the time of that.
	Seq   uint64
	First time.Time
}

// HintStat totals the hints for one node.
type HintStat struct {
	Count int64
	Bytes int64
	// Oldest is the first write of the oldest hint.
	Oldest time.Time
}

// hintTotals are the hints by node. A node without hints has no entry.
type hintTotals struct {
	// seq is the last sequence number given.
	seq atomic.Uint64
	mu  struct {
		sync.Mutex
		byNode map[string]hintTotal
		bytes  int64
	}
}

type hintTotal struct {
	count, bytes int64
	// oldest is the head of the queue if its time is known; else the head is not before its number.
	oldest record.Place
}

func (h *hintTotals) init() { h.mu.byNode = make(map[string]hintTotal) }

func (h *hintTotals) add(node string, count, size int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.mu.byNode[node]
	t.count += count
	t.bytes += size
	h.mu.bytes += size
	if t.count <= 0 {
		delete(h.mu.byNode, node)
		return
	}
	h.mu.byNode[node] = t
}

// HintStats returns the totals by node id. It costs one look at the disk for each node whose oldest hint
// was removed since the last call.
func (s *Store) HintStats() map[string]HintStat {
	out := make(map[string]HintStat)
	var unknown []string
	s.hints.mu.Lock()
	for node, t := range s.hints.mu.byNode {
		out[node] = HintStat{Count: t.count, Bytes: t.bytes, Oldest: t.oldest.Time()}
		if t.oldest.FirstMs == 0 {
			unknown = append(unknown, node)
		}
	}
	s.hints.mu.Unlock()
	for _, node := range unknown {
		st := out[node]
		st.Oldest = s.findOldest(node)
		out[node] = st
	}
	return out
}

// ScanHints calls fn for the hints for a node, or for all nodes if it is empty, until fn returns false.
// As with Scan, one moment is seen, what is passed is the caller's to keep, and unreadable hints are
// passed over and reported in the end.
func (s *Store) ScanHints(forNode string, fn func(Hint) bool) error {
	lower := []byte{record.FamilyHint}
	if len(forNode) > record.MaxNodeBytes {
		return record.ErrNodeID
	}
	if forNode != "" {
		lower = record.AppendHintNode(nil, forNode)
	}
	return s.scan(lower, record.Successor(lower), func(ref Ref, r Record, size int) bool {
		return fn(Hint{Ref: ref, Record: r, Bytes: size, Seq: r.Place.Seq, First: r.Place.Time()})
	})
}

var errNotHint = errors.New("store: not the ref of a hint")

// DeleteHint removes a hint if its object is still the one of that hash, and returns when that is
// durable; false if it is gone or has grown. It has to be durable because a hint that came back after a
// crash could bring back what was reaped meanwhile, in the belief that no hint is left.
func (s *Store) DeleteHint(ref Ref, content causal.Hash) (bool, error) {
	n, err := s.DeleteHints([]HintContent{{ref, content}})
	return n == 1, err
}

// HintContent names a hint while its object is the one of that hash.
type HintContent struct {
	Ref     Ref
	Content causal.Hash
}

// DeleteHints is DeleteHint for many, at the cost of one sync, and returns how many it removed. After an
// error some may be removed and others not.
func (s *Store) DeleteHints(all []HintContent) (int, error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.exit()
	var errs []error
	n := 0
	for _, h := range all {
		ok, err := s.deleteHint(h.Ref, h.Content)
		if ok {
			n++
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if n > 0 {
		p, err := s.barrier()
		if err == nil {
			err = s.await(context.Background(), p)
		}
		errs = append(errs, err)
	}
	return n, errors.Join(errs...)
}

// deleteHint does not wait for the disk.
func (s *Store) deleteHint(ref Ref, content causal.Hash) (bool, error) {
	if ref.HintFor == "" {
		return false, errNotHint
	}
	key, err := ref.Encode()
	if err != nil {
		return false, err
	}
	_, ok, err := s.remove(ref, key, Buffered, func(raw []byte, unreadable error) (bool, error) {
		if unreadable != nil {
			return false, s.readError(ref, "", unreadable)
		}
		r, err := record.Decode(key, raw)
		if err != nil {
			return false, s.corrupt(ref, "", err)
		}
		return r.Object.Hash() == content, nil
	})
	return ok, err
}

// dropHints removes the hints of some keyspaces, readable or not. Only the last deletion is waited for: the
// log is sequential.
func (s *Store) dropHints(match func(keyspace uint64) bool) error {
	if len(s.HintStats()) == 0 {
		return nil
	}
	var last *pending
	lower := []byte{record.FamilyHint}
	err := s.each(lower, record.Successor(lower), func(it *pebble.Iterator) (bool, error) {
		ref, err := record.DecodeRef(it.Key())
		if err != nil || !match(ref.Keyspace) {
			return true, nil
		}
		key := append([]byte(nil), it.Key()...)
		p, ok, err := s.remove(ref, key, Sync, func([]byte, error) (bool, error) { return true, nil })
		if err == nil && ok {
			if last != nil {
				err = s.await(context.Background(), last)
			}
			last = p
		}
		return true, err
	})
	return errors.Join(err, s.await(context.Background(), last))
}
