package store

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"dynamo/node/store/background"
)

const (
	// memTableBytes times memTableCount bounds the memory of unflushed writes. Pebble starts with
	// 256 KiB and doubles, so an idle node takes little; several nodes on one machine stay affordable.
	memTableBytes = 32 << 20
	memTableCount = 4
)

// pebbleOptions are for a node that shares a small machine with others.
func (s *Store) pebbleOptions(o Options) *pebble.Options {
	p := &pebble.Options{
		// FS nil makes pebble watch the disk's latency; a memory file system needs no watching.
		FS:        o.FS,
		Lock:      s.lock,
		CacheSize: o.CacheBytes,
		// The newest format, also for its own sake: older ones share channels between databases, which
		// virtual time in tests cannot have.
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      &background.Log{To: s.log, Fatal: s.fail},
		EventListener:               s.listener(),
		MemTableSize:                memTableBytes,
		MemTableStopWritesThreshold: memTableCount,
		// Compaction out of L0 starts early, for reads; writes stall late, for bursts.
		L0CompactionThreshold:      2,
		L0StopWritesThreshold:      32,
		LBaseMaxBytes:              64 << 20,
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 },
		MaxOpenFiles:               1000,
	}
	p.Experimental.FileCacheShards = 2
	p.Experimental.CompactionScheduler = background.NewScheduler(s.failure)
	// A filter on every level, the last included: the first write of a key reads what is not there.
	for i := range p.Levels {
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return p
}

func (s *Store) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: s.backgroundError,
		CompactionEnd:   func(i pebble.CompactionInfo) { s.backgroundEnd(i.Err) },
		FlushEnd:        func(i pebble.FlushInfo) { s.backgroundEnd(i.Err) },
		// Without this hook pebble takes one bad block for fatal. Here it fails reads, which refill the key.
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			s.counts.corrupt.Add(1)
			s.log.Error("corrupt file", "path", i.Path, "err", i.Details)
		},
		DiskSlow: func(i pebble.DiskSlowInfo) {
			s.counts.diskSlow.Add(1)
			s.log.Warn("disk is slow", "what", i.String())
		},
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) {
			s.counts.writeStalls.Add(1)
			s.log.Warn("writes wait for compaction", "dir", s.dir, "why", i.Reason)
		},
		LowDiskSpace: func(i pebble.LowDiskSpaceInfo) {
			s.log.Warn("disk space is low", "dir", s.dir, "available_bytes", i.AvailBytes, "total_bytes", i.TotalBytes)
		},
		PossibleAPIMisuse: func(i pebble.PossibleAPIMisuseInfo) {
			s.log.Error("database misused", "kind", fmt.Sprint(i.Kind), "what", string(i.ExtraInfo))
		},
	}
}
