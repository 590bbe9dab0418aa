package coordinator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"dynamo/node/causal"
	"dynamo/node/conflict"
	"dynamo/node/ring"
	"dynamo/node/wire"
)

// explainDots bounds the dots shown for one version.
const explainDots = 64

// Explain shows what every primary, and every fallback with a hint, holds of a key, and what a read
// of all of them would answer.
func (c *Coordinator) Explain(ctx context.Context, keyspace string, key []byte) (Explanation, error) {
	p, err := c.plan(keyspace, key, Options{})
	if err != nil {
		return Explanation{}, err
	}
	loc := c.locate(p)
	e := Explanation{
		Keyspace: keyspace, Key: string(key), Hash: loc.Hash, Partition: loc.Partition,
		PreferenceList: loc.PreferenceList, Replicas: []ExplainReplica{},
	}
	var all causal.Object
	for i, rows := range c.inspectAll(ctx, p) {
		for _, row := range rows {
			if i < len(p.primaries()) || row.HintFor != "" {
				e.Replicas = append(e.Replicas, row.ExplainReplica)
				all = all.Join(row.object)
			}
		}
	}
	e.Result = c.explainResult(ctx, p, all)
	return e, nil
}

func (c *Coordinator) locate(p plan) Location {
	h := ring.Hash(p.target.Keyspace, p.target.Key)
	return Location{
		Hash: fmt.Sprintf("%016x", h), Partition: uint32(p.view.Ring.Partition(h)), PreferenceList: p.list, N: p.keyspace.N,
	}
}

// Locate says where a key lives.
func (c *Coordinator) Locate(keyspace string, key []byte) (Location, error) {
	p, err := c.plan(keyspace, key, Options{})
	if err != nil {
		return Location{}, err
	}
	return c.locate(p), nil
}

type inspected struct {
	ExplainReplica
	object causal.Object
}

// inspectAll asks every node of the preference list, in its order.
func (c *Coordinator) inspectAll(ctx context.Context, p plan) [][]inspected {
	out := make([][]inspected, len(p.list))
	var wg sync.WaitGroup
	for i, id := range p.list {
		wg.Add(1)
		started := c.spawn(func() {
			defer wg.Done()
			out[i] = c.inspect(ctx, p, id, i < len(p.primaries()))
		})
		if !started {
			wg.Done()
		}
	}
	wg.Wait()
	return out
}

func (c *Coordinator) inspect(ctx context.Context, p plan, id string, primary bool) []inspected {
	own := inspected{ExplainReplica: ExplainReplica{Node: id, Role: "fallback", Context: map[string]uint64{}, Versions: []ExplainVersion{}}}
	if primary {
		own.Role = "primary"
	}
	m, err := c.s.Transport.Call(ctx, id, &wire.Inspect{Target: p.target})
	if err != nil {
		own.Error = err.Error()
		return []inspected{own}
	}
	own.Reachable = true
	reply, ok := m.(*wire.InspectReply)
	if !ok {
		own.Error = "answered by another kind of message"
		return []inspected{own}
	}
	rows := []inspected{own.with("", reply.Own)}
	for _, h := range reply.Hints {
		row := own
		row.Role = "fallback"
		rows = append(rows, row.with(h.For, h.Object))
	}
	return rows
}

func (i inspected) with(hintFor string, object []byte) inspected {
	i.HintFor = hintFor
	o, err := causal.DecodeObject(object)
	if err != nil {
		i.Error = err.Error()
		return i
	}
	i.object = o
	i.Context = make(map[string]uint64, len(o.Context))
	for _, s := range o.Context {
		i.Context[s.Actor.String()] = s.Counter
	}
	i.Versions = make([]ExplainVersion, 0, len(o.Versions))
	for _, v := range o.Versions {
		i.Versions = append(i.Versions, explainVersion(v))
	}
	return i
}

func explainVersion(v causal.Version) ExplainVersion {
	sum := sha256.Sum256(v.Bytes)
	e := ExplainVersion{
		Dots: dotStrings(v.Label), Live: dotStrings(v.Live), Time: time.UnixMilli(int64(v.TimeMs)).UTC(), Deleted: v.Deleted,
		Size: len(v.Bytes), SHA256: hex.EncodeToString(sum[:]), ContentType: v.ContentType,
	}
	if v.Resolver.Epoch > 0 {
		e.Resolver = hex.EncodeToString(v.Resolver.SHA256[:])
	}
	return e
}

func dotStrings(s causal.Dots) []string {
	ds := s.List(explainDots)
	out := make([]string, len(ds))
	for i, d := range ds {
		out[i] = d.String()
	}
	return out
}

func (c *Coordinator) explainResult(ctx context.Context, p plan, o causal.Object) ExplainResult {
	res := c.s.Settler.Settle(ctx, conflict.PathExplain, p.policy, p.target.Key, o.Versions)
	out := ExplainResult{Siblings: res.Count, Status: 404}
	switch res.Kind {
	case conflict.Single:
		out.Status = 200
	case conflict.Conflict:
		out.Status = 300
	}
	switch {
	case res.Merged != "":
		out.Merge = &ExplainMerge{Resolver: res.Merged, Outcome: "merged", Fuel: res.Fuel, Micros: micros(res.Duration)}
	case res.Code != "":
		out.Merge = &ExplainMerge{Resolver: hex.EncodeToString(p.policy.Module[:]), Outcome: res.Code, Fuel: res.Fuel, Micros: micros(res.Duration)}
	}
	return out
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
