package causal

import (
	"fmt"
	"slices"
	"strings"
)

// The second half of the model: clean-ups, the schedule and the judge.

func (w *world) collapseAt(p place) {
	if o := w.at(p).object; len(o.Versions) > 1 {
		w.log("collapse at %v: %v", p, contents(o).list())
		w.store(p, w.rules.collapse(o, w.merged(o, p.node)))
	}
}

// reap drops a tombstone that is all a replica holds, without asking anybody.
func (w *world) reap(p place) {
	if o := w.at(p).object; len(o.Versions) == 1 && o.Versions[0].Deleted {
		w.log("reap locally at %v", p)
		w.remove(p)
	}
}

// quiet reports whether all primaries hold the same, and nothing is on its way or kept as a hint.
func (w *world) quiet() bool {
	if len(w.flying) > 0 {
		return false
	}
	for i := range w.nodes {
		for pos, s := range w.nodes[i].slots {
			p := place{i, pos}
			if p.isHint() && !w.rules.settleWithHints && !(s.now.object.IsZero() && s.synced.object.IsZero()) {
				return false
			}
			if i == pos && !w.equal(s.now.object, w.at(place{0, 0}).object) {
				return false
			}
		}
	}
	return true
}

// settle is the one gate for clean-ups: a quiet key, durable, older than every token.
func (w *world) settle() {
	if !w.quiet() {
		return
	}
	o := w.at(place{0, 0}).object
	for i := range primaries {
		w.sync(i)
	}
	if !w.rules.settleWithoutAge {
		w.clients = nil // expired, and every request is past its deadline
		for _, wr := range w.writes {
			wr.late = true
		}
	}
	switch {
	case len(o.Versions) == 1 && o.Versions[0].Deleted:
		w.log("settle: reap")
		for _, wr := range w.writes {
			wr.settled = wr.settled || o.Context.Contains(wr.dot)
		}
		for i := range primaries {
			w.remove(place{i, i})
		}
	case len(o.Versions) > 0:
		w.log("settle: collapse and prune %v", contents(o).list())
		for i := range primaries {
			n := o
			if len(o.Versions) > 1 && !w.rules.lastWins {
				n = w.rules.collapse(o, w.merged(o, 0))
			}
			w.store(place{i, i}, w.prune(n))
			w.sync(i)
		}
	}
}

// prune drops closed actors, those that can mint no more, from the context if no version needs them.
func (w *world) prune(o Object) Object {
	open := func(a Actor) bool {
		for i := range w.nodes {
			for pos := range primaries {
				if w.at(place{i, pos}).own == a && w.nodes[i].id == a.Node && w.nodes[i].incarnation == a.Incarnation {
					return true
				}
			}
		}
		return slices.ContainsFunc(o.Versions, func(v Version) bool {
			return slices.ContainsFunc(v.Label, func(r Range) bool { return r.Actor == a })
		})
	}
	for _, wr := range w.writes {
		wr.settled = wr.settled || (o.Context.Contains(wr.dot) && !open(wr.dot.Actor))
	}
	var actors []Actor
	for _, s := range o.Context {
		if open(s.Actor) {
			actors = append(actors, s.Actor)
		}
	}
	return o.Prune(actors)
}

func (w *world) client() holder {
	if len(w.clients) == 0 || w.rng.IntN(4) == 0 {
		return holder{}
	}
	return w.clients[w.rng.IntN(len(w.clients))]
}

// step does one random thing.
func (w *world) step() {
	i, j := w.rng.IntN(primaries), w.rng.IntN(primaries)
	switch n := w.rng.IntN(100); {
	case n < 16:
		p, c := w.anyPlace(i), w.client()
		w.learn(p, c)
		w.write(p, c, w.rng.IntN(3) == 0)
	case n < 44 && len(w.flying) > 0:
		w.deliver(w.rng.IntN(len(w.flying)))
	case n < 62:
		w.sync(w.rng.IntN(nodes))
	case n < 76 && i != j:
		w.read(w.anyPlace(i), w.anyPlace(j))
	case n < 80:
		w.handOff(primaries+w.rng.IntN(fallbacks), i)
	case n < 84:
		w.crash(w.rng.IntN(nodes))
	case n < 85 && !w.wiped:
		w.wipe(w.rng.IntN(nodes))
	case n < 91:
		w.exchangeAll()
		w.settle()
	case w.rules.collapseAnywhere && n < 96:
		w.collapseAt(place{i, i})
	case w.rules.reapLocally:
		w.reap(place{i, i})
	}
}

// handOff sends a hint home.
func (w *world) handOff(i, pos int) {
	p := place{i, pos}
	if o := w.at(p).object; !o.IsZero() {
		w.send(message{to: place{pos, pos}, object: o, hint: p, isHint: true})
	}
}

// exchangeAll hands the hints off, lets everything arrive and compares all primaries, a bounded number
// of times.
func (w *world) exchangeAll() {
	for i := primaries; i < nodes && !w.rules.settleWithHints; i++ {
		for pos := range primaries {
			w.handOff(i, pos)
		}
		w.sync(i)
	}
	for n := 0; len(w.flying) > 0 && n < 2*maxFlying; n++ {
		w.deliver(0)
	}
	for _, pair := range [][2]int{{0, 1}, {0, 2}, {1, 0}, {2, 0}} { // enough for all to have all
		to, from := pair[0], pair[1]
		w.receive(place{to, to}, w.at(place{from, from}).object)
	}
	for i := primaries; i < nodes; i++ {
		w.sync(i)
	}
}

// verdict is what the judge objects to: kind of violation -> the first case of it.
type verdict map[string]string

// play runs a whole schedule.
func play(seed uint64, r rules, verbose bool) (verdict, *world) {
	w := newWorld(seed, r)
	w.verbose = verbose
	for range 30 + w.rng.IntN(60) {
		w.step()
	}
	v := w.found
	if law := w.brokenLaw(); law != "" {
		v["laws"] = law
	}
	w.countCopies()
	w.lossless, w.rules.settleWithHints, w.minted = true, false, 0
	for n := 0; n < 4 && !(n > 0 && w.quiet()); n++ {
		w.exchangeAll()
	}
	if w.minted > maxMinted {
		v["storm"] = fmt.Sprintf("%d merges minted a dot after the last client was gone", w.minted)
	}
	w.judge(v)
	return v, w
}

// explain plays a seed again and writes down what happened.
func explain(seed uint64, r rules) string {
	v, w := play(seed, r, true)
	return fmt.Sprintf("seed %d: %v\n%s", seed, v, strings.Join(w.trace, "\n"))
}

// maxMinted is how many merges of a quiet system may mint a dot before it counts as a storm.
const maxMinted = 20

// brokenLaw names a law of join that the replicas' objects break.
func (w *world) brokenLaw() string {
	a, b, c := w.at(place{0, 0}).object, w.at(place{1, 1}).object, w.at(place{2, 2}).object
	join := w.rules.join
	ab := join(a, b)
	switch {
	case !w.equal(ab, join(b, a)):
		return fmt.Sprintf("not commutative:\n%+v\n%+v", a, b)
	case !w.equal(join(ab, c), join(a, join(b, c))):
		return fmt.Sprintf("not associative:\n%+v\n%+v\n%+v", a, b, c)
	case !w.equal(join(a, a), a) || !w.equal(join(ab, b), ab):
		return fmt.Sprintf("not idempotent:\n%+v\n%+v", a, b)
	}
	return ""
}

// countCopies objects to an acknowledged write that is not on W disks, but for a wiped one.
func (w *world) countCopies() {
	least := 2
	if w.wiped {
		least--
	}
	for _, wr := range w.writes {
		if !wr.acked || wr.settled {
			continue
		}
		copies := 0
		for i := range w.nodes {
			if slices.ContainsFunc(w.nodes[i].slots[:], func(s slot) bool { return s.synced.object.Context.Contains(wr.dot) }) {
				copies++
			}
		}
		if copies < least {
			w.found["copies"] = fmt.Sprintf("write %d was acknowledged and is on %d disks", wr.id, copies)
			return
		}
	}
}

func (w *world) judge(v verdict) {
	final := w.at(place{0, 0}).object
	for i := range primaries {
		if o := w.at(place{i, i}).object; !w.equal(o, final) || len(w.flying) > 0 {
			v["diverged"] = fmt.Sprintf("%d messages in flight\n%+v\n%+v", len(w.flying), final, o)
			break
		}
	}
	there := contents(final)
	var replaced, bound ids // by a write that is known to all; the same where it was bound to
	for _, wr := range w.writes {
		known := wr.settled || final.Context.Contains(wr.dot)
		if known {
			replaced = replaced.or(wr.seen)
		}
		if known || wr.acked {
			bound = bound.or(wr.replaces)
		}
	}
	for _, wr := range w.writes {
		switch {
		case w.rules.lastWins: // the loser of two concurrent writes goes, which is the policy
		case wr.acked && !wr.settled && !there.has(wr.id) && !replaced.has(wr.id):
			v["lost"] = fmt.Sprintf("write %d was acknowledged; there are %v", wr.id, there.list())
		case there.has(wr.id) && bound.has(wr.id):
			v["back"] = fmt.Sprintf("write %d was replaced, and is there", wr.id)
		case there.has(wr.id) && wr.settled && !final.Context.Contains(wr.dot):
			v["back"] = fmt.Sprintf("write %d was reaped, and is there", wr.id)
		}
	}
	if w.rules.lastWins && len(final.Versions) > 1 {
		v["siblings"] = fmt.Sprintf("%+v", final.Versions)
	}
}
