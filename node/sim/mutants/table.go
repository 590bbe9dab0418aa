package mutants

// The promises that mutants break, in the words of the simulator's violations.
const (
	lost    = "acknowledged writes are not lost"
	returns = "what a context covered does not come back"
	equal   = "replicas become equal"
	unique  = "a dot stands for one value"
	hints   = "hints are delivered"
	strict  = "strict reads see strict writes"
	dropped = "what is dropped is gone"
	expired = "expired contexts are refused"
)

func causality() []Mutant {
	const object, write = "node/causal/object.go", "node/replica/write.go"
	join := func(name, to string) []Edit {
		return []Edit{{
			object, "\tlive := ol.Intersect(pl).Union(ol.Unseen(p.Context)).Union(pl.Unseen(o.Context))\n",
			"\tlive := ol.Intersect(pl).Union(ol.Unseen(p.Context)).Union(pl.Unseen(o.Context))\n\tif mutant.On(\"" + name + "\") {\n\t\t" + to + "\n\t}\n",
		}}
	}
	joined := func(name, to string) []Edit {
		return []Edit{{
			object, "\treturn Object{Context: o.Context.Join(p.Context), Versions: widest(all)}\n",
			"\tif mutant.On(\"" + name + "\") {\n\t\t" + to + "\n\t}\n\treturn Object{Context: o.Context.Join(p.Context), Versions: widest(all)}\n",
		}}
	}
	return []Mutant{
		{"join-keeps-newest", "a join keeps the newest sibling only", lost, joined("join-keeps-newest", "return Object{o.Context.Join(p.Context), widest(all)}.Last()")},
		{"join-drops-context", "a join drops the context of the other side", returns, joined("join-drops-context", "return Object{o.Context.Join(live2context(live)), widest(all)}")},
		{"join-local-wins", "what is live here stays, whatever the other side has superseded", returns, join("join-local-wins", "live = ol.Union(pl.Unseen(o.Context))")},
		{"join-union", "a join keeps the dots of both, superseded or not", returns, join("join-union", "live = ol.Union(pl)")},
		{"join-intersects", "a join keeps what is live on both sides only", lost, join("join-intersects", "live = ol.Intersect(pl)")},
		{"tombstone-context-lost", "a joined tombstone takes the context of its key along", returns, joined("tombstone-context-lost", "if s := widest(all); len(s) == 1 && s[0].Deleted {\n\t\t\treturn Object{live2context(live), s}\n\t\t}")},
		{"context-cut", "contexts are cut at three actors", returns, joined("context-cut", "if c := o.Context.Join(p.Context); len(c) > 3 {\n\t\t\treturn Object{c, widest(all)}.Prune(nil)\n\t\t}")},
		{"own-context-cut", "a write cuts the context that it stores to what is live", returns, []Edit{{
			object, "\treturn Object{Context: ctx.With(d), Versions: kept}, d\n",
			"\tif mutant.On(\"own-context-cut\") {\n\t\treturn Object{Context: ctx.With(d), Versions: kept}.Prune([]Actor{own}), d\n\t}\n\treturn Object{Context: ctx.With(d), Versions: kept}, d\n",
		}, {object, "// Hash names the content of an object, context included.\n", `// live2context is what a set of dots alone would claim.
func live2context(live Dots) (c Context) {
	for _, r := range live {
		c = c.With(Dot{r.Actor, r.To})
	}
	return c
}

// Hash names the content of an object, context included.
`}}},
	}
}

func writing() []Mutant {
	const object, write = "node/causal/object.go", "node/replica/write.go"
	return []Mutant{
		{"blind-write-covers", "a write without a context covers what is stored", lost, []Edit{{
			write, "\t\tif w.Policy.Conflict == config.PolicyLWW {\n\t\t\t// Blind", "\t\tif w.Policy.Conflict == config.PolicyLWW || mutant.On(\"blind-write-covers\") {\n\t\t\t// Blind",
		}}},
		{"token-ignored", "a write does not supersede what its context covers", returns, []Edit{{
			write, "\t\tseen := w.Seen\n", "\t\tseen := w.Seen\n\t\tif mutant.On(\"token-ignored\") {\n\t\t\tseen = causal.Basis{}\n\t\t}\n",
		}}},
		{"token-claims-all", "the answer to a write claims siblings that the writer never saw", lost, []Edit{{
			write, "\t\tout = Written{Object: o, Seen: seen.After(dot, o)}\n",
			"\t\tout = Written{Object: o, Seen: seen.After(dot, o)}\n\t\tif mutant.On(\"token-claims-all\") {\n\t\t\tout.Seen = causal.Basis{Context: o.Context}\n\t\t}\n",
		}}},
		{"delete-removes", "a delete removes the record and leaves no tombstone", returns, []Edit{{
			"node/replica/replica.go", "\t\trec.Object = rec.Object.Join(o)\n", "\t\trec.Object = rec.Object.Join(o)\n\t\tif v := rec.Object.Versions; mutant.On(\"delete-removes\") && len(v) == 1 && v[0].Deleted {\n\t\t\treturn store.Record{}, nil\n\t\t}\n",
		}, {
			write, "\t\treturn store.Record{Object: o, Own: own}, nil\n",
			"\t\tif mutant.On(\"delete-removes\") && w.Value.Deleted && len(o.Versions) == 1 {\n\t\t\treturn store.Record{}, nil\n\t\t}\n\t\treturn store.Record{Object: o, Own: own}, nil\n",
		}}},
		{"dot-taken-twice", "a disk mints with one actor for ever, so a record that begins anew gives its dots again", unique, []Edit{{
			"node/disk/identity.go", "\tid.mu.next++\n\treturn a, nil\n", "\tid.mu.next++\n\tif mutant.On(\"dot-taken-twice\") {\n\t\ta.Seq = 1\n\t}\n\treturn a, nil\n",
		}}},
		{"context-without-dot", "a replica takes the context of an object and not its versions", lost, []Edit{{
			"node/replica/replica.go", "\t\trec.Object = rec.Object.Join(o)\n",
			"\t\tif mutant.On(\"context-without-dot\") {\n\t\t\to = causal.Object{Context: o.Context}\n\t\t}\n\t\trec.Object = rec.Object.Join(o)\n",
		}}},
		{"apply-overwrites", "a replica replaces its copy by the one that comes", lost, []Edit{{
			"node/replica/replica.go", "\t\tif last {\n\t\t\trec.Object = rec.Object.Last()\n",
			"\t\tif mutant.On(\"apply-overwrites\") {\n\t\t\trec.Object = o\n\t\t}\n\t\tif last {\n\t\t\trec.Object = rec.Object.Last()\n",
		}}},
		{"lww-by-arrival", "of two writes the one that arrives last wins, not the one with the later time", equal, []Edit{{
			"node/replica/replica.go", "\tlast := r.lww(v, t)\n",
			"\tlast := r.lww(v, t)\n\tarrival := last && mutant.On(\"lww-by-arrival\")\n",
		}, {
			"node/replica/replica.go", "\t\t\trec.Object = rec.Object.Last()\n",
			"\t\t\tif arrival && len(o.Versions) > 0 {\n\t\t\t\trec.Object.Versions = o.Versions\n\t\t\t}\n\t\t\trec.Object = rec.Object.Last()\n",
		}}},
		{"stale-view", "the memory of merges forgets to ask for the siblings", lost, []Edit{{
			"node/conflict/views.go", "\tfor _, v := range in {\n\t\tvar dots []byte\n",
			"\tif mutant.On(\"stale-view\") {\n\t\treturn viewID(h.Sum(nil))\n\t}\n\tfor _, v := range in {\n\t\tvar dots []byte\n",
		}}},
		{"merge-drops-labels", "a collapsed version carries one dot instead of all it stands for, at any write", lost, []Edit{{
			object, "\treturn Object{\n\t\tContext:  o.Context,\n",
			"\tif mutant.On(\"merge-drops-labels\") {\n\t\tlabel = Dots{{label[0].Actor, label[0].From, label[0].From}}\n\t\tlive = label\n\t}\n\treturn Object{\n\t\tContext:  o.Context,\n",
		}, {
			write, "(len(o.Versions) < r.o.Limits.MaxSiblings && !r.full(o, w))",
			"(len(o.Versions) < r.o.Limits.MaxSiblings && !r.full(o, w) && !((mutant.On(\"merge-drops-labels\") || mutant.On(\"merge-takes-dot\")) && len(o.Versions) > 1))",
		}}},
		{"merge-takes-dot", "a merge is a write of its own, with a fresh dot, at any write", returns, []Edit{{
			write, "\t\to, dot := o.PutOver(seen, own, w.Value)\n",
			"\t\tif mutant.On(\"merge-takes-dot\") && narrow != nil && len(o.Versions) == 1 && o.Versions[0].Label.Count() > 1 {\n\t\t\to, _ = o.PutOver(causal.Basis{Context: o.Context}, own, o.Versions[0].Value)\n\t\t}\n\t\to, dot := o.PutOver(seen, own, w.Value)\n",
		}}},
	}
}

func quorums() []Mutant {
	return []Mutant{
		{"read-needs-one-less", "a read answers after R-1 replicas", lost, []Edit{{
			"node/coordinator/get.go", "\tg := &reading{c: c,", "\tif mutant.On(\"read-needs-one-less\") && p.r > 1 {\n\t\tp.r--\n\t}\n\tg := &reading{c: c,",
		}}},
		{"write-needs-one-less", "a write is acknowledged after W-1 replicas", lost, []Edit{{
			"node/coordinator/put.go", "\tw := newWrites(p.w, !p.sloppy)\n", "\tif mutant.On(\"write-needs-one-less\") {\n\t\tp.w--\n\t}\n\tw := newWrites(p.w, !p.sloppy)\n",
		}}},
		{"answer-without-quorum", "a write is acknowledged at its deadline however few have it", lost, []Edit{{
			"node/coordinator/put.go", "\tif !done {\n\t\te := w.unmet(", "\tif !done && mutant.On(\"answer-without-quorum\") {\n\t\tanswered <- nil\n\t} else if !done {\n\t\te := w.unmet(",
		}}},
		{"hash-counts", "a read counts a replica whose hash differs before its object is there", lost, []Edit{{
			"node/coordinator/quorum.go", "\t\tif r.known[h] && !r.unsure[node] {\n", "\t\tif (r.known[h] || mutant.On(\"hash-counts\")) && !r.unsure[node] {\n",
		}}},
		{"failure-counts", "a replica that failed counts as one that has the write", lost, []Edit{{
			"node/coordinator/put.go", "\t\t\tif a.err == nil {\n\t\t\t\tw.add(a.target)\n",
			"\t\t\tif a.err == nil || mutant.On(\"failure-counts\") {\n\t\t\t\tw.add(a.target)\n",
		}}},
		{"no-replication", "the coordinator acknowledges alone and sends the write to nobody", lost, []Edit{{
			"node/coordinator/put.go", "\tbg, cancel := c.detach(ctx)\n\tanswered := make(chan error, 1)\n",
			"\tif mutant.On(\"no-replication\") {\n\t\treturn nil\n\t}\n\tbg, cancel := c.detach(ctx)\n\tanswered := make(chan error, 1)\n",
		}}},
		{"hint-not-stored", "a fallback acknowledges a write and keeps no hint", lost, []Edit{{
			"node/replica/serve.go", "\treturn &wire.Ack{}, r.Apply(ctx, m.Target, o, m.HintFor, d)\n",
			"\tif mutant.On(\"hint-not-stored\") && m.HintFor != \"\" {\n\t\treturn &wire.Ack{}, nil\n\t}\n\treturn &wire.Ack{}, r.Apply(ctx, m.Target, o, m.HintFor, d)\n",
		}}},
		{"write-not-claimed", "a forwarded write is minted by everybody who is asked for it", returns, []Edit{{
			"node/coordinator/claims.go", "\tif !c.claims.take(m.ID, from) {\n", "\tif !c.claims.take(m.ID, from) && !mutant.On(\"write-not-claimed\") {\n",
		}}},
		{"strict-read-counts-fallbacks", "a read with sloppy=false counts fallbacks", strict, []Edit{{
			"node/coordinator/quorum.go", "\t\tif r.strict && r.roles[node].hintFor != \"\" {\n", "\t\tif r.strict && r.roles[node].hintFor != \"\" && !mutant.On(\"strict-read-counts-fallbacks\") {\n",
		}}},
		{"unsure-counts", "a read counts a node that may have lost what it acknowledged", strict, []Edit{{
			"node/coordinator/quorum.go", "\tif !r.unsure[node] {\n\t\tr.unsure[node] = true\n", "\tif !r.unsure[node] && !mutant.On(\"unsure-counts\") {\n\t\tr.unsure[node] = true\n",
		}}},
		{"expired-token-taken", "a context is accepted however old it is", expired, []Edit{{
			"node/coordinator/coordinator.go", "\tb, err := c.s.Tokens.Open(token, t.Keyspace, t.Key, c.s.Now(), c.s.Limits.ContextLifetime)\n",
			"\tlifetime := c.s.Limits.ContextLifetime\n\tif mutant.On(\"expired-token-taken\") {\n\t\tlifetime *= 1000\n\t}\n\tb, err := c.s.Tokens.Open(token, t.Keyspace, t.Key, c.s.Now(), lifetime)\n",
		}}},
		{"lost-reported-refused", "a write that may be stored is reported as refused", returns, []Edit{{
			"node/coordinator/put.go", "\t\te.MaybeStored = true\n\t\tanswered <- e\n", "\t\te.MaybeStored = !mutant.On(\"lost-reported-refused\")\n\t\tanswered <- e\n",
		}}},
	}
}

// overwrite puts an object in the place of another node's copy, by the messages of a settle round.
const overwrite = `func (r *Repairer) overwrite(node string, t wire.Target, o causal.Object) error {
	check, err := call[*wire.SettleCheckReply](r, node, &wire.SettleCheck{KeyspaceID: t.KeyspaceID, Keys: [][]byte{t.Key}})
	if err != nil {
		return err
	}
	_, err = call[*wire.SettleApplyReply](r, node, &wire.SettleApply{KeyspaceID: t.KeyspaceID, Items: []wire.SettleItem{
		{Key: t.Key, Agreed: check.Copies[0].Hash, Object: causal.AppendObject(nil, o)},
	}})
	return err
}
`

func repairs() []Mutant {
	const handoff, entropy = "node/repair/handoff.go", "node/repair/antientropy.go"
	return []Mutant{
		{"hint-removed-unacked", "a hint goes though its primary has not acknowledged it", lost, []Edit{{
			handoff, "\tif err == nil {\n\t\tp.r.stats.delivered.Add(1)\n", "\tif err == nil || mutant.On(\"hint-removed-unacked\") {\n\t\tp.r.stats.delivered.Add(1)\n",
		}}},
		{"hint-removed-unsent", "hints are removed and not delivered", lost, []Edit{{
			handoff, "\terr := p.r.apply(p.node, t, h.Record.Object)\n",
			"\tif mutant.On(\"hint-removed-unsent\") {\n\t\treturn done\n\t}\n\terr := p.r.apply(p.node, t, h.Record.Object)\n",
		}}},
		{"hint-removed-grown", "a delivered hint goes though it has grown meanwhile", lost, []Edit{{
			"node/store/hint.go", "\t\treturn r.Object.Hash() == content, nil\n", "\t\treturn r.Object.Hash() == content || mutant.On(\"hint-removed-grown\"), nil\n",
		}}},
		{"hint-of-another", "the handoff to one primary removes what is kept for another", lost, []Edit{{
			"node/store/hint.go", "\tvar errs []error\n\tn := 0\n",
			"\tif mutant.On(\"hint-of-another\") && len(all) > 0 {\n\t\tvar other []HintContent\n\t\tif err := s.ScanHints(\"\", func(h Hint) bool {\n\t\t\tother = append(other, HintContent{h.Ref, h.Record.Object.Hash()})\n\t\t\treturn true\n\t\t}); err == nil {\n\t\t\tall = other\n\t\t}\n\t}\n\tvar errs []error\n\tn := 0\n",
		}}},
		{"hints-stay", "hints are never delivered", hints, []Edit{{
			handoff, "\tcase st.Count == 0:\n", "\tcase st.Count == 0, mutant.On(\"hints-stay\"):\n",
		}}},
		{"hint-overwrites", "a hint replaces the copy of its primary", lost, []Edit{{
			handoff, "\terr := p.r.apply(p.node, t, h.Record.Object)\n\tif err == nil ||",
			"\terr := error(nil)\n\tif mutant.On(\"hint-overwrites\") {\n\t\terr = p.r.overwrite(p.node, t, h.Record.Object)\n\t} else {\n\t\terr = p.r.apply(p.node, t, h.Record.Object)\n\t}\n\tif err == nil ||",
		}, {
			"node/repair/worker.go", "func (r *Repairer) apply(", overwrite + "\nfunc (r *Repairer) apply(",
		}}},
		{"repair-overwrites", "read repair replaces the copy that it mends", lost, []Edit{{
			"node/repair/readrepair.go", "\t\terr = r.apply(node, c.target, c.object)\n",
			"\t\tif mutant.On(\"repair-overwrites\") {\n\t\t\terr = r.overwrite(node, c.target, c.object)\n\t\t} else {\n\t\t\terr = r.apply(node, c.target, c.object)\n\t\t}\n",
		}}},
		{"entropy-off", "replicas are never compared", equal, []Edit{{
			entropy, "\tvar first error\n\tfor chunk := range slices.Chunk(ids, rootsAtOnce) {\n",
			"\tif mutant.On(\"entropy-off\") {\n\t\treturn nil\n\t}\n\tvar first error\n\tfor chunk := range slices.Chunk(ids, rootsAtOnce) {\n",
		}}},
		{"entropy-skips-tombstones", "keys that one side has deleted are left out of exchanges", equal, []Edit{{
			"node/replica/tree.go", "\t\te := wire.ListEntry{Key: key}\n",
			"\t\tif mutant.On(\"entropy-skips-tombstones\") && len(o.Versions) == 1 && o.Versions[0].Deleted {\n\t\t\to = causal.Object{}\n\t\t}\n\t\te := wire.ListEntry{Key: key}\n",
		}}},
		{"entropy-overwrites", "an exchange replaces the copies that differ", lost, []Edit{{
			"node/replica/tree.go", "\t\t\terr = r.Apply(ctx, t, o, \"\", store.Buffered)\n",
			"\t\t\tif mutant.On(\"entropy-overwrites\") {\n\t\t\t\t_, err = r.o.Store.Update(ctx, Ref(r.o.View(), t, \"\"), store.Buffered, func(rec store.Record) (store.Record, error) {\n\t\t\t\t\treturn store.Record{Object: o, Own: rec.Own}, nil\n\t\t\t\t})\n\t\t\t} else {\n\t\t\t\terr = r.Apply(ctx, t, o, \"\", store.Buffered)\n\t\t\t}\n",
		}}},
		{"tree-without-deletes", "a delete does not reach the hash tree", equal, []Edit{{
			"node/store/tree.go", "\tif before == after && !now.buried {\n",
			"\tif before == after && !now.buried || mutant.On(\"tree-without-deletes\") && now.flags&EntryDeleted != 0 {\n",
		}}},
		{"repair-covers", "read repair hands on the context of all answers with the versions of the newest one only", lost, []Edit{{
			"node/coordinator/get.go", "\tfor _, id := range g.reads.stale(o.Hash()) {\n",
			"\tif mutant.On(\"repair-covers\") {\n\t\to = o.Last()\n\t}\n\tfor _, id := range g.reads.stale(o.Hash()) {\n",
		}}},
	}
}

func disks() []Mutant {
	return []Mutant{
		{"fsync-dropped", "a write is acknowledged before it is on the disk", lost, []Edit{{
			"node/store/commit.go", "\tmark, err := s.applyNext(b, d)\n", "\tif mutant.On(\"fsync-dropped\") {\n\t\td = Buffered\n\t}\n\tmark, err := s.applyNext(b, d)\n",
		}, {
			"node/store/commit.go", "func (s *Store) syncWait(p *pending) error {\n", "func (s *Store) syncWait(p *pending) error {\n\tif p == nil {\n\t\treturn nil\n\t}\n",
		}}},
		{"hint-not-durable", "a hint is acknowledged before it is on the disk", lost, []Edit{{
			"node/replica/replica.go", "\tif err := r.room(t, o.ValueBytes()); err != nil {\n\t\treturn fmt.Errorf(\"apply: %w\", err)\n",
			"\tif mutant.On(\"hint-not-durable\") && hintFor != \"\" {\n\t\td = store.Buffered\n\t}\n\tif err := r.room(t, o.ValueBytes()); err != nil {\n\t\treturn fmt.Errorf(\"apply: %w\", err)\n",
		}}},
		{"identity-kept", "a wiped disk comes up as what it was, and mints the same dots again", unique, []Edit{{
			"node/disk/identity.go", "\tf.Incarnation, f.Boot = 1, 1\n",
			"\tf.Incarnation, f.Boot = 1, 1\n\tif mutant.On(\"identity-kept\") {\n\t\tf.Boot = mutant.Later()\n\t\tf.Node = causal.NodeID{}\n\t\tcopy(f.Node[:], id.dir)\n\t}\n",
		}, {
			"node/disk/identity.go", "\ta := causal.Actor{Node: id.mu.file.Node, Incarnation: id.mu.file.Incarnation, Seq: id.mu.next}\n",
			"\ta := causal.Actor{Node: id.mu.file.Node, Incarnation: id.mu.file.Incarnation, Seq: id.mu.next}\n\tif mutant.On(\"identity-kept\") {\n\t\ta.Seq = 1\n\t}\n",
		}}},
	}
}

// unclean are variants of what a node does after it lost the end of its log.
func unclean() []Mutant {
	return []Mutant{
		{"incarnation-kept", "a disk goes on as the same incarnation after an unclean stop", lost, []Edit{{
			"node/disk/identity.go", "\t\tnext.Incarnation += step\n", "\t\tif !mutant.On(\"incarnation-kept\") {\n\t\t\tnext.Incarnation += step\n\t\t}\n",
		}}},
		{"drop-not-heard-of", "a node removes the data of a keyspace only if it was there when it was dropped", dropped, []Edit{{
			"node/boot.go", "\tif err := n.store.DropKeyspaces(n.state.View().DroppedIDs()); err != nil {\n",
			"\tif mutant.On(\"drop-not-heard-of\") && n.store.Identity().Boot > 1 {\n\t\treturn\n\t}\n\tif err := n.store.DropKeyspaces(n.state.View().DroppedIDs()); err != nil {\n",
		}}},
	}
}

func settling() []Mutant {
	const settle = "node/repair/settle.go"
	return []Mutant{
		{"reaped-by-age", "the round asks no member, needs no agreement and waits a second instead of settle_after", returns, []Edit{{
			settle, "\tbefore := r.o.Now().Add(-r.o.SettleAfter)\n", "\tbefore := r.o.Now().Add(-r.o.SettleAfter)\n\tif mutant.On(\"reaped-by-age\") {\n\t\tbefore = r.o.Now().Add(-time.Second)\n\t}\n",
		}, {
			settle, "\thinted, err := r.fence(v)\n", "\thinted, err := map[ring.Partition]bool{}, error(nil)\n\tif !mutant.On(\"reaped-by-age\") {\n\t\thinted, err = r.fence(v)\n\t}\n",
		}, {
			settle, "\t\tif i >= len(check.Copies) ||", "\t\tif mutant.On(\"reaped-by-age\") {\n\t\t\tbreak\n\t\t}\n\t\tif i >= len(check.Copies) ||",
		}, {
			settle, "\treturn out, cmp.Or(errs...)\n", "\tif mutant.On(\"reaped-by-age\") {\n\t\treturn out, nil\n\t}\n\treturn out, cmp.Or(errs...)\n",
		}}},
		{"reaped-without-absent", "the round does without members that are away", returns, []Edit{{
			settle, "\tmembers := make([]string, len(v.Members))\n\tfor i, m := range v.Members {\n",
			"\tif mutant.On(\"reaped-without-absent\") {\n\t\tpresent := *v\n\t\tpresent.Members = slices.DeleteFunc(slices.Clone(v.Members), func(m cluster.Member) bool { return m.ID != r.o.Self && !r.o.Reachable(m.ID) })\n\t\tv = &present\n\t}\n\tmembers := make([]string, len(v.Members))\n\tfor i, m := range v.Members {\n",
		}, {
			settle, "\tprimaries := list[:min(ks.N, len(list))]\n",
			"\tprimaries := list[:min(ks.N, len(list))]\n\tif mutant.On(\"reaped-without-absent\") {\n\t\tprimaries = slices.DeleteFunc(slices.Clone(primaries), func(id string) bool { return id != r.o.Self && !r.o.Reachable(id) })\n\t}\n",
		}}},
		{"writers-pruned", "the round does not wait, and prunes actors that still write", unique, []Edit{{
			settle, "\t\tif mutant.On(\"reaped-by-age\") {\n\t\t\tbreak\n", "\t\tif mutant.On(\"writers-pruned\") && i < len(check.Copies) && check.Copies[i].Hash == c.hash {\n\t\t\tcontinue\n\t\t}\n\t\tif mutant.On(\"reaped-by-age\") {\n\t\t\tbreak\n",
		}, {
			settle, "\tif mutant.On(\"reaped-by-age\") {\n\t\tbefore", "\tif mutant.On(\"writers-pruned\") || mutant.On(\"reaped-by-age\") {\n\t\tbefore",
		}, {
			settle, "\t\t\t\tif e.Flags&wanted != 0 && e.Changed", "\t\t\t\tif (e.Flags&wanted != 0 || mutant.On(\"writers-pruned\")) && e.Changed",
		}, {
			settle, "\tif pruned := next.Prune(owns);", "\tif mutant.On(\"writers-pruned\") {\n\t\towns = nil\n\t}\n\tif pruned := next.Prune(owns);",
		}}},
	}
}
