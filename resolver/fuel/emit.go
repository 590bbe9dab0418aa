package fuel

import "encoding/binary"

// slots of the temporaries that a function may need.
const (
	slotI32 = iota
	slotF32
	slotF64
	slotV128
	slotI64
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
	yield uint64        // index of the function
	temps [slots]uint64 // indices of the temporaries
	open  uint64        // blocks of the original that are open
	deep  int64         // levels of depth that the function counts, or 0
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

// take writes code that takes fuel: so many units, and those that are on the
// stack as an i64 if onStack.
func (w *writer) take(units int64, onStack bool) {
	if onStack {
		if units > 0 {
			w.constI64(units)
			w.op(opI64Add)
		}
		w.opIndex(opLocalSet, w.temps[slotI64])
		w.opIndex(opGlobalGet, w.fuel)
		w.opIndex(opLocalGet, w.temps[slotI64])
	} else {
		w.opIndex(opGlobalGet, w.fuel)
		w.constI64(units)
	}
	w.op(opI64Sub)
	w.opIndex(opGlobalSet, w.fuel)
	w.m.info.Charges++
}

// check writes code that calls the host when there is no fuel left.
func (w *writer) check() {
	w.opIndex(opGlobalGet, w.fuel)
	w.constI64(0)
	w.op(opI64LtS, opIf, blockEmpty)
	w.opIndex(opCall, w.yield)
	w.op(opEnd)
	w.m.info.Checks++
}

// enter writes what a function that counts the depth does first, up to the
// block that holds its body.
func (w *writer) enter(blockType []byte) {
	w.opIndex(opGlobalGet, w.depth)
	w.constI32(w.deep)
	w.op(opI32Sub)
	w.opIndex(opGlobalSet, w.depth)
	w.opIndex(opGlobalGet, w.depth)
	w.constI32(0)
	w.op(opI32LtS, opIf, blockEmpty, opUnreachable, opEnd, opBlock)
	w.op(blockType...)
	w.m.info.Counted++
}

// leave writes the end of that block and what follows.
func (w *writer) leave() {
	w.op(opEnd)
	w.opIndex(opGlobalGet, w.depth)
	w.constI32(w.deep)
	w.op(opI32Add)
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
	w.take(0, true)
	w.check()
}

// function writes the body of the function in m.flow, without its size.
func (w *writer) function(b body, typ uint32, entry int64) {
	f := &w.m.flow
	src := w.m.c.b
	_, results := w.m.types[typ].split()
	w.locals(f, b)
	w.open = 0
	if w.deep = 0; f.calls {
		w.deep = 1 + (int64(b.locals)+f.values)/frameUnit
		w.enter(w.m.blockType(results))
	}
	if entry > 0 {
		w.take(entry, false)
		w.check()
	}
	from := b.code
	for i := 1; i < len(f.nodes); i++ {
		n := &f.nodes[i]
		w.op(src[from:n.at]...)
		from = int(n.end)
		if i == len(f.nodes)-1 {
			if f.calls {
				w.leave()
			}
			w.op(opEnd)
			return
		}
		w.node(n, src)
		if n.charge > 0 {
			w.take(int64(n.charge), false)
		}
		if n.kind == nodeLoop || n.flags&flagLong != 0 {
			w.check()
		}
	}
}

// node writes one instruction of interest.
func (w *writer) node(n *node, src []byte) {
	text := src[n.at:n.end]
	switch n.kind {
	case nodeBlock, nodeLoop, nodeIf:
		w.open++
	case nodeEnd:
		w.open--
	case nodeReturn:
		if w.deep > 0 {
			w.opIndex(opBr, w.open)
			return
		}
	case nodeCall, nodeRefFunc:
		w.opIndex(text[0], uint64(w.m.shifted(uint32(n.a))))
		return
	case nodeBulk:
		w.size(n.aux)
	case nodeNaN:
		w.op(text...)
		w.canonical(n.aux)
		return
	}
	w.op(text...)
}

// locals writes the locals and numbers the temporaries.
func (w *writer) locals(f *flow, b body) {
	types := [slots]ValueType{I32, F32, F64, V128, I64}
	needed := f.temps
	needed[slotI64] = needed[slotI32]
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
