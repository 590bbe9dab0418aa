package store

import (
	"context"
	"errors"
	"maps"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"dynamo/node/causal"
)

// Hint is an object kept for another node until it can be delivered (Dynamo paper, section 4.6).
type Hint struct {
	Ref    Ref
	Record Record
	// Bytes is the stored size, key included.
	Bytes int
}

// HintStat totals the hints for one node.
type HintStat struct {
	Count int64
	Bytes int64
}

// hintTotals are the hints by node. A node without hints has no entry.
type hintTotals struct {
	mu struct {
		sync.Mutex
		byNode map[string]HintStat
	}
}

func (h *hintTotals) init() { h.mu.byNode = make(map[string]HintStat) }

func (h *hintTotals) add(node string, count, size int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.mu.byNode[node]
	t.Count += count
	t.Bytes += size
	if t.Count <= 0 {
		delete(h.mu.byNode, node)
		return
	}
	h.mu.byNode[node] = t
}

// HintStats returns the totals by node id. It costs no disk access.
func (s *Store) HintStats() map[string]HintStat {
	s.hints.mu.Lock()
	defer s.hints.mu.Unlock()
	return maps.Clone(s.hints.mu.byNode)
}

// rebuildHints counts the hints that are there. Values are not read. Hints in a corrupt file are left out:
// they are lost, which is no reason to refuse the rest.
func (s *Store) rebuildHints() error {
	lower := []byte{familyHint}
	err := s.each(lower, successor(lower), func(it *pebble.Iterator) (bool, error) {
		ref, err := decodeRef(it.Key())
		if err != nil {
			return true, nil // ScanHints reports it
		}
		v := it.LazyValue()
		s.hints.add(ref.HintFor, 1, int64(len(it.Key())+v.Len()))
		return true, nil
	})
	if errors.Is(err, ErrCorrupt) {
		return nil // counted and logged
	}
	return err
}

// ScanHints calls fn for the hints for a node, or for all nodes if it is empty, until fn returns false.
// As with Scan, one moment is seen, what is passed is the caller's to keep, and unreadable hints are
// passed over and reported in the end.
func (s *Store) ScanHints(forNode string, fn func(Hint) bool) error {
	lower := []byte{familyHint}
	if len(forNode) > maxNodeBytes {
		return errNodeID
	}
	if forNode != "" {
		lower = appendHintNode(nil, forNode)
	}
	return s.scan(lower, successor(lower), func(ref Ref, r Record, size int) bool {
		return fn(Hint{Ref: ref, Record: r, Bytes: size})
	})
}

var errNotHint = errors.New("store: not the ref of a hint")

// DeleteHint removes a hint if its object is still the one of that hash, and returns when that is
// durable; false if it is gone or has grown. It has to be durable because a hint that came back after a
// crash could bring back what was reaped meanwhile, in the belief that no hint is left.
func (s *Store) DeleteHint(ref Ref, content causal.Hash) (bool, error) {
	if ref.HintFor == "" {
		return false, errNotHint
	}
	key, err := ref.encode()
	if err != nil {
		return false, err
	}
	if err := s.enter(); err != nil {
		return false, err
	}
	defer s.exit()
	p, ok, err := s.remove(ref, key, func(raw []byte, unreadable error) (bool, error) {
		if unreadable != nil {
			return false, s.readError(ref, "", unreadable)
		}
		r, err := decodeRecord(key, raw)
		if err != nil {
			return false, s.corrupt(ref, "", err)
		}
		return r.Object.Hash() == content, nil
	})
	if err != nil || !ok {
		return false, err
	}
	return true, s.await(context.Background(), p)
}

// dropHints removes the hints of some keyspaces, readable or not. Only the last deletion is waited for: the
// log is sequential.
func (s *Store) dropHints(match func(keyspace uint64) bool) error {
	if len(s.HintStats()) == 0 {
		return nil
	}
	var last *pending
	lower := []byte{familyHint}
	err := s.each(lower, successor(lower), func(it *pebble.Iterator) (bool, error) {
		ref, err := decodeRef(it.Key())
		if err != nil || !match(ref.Keyspace) {
			return true, nil
		}
		key := append([]byte(nil), it.Key()...)
		p, ok, err := s.remove(ref, key, func([]byte, error) (bool, error) { return true, nil })
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
