package fuel

import "slices"

// nodeKind says why an instruction is a node: because control can leave the
// straight line there, or because the rewriter changes it.
type nodeKind uint8

const (
	nodeBlock nodeKind = iota
	nodeLoop
	nodeIf
	nodeElse
	nodeEnd
	nodeBranch
	nodeBranchIf
	nodeBranchTable
	nodeReturn
	nodeUnreachable
	nodeCall
	nodeCallIndirect
	nodeRefFunc
	nodeBulk // works on as many bytes or entries as its operand says
	nodeNaN  // its result needs the canonical NaN
)

// Properties of a node that opens a block.
const (
	flagBranched = 1 << iota // a branch leads to its end
	flagTable                // a br_table leads to it, which for all but a loop means its end
	flagThenLeft             // of an if without else: no way leads from the arm to the end
	flagLong                 // a call or the like after which the fuel is looked at; result of charges
	flagQuiet                // a loop without calls
	flagDispatch             // a loop whose charges stand where its br_table leads
)

// node is an instruction of interest. Node 0 stands for the function's
// beginning and its last node for the function's end.
type node struct {
	kind    nodeKind
	aux     uint8 // type of a NaN, opcode of bulk work
	flags   uint8
	at, end int32 // the instruction is module[at:end]
	run     int32 // price of the plain instructions since the node before
	// a and b are, for what opens a block: the nodes of end and else (0: none);
	// for else, end and branches: the node that opens the block; for br_table:
	// its targets[a:b]; for calls and ref.func: the function.
	a, b   int32
	height int32 // of the operand stack, or above
	charge int32 // fuel to take right after it; result of charges
	extra  int32 // fuel to take at the end of the block, for the way to the br_table that leads there
	dist   int32 // used by charges
	other  int32 // used by charges
	seen   int64 // calls before it
	level  int32 // of its label in the rewritten code
}

// flow is what the walk over a function leaves: its nodes, and what is needed
// to charge and rewrite it.
type flow struct {
	cost
	nodes    []node
	targets  []int32 // of br_table: nodes that open blocks
	open     []int32 // nodes of the blocks that are open
	run      int64
	branches int     // targets of br_table
	values   int64   // instructions, further results of calls, parameters and results of blocks
	joins    int64   // for each block, the locals that change in it: they have a value of their own where ways meet
	changed  []int32 // for each local, the number of nodes before the last change
	mentions int64   // calls so far
	calls    bool    // may call a function with a body
	hosts    bool    // calls imports
	loops    bool
	bulks    bool
	temps    [slots]bool // temporaries needed
	dead     bool        // the code cannot be reached
}

func (f *flow) reset(types []Signature) {
	*f = flow{
		cost:  cost{types: types, bases: f.bases[:0]},
		nodes: f.nodes[:0], targets: f.targets[:0], open: f.open[:0], changed: f.changed[:0],
	}
}

// change notes that a local changes: once for each block that is open.
func (f *flow) change(local int) {
	before := f.changed[local]
	for i := len(f.open) - 1; i > 0 && f.open[i] >= before; i-- {
		f.joins++
	}
	f.changed[local] = int32(len(f.nodes))
}

func (f *flow) add(n node) *node {
	n.run, f.run = int32(f.run), 0
	n.height = int32(f.height)
	f.nodes = append(f.nodes, n)
	return &f.nodes[len(f.nodes)-1]
}

// code reads the code section for the first time.
func (m *module) code() {
	if size := m.c.end - m.c.pos; size > maxCodeBytes {
		m.c.fail(CodeTooComplex, "code of %d bytes, limit %d", size, maxCodeBytes)
	}
	m.c.each("function bodies", maxFunctions, m.body)
}

// body reads one function: size, locals, instructions.
func (m *module) body() {
	index := m.imported + len(m.bodies)
	m.c.function = index
	size := m.c.u32()
	if size > maxBodyBytes {
		m.c.fail(CodeTooComplex, "function of %d bytes, limit %d", size, maxBodyBytes)
		return
	}
	outer := m.c.end
	start := m.c.pos
	m.c.skip(size)
	if m.c.err == nil && index >= len(m.functions) {
		m.c.fail(CodeMalformed, "more bodies than functions")
	}
	if m.c.err != nil {
		return
	}
	b := body{end: m.c.pos}
	m.c.pos, m.c.end = start, b.end
	m.localEntries(&b, m.functions[index])
	m.walk(b)
	m.bodies = append(m.bodies, b)
	m.units = append(m.units, m.smallUnits())
	m.c.end = outer
}

// localEntries reads the run-length encoded locals: the five bytes of a run
// can stand for 2^32 - 1 of them. Parameters are locals too.
func (m *module) localEntries(b *body, typ uint32) {
	params, _ := m.types[typ].split()
	total := int64(len(params))
	b.runs = m.c.count("runs of locals", maxLocals)
	b.start = m.c.pos
	for range b.runs {
		total += int64(m.c.u32())
		m.c.valueType()
		if total > maxLocals {
			m.c.fail(CodeTooComplex, "%d locals, limit %d", total, maxLocals)
		}
		if m.c.err != nil {
			return
		}
	}
	b.code = m.c.pos
	b.locals = uint32(total)
	if m.locals += total; m.locals > maxLocalsTotal {
		m.c.fail(CodeTooComplex, "more than %d locals in all functions", maxLocalsTotal)
	}
}

// walk reads the instructions of a function, which has to end with its body,
// and leaves its nodes in m.flow.
func (m *module) walk(b body) {
	f := &m.flow
	f.reset(m.types)
	f.locals = int64(b.locals) + m.mutables
	f.changed = slices.Grow(f.changed, int(b.locals))[:b.locals]
	clear(f.changed)
	m.c.pos, m.c.end = b.code, b.end
	f.add(node{kind: nodeBlock, at: int32(b.code), end: int32(b.code)})
	f.open = append(f.open, 0)
	f.height = 0
	f.at(weightBranch)
	for m.c.err == nil && len(f.open) > 0 {
		m.instruction(f, b)
	}
	if m.c.err == nil && m.c.pos != b.end {
		m.c.fail(CodeMalformed, "code after the end of a function")
	}
}

// instruction reads one instruction.
func (m *module) instruction(f *flow, b body) {
	at := m.c.pos
	f.values++
	switch op := m.c.byte(); op {
	case opBlock, opLoop, opIf, opElse, opEnd:
		m.structure(f, op, at)
	case opBr, opBrIf, opBrTable, opReturn, opUnreachable:
		m.jump(f, op, at)
	case opCall, opCallIndirect, opRefFunc:
		m.mention(f, op, at)
	case opMemoryGrow:
		m.c.zero()
		m.bulk(f, op, at)
	case opLocalSet, opLocalTee:
		if l := m.c.index("local", int(b.locals)); m.c.err == nil {
			f.change(int(l))
		}
		f.push(stackEffect(op))
		f.run += price(op)
	case opPrefixFC:
		m.instructionFC(f, at)
	case opPrefixFD:
		m.instructionFD(f, at)
	default:
		m.immediate(immediateOf(op), "opcode", uint32(op), b)
		f.push(stackEffect(op))
		f.run += price(op)
		if op == opTableSet {
			m.dirty = true
		}
		if t := makesNaN(op); t != 0 && !m.nextIgnoresNaNBits() {
			f.temps[nanSlot(t)] = true
			f.add(node{kind: nodeNaN, aux: uint8(t), at: int32(at), end: int32(m.c.pos)})
		}
	}
	if len(f.nodes) > maxNodes {
		m.c.fail(CodeTooComplex, "more than %d branches, calls and the like", maxNodes)
	}
	m.checkCost(f)
}

// checkCost refuses a function that would keep the compiler busy for too long.
func (m *module) checkCost(f *flow) {
	switch {
	case m.c.err != nil:
	case f.branches > maxBranchTargets:
		m.c.fail(CodeTooComplex, "more than %d targets of br_table", maxBranchTargets)
	case len(f.open) > maxNesting:
		m.c.fail(CodeTooComplex, "blocks nested deeper than %d", maxNesting)
	case f.weight > maxWeight || f.ns() > maxFunctionNs:
		m.c.fail(CodeTooComplex, "too many blocks, or too many values alive across them")
	}
}

// structure reads the rest of an instruction that opens, parts or closes a block.
func (m *module) structure(f *flow, op byte, at int) {
	switch op {
	case opBlock, opLoop, opIf:
		m.opening(f, op, at)
	case opElse:
		top := f.open[len(f.open)-1]
		if n := &f.nodes[top]; n.kind != nodeIf || n.b != 0 {
			m.c.fail(CodeMalformed, "else without if")
			return
		}
		f.nodes[top].b = int32(len(f.nodes))
		f.add(node{kind: nodeElse, a: top, at: int32(at), end: int32(m.c.pos)})
		f.other()
		f.dead = false
	case opEnd:
		top := f.open[len(f.open)-1]
		f.open = f.open[:len(f.open)-1]
		n := &f.nodes[top]
		n.a = int32(len(f.nodes))
		if n.kind == nodeIf && n.b == 0 && f.dead && n.flags&flagBranched == 0 {
			n.flags |= flagThenLeft
		}
		if n.kind == nodeLoop && n.seen == f.mentions {
			n.flags |= flagQuiet
			f.temps[slotFuel] = true
		}
		f.add(node{kind: nodeEnd, a: top, at: int32(at), end: int32(m.c.pos)})
		if top != 0 { // the base of a function is not a frame
			f.close()
		}
		f.dead = false
	}
}

func (m *module) opening(f *flow, op byte, at int) {
	t := m.c.signed(33)
	if m.c.err == nil && (t < -64 || t < 0 && t != -64 && !ValueType(t&0x7f).known()) || t >= int64(len(m.types)) {
		m.c.fail(CodeMalformed, "unknown type of block %d", t)
		return
	}
	n := node{kind: nodeBlock, at: int32(at), end: int32(m.c.pos)}
	weight := int64(weightBlock)
	switch op {
	case opLoop:
		n.kind = nodeLoop
		f.loops = true
		weight = weightBranch
	case opIf:
		f.push(-1)
		f.run++
		n.kind = nodeIf
		weight = weightBranch
	}
	f.open = append(f.open, int32(len(f.nodes)))
	f.add(n).seen = f.mentions
	f.cost.open(t)
	frame := f.bases[len(f.bases)-1]
	f.values += frame.params + frame.results
	f.at(weight)
}

// label reads a label and returns the node that opens its block.
func (m *module) label(f *flow) int32 {
	l := m.c.index("label", len(f.open))
	if m.c.err != nil {
		return 0
	}
	target := f.open[len(f.open)-1-int(l)]
	f.nodes[target].flags |= flagBranched
	return target
}

// jump reads the rest of an instruction that leaves the straight line.
func (m *module) jump(f *flow, op byte, at int) {
	n := node{at: int32(at)}
	switch op {
	case opBr:
		n.kind, n.a = nodeBranch, m.label(f)
		f.run++
	case opBrIf:
		n.kind, n.a = nodeBranchIf, m.label(f)
		f.push(-1)
		f.run++
		f.at(weightBranch)
	case opBrTable:
		n.kind = nodeBranchTable
		f.push(-1)
		f.run += 2
		m.branchTable(f, &n)
		f.at(weightBranch)
	case opReturn:
		n.kind = nodeReturn
		f.run++
	case opUnreachable:
		n.kind = nodeUnreachable
	}
	n.end = int32(m.c.pos)
	f.add(n)
	if op != opBrIf {
		f.leave()
		f.dead = true
	}
}

func (m *module) branchTable(f *flow, n *node) {
	n.a = int32(len(f.targets))
	count := m.c.count("targets of br_table", maxBranchTargets)
	f.branches += count
	m.checkCost(f)
	charged := true // all targets can carry a charge
	for range count + 1 {
		t := m.label(f)
		if m.c.err != nil {
			return
		}
		f.targets = append(f.targets, t)
		target := &f.nodes[t]
		target.flags |= flagTable
		charged = charged && t != 0 && target.kind != nodeLoop
	}
	n.b = int32(len(f.targets))
	if charged {
		f.dispatch(n)
	}
}

// dispatch looks whether the way from a loop's head to a br_table is straight.
// Then the places where the table leads pay for it, and the head does not.
func (f *flow) dispatch(table *node) {
	units := f.run
	i := len(f.nodes) - 1
	for i > 0 && f.nodes[i].kind == nodeBlock {
		units += int64(f.nodes[i].run)
		i--
	}
	if i == 0 || f.nodes[i].kind != nodeLoop || units > smallUnits {
		return
	}
	f.nodes[i].flags |= flagDispatch
	loop := i
	before := int64(f.nodes[i].run)
	for i--; i > 0 && f.nodes[i].kind == nodeBlock; i-- {
		before += int64(f.nodes[i].run)
	}
	if i == 0 && units+before <= smallUnits {
		f.nodes[loop].run = 0
		for j := 1; j < loop; j++ {
			f.nodes[j].run = 0
		}
		units += before
	}
	for _, t := range f.targets[table.a:table.b] {
		f.nodes[t].extra = max(f.nodes[t].extra, int32(units))
	}
}

// mention reads the rest of an instruction that names a function or calls one.
func (m *module) mention(f *flow, op byte, at int) {
	n := node{at: int32(at)}
	if op != opRefFunc {
		f.mentions++
	}
	switch op {
	case opRefFunc:
		n.kind, n.a = nodeRefFunc, int32(m.c.index("function", len(m.functions)))
		f.push(1)
		f.run++
	case opCall:
		n.kind, n.a = nodeCall, int32(m.c.index("function", len(m.functions)))
		if m.c.err != nil {
			return
		}
		f.calls = f.calls || int(n.a) >= m.imported
		f.hosts = f.hosts || int(n.a) < m.imported
		f.across()
		f.results(int64(m.functions[n.a]))
	case opCallIndirect:
		n.kind = nodeCallIndirect
		t := m.c.index("type", len(m.types))
		m.c.index("table", len(m.tables))
		f.calls = true
		f.across()
		f.push(-1)
		f.results(int64(t))
	}
	n.end = int32(m.c.pos)
	f.add(n)
}

// results are what a call leaves on the stack in place of its arguments.
func (f *flow) results(t int64) {
	f.call(t)
	_, results := f.arity(t)
	f.values += results
}

// bulk notes an instruction that works on as many bytes or entries as the
// operand on top of the stack says: code is its number on the 0xFC page, or
// opMemoryGrow.
func (m *module) bulk(f *flow, code byte, at int) {
	f.bulks = true
	m.long = m.long || splits(code)
	f.temps[nanSlot(I32)] = true
	f.at(weightBulk)
	f.add(node{kind: nodeBulk, aux: code, at: int32(at), end: int32(m.c.pos)})
}

// instructionFC reads the rest of an instruction of the 0xFC page.
func (m *module) instructionFC(f *flow, at int) {
	op := m.c.byte()
	f.run++
	switch op {
	case 0, 1, 2, 3, 4, 5, 6, 7: // saturating conversions
		return
	case fcMemoryInit, fcDataDrop:
		m.c.index("data segment", max(m.dataCount, 0))
		if op == fcMemoryInit {
			m.c.zero()
		}
	case fcMemoryCopy:
		m.c.zero()
		m.c.zero()
	case fcMemoryFill:
		m.c.zero()
	case fcTableInit, fcElemDrop:
		m.c.index("element segment", m.elements)
		if op == fcTableInit {
			m.c.index("table", len(m.tables))
		}
	case fcTableCopy:
		m.c.index("table", len(m.tables))
		m.c.index("table", len(m.tables))
	case fcTableGrow, fcTableSize, fcTableFill:
		m.c.index("table", len(m.tables))
	default:
		m.c.fail(CodeUnsupported, "opcode 0xfc %#x", op)
		return
	}
	switch op {
	case fcMemoryInit, fcMemoryCopy, fcMemoryFill, fcTableInit, fcTableCopy, fcTableGrow, fcTableFill:
		m.bulk(f, op, at)
	}
	m.dirty = m.dirty || op >= fcTableInit && op != fcTableSize || op == fcDataDrop
	f.push(stackEffectFC(uint32(op)))
}

// readFD reads an opcode of the 0xFD page. It is a LEB128 number, but
// compilers read one byte and take what follows for a nop: only the shortest
// encoding means the same to all.
func (c *cursor) readFD() uint32 {
	op := uint32(c.byte())
	if c.err == nil && op >= 0x80 && c.byte() != 1 {
		c.fail(CodeUnsupported, "opcode 0xfd %#x in an unusual encoding", op)
	}
	return op
}

// instructionFD reads the rest of an instruction of the 0xFD page.
func (m *module) instructionFD(f *flow, at int) {
	op := m.c.readFD()
	m.immediate(immediateOfFD(op), "opcode 0xfd", op, body{})
	f.push(stackEffectFD(op))
	f.run++
	if op == 0xe3 || op == 0xe7 || op == 0xef || op == 0xf3 { // sqrt, div
		f.run += priceDivide
	}
	if l := makesNaNFD(op); l != 0 && !m.nextReadsLanes(l) {
		f.temps[nanSlot(V128)] = true
		f.add(node{kind: nodeNaN, aux: uint8(l), at: int32(at), end: int32(m.c.pos)})
	}
}

// nextIgnoresNaNBits looks at the next instruction, which takes what is on top
// of the stack.
func (m *module) nextIgnoresNaNBits() bool {
	rest := m.c.b[m.c.pos:m.c.end]
	return len(rest) > 0 && ignoresNaNBits(rest[0]) || len(rest) > 1 && rest[0] == opPrefixFC && rest[1] <= 7
}

// nextReadsLanes does the same for vectors: the next instruction has to see
// the same lanes, or the bits of a NaN could be taken for a number.
func (m *module) nextReadsLanes(l lanes) bool {
	rest := m.c.b[m.c.pos:m.c.end]
	if len(rest) < 2 || rest[0] != opPrefixFD {
		return false
	}
	switch op := uint32(rest[1]); {
	case op == 0x5e: // demote
		return l == lanesF64
	case op == 0x5f: // promote
		return l == lanesF32
	case op >= 0x41 && op <= 0x46:
		return l == lanesF32
	case op >= 0x47 && op <= 0x4c:
		return l == lanesF64
	default:
		return makesNaNFD(op) == l
	}
}

// immediate reads what follows an opcode.
func (m *module) immediate(imm immediate, page string, op uint32, b body) {
	switch imm {
	case immLocal:
		m.c.index("local", int(b.locals))
	case immGlobal:
		m.c.index("global", len(m.globals))
	case immTable:
		m.c.index("table", len(m.tables))
	case immZero:
		m.c.zero()
	case immMemory:
		m.c.u32()
		m.c.u32()
	case immMemLane:
		m.c.u32()
		m.c.u32()
		m.c.skip(1)
	case immByte:
		m.c.skip(1)
	case imm32:
		m.c.signed(32)
	case imm64:
		m.c.signed(64)
	case immBytes4:
		m.c.skip(4)
	case immBytes8:
		m.c.skip(8)
	case immBytes16:
		m.c.skip(16)
	case immTypes:
		m.c.each("types of select", maxParams, func() { m.c.valueType() })
	case immHeapType:
		m.c.refType()
	case immUnknown:
		m.c.fail(CodeUnsupported, "%s %#x", page, op)
	}
}
