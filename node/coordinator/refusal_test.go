package coordinator

import (
	"errors"
	"testing"

	"dynamo/node/peer"
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
