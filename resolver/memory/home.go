package memory

import (
	"errors"
	"os"
)

// home is memory that knows which of its pages were ever written: a private mapping of the snapshot. A page that is
// written becomes a copy, and the kernel tells which pages are copies. They stay copies, since the fault that makes
// one costs as much as comparing dozens of pages. So after the first merges there are no faults any more, and pages
// that no merge writes to are not looked at.
type home struct {
	bytes    []byte
	snapshot *Snapshot
	pagemap  *pagemap
	copies   int // pages that are copies, as far as the last restore looked
	widest   int // how much of bytes was ever in use since the last forget
	idle     int // how many copies restores have found unchanged since then
}

// maxIdle is how often copies, in multiples of their number, may turn out to be unchanged before all are given
// back: what one large merge wrote is not to be compared for ever.
const maxIdle = 256

var errNoHome = errors.New("the kernel does not tell which pages were written")

// newHome maps an image and makes sure that the kernel's answers make sense.
func newHome(i *image, s *Snapshot) (*home, error) {
	m, err := openPagemap()
	if err != nil {
		return nil, err
	}
	b, err := i.mapImage()
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	h := &home{bytes: b, snapshot: s, pagemap: m, widest: len(b)}
	if err := h.probe(); err != nil {
		return nil, errors.Join(err, h.free())
	}
	return h, nil
}

// free gives all of it back.
func (h *home) free() error { return errors.Join(unmap(h.bytes), h.pagemap.close()) }

// probe writes one page and reads another, and wants to be told.
func (h *home) probe() error {
	first, last := h.bytes[0], h.bytes[len(h.bytes)-1]
	h.bytes[0] = first ^ last ^ 1
	told := false
	if err := h.pagemap.written(h.bytes, func(from, to int) { told = from == 0 && to == os.Getpagesize() }); err != nil {
		return err
	}
	h.bytes[0] = first
	if !told {
		return errNoHome
	}
	return h.forget()
}

// forget makes all of it what the snapshot was.
func (h *home) forget() error {
	h.copies, h.widest, h.idle = 0, 0, 0
	return forget(h.bytes)
}

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
	h.copies, h.widest = copies, max(h.widest, used)
	if h.idle += copies - changed; h.idle > maxIdle*copies {
		return h.forget()
	}
	return nil
}

// held is how much memory is its own, at most.
func (h *home) held(used int) int { return h.copies*pageBytes + max(h.widest-used, 0) }
