package chaos

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"dynamo/client"
)

const (
	scenarioValueBytes = 1024
	scenarioClients    = 48
	// equalWithin bounds how long nodes that were away need until all copies are equal; filledWithin the same for a
	// node that lost its disk.
	equalWithin  = 30 * time.Second
	filledWithin = 60 * time.Second
)

// TestScenarios are the long ones, with -chaos.scenarios. Otherwise they are played with few keys.
func TestScenarios(t *testing.T) {
	t.Parallel()
	keys := 500
	if *scenarioFlag {
		keys = *keysFlag
	}
	binary := buildBinary(t, t.TempDir())
	t.Logf("%d keys", keys)
	for name, play := range map[string]func(*scenario){
		"two nodes are away while others write": (*scenario).twoAway,
		"a node loses its disk":                 (*scenario).oneWiped,
	} {
		t.Run(name, func(t *testing.T) {
			if !*scenarioFlag {
				t.Parallel() // with few keys the machine is not the limit
			}
			dir, err := os.MkdirTemp("", "dynamo-scenario-")
			if err != nil {
				t.Fatal(err)
			}
			c := newCluster(t, binary, dir, 5)
			defer func() {
				c.close()
				if t.Failed() {
					t.Logf("data and logs of the nodes are in %s", dir)
					return
				}
				if err := os.RemoveAll(dir); err != nil {
					t.Error(err)
				}
			}()
			if err := c.startAll(t.Context()); err != nil {
				t.Fatal(err)
			}
			play(&scenario{t: t, c: c, keys: keys})
			if c.mu.deaths != nil {
				t.Error(c.mu.deaths)
			}
		})
	}
}

type scenario struct {
	t    *testing.T
	c    *cluster
	keys int
}

func (s *scenario) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scenario) key(i int) string { return fmt.Sprintf("key-%07d", i) }

// value is the same for a key whenever it is asked, and does not compress.
func (s *scenario) value(i int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(i)))
	var b []byte
	for len(b) < scenarioValueBytes {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b
}

// write writes all keys once at W=2 from many clients, and no write may fail.
func (s *scenario) write(ctx context.Context) {
	s.t.Helper()
	var endpoints []string
	for _, n := range s.c.servers {
		endpoints = append(endpoints, "http://"+n.http)
	}
	began := time.Now()
	var wg sync.WaitGroup
	var failed struct {
		sync.Mutex
		errs []error
	}
	for w := range scenarioClients {
		wg.Go(func() {
			c, err := client.New(client.Options{Endpoints: endpoints})
			for i := w; i < s.keys && err == nil; i += scenarioClients {
				ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
				_, err := c.Put(ctx, plain, s.key(i), s.value(i), client.CallOptions{W: "2"})
				cancel()
				if err != nil {
					failed.Lock()
					failed.errs = append(failed.errs, fmt.Errorf("%s: %w", s.key(i), err))
					failed.Unlock()
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	s.t.Logf("%d writes of %d bytes at W=2 by %d clients in %.1f s (%.0f a second), %d failed", s.keys, scenarioValueBytes, scenarioClients,
		took.Seconds(), float64(s.keys)/took.Seconds(), len(failed.errs))
	for i, err := range failed.errs {
		if i < 5 {
			s.t.Error(err)
		}
	}
}

func (s *scenario) names() []keyName {
	var out []keyName
	for i := range s.keys {
		out = append(out, keyName{plain, s.key(i)})
	}
	return out
}

// equal waits until all copies are equal, and complete. No client reads meanwhile.
func (s *scenario) equal(ctx context.Context, since time.Time, limit time.Duration, what string) {
	s.t.Helper()
	// A node that is behind is given time to say by how much.
	err := await(ctx, 5*limit, func(ctx context.Context) error {
		if err := s.c.replicasEqual(ctx, s.names()); err != nil {
			return err
		}
		return s.c.drained(ctx)
	})
	took := time.Since(since)
	if err != nil {
		s.t.Fatalf("%s: the replicas do not become equal: %v", what, err)
	}
	s.t.Logf("%s: all replicas are equal after %.1f s", what, took.Seconds())
	if took > limit {
		s.t.Errorf("%s: all replicas are equal after %v only, more than %v", what, took, limit)
	}
}

// verify reads a sample of the keys from each of their replicas alone.
func (s *scenario) verify(ctx context.Context) {
	s.t.Helper()
	var sample []int
	for i := 0; i < s.keys; i += max(1, s.keys/2000) {
		sample = append(sample, i)
	}
	s.must(parallel(sample, func(i int) error {
		e, err := s.c.explain(ctx, plain, s.key(i))
		if err != nil {
			return err
		}
		if err := e.equal(); err != nil {
			return fmt.Errorf("%s: %w", s.key(i), err)
		}
		for _, id := range e.primaries() {
			v, err := s.c.server(id).client.Get(ctx, plain, s.key(i), client.CallOptions{R: "1"})
			if err != nil {
				return fmt.Errorf("%s via %s: %w", s.key(i), id, err)
			}
			if !bytes.Equal(v.Bytes, s.value(i)) {
				return fmt.Errorf("%s via %s: %d bytes of another value, %d siblings", s.key(i), id, len(v.Bytes), len(v.Siblings))
			}
		}
		return nil
	}))
}

func (s *scenario) twoAway() {
	ctx := s.t.Context()
	away := []*server{s.c.servers[1], s.c.servers[3]}
	for _, n := range away {
		s.must(s.c.kill(n))
	}
	s.write(ctx)
	began := time.Now()
	s.must(s.c.startAll(ctx))
	s.t.Logf("both nodes are ready after %.1f s", time.Since(began).Seconds())
	s.equal(ctx, began, equalWithin, "after the return of two nodes")
	s.verify(ctx)
}

func (s *scenario) oneWiped() {
	ctx := s.t.Context()
	s.write(ctx)
	s.equal(ctx, time.Now(), equalWithin, "after the load")
	lost := s.c.servers[2]
	s.must(s.c.kill(lost))
	s.must(os.RemoveAll(s.c.data(lost)))
	began := time.Now()
	s.must(s.c.start(ctx, lost))
	s.t.Logf("the node is ready after %.1f s", time.Since(began).Seconds())
	s.equal(ctx, began, filledWithin, "after the loss of a disk")
	s.verify(ctx)
}
