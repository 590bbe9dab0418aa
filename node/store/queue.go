package store

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"dynamo/node/record"
)

func (s *Store) newPlace() record.Place {
	return record.Place{Seq: s.hints.seq.Add(1), FirstMs: uint64(max(s.now().UnixMilli(), 1))}
}

// placeOf is the place of what is written under ref in the stead of old.
func (s *Store) placeOf(ref Ref, old Record) record.Place {
	switch {
	case ref.HintFor == "":
		return record.Place{}
	case old.Place.Seq != 0:
		return old.Place
	}
	return s.newPlace()
}

// admitHint refuses what would take more room than the hints may have.
func (s *Store) admitHint(ref Ref, key, was, raw []byte) error {
	grow := int64(len(raw) - len(was))
	if was == nil {
		grow += int64(len(key))
	}
	if ref.HintFor == "" || raw == nil || grow <= 0 || s.hintMaxBytes <= 0 {
		return nil
	}
	s.hints.mu.Lock()
	defer s.hints.mu.Unlock()
	if s.hints.mu.bytes+grow > s.hintMaxBytes {
		return fmt.Errorf("%w: %d bytes are kept, the limit is %d", ErrHintsFull, s.hints.mu.bytes, s.hintMaxBytes)
	}
	return nil
}

// placeIn is the place in a record's bytes, zero if there is none.
func placeIn(key, raw []byte) record.Place {
	r, err := record.Decode(key, raw)
	if err != nil {
		return record.Place{} // an entry that leads nowhere is passed over
	}
	return r.Place
}

// batchHint adds to b what the queue needs when the hint under key changes from was to raw.
func (s *Store) batchHint(b *pebble.Batch, ref Ref, key, was, raw []byte) error {
	if ref.HintFor == "" {
		return nil
	}
	var from, to record.Place
	if was != nil {
		from = placeIn(key, was)
	}
	if raw != nil {
		to = placeIn(key, raw)
	}
	if from == to {
		return nil
	}
	if from.Seq != 0 {
		if err := b.Delete(record.QueueKey(ref.HintFor, from.Seq), nil); err != nil {
			return err
		}
	}
	if to.Seq == 0 {
		return nil
	}
	k := record.QueueKey(ref.HintFor, to.Seq)
	return b.Set(k, record.QueueEntry(k, to, key), nil)
}

// moved keeps the head of the queue after a hint changed from was to raw.
func (h *hintTotals) moved(node string, key, was, raw []byte) {
	if was != nil && raw != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	t, ok := h.mu.byNode[node]
	if !ok {
		return
	}
	if raw != nil {
		if p := placeIn(key, raw); t.count == 1 || p.Seq < t.oldest.Seq {
			t.oldest = p
		}
	} else if p := placeIn(key, was); p.Seq == 0 || p.Seq == t.oldest.Seq {
		t.oldest.FirstMs = 0
	}
	h.mu.byNode[node] = t
}

// findOldest reads the head of a node's queue and takes note of it.
func (s *Store) findOldest(node string) time.Time {
	s.hints.mu.Lock()
	from := s.hints.mu.byNode[node].oldest
	s.hints.mu.Unlock()
	var head record.Place
	err := s.each(record.QueueKey(node, from.Seq), record.Successor(record.AppendQueueNode(nil, node)), func(it *pebble.Iterator) (bool, error) {
		v, err := it.ValueAndErr()
		if err != nil {
			return false, err
		}
		p, _, err := record.DecodeQueueEntry(it.Key(), v)
		if err == nil {
			head = p
		}
		return err != nil, nil
	})
	if err != nil || head.Seq == 0 {
		return time.Time{}
	}
	s.hints.mu.Lock()
	defer s.hints.mu.Unlock()
	if t, ok := s.hints.mu.byNode[node]; ok && t.oldest == from {
		t.oldest = head
		s.hints.mu.byNode[node] = t
	}
	return head.Time()
}

// ScanQueue calls fn for the hints for a node, oldest first, strictly after the number `after`, until fn
// returns false. Hints that come or change meanwhile may be seen or not. What is passed is the caller's to
// keep; unreadable hints are passed over, and the first of them is the error in the end.
func (s *Store) ScanQueue(node string, after uint64, fn func(Hint) bool) error {
	if len(node) > record.MaxNodeBytes {
		return record.ErrNodeID
	}
	var first error
	var loose [][]byte
	err := s.each(record.QueueKey(node, after+1), record.Successor(record.AppendQueueNode(nil, node)), func(it *pebble.Iterator) (bool, error) {
		h, err := s.queued(it)
		if err != nil && first == nil {
			first = err
		}
		if err == nil && h.Seq == 0 {
			loose = append(loose, bytes.Clone(it.Key()))
		}
		return err != nil || h.Seq == 0 || fn(h), nil
	})
	// An entry that leads nowhere is of a hint that was removed meanwhile, or unreadable when it was.
	if len(loose) > 0 {
		first = errors.Join(first, s.deleteEntries(loose))
	}
	if first != nil {
		return first
	}
	return err
}

// deleteEntries removes queue entries, at the disk's leisure.
func (s *Store) deleteEntries(keys [][]byte) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.exit()
	b := s.db.NewBatch()
	for _, k := range keys {
		if err := b.Delete(k, nil); err != nil {
			return fmt.Errorf("store: removing a queue entry: %w", err)
		}
	}
	_, err := s.apply(b, Buffered, nil)
	return err
}

// queued returns the hint that a queue entry leads to, zero if it is gone.
func (s *Store) queued(it *pebble.Iterator) (Hint, error) {
	name := fmt.Sprintf("queue entry %x", it.Key())
	v, err := it.ValueAndErr()
	if err != nil {
		return Hint{}, s.readError(Ref{}, name, err)
	}
	p, key, err := record.DecodeQueueEntry(it.Key(), v)
	if err != nil {
		return Hint{}, s.corrupt(Ref{}, name, err)
	}
	key = bytes.Clone(key)
	ref, err := record.DecodeRef(key)
	if err != nil {
		return Hint{}, s.corrupt(Ref{}, name, err)
	}
	r, raw, err := s.read(ref, key)
	if err != nil || raw == nil || r.Place.Seq != p.Seq {
		return Hint{}, err
	}
	return Hint{Ref: ref, Record: r, Bytes: len(key) + len(raw), Seq: p.Seq, First: p.Time()}, nil
}

// rebuildHints counts the hints that are there. Values
// of hints are read only where the queue does not match them: those of earlier releases had none. Hints in
// a corrupt file are left out: they are lost, which is no reason to refuse the rest.
func (s *Store) rebuildHints() error {
	places, heads, err := s.readQueue()
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return err
	}
	lower := []byte{record.FamilyHint}
	err = s.each(lower, record.Successor(lower), func(it *pebble.Iterator) (bool, error) {
		ref, err := record.DecodeRef(it.Key())
		if err != nil {
			return true, nil // ScanHints reports it
		}
		v := it.LazyValue()
		s.hints.add(ref.HintFor, 1, int64(len(it.Key())+v.Len()))
		return true, nil
	})
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return err // corruption is counted and logged
	}
	var odd []string
	s.hints.mu.Lock()
	for node := range places {
		if t, ok := s.hints.mu.byNode[node]; ok {
			t.oldest = heads[node]
			s.hints.mu.byNode[node] = t
		}
	}
	for node, t := range s.hints.mu.byNode {
		if places[node] != t.count {
			odd = append(odd, node)
		}
	}
	s.hints.mu.Unlock()
	for _, node := range odd {
		if err := s.placeHints(node); err != nil && !errors.Is(err, ErrCorrupt) {
			return err
		}
	}
	return nil
}

// readQueue counts the sound queue entries by node and finds the first of each.
func (s *Store) readQueue() (places map[string]int64, heads map[string]record.Place, err error) {
	places, heads = make(map[string]int64), make(map[string]record.Place)
	lower := []byte{record.FamilyQueue}
	err = s.each(lower, record.Successor(lower), func(it *pebble.Iterator) (bool, error) {
		node, seq, err := record.DecodeQueueKey(it.Key())
		if err != nil {
			return true, nil // never read again
		}
		raise(&s.hints.seq, seq)
		v, err := it.ValueAndErr()
		if err != nil {
			return pebble.IsCorruptionError(err), nil
		}
		if p, _, err := record.DecodeQueueEntry(it.Key(), v); err == nil {
			if places[node]++; places[node] == 1 {
				heads[node] = p
			}
		}
		return true, nil
	})
	return places, heads, err
}

// placeBatch is how many hints get their place in one commit.
const placeBatch = 1000

// placeHints gives a place to the hints of a node that have none, in key order. It runs within Open, alone;
// after a crash the next Open goes on.
func (s *Store) placeHints(node string) error {
	lower := record.AppendHintNode(nil, node)
	b := s.db.NewBatch()
	n := 0
	commit := func() error {
		_, err := s.apply(b, Buffered, nil)
		b = s.db.NewBatch()
		return err
	}
	err := s.each(lower, record.Successor(lower), func(it *pebble.Iterator) (bool, error) {
		key := bytes.Clone(it.Key())
		v, err := it.ValueAndErr()
		if err != nil {
			return pebble.IsCorruptionError(err), nil
		}
		r, err := record.Decode(key, v)
		if err != nil {
			return true, nil // whoever reads it reports it
		}
		if r.Place.Seq == 0 {
			r.Place = s.newPlace()
			if err := b.Set(key, record.Append(nil, key, r), nil); err != nil {
				return false, err
			}
			s.hints.add(node, 0, record.PlaceBytes)
		}
		k := record.QueueKey(node, r.Place.Seq)
		if err := b.Set(k, record.QueueEntry(k, r.Place, key), nil); err != nil {
			return false, err
		}
		if n++; n%placeBatch == 0 {
			return true, commit()
		}
		return true, nil
	})
	if err == nil || errors.Is(err, ErrCorrupt) {
		err = errors.Join(err, commit())
	}
	s.hints.mu.Lock()
	t := s.hints.mu.byNode[node]
	t.oldest = record.Place{}
	s.hints.mu.byNode[node] = t
	s.hints.mu.Unlock()
	s.log.Info("hints were put in order", "for", node, "hints", n)
	return err
}
