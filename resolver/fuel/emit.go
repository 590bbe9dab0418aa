package fuel

import "encoding/binary"

// slots of the temporaries that a function may need.
const (
	slotI32 = iota
	slotF32
	slotF64
	slotV128
	slotI64
	slotFuel  // GlobalFuel inside of quiet loops
	slotDepth // GlobalDepth on entry
	slots
)

func nanSlot(t ValueType) int {
	switch t {
	case F32:
		return slotF32
	case F64:
		return slotF64
	case V128:
		return slotV128
	}
	return slotI32
}

// writer writes the code of one function.
type writer struct {
	m     *module
	out   []byte
	fuel  uint64 // index of the global, as depth
	depth uint64
	yield uint64 // index of the function
	fill  uint64 // index of the function that does most of a long memory.fill, as copy
	copy  uint64
	temps [slots]uint64 // indices of the temporaries
	level int32         // blocks that are open
	held  bool          // the body is in a block of its own
	quiet int32         // node that ends the outermost loop without calls around here, or 0
}

func (w *writer) op(op ...byte) { w.out = append(w.out, op...) }

func (w *writer) opIndex(op byte, index uint64) {
	w.out = binary.AppendUvarint(append(w.out, op), index)
}

func (w *writer) constI32(n int64) { w.out = appendSigned(append(w.out, opI32Const), n) }

func (w *writer) constI64(n int64) { w.out = appendSigned(append(w.out, opI64Const), n) }

// appendSigned appends a signed LEB128 number.
func appendSigned(b []byte, n int64) []byte {
	for n < -64 || n > 63 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n)&0x7f)
}

// fuelLeft writes code that pushes the value of GlobalFuel. Inside of a quiet
// loop that is in a local, since to load what was just stored takes longer than
// a small loop.
func (w *writer) fuelLeft() {
	if w.quiet > 0 {
		w.opIndex(opLocalGet, w.temps[slotFuel])
	} else {
		w.opIndex(opGlobalGet, w.fuel)
	}
}

// take writes code that takes so many units of fuel, or what is on the stack
// as an i64 if units is 0.
func (w *writer) take(units int64) {
	if units == 0 {
		w.opIndex(opLocalSet, w.temps[slotI64])
		w.fuelLeft()
		w.opIndex(opLocalGet, w.temps[slotI64])
	} else {
		w.fuelLeft()
		w.constI64(units)
	}
	w.op(opI64Sub)
	if w.quiet > 0 {
		w.opIndex(opLocalTee, w.temps[slotFuel])
	}
	w.opIndex(opGlobalSet, w.fuel)
	w.m.info.Charges++
}

// check writes code that calls the host when there is no fuel left.
func (w *writer) check() {
	w.fuelLeft()
	w.constI64(0)
	w.op(opI64LtS, opIf, blockEmpty)
	w.opIndex(opCall, w.yield)
	if w.quiet > 0 {
		w.loadFuel()
	}
	w.op(opEnd)
	w.m.info.Checks++
}

func (w *writer) loadFuel() {
	w.opIndex(opGlobalGet, w.fuel)
	w.opIndex(opLocalSet, w.temps[slotFuel])
}

// enter writes what a function that counts the depth does first.
func (w *writer) enter(levels int64) {
	w.opIndex(opGlobalGet, w.depth)
	w.opIndex(opLocalTee, w.temps[slotDepth])
	w.constI32(levels)
	w.op(opI32Sub)
	w.opIndex(opGlobalSet, w.depth)
	w.opIndex(opLocalGet, w.temps[slotDepth])
	w.constI32(levels)
	w.op(opI32LtS, opIf, blockEmpty, opUnreachable, opEnd)
	w.m.info.Counted++
}

// leave writes what it does last.
func (w *writer) leave() {
	w.opIndex(opLocalGet, w.temps[slotDepth])
	w.opIndex(opGlobalSet, w.depth)
}

// canonical replaces a float, or the floats of a vector, on top of the stack
// by the positive quiet NaN if it is a NaN: x == x ? x : NaN.
func (w *writer) canonical(aux uint8) {
	w.m.info.NaNs++
	slot := slotV128
	var nan, test, pick []byte
	switch aux {
	case uint8(F32):
		slot = slotF32
		nan = binary.LittleEndian.AppendUint32([]byte{opF32Const}, canonicalF32)
		test, pick = []byte{opF32Eq}, []byte{opSelect}
	case uint8(F64):
		slot = slotF64
		nan = binary.LittleEndian.AppendUint64([]byte{opF64Const}, canonicalF64)
		test, pick = []byte{opF64Eq}, []byte{opSelect}
	default:
		nan = []byte{opPrefixFD, opV128Const}
		test, pick = []byte{opPrefixFD, opF32x4Eq}, []byte{opPrefixFD, opV128Bitselect}
		pattern := uint64(canonicalF32)<<32 | canonicalF32
		if aux == uint8(lanesF64) {
			test, pattern = []byte{opPrefixFD, opF64x2Eq}, canonicalF64
		}
		nan = binary.LittleEndian.AppendUint64(nan, pattern)
		nan = binary.LittleEndian.AppendUint64(nan, pattern)
	}
	t := w.temps[slot]
	w.opIndex(opLocalTee, t)
	w.op(nan...)
	w.opIndex(opLocalGet, t)
	w.opIndex(opLocalGet, t)
	w.op(test...)
	w.op(pick...)
}

// size charges for the operand of bulk work, which is on top of the stack.
func (w *writer) size(code uint8) {
	t := w.temps[slotI32]
	w.opIndex(opLocalTee, t)
	if splits(code) {
		w.pieces(code, t)
	}
	w.opIndex(opLocalGet, t)
	w.op(opI64ExtendI32U)
	switch code {
	case opMemoryGrow:
		// More pages than there can be are refused at once: they cost nothing.
		w.constI64(pageShift)
		w.op(opI64Shl)
		w.constI64(0)
		w.opIndex(opLocalGet, t)
		w.constI32(int64(w.m.info.Memory.Most))
		w.op(opI32LeU, opSelect)
	case fcMemoryInit, fcMemoryCopy, fcMemoryFill:
		w.constI64(bytesShift)
		w.op(opI64ShrU)
	default:
		// More entries than a table can have trap, or are refused.
		w.constI64(entryShift)
		w.op(opI64Shl)
		w.constI64(0)
		w.opIndex(opLocalGet, t)
		w.constI32(maxTableEntries / maxTables)
		w.op(opI32LeU, opSelect)
	}
	w.take(0)
	w.check()
}

// function writes the body of the function in m.flow, without its size.
//
// The body of a function that is not small is held by a block, so that all ways
// out lead to one place. There is the look at the fuel: at the beginning, the
// parameters would have to be saved around the call of the host. A descent
// without any way out is bounded by the depth.
func (w *writer) function(b body, typ uint32, entry int64, small bool) {
	f := &w.m.flow
	_, results := w.m.types[typ].split()
	w.locals(f, b)
	w.level, w.quiet, w.held = 0, 0, !small
	if f.calls {
		w.enter(1 + (int64(b.locals)+f.values)/frameUnit + f.joins/int64(allUnits/w.m.options.Depth-frameUnit))
	}
	if w.held {
		w.level = 1
		w.op(opBlock)
		w.op(w.m.blockType(results)...)
		if entry > 0 && !small {
			w.take(entry)
		}
	}
	f.nodes[0].level = w.level
	from := b.code
	for i := 1; i < len(f.nodes); i++ {
		n := &f.nodes[i]
		w.op(w.m.c.b[from:n.at]...)
		from = int(n.end)
		if i < len(f.nodes)-1 {
			w.node(n)
		}
		if int32(i) == w.quiet {
			w.quiet = 0
		}
	}
	if w.held {
		w.op(opEnd)
	}
	if f.calls {
		w.leave()
	}
	if w.held {
		w.check()
	}
	w.op(opEnd)
}

// node writes one instruction of interest and its charge.
func (w *writer) node(n *node) {
	w.rewrite(n, w.m.c.b[n.at:n.end])
	if n.charge > 0 {
		w.take(int64(n.charge))
	}
	if n.flags&flagLong != 0 {
		w.check()
	}
}

func (w *writer) rewrite(n *node, text []byte) {
	f := &w.m.flow
	switch n.kind {
	case nodeBlock, nodeIf:
		w.op(text...)
		w.opened(n)
	case nodeLoop:
		w.loop(n, text)
	case nodeEnd:
		w.op(opEnd)
		w.level--
		if f.nodes[n.a].flags&flagQuiet != 0 {
			w.op(opEnd)
			w.level--
		}
	case nodeBranch, nodeBranchIf:
		w.opIndex(text[0], w.label(n.a))
	case nodeBranchTable:
		w.opIndex(opBrTable, uint64(n.b-n.a-1))
		for _, t := range f.targets[n.a:n.b] {
			w.out = binary.AppendUvarint(w.out, w.label(t))
		}
	case nodeReturn:
		if w.held {
			w.opIndex(opBr, w.label(0))
		} else {
			w.op(text...)
		}
	case nodeCall, nodeRefFunc:
		w.opIndex(text[0], uint64(w.m.shifted(uint32(n.a))))
	case nodeBulk:
		w.size(n.aux)
		w.op(text...)
	case nodeNaN:
		w.op(text...)
		w.canonical(n.aux)
	default:
		w.op(text...)
	}
}

func (w *writer) opened(n *node) {
	w.level++
	n.level = w.level
}

// label is the number of the label of a node's block, seen from here.
func (w *writer) label(opener int32) uint64 { return uint64(w.level - w.m.flow.nodes[opener].level) }

// loop writes the head of a loop. The compiler saves all registers around a
// call, even one that is hardly ever made. So a loop without calls becomes two:
// the outer one looks at the fuel, the inner one only leads there when that is
// below zero.
func (w *writer) loop(n *node, text []byte) {
	if n.flags&flagQuiet == 0 {
		w.op(text...)
		w.opened(n)
		w.check()
		return
	}
	if w.quiet == 0 {
		w.quiet = n.a
		w.loadFuel()
	}
	w.op(text...)
	w.level++
	w.check()
	w.op(text...)
	w.opened(n)
	w.fuelLeft()
	w.constI64(0)
	w.op(opI64LtS)
	w.opIndex(opBrIf, 1)
}

// locals writes the locals and numbers the temporaries.
func (w *writer) locals(f *flow, b body) {
	types := [slots]ValueType{I32, F32, F64, V128, I64, I64, I32}
	needed := f.temps
	needed[slotI64], needed[slotDepth] = needed[slotI32], f.calls
	more := 0
	for _, n := range needed {
		if n {
			more++
		}
	}
	w.out = binary.AppendUvarint(w.out, uint64(b.runs+more))
	w.op(w.m.c.b[b.start:b.code]...)
	next := uint64(b.locals)
	for i, n := range needed {
		if n {
			w.op(1, byte(types[i]))
			w.temps[i] = next
			next++
		}
	}
}

// Canonical NaNs: positive, quiet, no payload.
const (
	canonicalF32 = 0x7fc00000
	canonicalF64 = 0x7ff8000000000000
)
