// Package admin is the administrator of simulated clusters who changes resolvers while everything goes on.
package admin

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"dynamo/node"
	"dynamo/node/coordinator"
	"dynamo/node/sim/rigged"
	"dynamo/resolver/laws"
)

// Admin changes the resolver of one keyspace. Whatever else goes on, he tries again a few times. He belongs to one goroutine.
// All fields are required.
type Admin struct {
	Keyspace string
	// Module is the resolver that the keyspace began with; Number tells his versions of it from those of others.
	Module []byte
	Number int
	Rand   *rand.Rand
	// Node returns some node that is ready, or nil.
	Node func() *node.Node
	Note func(format string, args ...any)
	// Violation is told of broken promises.
	Violation func(promise, detail string)
}

// sound is a version that does what the first did.
func (a *Admin) sound() []byte { return rigged.Version(a.Module, a.Number) }

// Wait waits; false if ctx ended.
func Wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// Mend binds a sound version in the place of another.
func (a *Admin) Mend(ctx context.Context) {
	a.try(ctx, "a sound version again", func(ctx context.Context, at *node.Node) error {
		return a.upload(ctx, at, coordinator.Upload{Module: a.sound(), Check: coordinator.CheckStrict})
	})
}

const (
	// bindPatience is how long one attempt to change a resolver may take, bindTries how many there are.
	bindPatience = 5 * time.Second
	bindTries    = 20
)

// try has some node do something, another one if that fails.
func (a *Admin) try(ctx context.Context, what string, f func(ctx context.Context, at *node.Node) error) bool {
	for range bindTries {
		if at := a.Node(); at != nil {
			attempt, cancel := context.WithTimeout(ctx, bindPatience)
			err := f(attempt, at)
			cancel()
			a.Note("%s gets %s: %v", a.Keyspace, what, err)
			if err == nil {
				return true
			}
		}
		if !Wait(ctx, 300*time.Millisecond) {
			return false
		}
	}
	return false
}

func (a *Admin) upload(ctx context.Context, at *node.Node, u coordinator.Upload) error {
	_, err := at.Resolvers().Upload(ctx, a.Keyspace, u)
	if e, ok := errors.AsType[*coordinator.Error](err); ok && (e.Code == coordinator.CodeResolverUnlawful || e.Code == coordinator.CodeResolverInvalid) {
		a.Violation("sound resolvers are taken", fmt.Sprintf("an upload was answered %v", e))
	}
	return err
}

// Upgrade binds a version of the same meaning, in one of the ways that there are.
func (a *Admin) Upgrade(ctx context.Context, way int) {
	u := coordinator.Upload{Module: a.sound(), Check: coordinator.CheckStrict}
	switch way % 4 {
	case 0:
		u.Alone = true
	case 1:
		u.Inactive = true
	}
	done := a.try(ctx, "another version", func(ctx context.Context, at *node.Node) error { return a.upload(ctx, at, u) })
	if !done || way%4 > 2 {
		return
	}
	id := ""
	switch way % 4 {
	case 1:
		a.try(ctx, "a shadow", func(ctx context.Context, at *node.Node) error {
			up, err := at.Resolvers().Upload(ctx, a.Keyspace, u)
			if err != nil {
				return err
			}
			id = up.SHA256
			_, err = at.Resolvers().Shadow(ctx, a.Keyspace, id)
			return err
		})
		Wait(ctx, time.Duration(a.Rand.IntN(2000))*time.Millisecond)
		a.try(ctx, "the shadow as its version", func(ctx context.Context, at *node.Node) error {
			_, err := at.Resolvers().Promote(ctx, a.Keyspace, id, coordinator.CheckStrict)
			return err
		})
	case 2:
		Wait(ctx, time.Duration(a.Rand.IntN(2000))*time.Millisecond)
		a.try(ctx, "the first version back", func(ctx context.Context, at *node.Node) error {
			_, err := at.Resolvers().Rollback(ctx, a.Keyspace, 1)
			return err
		})
	}
}

// BindFailing binds a version that fails for some requests.
func (a *Admin) BindFailing(ctx context.Context, how int) {
	rig, every, check := rigged.Trapping, byte(1+how%3), coordinator.CheckStrict
	if how%4 == 0 {
		rig = rigged.Burning
	}
	if how%2 == 0 {
		check = coordinator.CheckOff // which has it collapse nothing
	}
	module, err := rig(a.sound(), every)
	if err != nil {
		a.Violation("sound resolvers are taken", fmt.Sprintf("%v", err))
		return
	}
	a.try(ctx, "a version that fails", func(ctx context.Context, at *node.Node) error {
		_, err := at.Resolvers().Upload(ctx, a.Keyspace, coordinator.Upload{Module: module, Check: check})
		return err
	})
}

// BindUnlawful binds a version that takes one sibling, by their order; it must be refused at first.
func (a *Admin) BindUnlawful(ctx context.Context) {
	module, err := laws.WithSamples(rigged.Version(rigged.Taking(1), a.Number), [][]byte{[]byte(`["a"]`), []byte(`["b"]`), []byte(`["c"]`)})
	if err != nil {
		a.Violation("unlawful resolvers are refused", fmt.Sprintf("%v", err))
		return
	}
	force := []string{coordinator.CheckWarn, coordinator.CheckOff}[a.Number%2]
	a.try(ctx, "an unlawful version", func(ctx context.Context, at *node.Node) error {
		up, err := at.Resolvers().Upload(ctx, a.Keyspace, coordinator.Upload{Module: module, Check: coordinator.CheckStrict, Inactive: true})
		if err == nil {
			a.Violation("unlawful resolvers are refused", fmt.Sprintf("the check says %+v", up.Check))
		}
		_, err = at.Resolvers().Upload(ctx, a.Keyspace, coordinator.Upload{Module: module, Check: force})
		return err
	})
}
