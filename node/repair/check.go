package repair

import (
	"context"
	"errors"
	"time"

	"dynamo/node/store"
)

// checkEvery is the pause between two looks at whether the trees are in doubt.
const checkEvery = time.Second

// Checker is the part of the disk that makes trees anew.
type Checker interface {
	TreesInDoubt() bool
	Trees() []store.TreeID
	CheckTree(ctx context.Context, id store.TreeID, pace func(bytes int)) (store.TreeCheck, error)
	TreesChecked() error
}

// runCheck reads all copies and compares them with their trees whenever there is a doubt: after a boot
// that was no clean one, after a change of format, after a read that found something wrong. It also finds
// the copies that a disk has spoilt.
func (r *Repairer) runCheck() {
	defer r.check.Store(int32(Done))
	t := time.NewTicker(checkEvery)
	defer t.Stop()
	for {
		if r.o.Checker.TreesInDoubt() {
			r.check.Store(int32(Busy))
			r.checkTrees()
			r.check.Store(int32(Idle))
		}
		select {
		case <-r.ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (r *Repairer) checkTrees() {
	began := r.o.Now()
	var sum store.TreeCheck
	var errs []error
	pace := func(bytes int) { _ = r.throttle.Wait(r.ctx, bytes) } // an ended context ends the check too
	for _, id := range r.o.Checker.Trees() {
		c, err := r.o.Checker.CheckTree(r.ctx, id, pace)
		if r.ctx.Err() != nil {
			return
		}
		errs = append(errs, err)
		sum.Copies += c.Copies
		sum.Bytes += c.Bytes
		sum.Entries += c.Entries
		sum.Stray += c.Stray
		sum.Branches += c.Branches
		sum.Corrupt = append(sum.Corrupt, c.Corrupt...)
	}
	err := errors.Join(errs...)
	if err == nil {
		err = r.o.Checker.TreesChecked()
	}
	r.o.Logger.Info("hash trees checked", "copies", sum.Copies, "bytes", sum.Bytes, "entries_mended", sum.Entries,
		"entries_stray", sum.Stray, "branches_mended", sum.Branches, "corrupt", len(sum.Corrupt), "took", r.o.Now().Sub(began), "err", err)
	if err != nil {
		// Whatever it is will not be gone in a second.
		select {
		case <-r.ctx.Done():
		case <-time.After(time.Minute):
		}
	}
}
