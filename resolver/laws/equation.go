package laws

import (
	"slices"
	"strings"
)

// expr is one side of an equation: an input, or a merge of sides.
type expr struct {
	leaf int    // which input, if args is nil
	args []expr // what is merged, two or more
}

func leaf(i int) expr { return expr{leaf: i} }

func f(args ...expr) expr { return expr{args: args} }

// String writes the inputs as a, b, c and so on, and a merge as f(...).
func (e expr) String() string {
	if e.args == nil {
		return string(rune('a' + e.leaf))
	}
	parts := make([]string, len(e.args))
	for i, a := range e.args {
		parts[i] = a.String()
	}
	return "f(" + strings.Join(parts, ",") + ")"
}

// rename gives the inputs other numbers; those below 0 are dropped. A merge of one thing is that thing, and one
// of inputs alone does not take the same one twice, as the store removes duplicates.
func (e expr) rename(to []int) (expr, bool) {
	if e.args == nil {
		return leaf(to[e.leaf]), to[e.leaf] >= 0
	}
	var args []expr
	var seen []int
	for _, a := range e.args {
		r, ok := a.rename(to)
		if !ok || r.args == nil && slices.Contains(seen, r.leaf) {
			continue
		}
		if r.args == nil {
			seen = append(seen, r.leaf)
		}
		args = append(args, r)
	}
	switch len(args) {
	case 0:
		return expr{}, false
	case 1:
		return args[0], true
	}
	return f(args...), true
}

// merges counts the calls of the module.
func (e expr) merges() int {
	n := 0
	for _, a := range e.args {
		n += a.merges()
	}
	if e.args != nil {
		n++
	}
	return n
}

// equation is two sides that ought to have equal bytes.
type equation struct{ left, right expr }

// law tells which law an equation states. Two equal sides state that a merge can be repeated.
func (q equation) law() string {
	right := q.right.String()
	switch {
	case q.left.String() == right:
		return Deterministic
	case flat(q.left) && flat(q.right):
		return Commutative
	case slices.ContainsFunc(q.left.args, func(a expr) bool { return a.String() == right }):
		return Idempotent
	}
	return Associative
}

func flat(e expr) bool {
	return !slices.ContainsFunc(e.args, func(a expr) bool { return a.args != nil })
}

func (q equation) String() string { return q.left.String() + " = " + q.right.String() }

// Sets of siblings of up to allOrders are tested in every order, and such of up to allSplits in every split.
const (
	allOrders = 4
	allSplits = 5
)

// equations are the laws on k inputs. The first one that fails gives the violation its name, more or less: a module that
// falls for an order is not blamed for anything else.
func equations(k int) []equation {
	all := make([]expr, k)
	for i := range all {
		all[i] = leaf(i)
	}
	whole := f(all...)
	var out []equation
	if k <= allOrders {
		for _, p := range orders(k) {
			out = append(out, equation{f(p...), whole})
		}
	} else {
		back := slices.Clone(all)
		slices.Reverse(back)
		out = append(out, equation{f(back...), whole})
	}
	for _, blocks := range splits(k) {
		args := make([]expr, len(blocks))
		for i, b := range blocks {
			if args[i] = f(b...); len(b) == 1 {
				args[i] = b[0]
			}
		}
		out = append(out, equation{f(args...), whole})
		back := slices.Clone(args)
		slices.Reverse(back)
		out = append(out, equation{f(back...), whole})
	}
	for _, x := range all {
		out = append(out, equation{f(whole, x), whole}, equation{f(x, whole), whole})
	}
	out = append(out, equation{f(whole, whole), whole})
	for i := 1; i < k-1; i++ { // two nodes merged overlapping sets
		out = append(out, equation{f(f(all[:i+1]...), f(all[i:]...)), whole})
	}
	if k > 3 { // one at a time
		chain := all[0]
		for _, x := range all[1:] {
			chain = f(chain, x)
		}
		out = append(out, equation{chain, whole})
	}
	return out
}

// orders are the orders of k inputs but for the first one.
func orders(k int) [][]expr {
	out := [][]expr{{}}
	for i := range k {
		var longer [][]expr
		for at := i; at >= 0; at-- {
			for _, p := range out {
				longer = append(longer, slices.Insert(slices.Clone(p), at, leaf(i)))
			}
		}
		out = longer
	}
	return out[1:]
}

// splits are the ways to part k inputs into blocks, but for one block and for blocks of one.
func splits(k int) [][][]expr {
	out := [][][]expr{{}}
	for i := range k {
		var more [][][]expr
		for _, blocks := range out {
			for j := range blocks {
				with := slices.Clone(blocks)
				with[j] = append(slices.Clone(with[j]), leaf(i))
				more = append(more, with)
			}
			more = append(more, append(slices.Clone(blocks), []expr{leaf(i)}))
		}
		out = more
	}
	return slices.DeleteFunc(out, func(blocks [][]expr) bool { return len(blocks) == 1 || len(blocks) == k })
}
