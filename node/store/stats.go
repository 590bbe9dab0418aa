package store

import (
	"fmt"
	"sync/atomic"
)

// counts are kept since Open.
type counts struct {
	reads, updates, unchanged, syncs atomic.Uint64
	corrupt, backgroundErrors        atomic.Uint64
	backgroundRow                    atomic.Uint64 // errors since the last success
	diskSlow, writeStalls            atomic.Uint64
}

// Stats are for metrics. Counters start at 0 with Open.
type Stats struct {
	// Keys is the number of own copies, tombstones included. It is short of copies whose hash tree is still
	// being made anew.
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
		Keys:             int64(s.keys()),
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
