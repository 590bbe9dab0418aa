package coordinator

import (
	"errors"
	"fmt"
	"testing"

	"dynamo/node/peer"
	"dynamo/node/store"
)

// TestRefusals: the client sees a refusal only if nobody could take part, and all for the same reason.
func TestRefusals(t *testing.T) {
	full := &peer.Error{Code: "disk_full"}
	busy := &peer.Error{Code: "overloaded"}
	for _, c := range []struct {
		failed []error
		want   Code
	}{
		{nil, CodeQuorumUnmet},
		{[]error{full}, CodeDiskFull},
		{[]error{busy, busy}, CodeOverloaded},
		{[]error{busy, full}, CodeQuorumUnmet},
		{[]error{errors.New("gone"), busy}, CodeQuorumUnmet},
		{[]error{busy, errors.New("gone")}, CodeQuorumUnmet},
		{[]error{&peer.Error{Code: "overloaded", MaybeStored: true}}, CodeQuorumUnmet},
		{[]error{&peer.Error{Code: "keyspace_unknown"}}, CodeQuorumUnmet},
	} {
		y := newTally(2)
		for _, err := range c.failed {
			y.fail("n2", err)
		}
		if e := y.unmet("the write", 1); e.Code != c.want || !e.Retryable {
			t.Errorf("%v: %v, want %s", c.failed, e, c.want)
		}
	}
}

// TestFailedDisk: after a sync that failed nobody knows whether the write is there, and the client is not told that it is
// not.
func TestFailedDisk(t *testing.T) {
	err := AsError(fmt.Errorf("%w: sync of the write-ahead log: input/output error", store.ErrFailed))
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Code != CodeNotReady || !e.Retryable || !e.MaybeStored || !errors.Is(err, store.ErrFailed) {
		t.Errorf("%+v", e)
	}
	if refused(err) != "" {
		t.Error("another node is asked in its place as if nothing had been done")
	}
}
