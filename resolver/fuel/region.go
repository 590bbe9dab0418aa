package fuel

// charges decides where a function takes fuel, and how much: it goes through
// the nodes from last to first and knows, at each place, the price of the
// longest way from there to the next charges, or to the function's end. Blocks
// end after their branches, so that this is known where they lead; loops,
// which end before, are charged at their head.
//
// units are the prices of small functions, by body. It returns what the
// function takes on entry. If not split, no way pays for being longer.
func (f *flow) charges(units []int64, imported int, split bool) int64 {
	at := int64(0) // price from here to the next charges
	for i := len(f.nodes) - 1; i >= 0; i-- {
		n := &f.nodes[i]
		n.charge = 0
		at = f.arrive(n, at, split)
		switch n.kind {
		case nodeCall:
			at += callPrice(int(n.a), units, imported)
		case nodeCallIndirect:
			at += priceIndirect + smallUnits
		case nodeBulk:
			at += priceBulk
			if n.aux == opMemoryGrow {
				at += priceGrow
			}
		}
		at += int64(n.run)
	}
	return at
}

// longUnits is about how far a function goes without a look at the fuel, as
// long as it does something other than computing with numbers.
const longUnits = 1 << 16

func callPrice(function int, units []int64, imported int) int64 {
	if function < imported {
		return priceHost
	}
	return priceCall + units[function-imported]
}

// arrive turns the price after a node into the one before it, and sets its charge.
func (f *flow) arrive(n *node, after int64, split bool) int64 {
	switch n.kind {
	case nodeLoop:
		if n.flags&flagDispatch == 0 {
			n.charge = int32(after)
		}
		return 0
	case nodeEnd:
		return f.arriveEnd(n, after)
	case nodeElse:
		f.nodes[n.a].other = int32(after)
		return f.leads(n.a)
	case nodeIf:
		return f.arriveIf(n, after, split)
	case nodeBranch:
		return f.leads(n.a)
	case nodeBranchIf:
		taken := f.leads(n.a)
		if split && after > taken+splitUnits {
			n.charge = int32(after - taken)
			return taken
		}
		return max(taken, after)
	case nodeBranchTable, nodeReturn, nodeUnreachable:
		// Where a table leads is charged, or is the function's end.
		return 0
	case nodeCall, nodeCallIndirect, nodeBulk:
		if after > longUnits {
			n.charge, n.flags = int32(after), n.flags|flagLong
			return 0
		}
	}
	return after
}

// leads is the price from where a branch to the block of a node leads.
func (f *flow) leads(opener int32) int64 {
	if n := &f.nodes[opener]; n.kind != nodeLoop {
		return int64(n.dist)
	}
	return 0
}

func (f *flow) arriveEnd(n *node, after int64) int64 {
	opener := &f.nodes[n.a]
	if n.a == 0 {
		opener.dist = 0
		return 0
	}
	if opener.kind != nodeLoop && opener.flags&flagTable != 0 {
		n.charge = int32(after) + opener.extra
		after = 0
	}
	opener.dist = int32(after)
	return after
}

// arriveIf compares the arms of an if.
func (f *flow) arriveIf(n *node, then int64, split bool) int64 {
	otherwise := int64(n.dist)
	where := n.a // where the way without the first arm can be charged
	if n.b != 0 {
		otherwise, where = int64(n.other), n.b
	}
	switch {
	case split && then > otherwise+splitUnits:
		n.charge = int32(then - otherwise)
		return otherwise
	case split && otherwise > then+splitUnits && (n.b != 0 || n.flags&flagThenLeft != 0):
		f.nodes[where].charge += int32(otherwise - then)
		return then
	}
	return max(then, otherwise)
}

// smallUnits is what the callers of the function in m.flow pay for it, or 0.
func (m *module) smallUnits() int64 {
	f := &m.flow
	if m.c.err != nil || f.calls || f.hosts || f.loops || f.bulks || len(f.targets) > 0 {
		return 0
	}
	if units := f.charges(nil, 0, false); units <= smallUnits {
		return max(units, 1)
	}
	return 0
}
