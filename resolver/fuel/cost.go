package fuel

// The compiler's time for one function grows with the square of the number of
// basic blocks and with the number of values that live across them. Both were
// measured on wazero v1.12.0 with functions made to be slow:
//
//	8000 x `if end` 0.9 s, 8000 x `i32.const br_if` 0.6 s, 2500 x memory.fill 0.6 s
//	1000 locals alive across 2000 loops with a call 6 s, 100 locals 0.3 s
//	5000 locals alive across 5000 calls 5 s
//
// so that a function of weight w takes, with the values that are alive at each
// block (times its weight) and at each call added up, about w*w + 700*alive nanoseconds at worst. Code that a
// compiler emits takes far less, since most of its values do not live long.
const (
	weightBlock  = 2
	weightBranch = 4
	weightBulk   = 10
	aliveNs      = 700
)

// cost adds up what the walk over one function finds.
type cost struct {
	types  []Signature
	locals int64 // with the mutable globals, which a call makes the compiler load again
	weight int64
	alive  int64 // values at every block, times its weight, and at every call
	height int64 // of the operand stack, or above
	bases  []frame
}

// frame is a block that is open.
type frame struct {
	base            int64 // height below its parameters
	params, results int64
}

// at counts basic blocks that begin here.
func (c *cost) at(weight int64) {
	c.weight += weight
	c.alive += weight * (c.locals + c.height)
}

// across counts a call, around which the values alive must be kept in memory.
func (c *cost) across() { c.alive += c.locals + c.height }

// ns estimates the worst time to compile what was seen so far.
func (c *cost) ns() int64 { return c.weight*c.weight + aliveNs*c.alive }

// arity counts the parameters and results of a function type.
func (c *cost) arity(t int64) (params, results int64) {
	if t < 0 || t >= int64(len(c.types)) {
		return 0, 0 // refused elsewhere
	}
	p, r := c.types[t].split()
	return int64(len(p)), int64(len(r))
}

// open enters a block of the type read as a signed number.
func (c *cost) open(blockType int64) {
	f := frame{}
	if blockType >= 0 {
		f.params, f.results = c.arity(blockType)
	} else if blockType != -64 { // 0x40: none
		f.results = 1
	}
	f.base = max(c.height-f.params, 0)
	c.bases = append(c.bases, f)
}

// other begins the second arm of an if.
func (c *cost) other() {
	if n := len(c.bases); n > 0 {
		c.height = c.bases[n-1].base + c.bases[n-1].params
	}
}

// close leaves the innermost block.
func (c *cost) close() {
	if n := len(c.bases); n > 0 {
		c.height = c.bases[n-1].base + c.bases[n-1].results
		c.bases = c.bases[:n-1]
	}
}

// leave follows an instruction after which the code is unreachable.
func (c *cost) leave() {
	c.height = 0
	if n := len(c.bases); n > 0 {
		c.height = c.bases[n-1].base
	}
}

func (c *cost) push(n int64) { c.height = max(c.height+n, 0) }

func (c *cost) call(t int64) {
	params, results := c.arity(t)
	c.push(results - params)
}

// stackEffect is how much higher the operand stack is after a one-byte opcode
// that is neither control nor call.
func stackEffect(op byte) int64 {
	switch {
	case op == 0x20, op == opGlobalGet, op == 0x3f, op >= opI32Const && op <= opF64Const, op == opRefNull, op == opRefFunc:
		return 1
	case op == 0x1b, op == 0x1c, op == 0x26, op >= 0x36 && op <= 0x3e:
		return -2
	case op == 0x1a, op == 0x21, op == 0x24:
		return -1
	case op >= 0x46 && op <= 0x66 && op != 0x50: // comparisons
		return -1
	case op >= 0x6a && op <= 0x78, op >= 0x7c && op <= 0x8a, op >= 0x92 && op <= 0x98, op >= 0xa0 && op <= 0xa6:
		return -1 // arithmetic with two operands
	default:
		return 0
	}
}

// stackEffectFC is the same for the 0xFC page.
func stackEffectFC(op uint32) int64 {
	switch {
	case op == 8, op == 10, op == 11, op == 12, op == 14, op == 17:
		return -3
	case op == 15:
		return -1
	case op == 16:
		return 1
	default:
		return 0
	}
}

// stackEffectFD is the same for vectors, where operations of two or three
// operands beyond the bitwise ones count as if they had one: more than the truth
// is safe here.
func stackEffectFD(op uint32) int64 {
	switch {
	case op == opV128Const:
		return 1
	case op == 11:
		return -2
	case op >= 35 && op <= 76, op >= 78 && op <= 81:
		return -1
	default:
		return 0
	}
}
