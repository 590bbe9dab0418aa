package fuel

// immediate is what follows an opcode in the binary format (WebAssembly 2.0,
// section 5.4).
type immediate uint8

const (
	immUnknown  immediate = iota // no instruction of WebAssembly 2.0, or one read elsewhere
	immNone                      // nothing
	immLocal                     // index of a local
	immGlobal                    // index of a global
	immTable                     // index of a table
	immTypes                     // select: a vector of value types
	immMemory                    // alignment and offset
	immByte                      // a lane
	immZero                      // a byte 0
	immMemLane                   // alignment, offset, lane
	imm32                        // s32
	imm64                        // s64
	immBytes4                    // f32
	immBytes8                    // f64
	immBytes16                   // v128
	immHeapType                  // a reference type
)

// Opcodes treated by name.
const (
	opUnreachable   = 0x00
	opBlock         = 0x02
	opLoop          = 0x03
	opIf            = 0x04
	opElse          = 0x05
	opEnd           = 0x0b
	opBr            = 0x0c
	opBrIf          = 0x0d
	opBrTable       = 0x0e
	opReturn        = 0x0f
	opCall          = 0x10
	opCallIndirect  = 0x11
	opSelect        = 0x1b
	opLocalGet      = 0x20
	opLocalSet      = 0x21
	opLocalTee      = 0x22
	opGlobalGet     = 0x23
	opGlobalSet     = 0x24
	opTableSet      = 0x26
	opMemoryGrow    = 0x40
	opI32Const      = 0x41
	opI64Const      = 0x42
	opF32Const      = 0x43
	opF64Const      = 0x44
	opI32LtS        = 0x48
	opI32GtU        = 0x4b
	opI32LeU        = 0x4d
	opI64LtS        = 0x53
	opF32Eq         = 0x5b
	opF64Eq         = 0x61
	opI32Add        = 0x6a
	opI32Sub        = 0x6b
	opI64Add        = 0x7c
	opI64Sub        = 0x7d
	opI64Shl        = 0x86
	opI64ShrU       = 0x88
	opI64ExtendI32U = 0xad
	opRefNull       = 0xd0
	opRefFunc       = 0xd2
	opPrefixFC      = 0xfc
	opPrefixFD      = 0xfd
)

// blockEmpty is the type of a block without parameters and results.
const blockEmpty = 0x40

// Opcodes of the 0xFD page.
const (
	opV128Const     = 0x0c
	opF32x4Eq       = 0x41
	opF64x2Eq       = 0x47
	opV128Bitselect = 0x52
)

// immediateOf returns what follows a one-byte opcode other than control
// instructions, calls, ref.func and memory.grow.
func immediateOf(op byte) immediate {
	switch {
	case op == 0x01, op == 0x1a, op == 0x1b, op == 0xd1, op >= 0x45 && op <= 0xc4:
		return immNone
	case op >= 0x20 && op <= 0x22:
		return immLocal
	case op == opGlobalGet, op == opGlobalSet:
		return immGlobal
	case op == 0x25, op == opTableSet:
		return immTable
	case op == 0x3f:
		return immZero
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

// Opcodes of the 0xFC page.
const (
	fcMemoryInit = 8
	fcDataDrop   = 9
	fcMemoryCopy = 10
	fcMemoryFill = 11
	fcTableInit  = 12
	fcElemDrop   = 13
	fcTableCopy  = 14
	fcTableGrow  = 15
	fcTableSize  = 16
	fcTableFill  = 17
)

// makesNaN returns the type of the result of a one-byte opcode whose NaNs
// differ from machine to machine, or 0. Operations on the sign (abs, neg,
// copysign) and moves keep the bits; conversions of integers make no NaN.
func makesNaN(op byte) ValueType {
	switch {
	case op >= 0x8d && op <= 0x97, op == 0xb6: // f32: ceil to max, demote
		return F32
	case op >= 0x9b && op <= 0xa5, op == 0xbb: // f64: ceil to max, promote
		return F64
	}
	return 0
}

// ignoresNaNBits says of a one-byte opcode that it takes a float from the top
// of the stack and gives the same for every NaN, up to NaNs that makesNaN
// knows of.
func ignoresNaNBits(op byte) bool {
	switch {
	case op >= 0x5b && op <= 0x66: // comparisons
		return true
	case op >= 0xa8 && op <= 0xab, op >= 0xae && op <= 0xb1: // truncations: they trap
		return true
	}
	return makesNaN(op) != 0
}

// lanes are the shapes of vectors of floats, or 0.
type lanes byte

const (
	lanesF32 lanes = 4
	lanesF64 lanes = 2
)

// makesNaNFD is makesNaN for the 0xFD page. pmin and pmax hand an operand on.
func makesNaNFD(op uint32) lanes {
	switch {
	case op >= 0x67 && op <= 0x6a, op == 0xe3, op >= 0xe4 && op <= 0xe9, op == 0x5e:
		return lanesF32
	case op == 0x74, op == 0x75, op == 0x7a, op == 0x94, op == 0xef, op >= 0xf0 && op <= 0xf5, op == 0x5f:
		return lanesF64
	}
	return 0
}

// price is the fuel for a one-byte opcode that is neither control nor call.
func price(op byte) int64 {
	switch {
	case op == 0x01, op == 0x1a: // nop, drop
		return 0
	case op >= 0x6d && op <= 0x70, op >= 0x7f && op <= 0x82, op == 0x91, op == 0x95, op == 0x9f, op == 0xa3:
		return priceDivide // div, rem, sqrt
	}
	return 1
}
