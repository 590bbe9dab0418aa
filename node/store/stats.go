package store

import (
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// counts are kept since Open, but for keys.
type counts struct {
	keys                             atomic.Int64
	reads, updates, unchanged, syncs atomic.Uint64
	corrupt, backgroundErrors        atomic.Uint64
	diskSlow, writeStalls            atomic.Uint64
}

// Stats are for metrics. Counters start at 0 with Open.
type Stats struct {
	// Keys estimates the own copies, tombstones included. At Open it is derived from the tables, where
	// copies count that are replaced but not compacted yet; what changes from then on is counted.
	Keys int64
	// Hints and HintBytes total HintStats.
	Hints, HintBytes int64
	// DiskBytes is what the database takes on the disk.
	DiskBytes uint64
	// Reads, Updates count Get and the changes made by Update, Unchanged the updates that changed
	// nothing; Syncs are the waits for the log that ended well, many of which share one fsync.
	Reads, Updates, Unchanged, Syncs uint64
	// Corrupt counts reads of corrupt records or files, BackgroundErrors failed flushes and compactions.
	Corrupt, BackgroundErrors uint64
	// DiskSlow counts disk operations of over 5 s, WriteStalls the times that writes had to wait.
	DiskSlow, WriteStalls uint64
	// WALBytes, MemTableBytes are unflushed writes; DebtBytes is what compaction is behind.
	WALBytes, MemTableBytes, DebtBytes uint64
	// ReadAmplification is how many places a read may have to look at.
	ReadAmplification int
	// CacheBytes, CacheHits and CacheMisses are those of the block cache.
	CacheBytes, CacheHits, CacheMisses int64
}

// Stats returns the present figures; what the database has to be asked for is zero once it is closed.
func (s *Store) Stats() Stats {
	c := &s.counts
	st := Stats{
		Keys:             max(c.keys.Load(), 0),
		Reads:            c.reads.Load(),
		Updates:          c.updates.Load(),
		Unchanged:        c.unchanged.Load(),
		Syncs:            c.syncs.Load(),
		Corrupt:          c.corrupt.Load(),
		BackgroundErrors: c.backgroundErrors.Load(),
		DiskSlow:         c.diskSlow.Load(),
		WriteStalls:      c.writeStalls.Load(),
	}
	for _, h := range s.HintStats() {
		st.Hints += h.Count
		st.HintBytes += h.Bytes
	}
	if s.enter() != nil {
		return st
	}
	defer s.exit()
	m := s.db.Metrics()
	st.DiskBytes = m.DiskSpaceUsage()
	st.WALBytes = m.WAL.Size
	st.MemTableBytes = m.MemTable.Size
	st.DebtBytes = m.Compact.EstimatedDebt
	st.ReadAmplification = m.ReadAmp()
	st.CacheBytes = m.BlockCache.Size
	st.CacheHits = m.BlockCache.Hits
	st.CacheMisses = m.BlockCache.Misses
	return st
}

// DiskSpace returns how many bytes the file system has free for this process, and its size. A write-ahead
// log that finds no space stops the node for good, so writes should be refused well before.
func (s *Store) DiskSpace() (free, total uint64, err error) {
	u, err := s.fs.GetDiskUsage(s.dir)
	if err != nil {
		return 0, 0, fmt.Errorf("store: disk space of %s: %w", s.dir, err)
	}
	return u.AvailBytes, u.TotalBytes, nil
}

// estimateKeys derives the number of own copies from the tables. Open has emptied the log into them.
// places is the number of queue entries of hints among their keys.
func (s *Store) estimateKeys(places int64) error {
	levels, err := s.db.SSTables(pebble.WithProperties())
	if pebble.IsCorruptionError(err) {
		return nil // counted and logged; an estimate is no reason to refuse
	}
	if err != nil {
		return fmt.Errorf("reading the properties of tables: %w", err)
	}
	n := -places
	for _, tables := range levels {
		for _, t := range tables {
			if t.Properties != nil {
				n += int64(t.Properties.NumEntries) - int64(t.Properties.NumDeletions)
			}
		}
	}
	for _, h := range s.HintStats() {
		n -= h.Count
	}
	s.counts.keys.Store(max(n, 0))
	return nil
}
