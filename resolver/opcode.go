package resolver

// immediate is what follows an opcode in the binary format (WebAssembly 2.0,
// section 5.4).
type immediate uint8

const (
	immUnknown  immediate = iota // no instruction of WebAssembly 2.0, or one read elsewhere
	immNone                      // nothing
	immIndex                     // one u32
	immIndex2                    // two u32
	immTypes                     // select: a vector of value types
	immMemory                    // alignment and offset
	immByte                      // a lane
	immMemLane                   // alignment, offset, lane
	imm32                        // s32
	imm64                        // s64
	immBytes4                    // f32
	immBytes8                    // f64
	immBytes16                   // v128
	immHeapType                  // a reference type
)

// Opcodes that the scanner or the rewriter treats by name.
const (
	opUnreachable  = 0x00
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opGlobalGet    = 0x23
	opTableSet     = 0x26
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opRefNull      = 0xd0
	opRefFunc      = 0xd2
	opPrefixFC     = 0xfc
	opPrefixFD     = 0xfd
	opV128Const    = 12 // on the 0xFD page
)

// immediateOf returns what follows a one-byte opcode other than control
// instructions, calls and memory.grow.
func immediateOf(op byte) immediate {
	switch {
	case op == 0x01, op == 0x1a, op == 0x1b, op == 0xd1, op >= 0x45 && op <= 0xc4:
		return immNone
	case op >= 0x20 && op <= 0x26, op == 0x3f, op == opRefFunc:
		return immIndex
	case op == 0x1c:
		return immTypes
	case op >= 0x28 && op <= 0x3e:
		return immMemory
	case op == opI32Const:
		return imm32
	case op == opI64Const:
		return imm64
	case op == opF32Const:
		return immBytes4
	case op == opF64Const:
		return immBytes8
	case op == opRefNull:
		return immHeapType
	default:
		return immUnknown
	}
}

// immediateOfFC returns what follows an opcode of the 0xFC page: saturating
// conversions, then bulk operations on memories and tables.
func immediateOfFC(op uint32) immediate {
	switch {
	case op <= 7:
		return immNone
	case op == 9, op == 11, op == 13, op >= 15 && op <= 17:
		return immIndex
	case op <= 14:
		return immIndex2
	default:
		return immUnknown
	}
}

// isBulk tells the opcodes of the 0xFC page that may touch much memory at once.
func isBulk(op uint32) bool { return op >= 8 && op <= 17 }

// changesTables tells the opcodes of the 0xFC page that change a table, or use a segment up for ever.
func changesTables(op uint32) bool { return op == 9 || op >= 12 && op <= 15 || op == 17 }

// immediateOfFD returns what follows an opcode of the 0xFD page.
func immediateOfFD(op uint32) immediate {
	switch {
	case op <= 11, op == 92, op == 93:
		return immMemory
	case op == opV128Const, op == 13:
		return immBytes16
	case op >= 21 && op <= 34:
		return immByte
	case op >= 84 && op <= 91:
		return immMemLane
	case op <= 255:
		return immNone
	default:
		return immUnknown
	}
}
