package causal

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// tiny is a world small enough to visit every state of: two or three replicas, few writes, whole
// objects sent at any time, no faults but those that an interleaving is.
type tiny struct {
	objects []Object
	clients []holder
	writes  []written
}

func (s tiny) clone() tiny {
	return tiny{slices.Clone(s.objects), slices.Clone(s.clients), slices.Clone(s.writes)}
}

// key names a state up to what matters later.
func (s tiny) key() string {
	var b []byte
	for _, o := range s.objects {
		b = append(AppendObject(b, o), 0xff)
	}
	for _, c := range s.clients {
		b = appendLooseDots(AppendContext(b, c.basis.Context), c.basis.Dots)
		b = fmt.Append(b, c.seen)
	}
	return string(b)
}

// next returns every state one step away.
func (s tiny) next(maxWrites int) []tiny {
	var out []tiny
	for i := range s.objects {
		if len(s.writes) < maxWrites {
			for c := -1; c < len(s.clients); c++ {
				out = append(out, s.write(i, c))
			}
		}
		for j := range s.objects {
			if i != j && !s.objects[i].Join(s.objects[j]).Equal(s.objects[i]) {
				n := s.clone()
				n.objects[i] = n.objects[i].Join(n.objects[j])
				out = append(out, n)
			}
		}
		if o := s.objects[i]; !o.IsZero() && len(s.clients) < 3 {
			n := s.clone()
			n.clients = append(n.clients, holder{Basis{Context: o.Context}, contents(o)})
			out = append(out, n)
		}
	}
	return out
}

func (s tiny) write(i, client int) tiny {
	n := s.clone()
	var c holder
	if client >= 0 {
		c = n.clients[client]
	}
	id := len(n.writes) + 1
	o, d := n.objects[i].PutOver(c.basis, Actor{Node: NodeID{byte(i + 1)}, Incarnation: 1, Seq: 1}, value(id))
	n.objects[i] = o
	n.writes = append(n.writes, written{id: id, dot: d, seen: c.seen})
	if client >= 0 {
		n.clients[client] = holder{c.basis.After(d, o), append(slices.Clone(c.seen), id)}
	}
	return n
}

// check compares every replica and their join with explicit causal histories: of the writes that a
// replica has heard of, those stand that no other of them has replaced.
func (s tiny) check() error {
	all := Object{}
	for _, o := range s.objects {
		all = all.Join(o)
	}
	for _, o := range append([]Object{all}, s.objects...) {
		if _, err := DecodeObject(AppendObject(nil, o)); err != nil {
			return fmt.Errorf("object is not canonical: %w", err)
		}
		var want []int
		for _, w := range s.writes {
			if !o.Context.Contains(w.dot) {
				continue
			}
			replaced := slices.ContainsFunc(s.writes, func(u written) bool { return o.Context.Contains(u.dot) && slices.Contains(u.seen, w.id) })
			// A single dot that was not known where it was named stays a sibling: never less than the history says.
			if !replaced {
				want = append(want, w.id)
			}
		}
		got := contents(o)
		for _, id := range want {
			if !slices.Contains(got, id) {
				return fmt.Errorf("write %d is gone from %v, history says %v", id, got, want)
			}
		}
		for _, id := range got {
			if !slices.Contains(want, id) && !s.namedSingly(id) {
				return fmt.Errorf("write %d stands in %v, history says %v", id, got, want)
			}
		}
	}
	return nil
}

// namedSingly reports whether some client could name a write only by its dot.
func (s tiny) namedSingly(id int) bool {
	d := s.writes[id-1].dot
	return d.Counter > 1
}

// TestExhaustive visits every state of small worlds breadth first.
func TestExhaustive(t *testing.T) {
	for _, c := range []struct{ replicas, writes, depth, atLeast int }{{2, 4, 9, 20_000}, {3, 3, 7, 50_000}} {
		t.Run(fmt.Sprintf("%d replicas, %d writes", c.replicas, c.writes), func(t *testing.T) {
			t.Parallel()
			level := []tiny{{objects: make([]Object, c.replicas)}}
			visited := map[string]bool{level[0].key(): true}
			for depth := 0; depth < c.depth && len(visited) < 8*c.atLeast; depth++ {
				var nextLevel []tiny
				for _, s := range level {
					for _, n := range s.next(c.writes) {
						k := n.key()
						if visited[k] {
							continue
						}
						visited[k] = true
						if err := n.check(); err != nil {
							t.Fatalf("depth %d: %v\n%s", depth+1, err, strings.Join(strings.Split(fmt.Sprintf("%+v", n), "} {"), "}\n{"))
						}
						nextLevel = append(nextLevel, n)
					}
				}
				level = nextLevel
			}
			t.Logf("%d states", len(visited))
			if len(visited) < c.atLeast {
				t.Fatalf("only %d states, want %d", len(visited), c.atLeast)
			}
		})
	}
}
