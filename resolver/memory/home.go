package memory

import "errors"

// home is memory that knows which of its pages were ever written: a private mapping of the snapshot's image. A page
// that is written becomes a copy, and the kernel tells which pages are copies. They stay copies, since the fault that
// makes one costs as much as comparing dozens of pages. So after the first merges there are no faults any more, and
// pages that no merge writes to are not looked at.
type home struct {
	bytes    []byte
	snapshot *Snapshot
	pagemap  *pagemap
	copies   int // pages that are copies, as far as the last restore looked
	looked   int // that far
	widest   int // how much of bytes was ever in use since the last forget
	idle     int // how many copies restores have found unchanged since then
}

// maxIdle is how often copies, in multiples of their number, may turn out to be unchanged before all are given
// back: what one large merge wrote is not to be compared for ever.
const maxIdle = 256

var errNoHome = errors.New("the kernel does not tell which pages were written")

// newHome makes a home of the beginning of a mapping, which then equals the snapshot; nil if there is none. After an
// error it is not known what is there.
func newHome(s *Snapshot, mapping []byte) (*home, error) {
	if s.image == nil || s.broken.Load() {
		return nil, nil
	}
	m, err := openPagemap()
	if err != nil {
		return nil, nil // for want of descriptors, perhaps: the next instance may have one
	}
	b := mapping[:len(s.image.bytes):len(s.image.bytes)]
	if err := s.image.mapOver(b); err != nil {
		s.broken.Store(true)
		return nil, errors.Join(err, m.close())
	}
	return &home{bytes: b, snapshot: s, pagemap: m}, nil
}

// free gives back what is not the mapping.
func (h *home) free() error { return h.pagemap.close() }

// restore makes all of it what the snapshot was, after its first used bytes were in use.
func (h *home) restore(used int) error {
	copies, changed := 0, 0
	err := h.pagemap.written(h.bytes[:used], func(from, to int) {
		copies += (to - from) / pageBytes
		changed += h.snapshot.restoreRange(h.bytes, from, to)
	})
	if err != nil {
		return err
	}
	h.copies, h.looked, h.widest = copies, used, max(h.widest, used)
	if h.idle += copies - changed; h.idle > maxIdle*copies {
		h.copies, h.looked, h.widest, h.idle = 0, 0, 0, 0
		return discard(h.bytes)
	}
	return nil
}

// held is how much memory is its own, at most.
func (h *home) held() int { return h.copies*pageBytes + h.widest - h.looked }
