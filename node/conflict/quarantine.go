package conflict

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"dynamo/resolver"
)

// CodeQuarantined is why siblings are not merged by a version that failed too often on this node.
const CodeQuarantined = "quarantined"

// A version is quarantined when failuresInRow merges in a row failed, each of another key, or when over half of
// the last merges did, of which there are quarantineLeast to quarantineWindow, each of another key, or when costlyInRow
// in a row burnt all their time. One poisoned key cannot bring it about, however often it is read and written.
const (
	failuresInRow    = 20
	costlyInRow      = 5
	quarantineLeast  = 50
	quarantineWindow = 100
)

// Keeper keeps the quarantine of a keyspace over restarts. It may be called by several goroutines.
type Keeper interface {
	LoadQuarantine(keyspace string) ([]byte, bool, error)
	// SaveQuarantine returns when b is durable; empty: none.
	SaveQuarantine(keyspace string, b []byte) error
}

// Quarantine says why a version is not called any more on this node.
type Quarantine struct {
	SHA256 [32]byte
	Epoch  uint64
	Since  time.Time
	// Reason is for people; Code is the last failure's.
	Reason, Code string
	// Releases is how many releases had been heard of when it began: a later one ends it.
	Releases uint64
}

// quarantineV1 opens the stored form: this byte, and JSON.
const quarantineV1 = 1

type storedQuarantine struct {
	SHA256  string `json:"sha256"`
	Epoch   uint64 `json:"epoch"`
	SinceMs int64  `json:"since_ms"`
	Reason  string `json:"reason"`
	Code    string `json:"code"`
	// Releases came later.
	Releases uint64 `json:"releases,omitempty"`
}

func appendQuarantine(dst []byte, q Quarantine) ([]byte, error) {
	b, err := json.Marshal(storedQuarantine{hex.EncodeToString(q.SHA256[:]), q.Epoch, q.Since.UnixMilli(), q.Reason, q.Code, q.Releases})
	return append(append(dst, quarantineV1), b...), err
}

var errStoredQuarantine = errors.New("conflict: malformed quarantine")

func decodeQuarantine(b []byte) (Quarantine, error) {
	if len(b) == 0 || b[0] != quarantineV1 {
		return Quarantine{}, errStoredQuarantine
	}
	var s storedQuarantine
	if err := json.Unmarshal(b[1:], &s); err != nil {
		return Quarantine{}, fmt.Errorf("%w: %w", errStoredQuarantine, err)
	}
	sha, err := hex.DecodeString(s.SHA256)
	if err != nil || len(sha) != 32 {
		return Quarantine{}, errStoredQuarantine
	}
	return Quarantine{SHA256: [32]byte(sha), Epoch: s.Epoch, Since: time.UnixMilli(s.SinceMs).UTC(), Reason: s.Reason, Code: s.Code, Releases: s.Releases}, nil
}

// ward watches the version that merges for a keyspace.
type ward struct {
	module [32]byte
	epoch  uint64
	// row are the keys of the failures since the last success, costly those of which burnt all their time, window the
	// latest keys of all.
	row    []uint64
	costly []uint64
	window []outcomeOf
	// suspect says that a merge ran out of time: from then on the processor's time is measured.
	suspect bool
	// held is set while the version is in quarantine.
	held *Quarantine
}

type outcomeOf struct {
	key    uint64
	failed bool
}

// wards decide which versions are called. It is safe for concurrent use.
type wards struct {
	keeper Keeper
	now    func() time.Time
	log    *slog.Logger
	seed   maphash.Seed
	// saving orders writes to the keeper: what was decided last is on the disk last.
	saving sync.Mutex
	// mu guards byKeyspace. Invariant: a ward is of the greatest epoch that was seen of its keyspace, and what the
	// keeper held of that version was loaded before the ward came to be.
	mu struct {
		sync.Mutex
		byKeyspace map[string]*ward
	}
}

func newWards(o Options) *wards {
	w := &wards{keeper: o.Keeper, now: o.Now, log: o.Logger, seed: maphash.MakeSeed()}
	w.mu.byKeyspace = make(map[string]*ward)
	return w
}

// of returns the ward of p's version under w.mu; nil if p is out of date or names no version.
func (w *wards) of(p Policy) *ward {
	now := w.mu.byKeyspace[p.Keyspace]
	if now != nil && now.module == p.Module && now.epoch == p.Epoch {
		return now
	}
	if p.Module == ([32]byte{}) || p.Keyspace == "" || now != nil && p.Epoch < now.epoch {
		return nil
	}
	next := &ward{module: p.Module, epoch: p.Epoch}
	if q := w.load(p.Keyspace); q != nil && q.SHA256 == p.Module && q.Epoch == p.Epoch {
		next.held = q
	}
	w.mu.byKeyspace[p.Keyspace] = next
	return next
}

func (w *wards) load(keyspace string) *Quarantine {
	if w.keeper == nil {
		return nil
	}
	b, ok, err := w.keeper.LoadQuarantine(keyspace)
	if err != nil || !ok || len(b) == 0 {
		if err != nil {
			w.log.Error("the quarantine of a resolver cannot be read", "keyspace", keyspace, "err", err)
		}
		return nil
	}
	q, err := decodeQuarantine(b)
	if err != nil {
		w.log.Error("the quarantine of a resolver cannot be read", "keyspace", keyspace, "err", err)
		return nil
	}
	return &q
}

// held returns the quarantine of p's version, nil if it may be called. A release that this node heard of since it
// began ends it.
func (w *wards) held(p Policy) *Quarantine {
	w.mu.Lock()
	d := w.of(p)
	if d == nil || d.held == nil {
		w.mu.Unlock()
		return nil
	}
	q := d.held
	w.mu.Unlock()
	if q.Releases >= p.Releases {
		return q
	}
	if _, err := w.release(p); err != nil {
		w.log.Error("the release of a resolver is not on the disk", "keyspace", p.Keyspace, "err", err)
	}
	return nil
}

// suspects reports whether the processor's time of p's merges is to be measured.
func (w *wards) suspects(p Policy) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.of(p)
	return d != nil && d.suspect
}

// verdict is what a merge says of its module.
type verdict int

const (
	// innocent: it says nothing, as when the caller gave up, or when the module refused its input, which is what
	// it has to do with values that are not its own.
	innocent verdict = iota
	good
	bad
	// slow: it ran out of wall-clock time, and whether that is the module's doing or the machine's is not known.
	slow
)

// judge reads a merge's code. burnt says that a merge which ran out of time had the processor for itself.
func judge(code string, burnt bool) verdict {
	switch resolver.Code(code) {
	case "":
		return good
	case resolver.CodeTimeout:
		if burnt {
			return bad
		}
		return slow
	case resolver.CodeGuestError, resolver.CodeKeep, resolver.CodeCanceled, resolver.CodeClosed, resolver.CodeUnavailable, CodePending:
		return innocent
	}
	return bad
}

// report takes a merge's outcome and quarantines the version if it was one too many.
func (w *wards) report(p Policy, key []byte, v view, burnt bool) {
	verdict := judge(v.code, burnt)
	if verdict == innocent {
		return
	}
	if q := w.count(p, maphash.Bytes(w.seed, key), v, verdict); q != nil {
		w.log.Error("resolver quarantined on this node: siblings are kept until it is released or another version is activated",
			"keyspace", p.Keyspace, "resolver", hex.EncodeToString(p.Module[:8]), "epoch", p.Epoch, "reason", q.Reason)
		if err := w.save(p.Keyspace); err != nil {
			w.log.Error("the quarantine of a resolver is not on the disk", "keyspace", p.Keyspace, "err", err)
		}
	}
}

// count returns the quarantine if this merge began it.
func (w *wards) count(p Policy, key uint64, v view, verdict verdict) *Quarantine {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.of(p)
	switch {
	case d == nil || d.held != nil:
		return nil
	case verdict == slow:
		d.suspect = true
		return nil
	case verdict == good:
		d.row, d.costly = d.row[:0], d.costly[:0]
	case !slices.Contains(d.row, key):
		d.row = append(d.row, key)
	}
	if (v.code == string(resolver.CodeTimeout) || v.code == string(resolver.CodeFuel)) && !slices.Contains(d.costly, key) {
		d.costly = append(d.costly, key)
	}
	d.window = slices.DeleteFunc(d.window, func(o outcomeOf) bool { return o.key == key })
	if d.window = append(d.window, outcomeOf{key, verdict == bad}); len(d.window) > quarantineWindow {
		d.window = d.window[1:]
	}
	reason := d.tooMany()
	if reason == "" {
		return nil
	}
	d.held = &Quarantine{
		SHA256: p.Module, Epoch: p.Epoch, Since: w.now().UTC(), Code: v.code, Releases: p.Releases,
		Reason: reason + "; the last: " + strings.ToValidUTF8(v.detail[:min(len(v.detail), 500)], ""),
	}
	return d.held
}

// tooMany says why the version has failed too often; empty if it has not.
func (d *ward) tooMany() string {
	failed := 0
	for _, o := range d.window {
		if o.failed {
			failed++
		}
	}
	switch {
	case len(d.costly) >= costlyInRow:
		return fmt.Sprintf("%d merges in a row burnt all the time there is, each of another key", len(d.costly))
	case len(d.row) >= failuresInRow:
		return fmt.Sprintf("%d merges in a row failed, each of another key", len(d.row))
	case len(d.window) >= quarantineLeast && failed*2 > len(d.window):
		return fmt.Sprintf("%d of the last %d merges failed, each of another key", failed, len(d.window))
	}
	return ""
}

// save writes what is decided now of a keyspace.
func (w *wards) save(keyspace string) error {
	if w.keeper == nil {
		return nil
	}
	w.saving.Lock()
	defer w.saving.Unlock()
	w.mu.Lock()
	var q *Quarantine
	if d := w.mu.byKeyspace[keyspace]; d != nil {
		q = d.held
	}
	w.mu.Unlock()
	var b []byte
	if q != nil {
		var err error
		if b, err = appendQuarantine(nil, *q); err != nil {
			return err
		}
	}
	return w.keeper.SaveQuarantine(keyspace, b)
}

// release lets p's version be called again, with a clean record.
func (w *wards) release(p Policy) (was bool, err error) {
	w.mu.Lock()
	d := w.of(p)
	if d != nil && d.held != nil {
		was = true
		*d = ward{module: d.module, epoch: d.epoch}
	}
	w.mu.Unlock()
	if !was {
		return false, nil
	}
	if err := w.save(p.Keyspace); err != nil {
		return true, fmt.Errorf("release the resolver of keyspace %s: %w", p.Keyspace, err)
	}
	w.log.Info("resolver released from quarantine", "keyspace", p.Keyspace, "resolver", hex.EncodeToString(p.Module[:8]), "epoch", p.Epoch)
	return true, nil
}

// Quarantined returns why this node does not call the version that p names, nil if it does.
func (s *Settler) Quarantined(p Policy) *Quarantine { return s.wards.held(p) }

// Release ends the quarantine of p's version on this node; was reports whether there was one. With an error the
// version is called again, but may be in quarantine after a restart.
func (s *Settler) Release(p Policy) (was bool, err error) { return s.wards.release(p) }

// Condemn puts a version into quarantine for a reason that merges did not show.
func (s *Settler) Condemn(p Policy, code, reason string) error {
	return s.wards.condemn(p, code, reason)
}

func (w *wards) condemn(p Policy, code, reason string) error {
	w.mu.Lock()
	d := w.of(p)
	if d == nil || d.held != nil {
		w.mu.Unlock()
		return nil
	}
	d.held = &Quarantine{SHA256: p.Module, Epoch: p.Epoch, Since: w.now().UTC(), Code: code, Reason: reason, Releases: p.Releases}
	w.mu.Unlock()
	return w.save(p.Keyspace)
}
