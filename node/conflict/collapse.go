package conflict

import (
	"context"

	"dynamo/node/causal"
)

// Collapse bounds the growth of an object: it replaces all siblings by the one version that a read
// shows, under the union of their labels and without a new dot, so that replicas which collapse
// independently agree. It needs a resolver that passed the law check and a merge that succeeds;
// otherwise ok is false and o stays as it is.
func (s *Settler) Collapse(ctx context.Context, p Policy, key []byte, o causal.Object) (out causal.Object, ok bool) {
	if !p.Lawful || len(o.Versions) < 2 {
		return o, false
	}
	res := s.Settle(ctx, PathCollapse, p, key, o.Versions)
	switch res.Kind {
	case Single, Deleted:
	default:
		return o, false
	}
	v := res.Value
	if res.Kind == Deleted && res.Merged == "" {
		v = causal.Value{Deleted: true, TimeMs: newestTime(o)}
	}
	c, err := o.Collapse(v, causal.Provenance{Epoch: p.Epoch, SHA256: p.Module})
	if err != nil {
		return o, false
	}
	s.stats.collapsed.Add(1)
	return c, true
}

func newestTime(o causal.Object) uint64 {
	var t uint64
	for _, v := range o.Versions {
		t = max(t, v.TimeMs)
	}
	return t
}
