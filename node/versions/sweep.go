package versions

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"dynamo/node/cluster"
	"dynamo/resolver"
)

const (
	// keptVersions is how many different modules of each keyspace's history are kept, the latest ones.
	keptVersions = 32
	// CandidateLife is how long a module is kept that no keyspace needs: a candidate, from its last upload, trial or
	// shadow on, or what has fallen out of the history.
	CandidateLife = 7 * 24 * time.Hour
	// touchEvery bounds how often it is written down that a module is wanted.
	touchEvery = time.Hour
)

// Shelf is what the disk holds of modules, and a small value by name.
type Shelf interface {
	ModuleStore
	Modules() ([][32]byte, error)
	DeleteModule(sha [32]byte) error
	Meta(name string) ([]byte, bool, error)
	PutMeta(name string, value []byte) error
}

// metaUnused is the name under which the disk remembers since when nobody needs which module: a version byte, and JSON.
const (
	metaUnused    = "modules-unused"
	unusedVersion = 1
)

// unused are the modules that no keyspace needs, and since when, in ms since 1970: the last time that somebody wanted
// them.
type unused map[string]int64

var errUnused = errors.New("versions: malformed list of modules that nobody needs")

func (u unused) append(b []byte) ([]byte, error) {
	text, err := json.Marshal(u)
	return append(append(b, unusedVersion), text...), err
}

func decodeUnused(b []byte) (unused, error) {
	out := make(unused)
	if len(b) == 0 {
		return out, nil
	}
	if b[0] != unusedVersion {
		return nil, fmt.Errorf("%w: version %d, want %d", errUnused, b[0], unusedVersion)
	}
	if err := json.Unmarshal(b[1:], &out); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnused, err)
	}
	if out == nil {
		return nil, errUnused
	}
	return out, nil
}

// shelf removes modules from this disk that nobody needs any more.
type shelf struct {
	disk Shelf
	now  func() time.Time
	// mu guards all below, and makes one step of a look at what is wanted and the removal of what is not. Invariant:
	// parts has what is known of modules on the disk, whose bytes never change.
	mu struct {
		sync.Mutex
		unused unused
		loaded bool
		parts  map[[32]byte][][32]byte
	}
}

// load reads the list under s.mu.
func (s *shelf) load() error {
	if s.mu.loaded {
		return nil
	}
	b, _, err := s.disk.Meta(metaUnused)
	if err == nil {
		s.mu.unused, err = decodeUnused(b)
	}
	s.mu.loaded = err == nil
	return err
}

// save writes the list under s.mu.
func (s *shelf) save() error {
	b, err := s.mu.unused.append(nil)
	if err != nil {
		return err
	}
	return s.disk.PutMeta(metaUnused, b)
}

// touch says that somebody wants these now.
func (s *shelf) touch(ids ...[32]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return err
	}
	now, late := s.now().UnixMilli(), false
	for _, id := range ids {
		parts, err := s.partsOf(id)
		if err != nil {
			return err
		}
		for _, sha := range append([][32]byte{id}, parts...) {
			name := hex.EncodeToString(sha[:])
			if since, ok := s.mu.unused[name]; ok && now-since >= touchEvery.Milliseconds() {
				s.mu.unused[name], late = now, true
			}
		}
	}
	if !late {
		return nil
	}
	return s.save()
}

// partsOf returns what a version consists of beside itself, under s.mu; nothing if it is not here.
func (s *shelf) partsOf(id [32]byte) ([][32]byte, error) {
	if parts, known := s.mu.parts[id]; known {
		return parts, nil
	}
	b, ok, err := s.disk.Module(id)
	if err != nil || !ok {
		return nil, err
	}
	var parts [][32]byte
	if module, config, ok := resolver.ParseManifest(b); ok {
		parts = [][32]byte{module, config}
	}
	if s.mu.parts == nil {
		s.mu.parts = make(map[[32]byte][][32]byte)
	}
	s.mu.parts[id] = parts
	return parts, nil
}

// needed are the versions that the metadata names: of each keyspace the active one, the latest of the history, and the
// candidate that runs beside them.
func needed(v *cluster.View) map[[32]byte]bool {
	out := make(map[[32]byte]bool)
	for _, ks := range v.Keyspaces() {
		if b, ok := v.Active(ks.Name); ok {
			out[b.SHA256] = true
		}
		if candidate, ok := v.Shadow(ks.Name); ok {
			out[candidate] = true
		}
		latest := make(map[[32]byte]bool)
		for _, b := range slices.Backward(v.Bindings(ks.Name)) {
			if latest[b.SHA256] = true; len(latest) > keptVersions {
				break
			}
			out[b.SHA256] = true
		}
	}
	return out
}

// sweep removes the modules that have not been needed or wanted for CandidateLife, and returns them. gone is called
// for each before it is removed. With an error, some may have been removed.
func (s *shelf) sweep(v *cluster.View, gone func(id [32]byte) error) (removed [][32]byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(); err != nil {
		return nil, err
	}
	here, err := s.disk.Modules()
	if err != nil {
		return nil, err
	}
	marks, kept, err := s.judge(needed(v), here)
	if err != nil {
		return nil, err
	}
	for _, sha := range here {
		if kept[sha] {
			continue
		}
		if err := errors.Join(gone(sha), s.disk.DeleteModule(sha)); err != nil {
			return removed, err
		}
		delete(marks, hex.EncodeToString(sha[:]))
		delete(s.mu.parts, sha)
		removed = append(removed, sha)
	}
	if maps.Equal(marks, s.mu.unused) {
		return removed, nil
	}
	s.mu.unused = marks
	return removed, s.save()
}

// judge says, under s.mu, which of the modules that are here stay, and since when those are not needed that no keyspace
// names. A part stays as long as anything that it is a part of.
func (s *shelf) judge(needed map[[32]byte]bool, here [][32]byte) (marks unused, kept map[[32]byte]bool, err error) {
	now := s.now().UnixMilli()
	marks, kept = make(unused), make(map[[32]byte]bool)
	for _, sha := range here {
		if !needed[sha] {
			name := hex.EncodeToString(sha[:])
			since, marked := s.mu.unused[name]
			if !marked || since > now { // a clock that was set back must not keep it for long
				since = now
			}
			if marks[name] = since; now-since >= CandidateLife.Milliseconds() {
				continue
			}
		}
		parts, err := s.partsOf(sha)
		if err != nil {
			return nil, nil, err // what it is made of is not known, so nothing is removed
		}
		for _, id := range append([][32]byte{sha}, parts...) {
			kept[id] = true
		}
	}
	return marks, kept, nil
}

// Sweep removes from this node's disk and memory the modules that no keyspace has needed and nobody has wanted for
// CandidateLife: neither active, nor among the latest of a history, nor a candidate that runs as a shadow.
func (r *Resolvers) Sweep(ctx context.Context, gone func(id [32]byte) error) error {
	removed, err := r.shelf.sweep(r.s.Catalog.View(), func(id [32]byte) error {
		return errors.Join(r.s.Settler.Forget(ctx, id), gone(id))
	})
	for _, id := range removed {
		r.s.Logger.Info("a module that nobody needs is removed", "module", hex.EncodeToString(id[:]))
	}
	if err != nil {
		return fmt.Errorf("remove modules that nobody needs: %w", err)
	}
	return nil
}

// want keeps modules for another while. That it is not written down is no reason to refuse anything.
func (r *Resolvers) want(ids ...[32]byte) {
	if err := r.shelf.touch(ids...); err != nil {
		r.s.Logger.Error("it is not written down that a module is wanted", "err", err)
	}
}
