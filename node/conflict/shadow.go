package conflict

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"dynamo/node/causal"
	"dynamo/node/config"
	"dynamo/resolver"
)

// Bounds on shadows: what does not fit is dropped and counted.
const (
	// maxShadows is how many keyspaces have one at a time; each has a goroutine of its own.
	maxShadows = 16
	// shadowQueue and shadowBytes bound the conflicts that wait for a candidate.
	shadowQueue = 64
	shadowBytes = 16 << 20
	// shadowSeen is how many conflicts a shadow remembers, so as not to count one at each read.
	shadowSeen = 4096
	// shadowExamples and exampleBytes bound what is kept of differences.
	shadowExamples = 10
	exampleBytes   = 1 << 10
)

// ErrTooManyShadows refuses a shadow beyond what a node takes.
var ErrTooManyShadows = errors.New("conflict: too many shadows on this node")

// ShadowReport is how a candidate did beside the active version, on the conflicts that this node met.
type ShadowReport struct {
	SHA256 string    `json:"sha256"`
	Since  time.Time `json:"since"`
	// Calls are the conflicts that the candidate merged or failed to merge.
	Calls uint64 `json:"calls"`
	// Equal and Different count those that both versions merged, ActiveFailures those that only the candidate did.
	Equal          uint64 `json:"equal"`
	Different      uint64 `json:"different"`
	ActiveFailures uint64 `json:"active_failures"`
	// Failures are the candidate's, Errors counts them by reason code.
	Failures uint64            `json:"failures"`
	Errors   map[string]uint64 `json:"errors,omitempty"`
	// Dropped are conflicts that found the queue full.
	Dropped uint64 `json:"dropped"`
	// Fuel is the sum of all calls, Micros the sum of their times, MaxMicros the longest.
	Fuel      uint64  `json:"fuel"`
	Micros    float64 `json:"micros"`
	MaxMicros float64 `json:"max_micros"`
	// Examples are the latest differences and failures.
	Examples []ShadowExample `json:"examples,omitempty"`
}

// ShadowExample is a conflict that two versions did not merge alike.
type ShadowExample struct {
	Key       []byte       `json:"key_base64"`
	Siblings  int          `json:"siblings"`
	Active    ShadowResult `json:"active"`
	Candidate ShadowResult `json:"candidate"`
}

// ShadowResult is what one version made of a conflict; Value is cut at 1 KiB.
type ShadowResult struct {
	Status      string `json:"status"` // value, deleted or error
	Value       []byte `json:"value_base64,omitempty"`
	ContentType string `json:"content_type,omitempty"`
	Error       string `json:"error,omitempty"`
	Detail      string `json:"detail,omitempty"`
}

// shadow runs a candidate on copies of live conflicts, without effect.
type shadow struct {
	candidate [32]byte
	jobs      chan shadowJob
	stop      context.CancelFunc
	wg        sync.WaitGroup
	// mu guards the report, and the conflicts seen. Invariant: waiting is the sum of the sizes of the jobs in the
	// queue and in hand; seen has the ids in order.
	mu struct {
		sync.Mutex
		report  ShadowReport
		seen    map[viewID]bool
		order   []viewID
		waiting int
	}
}

type shadowJob struct {
	policy Policy
	key    []byte
	all    []causal.Version
	active Result
	size   int
}

// shadows are those of a node, by keyspace.
type shadows struct {
	// mu guards byKeyspace. Invariant: each shadow in it has its goroutine running; none is added once closed.
	mu struct {
		sync.RWMutex
		byKeyspace map[string]*shadow
		closed     bool
	}
}

// StartShadow runs a candidate beside the active version of a keyspace from now on, in the place of the one that
// ran before, if any. The same candidate goes on.
func (s *Settler) StartShadow(keyspace string, candidate [32]byte) error {
	s.shadows.mu.Lock()
	defer s.shadows.mu.Unlock()
	was := s.shadows.mu.byKeyspace[keyspace]
	switch {
	case s.shadows.mu.closed:
		return errClosed
	case was != nil && was.candidate == candidate:
		return nil
	case was != nil:
		was.close()
	case len(s.shadows.mu.byKeyspace) >= maxShadows:
		return fmt.Errorf("%w: %d", ErrTooManyShadows, maxShadows)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h := &shadow{candidate: candidate, jobs: make(chan shadowJob, shadowQueue), stop: cancel}
	h.mu.seen = make(map[viewID]bool)
	h.mu.report = ShadowReport{SHA256: hex.EncodeToString(candidate[:]), Since: s.o.Now().UTC(), Errors: make(map[string]uint64)}
	h.wg.Go(func() { s.runShadow(ctx, h) })
	if s.shadows.mu.byKeyspace == nil {
		s.shadows.mu.byKeyspace = make(map[string]*shadow)
	}
	s.shadows.mu.byKeyspace[keyspace] = h
	return nil
}

// StopShadow ends it and reports whether there was one.
func (s *Settler) StopShadow(keyspace string) bool {
	s.shadows.mu.Lock()
	defer s.shadows.mu.Unlock()
	h := s.shadows.mu.byKeyspace[keyspace]
	if h == nil {
		return false
	}
	h.close()
	delete(s.shadows.mu.byKeyspace, keyspace)
	return true
}

// PruneShadows ends the shadows of keyspaces that are not to be kept.
func (s *Settler) PruneShadows(keep func(keyspace string) bool) {
	s.shadows.mu.RLock()
	all := slices.Collect(maps.Keys(s.shadows.mu.byKeyspace))
	s.shadows.mu.RUnlock()
	for _, keyspace := range all {
		if !keep(keyspace) {
			s.StopShadow(keyspace)
		}
	}
}

// Shadow reports how the candidate of a keyspace does, false if there is none.
func (s *Settler) Shadow(keyspace string) (ShadowReport, bool) {
	s.shadows.mu.RLock()
	h := s.shadows.mu.byKeyspace[keyspace]
	s.shadows.mu.RUnlock()
	if h == nil {
		return ShadowReport{}, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.mu.report
	r.Errors = make(map[string]uint64, len(r.Errors))
	maps.Copy(r.Errors, h.mu.report.Errors)
	r.Examples = slices.Clone(r.Examples)
	return r, true
}

func (s *Settler) closeShadows() {
	s.shadows.mu.Lock()
	defer s.shadows.mu.Unlock()
	s.shadows.mu.closed = true
	for _, h := range s.shadows.mu.byKeyspace {
		h.close()
	}
	clear(s.shadows.mu.byKeyspace)
}

func (h *shadow) close() {
	h.stop()
	h.wg.Wait()
}

// offer gives a conflict and what stands for it to the keyspace's shadow, if there is one. It never waits.
func (s *Settler) offer(p Policy, key []byte, all []causal.Version, active Result) {
	s.shadows.mu.RLock()
	h := s.shadows.mu.byKeyspace[p.Keyspace]
	s.shadows.mu.RUnlock()
	if h == nil || active.Code == string(resolver.CodeCanceled) || active.Code == CodePending {
		return
	}
	size := len(key) + len(active.Value.Bytes)
	for _, v := range all {
		size += len(v.Bytes)
	}
	id := viewKey(Policy{Keyspace: p.Keyspace, Module: h.candidate, MaxValueBytes: p.MaxValueBytes}, key, all)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.seen[id] {
		return
	}
	if h.mu.waiting+size > shadowBytes {
		h.mu.report.Dropped++
		return
	}
	select {
	case h.jobs <- shadowJob{p, bytes.Clone(key), all, active, size}:
	default:
		h.mu.report.Dropped++
		return
	}
	h.mu.waiting += size
	h.mu.seen[id] = true
	if h.mu.order = append(h.mu.order, id); len(h.mu.order) > shadowSeen {
		delete(h.mu.seen, h.mu.order[0])
		h.mu.order = h.mu.order[1:]
	}
}

func (s *Settler) runShadow(ctx context.Context, h *shadow) {
	for {
		select {
		case <-ctx.Done():
			return
		case j := <-h.jobs:
			got, called := s.shadowMerge(ctx, h.candidate, j)
			h.count(j, got, called && ctx.Err() == nil)
		}
	}
}

// shadowMerge is what a read would answer if the candidate were active; called is false if it was not called.
func (s *Settler) shadowMerge(ctx context.Context, candidate [32]byte, j shadowJob) (res Result, called bool) {
	s.stats.paths[PathShadow].Add(1)
	p := j.policy
	p.Conflict, p.Module = config.PolicyResolver, candidate
	m, err := s.modules.get(ctx, candidate)
	if err != nil {
		return Result{Kind: Conflict, Code: codeOf(err), Detail: err.Error()}, true
	}
	values := withoutTombstones(j.all)
	in := distinct(values, false)
	if m.WantsDeleted() {
		in = distinct(j.all, false)
	}
	if len(in) == 1 && !in[0].Deleted {
		return plain(in), false
	}
	return outcome(p, s.run(ctx, p, m, j.key, in), in), true
}

// count takes the candidate's result into the report.
func (h *shadow) count(j shadowJob, got Result, called bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.waiting -= j.size
	if !called {
		return
	}
	r := &h.mu.report
	r.Calls++
	r.Fuel += got.Fuel
	took := float64(got.Duration) / float64(time.Microsecond)
	r.Micros += took
	r.MaxMicros = max(r.MaxMicros, took)
	switch {
	case got.Code != "":
		r.Failures++
		r.Errors[got.Code]++
	case j.active.Code != "":
		r.ActiveFailures++
		return
	case got.Kind == j.active.Kind && got.Value.ContentType == j.active.Value.ContentType && bytes.Equal(got.Value.Bytes, j.active.Value.Bytes):
		r.Equal++
		return
	default:
		r.Different++
	}
	if r.Examples = append(r.Examples, ShadowExample{j.key, len(j.all), shown(j.active), shown(got)}); len(r.Examples) > shadowExamples {
		r.Examples = slices.Clone(r.Examples[1:])
	}
}

func shown(res Result) ShadowResult {
	switch {
	case res.Code != "":
		return ShadowResult{Status: "error", Error: res.Code, Detail: res.Detail[:min(len(res.Detail), exampleBytes)]}
	case res.Kind == Deleted:
		return ShadowResult{Status: "deleted"}
	}
	b := res.Value.Bytes
	return ShadowResult{Status: "value", Value: bytes.Clone(b[:min(len(b), exampleBytes)]), ContentType: res.Value.ContentType}
}
