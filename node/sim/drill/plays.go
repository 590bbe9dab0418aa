package drill

import (
	"context"
	"fmt"
	"time"

	"dynamo/node/coordinator"
)

// strict are quorums of primaries alone.
func strict() coordinator.Options { return coordinator.Options{PrimariesOnly: true} }

// hintHoldersLosePower: of the W copies of a write one is a hint. The disk with the other is lost in the moment in which
// the holders of hints lose their power.
func hintHoldersLosePower(s *stage, ctx context.Context) error {
	key, at, err := s.cast(notes, 0)
	if err != nil {
		return err
	}
	if err := s.powerCut(ctx, at[1], at[2]); err != nil {
		return err
	}
	if err := s.wait(ctx, heard); err != nil {
		return err
	}
	if _, err := s.write(ctx, call{via: at[0], keyspace: notes, key: key, value: "v"}); err != nil {
		return err
	}
	if err := s.powerCut(ctx, at[0], at[3], at[4]); err != nil {
		return err
	}
	s.c.Wipe(at[0])
	return s.expect(ctx, notes, key, "v")
}

// hintGrowsOnItsWay: a hint takes in another write between its delivery and the acknowledgement of it, and then the only
// other disk that has that write is lost.
func hintGrowsOnItsWay(s *stage, ctx context.Context) error {
	key, at, err := s.cast(notes, 0)
	if err != nil {
		return err
	}
	if err := s.powerCut(ctx, at[1], at[2]); err != nil {
		return err
	}
	if err := s.wait(ctx, heard); err != nil {
		return err
	}
	if _, err := s.write(ctx, call{via: at[0], keyspace: notes, key: key, value: "v1"}); err != nil {
		return err
	}
	back := ""
	for id := range s.c.Node(at[3]).Disk().HintStats() {
		back = id
	}
	if back == "" {
		return fmt.Errorf("drill: %s holds no hint", at[3])
	}
	s.c.Cut([]string{at[0]}, []string{back})
	s.slow(at[3], back, 200*time.Millisecond, 200*time.Millisecond, 0)
	if err := s.c.Boot(ctx, back); err != nil {
		return err
	}
	if err := s.until(ctx, time.Minute, "the hint is delivered", func() bool { return s.holds(back, key, "v1") }); err != nil {
		return err
	}
	if _, err := s.write(ctx, call{via: at[0], keyspace: notes, key: key, value: "v2"}); err != nil {
		return err
	}
	if err := s.powerCut(ctx, at[0]); err != nil {
		return err
	}
	s.c.Wipe(at[0])
	if err := s.wait(ctx, heard); err != nil {
		return err
	}
	return s.expect(ctx, notes, key, "v1", "v2")
}

// wipedDiskWrites: a node whose disk was wiped writes a key that it has written before, before it hears from those that
// know.
func wipedDiskWrites(s *stage, ctx context.Context) error {
	key, at, err := s.cast(notes, 0)
	if err != nil {
		return err
	}
	if _, err := s.write(ctx, call{via: at[0], keyspace: notes, key: key, value: "v1", Options: coordinator.Options{W: coordinator.QuorumAll}}); err != nil {
		return err
	}
	if err := s.powerCut(ctx, at[0]); err != nil {
		return err
	}
	s.c.Wipe(at[0])
	return s.writeApart(ctx, notes, key, at, "v1", "v2")
}

// writeApart boots the first primary, cut off from the others, and writes the last of the values through it. All must be
// there in the end.
func (s *stage) writeApart(ctx context.Context, keyspace, key string, at []string, values ...string) error {
	s.c.Cut([]string{at[0], at[3], at[4]}, at[1:3])
	if err := s.wait(ctx, heard); err != nil {
		return err
	}
	if err := s.boot(ctx, at[0]); err != nil {
		return err
	}
	if err := s.wait(ctx, heard); err != nil {
		return err
	}
	if _, err := s.write(ctx, call{via: at[0], keyspace: keyspace, key: key, value: values[len(values)-1]}); err != nil {
		return err
	}
	return s.expect(ctx, keyspace, key, values...)
}

// bufferedEndIsLost: power loss takes the end of a log that nobody synced, with dots that others have seen.
func bufferedEndIsLost(s *stage, ctx context.Context) error {
	key, at, err := s.cast(quick, 0)
	if err != nil {
		return err
	}
	all := coordinator.Options{W: coordinator.QuorumAll}
	if _, err := s.write(ctx, call{via: at[0], keyspace: quick, key: key, value: "v1", Options: all}); err != nil {
		return err
	}
	for i := range 8 { // syncs what is in the log so far
		if _, err := s.write(ctx, call{via: at[0], keyspace: notes, key: fmt.Sprint("other", i), value: "v"}); err != nil {
			return err
		}
	}
	if _, err := s.write(ctx, call{via: at[0], keyspace: quick, key: key, value: "v2", Options: all}); err != nil {
		return err
	}
	if err := s.powerCut(ctx, at[0]); err != nil {
		return err
	}
	return s.writeApart(ctx, quick, key, at, "v1", "v2", "v3")
}

// writeIsHandedOn: the first primary is slow, so the node that forwards a write to it asks the second one, too. Whoever
// deletes what it was told of has deleted it.
func writeIsHandedOn(s *stage, ctx context.Context) error {
	var keys []string
	for i := range 4 {
		key, at, err := s.cast(notes, i)
		if err != nil {
			return err
		}
		keys = append(keys, key)
		s.slow(at[4], at[0], 150*time.Millisecond, 700*time.Millisecond, 0.5)
		token, err := s.write(ctx, call{via: at[4], keyspace: notes, key: key, value: "v"})
		if err != nil {
			return err
		}
		if _, err := s.write(ctx, call{via: at[1], keyspace: notes, key: key, token: token}); err != nil {
			return err
		}
		if err := s.wait(ctx, heard); err != nil { // the slow one may still be asked
			return err
		}
		s.c.Fair()
	}
	for _, key := range keys {
		if err := s.expect(ctx, notes, key); err != nil {
			return err
		}
	}
	return nil
}

// strictReadSeesWrite: with R + W > N and primaries alone a read sees what was acknowledged before it, even from a node
// that missed it.
func strictReadSeesWrite(s *stage, ctx context.Context) error {
	key, at, err := s.cast(notes, 0)
	if err != nil {
		return err
	}
	s.c.Cut(at[2:3], at[:2])
	if _, err := s.write(ctx, call{via: at[0], keyspace: notes, key: key, value: "v", Options: strict()}); err != nil {
		return err
	}
	s.c.Heal()
	return s.strictly(ctx, at[2], key, "v")
}

// strictly reads a value that a strict write has stored.
func (s *stage) strictly(ctx context.Context, via, key, value string) error {
	got, _, err := s.read(ctx, call{via: via, keyspace: notes, key: key, Options: strict()})
	if err != nil {
		return err
	}
	if len(got) != 1 || got[0] != value {
		s.breaks("%s via %s is %q and should be %q", key, via, got, value)
	}
	return s.expect(ctx, notes, key, value)
}

// unsureNodeIsRead: a node that has lost its disk answers sooner than the one that has the value.
func unsureNodeIsRead(s *stage, ctx context.Context) error {
	key, at, err := s.cast(notes, 0)
	if err != nil {
		return err
	}
	s.c.Cut(at[2:3], at[:2])
	if _, err := s.write(ctx, call{via: at[0], keyspace: notes, key: key, value: "v", Options: strict()}); err != nil {
		return err
	}
	if err := s.powerCut(ctx, at[0]); err != nil {
		return err
	}
	s.c.Wipe(at[0])
	s.c.Cut(at[:1], at[1:2])
	if err := s.boot(ctx, at[0]); err != nil {
		return err
	}
	if !s.c.Node(at[0]).Unsure() {
		return fmt.Errorf("drill: %s is sure of an empty disk", at[0])
	}
	s.c.Heal()
	s.c.Cut(at[:1], at[1:2])
	s.slow(at[1], at[2], 100*time.Millisecond, 100*time.Millisecond, 0)
	return s.strictly(ctx, at[2], key, "v")
}

// tokenOfAWrite: the answer to a write claims nothing that its writer was not shown.
func tokenOfAWrite(s *stage, ctx context.Context) error {
	key, at, err := s.cast(notes, 0)
	if err != nil {
		return err
	}
	if _, err := s.write(ctx, call{via: at[0], keyspace: notes, key: key, value: "v1"}); err != nil {
		return err
	}
	token, err := s.write(ctx, call{via: at[0], keyspace: notes, key: key, value: "v2"})
	if err != nil {
		return err
	}
	if _, err := s.write(ctx, call{via: at[0], keyspace: notes, key: key, value: "v3", token: token}); err != nil {
		return err
	}
	return s.expect(ctx, notes, key, "v1", "v3")
}

// contextIsKept: a client keeps a context while settle rounds go on, and writes with it before it expires.
func contextIsKept(s *stage, ctx context.Context) error {
	key, at, err := s.cast(notes, 0)
	if err != nil {
		return err
	}
	if _, err := s.write(ctx, call{via: at[0], keyspace: notes, key: key, value: "v1"}); err != nil {
		return err
	}
	_, token, err := s.read(ctx, call{via: at[0], keyspace: notes, key: key})
	if err != nil {
		return err
	}
	if _, err := s.write(ctx, call{via: at[1], keyspace: notes, key: key, value: "v2", token: token}); err != nil {
		return err
	}
	if err := s.wait(ctx, contextLifetime-heard); err != nil {
		return err
	}
	if _, err := s.write(ctx, call{via: at[0], keyspace: notes, key: key, value: "v3"}); err != nil {
		return err
	}
	if _, err := s.write(ctx, call{via: at[2], keyspace: notes, key: key, value: "v4", token: token}); err != nil {
		return err
	}
	return s.expect(ctx, notes, key, "v2", "v3", "v4")
}

// deleteWhileOneIsAway: a key is deleted, and quiet for longer than settle rounds wait, while a node that has its value is
// down.
func deleteWhileOneIsAway(s *stage, ctx context.Context) error {
	key, at, err := s.cast(notes, 0)
	if err != nil {
		return err
	}
	token, err := s.write(ctx, call{via: at[0], keyspace: notes, key: key, value: "v", Options: coordinator.Options{W: coordinator.QuorumAll}})
	if err != nil {
		return err
	}
	if err := s.c.Stop(ctx, at[2]); err != nil {
		return err
	}
	if err := s.wait(ctx, heard); err != nil {
		return err
	}
	if _, err := s.write(ctx, call{via: at[0], keyspace: notes, key: key, token: token}); err != nil {
		return err
	}
	if err := s.wait(ctx, 2*settleAfter); err != nil {
		return err
	}
	return s.expect(ctx, notes, key)
}

// dropWhileOneIsAway: a keyspace is dropped while a node that has copies of it is down.
func dropWhileOneIsAway(s *stage, ctx context.Context) error {
	for i := range 20 {
		key, at, err := s.cast(notes, i)
		if err != nil {
			return err
		}
		if _, err := s.write(ctx, call{via: at[0], keyspace: notes, key: key, value: "v", Options: coordinator.Options{W: coordinator.QuorumAll}}); err != nil {
			return err
		}
	}
	away := s.ids[int(s.o.Seed)%len(s.ids)]
	if err := s.c.Stop(ctx, away); err != nil {
		return err
	}
	at := s.ids[int(s.o.Seed+1)%len(s.ids)]
	if err := s.c.Node(at).DropKeyspace(ctx, notes); err != nil {
		return err
	}
	if err := s.wait(ctx, heard); err != nil {
		return err
	}
	if err := s.recover(ctx); err != nil {
		return err
	}
	if err := s.wait(ctx, time.Minute); err != nil {
		return err
	}
	for _, id := range s.ids {
		if n := s.c.Node(id).Keys(); n > 0 {
			s.breaks("%s still holds %d copies of the keyspace", id, n)
		}
	}
	return nil
}

// strictReadBesideFallbacks: a primary that is cut off from the others can hear fallbacks, which have missed what the others
// acknowledged. It may fail to answer, but not answer with less.
func strictReadBesideFallbacks(s *stage, ctx context.Context) error {
	key, at, err := s.cast(notes, 0)
	if err != nil {
		return err
	}
	s.c.Cut(at[:2], at[2:])
	if _, err := s.write(ctx, call{via: at[0], keyspace: notes, key: key, value: "v", Options: strict()}); err != nil {
		return err
	}
	if got, _, err := s.read(ctx, call{via: at[2], keyspace: notes, key: key, Options: strict()}); err == nil && len(got) != 1 {
		s.breaks("%s via %s is %q and should be \"v\"", key, at[2], got)
	}
	return s.expect(ctx, notes, key, "v")
}
