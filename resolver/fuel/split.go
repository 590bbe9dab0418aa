package fuel

import "encoding/binary"

// Compiled code cannot be interrupted, and one instruction may fill all of the memory. So memory.fill and
// memory.copy of more than pieceBytes are done in pieces, by two functions that are added to a module: each piece is
// paid for by itself, and the host is called before it, with fuel left or not. They leave the last piece to the instruction.
//
// Where the whole would have trapped, one of the pieces does: memory ends before the last address, so the piece
// with the first address beyond it traps. Then some of it is written already, but after a trap nobody looks at the memory.

// pieceBytes is a multiple of what a unit of fuel pays for.
const pieceBytes = 1 << 20

// splitFunctions is how many functions are added.
const splitFunctions = 2

// splits reports whether an instruction on bytes is done in pieces. memory.init is no longer than the module.
func splits(code uint8) bool { return code == fcMemoryFill || code == fcMemoryCopy }

func threeToThree() Signature {
	three := []ValueType{I32, I32, I32}
	return SignatureOf(three, three)
}

// pieces writes code that does all but the last piece of the work whose operands are on the stack, the size in local
// t too, and leaves the operands for the rest.
func (w *writer) pieces(code uint8, t uint64) {
	w.opIndex(opLocalGet, t)
	w.constI32(pieceBytes)
	w.op(opI32GtU, opIf)
	w.out = appendSigned(w.out, int64(w.m.typeIndex(threeToThree())))
	function := w.fill
	if code == fcMemoryCopy {
		function = w.copy
	}
	w.opIndex(opCall, function)
	w.opIndex(opLocalTee, t)
	if w.quiet > 0 {
		w.loadFuel()
	}
	w.op(opEnd)
}

// Parameters of the functions: to is the address to write to, from that to read from or the byte to write.
const (
	paramTo = iota
	paramFrom
	paramSize
)

// splitFill returns the function for memory.fill, with its size.
func (w *writer) splitFill() []byte {
	return w.splitBody(func() {
		w.forward(false, opPrefixFC, fcMemoryFill, 0)
	})
}

// splitCopy returns the function for memory.copy: from the end, if the beginning of what is read would be overwritten.
func (w *writer) splitCopy() []byte {
	return w.splitBody(func() {
		w.opIndex(opLocalGet, paramTo)
		w.opIndex(opLocalGet, paramFrom)
		w.op(opI32LeU, opIf, blockEmpty)
		w.forward(true, opPrefixFC, fcMemoryCopy, 0, 0)
		w.op(opElse)
		w.backward(opPrefixFC, fcMemoryCopy, 0, 0)
		w.op(opEnd)
	})
}

func (w *writer) splitBody(work func()) []byte {
	w.out, w.quiet = append(w.out[:0], 0), 0 // no locals
	work()
	for p := uint64(paramTo); p <= paramSize; p++ {
		w.opIndex(opLocalGet, p)
	}
	w.op(opEnd)
	return append(binary.AppendUvarint(nil, uint64(len(w.out))), w.out...)
}

// forward writes a loop that does piece after piece and advances the addresses.
func (w *writer) forward(reads bool, instruction ...byte) {
	w.piece(func() {
		w.opIndex(opLocalGet, paramTo)
		w.opIndex(opLocalGet, paramFrom)
		w.constI32(pieceBytes)
		w.op(instruction...)
		w.step(paramTo, opI32Add)
		if reads {
			w.step(paramFrom, opI32Add)
		}
		w.step(paramSize, opI32Sub)
	})
}

// backward writes one that does the last piece first.
func (w *writer) backward(instruction ...byte) {
	w.piece(func() {
		w.step(paramSize, opI32Sub)
		for p := uint64(paramTo); p <= paramFrom; p++ {
			w.opIndex(opLocalGet, p)
			w.opIndex(opLocalGet, paramSize)
			w.op(opI32Add)
		}
		w.constI32(pieceBytes)
		w.op(instruction...)
	})
}

// piece writes a loop that ends when no more than a piece is left.
func (w *writer) piece(work func()) {
	w.op(opLoop, blockEmpty)
	w.take(pieceBytes >> bytesShift)
	w.opIndex(opCall, w.yield)
	work()
	w.opIndex(opLocalGet, paramSize)
	w.constI32(pieceBytes)
	w.op(opI32GtU)
	w.opIndex(opBrIf, 0)
	w.op(opEnd)
}

// step moves a parameter by a piece.
func (w *writer) step(param uint64, op byte) {
	w.opIndex(opLocalGet, param)
	w.constI32(pieceBytes)
	w.op(op)
	w.opIndex(opLocalSet, param)
}
