package versions

import (
	"context"
	"crypto/sha256"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"dynamo/node/wire"
)

// A member that keeps silent does not keep a module from the node for ever: the next one is asked. The fetch of a bound
// resolver has no deadline, and readers see siblings until it ends.
func TestFetchPassesOverTheSilent(t *testing.T) {
	f := newFixture(t)
	module := selecting(0)
	f.others.answers["n2"] = func(ctx context.Context, _ wire.Message) (wire.Message, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	f.others.answers["n3"] = func(context.Context, wire.Message) (wire.Message, error) {
		return &wire.ModuleReply{Found: true, Module: module}, nil
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		got, err := f.Fetch(context.WithoutCancel(t.Context()), sha256.Sum256(module))
		if err != nil || !slices.Equal(got, module) || time.Since(began) > fetchTimeout {
			t.Errorf("%d bytes, %v after %v", len(got), err, time.Since(began))
		}
	})
}
