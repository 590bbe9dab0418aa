package resolver

// A leaf function of at most smallBodyBytes needs no interruption point: even
// a caller that is nothing but calls of it comes to its own end, or to a point
// of its own, within milliseconds.
const smallBodyBytes = 64

// walk is the state of a walk over the instructions of one function.
type walk struct {
	cost
	calls    bool
	branches int   // targets of br_table
	points   []int // where interruption points go, but for the one at the entry
}

// body reads one function: size, locals, instructions.
func (s *scan) body() {
	size := s.c.u32()
	if size > maxBodyBytes {
		s.c.fail(CodeTooComplex, "function of %d bytes, limit %d", size, maxBodyBytes)
		return
	}
	outer := s.c.end
	b := body{start: s.c.pos}
	s.c.skip(size)
	index := s.imported + len(s.bodies)
	if s.c.err != nil || index >= len(s.functions) {
		s.c.fail(CodeMalformed, "more bodies than functions")
		return
	}
	b.end = s.c.pos
	s.c.pos, s.c.end = b.start, b.end
	w := walk{cost: cost{types: s.types}}
	params, _ := w.arity(int64(s.functions[index]))
	w.locals = params + s.localEntries()
	b.code = s.c.pos
	s.instructions(&w)
	if s.c.err == nil && s.c.pos != b.end {
		s.c.fail(CodeMalformed, "code after the end of a function")
	}
	s.c.end = outer
	if w.calls || b.end-b.code > smallBodyBytes {
		b.points = append(b.points, b.code)
		w.height = 0
		w.at(weightBranch)
	}
	b.points = append(b.points, w.points...)
	s.bodies = append(s.bodies, b)
	s.charge(&w)
	if s.compileNs += w.ns(); s.compileNs > maxModuleNs {
		s.c.fail(CodeTooComplex, "the module's functions together have too many blocks")
	}
}

// localEntries reads the run-length encoded locals: the five bytes of a run
// can stand for 2^32 - 1 of them.
func (s *scan) localEntries() int64 {
	var total int64
	s.each("runs of locals", maxLocals, func() {
		total += int64(s.c.u32())
		s.c.valueType()
		if total > maxLocals {
			s.c.fail(CodeTooComplex, "%d locals, limit %d", total, maxLocals)
		}
	})
	if s.locals += total; s.locals > maxLocalsTotal {
		s.c.fail(CodeTooComplex, "more than %d locals in all functions", maxLocalsTotal)
	}
	return total
}

// charge refuses a function that would keep the compiler busy for too long.
func (s *scan) charge(w *walk) {
	switch {
	case w.branches > maxBranchTargets:
		s.c.fail(CodeTooComplex, "function %d: more than %d targets of br_table", len(s.bodies), maxBranchTargets)
	case len(w.bases) > maxNesting:
		s.c.fail(CodeTooComplex, "function %d: blocks nested deeper than %d", len(s.bodies), maxNesting)
	case w.weight > maxWeight || w.ns() > maxFunctionNs:
		s.c.fail(CodeTooComplex, "function %d: too many blocks, or too many values alive across them", len(s.bodies))
	}
}

// instructions walks to the end of the function's outermost block.
func (s *scan) instructions(w *walk) {
	for s.c.err == nil {
		at := s.c.pos
		op := s.c.byte()
		switch op {
		case opBlock, opLoop, opIf, opElse, opEnd, opBr, opBrIf, opBrTable, opReturn, opUnreachable:
			if s.control(w, op) {
				return
			}
		case opCall, opCallIndirect:
			s.callInstruction(w, op)
		case opMemoryGrow:
			s.c.u32()
			w.point(at)
		case opPrefixFC:
			sub := s.c.u32()
			s.immediate(immediateOfFC(sub), "0xfc", sub)
			w.push(stackEffectFC(sub))
			if isBulk(sub) {
				w.point(at)
			}
			if changesTables(sub) {
				s.restorable = false
			}
		case opPrefixFD:
			sub := s.c.u32()
			s.immediate(immediateOfFD(sub), "0xfd", sub)
			w.push(stackEffectFD(sub))
		default:
			if op == opTableSet {
				s.restorable = false
			}
			s.immediate(immediateOf(op), "opcode", uint32(op))
			w.push(stackEffect(op))
		}
	}
}

// point asks for an interruption point before the instruction at that place.
func (w *walk) point(at int) {
	w.points = append(w.points, at)
	w.at(weightBulk)
}

// control reads the rest of a control instruction and says whether it was the
// function's last end.
func (s *scan) control(w *walk, op byte) (last bool) {
	switch op {
	case opBlock:
		w.open(s.c.signed(5))
		w.at(weightBlock)
	case opLoop:
		w.open(s.c.signed(5))
		w.at(weightBranch)
	case opIf:
		w.push(-1)
		w.open(s.c.signed(5))
		w.at(weightBranch)
	case opElse:
		w.other()
	case opEnd:
		last = len(w.bases) == 0
		w.close()
	case opBrIf:
		s.c.u32()
		w.push(-1)
		w.at(weightBranch)
	case opBr:
		s.c.u32()
		w.leave()
	case opBrTable:
		n := s.c.count("targets of br_table", maxBranchTargets)
		for range n + 1 {
			s.c.u32()
		}
		w.branches += n
		w.push(-1)
		w.at(weightBranch)
		w.leave()
	case opReturn, opUnreachable:
		w.leave()
	}
	s.charge(w)
	return last
}

func (s *scan) callInstruction(w *walk, op byte) {
	w.calls = true
	w.across()
	target := int64(s.c.u32())
	if op == opCallIndirect {
		s.c.u32() // table
		w.push(-1)
		w.call(target)
	} else if target < int64(len(s.functions)) {
		w.call(int64(s.functions[target]))
	}
	s.charge(w)
}

// immediate reads what follows an opcode.
func (s *scan) immediate(imm immediate, page string, op uint32) {
	switch imm {
	case immIndex:
		s.c.u32()
	case immIndex2, immMemory:
		s.c.u32()
		s.c.u32()
	case immMemLane:
		s.c.u32()
		s.c.u32()
		s.c.skip(1)
	case immByte:
		s.c.skip(1)
	case imm32:
		s.c.signed(5)
	case imm64:
		s.c.signed(10)
	case immBytes4:
		s.c.skip(4)
	case immBytes8:
		s.c.skip(8)
	case immBytes16:
		s.c.skip(16)
	case immTypes:
		s.each("types of select", maxParams, func() { s.c.valueType() })
	case immHeapType:
		if t := s.c.byte(); s.c.err == nil && !isRefType(t) {
			s.c.fail(CodeUnsupported, "reference type %#x", t)
		}
	case immUnknown:
		s.c.fail(CodeUnsupported, "%s %#x", page, op)
	}
}
