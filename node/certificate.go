package node

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"dynamo/node/cluster"
	"dynamo/node/conflict"
	"dynamo/node/coordinator"
	"dynamo/node/merkle"
	"dynamo/node/replica"
	"dynamo/node/ring"
	"dynamo/node/store"
	"dynamo/resolver"
	"dynamo/resolver/laws"
)

const (
	// metaCertificate and a version's hash in hex is the name under which the disk keeps what the last law
	// check of it found: a version byte, and JSON.
	metaCertificate    = "law-certificate/"
	certificateVersion = 1
	// maxCertificateBytes bounds the evidence that is kept.
	maxCertificateBytes = 256 << 10
	// watchEvery is the pause between two checks on live conflicts, watchBudget how long one takes, watchKeys how
	// many conflicted keys it takes values from.
	watchEvery  = time.Minute
	watchBudget = 500 * time.Millisecond
	watchKeys   = 8
	// watchRounds bounds the check of one conflict; there are not many ways to mix its values.
	watchRounds = 16
)

// certificate is what a law check found, with evidence.
type certificate struct {
	Time time.Time `json:"time"`
	// Live says that the values were those of conflicts at the time, not samples.
	Live      bool            `json:"live"`
	Outcome   laws.Outcome    `json:"outcome"`
	Tested    int             `json:"tested"`
	Failed    int             `json:"failed"`
	Laws      map[string]int  `json:"laws,omitempty"`
	Evidence  []laws.Equation `json:"evidence"`
	Violation *laws.Violation `json:"violation,omitempty"`
}

// certify keeps what a check found on this node's disk.
func (n *Node) certify(id [32]byte, r laws.Report, live bool) {
	c := certificate{
		Time: n.o.Now().UTC(), Live: live, Outcome: r.Outcome, Tested: r.Tested, Failed: r.Failed, Laws: r.Laws,
		Evidence: r.Evidence, Violation: r.Violation,
	}
	b, err := json.Marshal(c)
	for err == nil && len(b) > maxCertificateBytes && len(c.Evidence) > 0 {
		c.Evidence = c.Evidence[:len(c.Evidence)/2]
		b, err = json.Marshal(c)
	}
	if err == nil {
		err = n.store.PutMeta(metaCertificate+hex.EncodeToString(id[:]), append([]byte{certificateVersion}, b...))
	}
	if err != nil {
		n.log.Error("the evidence of a law check is not kept", "resolver", hex.EncodeToString(id[:8]), "err", err)
	}
}

// certificate returns what the last check on this node found of a version, as JSON; nil for nothing.
func (n *Node) certificate(id [32]byte) json.RawMessage {
	b, ok, err := n.store.Meta(metaCertificate + hex.EncodeToString(id[:]))
	if err != nil {
		n.log.Error("the evidence of a law check cannot be read", "resolver", hex.EncodeToString(id[:8]), "err", err)
	}
	if err != nil || !ok || len(b) < 2 || b[0] != certificateVersion || !json.Valid(b[1:]) {
		return nil
	}
	return b[1:]
}

// forgetCertificate removes what checks found of a version that is gone.
func (n *Node) forgetCertificate(id [32]byte) error {
	name := metaCertificate + hex.EncodeToString(id[:])
	b, ok, err := n.store.Meta(name)
	if err != nil || !ok || len(b) == 0 {
		return err
	}
	return n.store.PutMeta(name, []byte{})
}

// watchLaws goes on checking active resolvers on the conflicts that there are: samples are what the author
// thought of.
func (n *Node) watchLaws() {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-t.C:
		}
		v := n.state.View()
		for _, ks := range v.Keyspaces() {
			if p := replica.PolicyOf(v, ks); p.Lawful && n.settler.Quarantined(p) == nil {
				n.watchLaw(v, ks)
			}
		}
	}
}

// watchLaw checks the active version of a keyspace on live siblings. One that breaks a law there is not
// called any more: the siblings are kept.
func (n *Node) watchLaw(v *cluster.View, ks cluster.Keyspace) {
	p := replica.PolicyOf(v, ks)
	conflicts := n.liveConflicts(v, ks)
	if len(conflicts) == 0 || !n.settler.Loaded(p.Module) {
		return
	}
	ctx, cancel := context.WithTimeout(n.ctx, 2*watchBudget)
	defer cancel()
	m, err := n.settler.Load(ctx, p.Module)
	if err != nil {
		return // merges say so louder
	}
	if r := n.checkConflicts(ctx, ks, m, conflicts); r.Outcome == laws.Unlawful {
		n.condemn(p, ks, r)
	}
}

// checkConflicts tests a module on the siblings of each key as they are, until it breaks a law.
func (n *Node) checkConflicts(ctx context.Context, ks cluster.Keyspace, m *resolver.Module, conflicts []conflicted) laws.Report {
	out := laws.Report{Outcome: laws.Untested}
	for _, c := range conflicts {
		o := laws.Options{Budget: watchBudget / watchKeys, Rounds: watchRounds, Seed: n.draw(1 << 63), Verbatim: true, ContentTypes: c.types}
		if n.o.LawRounds > 0 {
			o.Rounds = n.o.LawRounds
		}
		out = out.And(laws.CheckModule(ctx, m, ks.Name, c.key, ks.MaxValueBytes, c.values, o))
		if out.Outcome == laws.Unlawful {
			break
		}
	}
	return out
}

// condemn ends the use of a version that broke a law on values of the keyspace, and keeps the evidence.
func (n *Node) condemn(p conflict.Policy, ks cluster.Keyspace, r laws.Report) {
	n.log.Error("a resolver breaks a law on values of the keyspace", "keyspace", ks.Name,
		"resolver", hex.EncodeToString(p.Module[:8]), "violation", r.Violation.String())
	n.certify(p.Module, r, true)
	if err := n.settler.Condemn(p, string(coordinator.CodeResolverUnlawful), fmt.Sprintf("it broke the law %q on values of the keyspace", r.Violation.Law)); err != nil {
		n.log.Error("the quarantine of a resolver is not on the disk", "keyspace", ks.Name, "err", err)
	}
}

// conflicted is a key, and the values of its siblings with their content types.
type conflicted struct {
	key    []byte
	values [][]byte
	types  []string
}

// liveConflicts returns a few keys with siblings that this node holds, from a random partition on.
func (n *Node) liveConflicts(v *cluster.View, ks cluster.Keyspace) []conflicted {
	var keys []store.Ref
	q := v.Ring.Q()
	from := int(n.draw(uint64(q)))
	for i := 0; i < q && len(keys) < watchKeys; i++ {
		id := store.TreeID{Partition: ring.Partition((from + i) % q), Keyspace: ks.ID()}
		if root, _ := n.store.TreeRoot(id); root.IsZero() {
			continue
		}
		err := n.store.Entries(id, 0, merkle.Positions, nil, func(e store.Entry) bool {
			if e.Flags&store.EntrySiblings != 0 {
				keys = append(keys, store.Ref{Partition: id.Partition, Keyspace: id.Keyspace, Key: e.Key})
			}
			return len(keys) < watchKeys
		})
		if err != nil {
			return nil // told and repaired elsewhere
		}
	}
	var out []conflicted
	for _, ref := range keys {
		rec, err := n.store.Get(ref)
		if err != nil {
			continue // as above
		}
		c := conflicted{key: ref.Key}
		for _, version := range rec.Object.Versions {
			if !version.Deleted {
				c.values, c.types = append(c.values, version.Bytes), append(c.types, version.ContentType)
			}
		}
		if len(c.values) > 1 {
			out = append(out, c)
		}
	}
	return out
}
