package fuel

import (
	"encoding/binary"
	"slices"
	"strconv"
)

// Result is a rewritten module.
type Result struct {
	Module []byte // without custom sections
	Info   Info
}

// Rewrite parses a module, refuses it with an *Error if it is malformed or
// could hurt a compiler, and rewrites it as the package's comment says. It
// accepts any bytes and takes time and memory in proportion to their number.
// The result is a function of the module and the options, and shares no memory
// with the module. Whether the code is well typed is left to the compiler: the
// rewritten module is exactly if the original is.
func Rewrite(module []byte, o Options) (Result, error) {
	m, err := parse(module, o.withDefaults())
	if err != nil {
		return Result{}, err
	}
	yield := m.typeIndex(SignatureOf(nil, nil))
	code := m.rewriteCode() // before the types, to which it may add
	if m.c.err != nil {
		return Result{}, m.c.err
	}
	out := make([]byte, 0, len(code)+len(module)/2)
	out = append(out, header...)
	next := 0
	for _, id := range sectionOrder() {
		var s section
		if next < len(m.sections) && m.sections[next].id == id {
			s = m.sections[next]
			next++
		}
		var content []byte
		switch id {
		case sectionType:
			content = m.rewriteTypes(s)
		case sectionImport:
			content = m.rewriteImports(s, yield)
		case sectionFunction:
			content = m.rewriteFunctions(s)
		case sectionCode:
			content = code
		default:
			content = m.rewriteSection(id, s)
		}
		out = appendSection(out, id, content)
	}
	m.info.CompileNs = m.compileNs
	return Result{Module: out, Info: m.info}, nil
}

// appendSection appends a section unless it is empty.
func appendSection(out []byte, id byte, content []byte) []byte {
	if len(content) == 0 {
		return out
	}
	out = append(out, id)
	out = binary.AppendUvarint(out, uint64(len(content)))
	return append(out, content...)
}

// rewriteSection returns the content of a section other than types, imports and code.
func (m *module) rewriteSection(id byte, s section) []byte {
	switch id {
	case sectionTable:
		return m.rewriteTables()
	case sectionMemory:
		return m.rewriteMemory()
	case sectionGlobal:
		return m.rewriteGlobals(s)
	case sectionExport:
		return m.rewriteExports(s)
	case sectionStart, sectionElement:
		return m.patched(s.start, s.end)
	}
	return m.c.b[s.start:s.end]
}

// entries returns where the elements of a section that is a vector begin.
func (m *module) entries(s section) int {
	i := s.start
	for i < s.end && m.c.b[i] >= 0x80 {
		i++
	}
	return min(i+1, s.end)
}

// patched returns a part of the module with the functions' new indices.
func (m *module) patched(start, end int) []byte {
	out := make([]byte, 0, end-start+16)
	first, _ := slices.BinarySearchFunc(m.patches, start, func(p patch, at int) int { return p.start - at })
	for _, p := range m.patches[first:] {
		if p.start >= end {
			break
		}
		out = append(out, m.c.b[start:p.start]...)
		out = binary.AppendUvarint(out, uint64(p.function))
		start = p.end
	}
	return append(out, m.c.b[start:end]...)
}

// shifted is the index of a function in the rewritten module, where one more is imported.
func (m *module) shifted(function uint32) uint32 {
	if int(function) >= m.imported {
		return function + 1
	}
	return function
}

// typeIndex returns the index of a function type, which it adds if need be.
func (m *module) typeIndex(s Signature) uint32 {
	i, known := m.typeIndices[s]
	if !known {
		i = uint32(len(m.types))
		m.types = append(m.types, s)
		m.newTypes = append(m.newTypes, s)
		m.typeIndices[s] = i
	}
	return i
}

// blockType encodes the type of a block without parameters.
func (m *module) blockType(results string) []byte {
	switch len(results) {
	case 0:
		return []byte{blockEmpty}
	case 1:
		return []byte(results)
	}
	return appendSigned(nil, int64(m.typeIndex(Signature(string(rune(arrow))+results))))
}

func (m *module) rewriteTypes(s section) []byte {
	out := binary.AppendUvarint(nil, uint64(len(m.types)))
	out = append(out, m.c.b[m.entries(s):s.end]...)
	for _, t := range m.newTypes {
		out = append(out, 0x60)
		params, results := t.split()
		for _, list := range []string{params, results} {
			out = appendName(out, list)
		}
	}
	return out
}

// appendName appends a string, or a list of types, after its length.
func appendName(out []byte, s string) []byte {
	return append(binary.AppendUvarint(out, uint64(len(s))), s...)
}

func (m *module) rewriteImports(s section, yield uint32) []byte {
	out := binary.AppendUvarint(nil, uint64(m.imported+1))
	out = append(out, m.c.b[m.entries(s):s.end]...)
	out = appendName(out, ImportModule)
	out = appendName(out, ImportYield)
	return binary.AppendUvarint(append(out, byte(KindFunction)), uint64(yield))
}

// rewriteFunctions adds the functions of split.go, if need be.
func (m *module) rewriteFunctions(s section) []byte {
	if !m.long {
		return m.c.b[s.start:s.end]
	}
	out := binary.AppendUvarint(nil, uint64(len(m.bodies)+splitFunctions))
	out = append(out, m.c.b[m.entries(s):s.end]...)
	for range splitFunctions {
		out = binary.AppendUvarint(out, uint64(m.typeIndex(threeToThree())))
	}
	return out
}

func (m *module) rewriteTables() []byte {
	if len(m.tables) == 0 {
		return nil
	}
	out := binary.AppendUvarint(nil, uint64(len(m.tables)))
	for _, t := range m.tables {
		out = append(out, byte(t.refType), 1)
		out = binary.AppendUvarint(out, uint64(t.least))
		out = binary.AppendUvarint(out, uint64(t.most))
	}
	return out
}

func (m *module) rewriteMemory() []byte {
	if m.memories == 0 {
		return nil
	}
	out := binary.AppendUvarint([]byte{1, 1}, uint64(m.info.Memory.Least))
	return binary.AppendUvarint(out, uint64(m.info.Memory.Most))
}

func (m *module) rewriteGlobals(s section) []byte {
	out := binary.AppendUvarint(nil, uint64(len(m.globals)+2))
	out = append(out, m.patched(m.entries(s), s.end)...)
	out = append(out, byte(I64), 1, opI64Const, 0, opEnd)
	out = append(out, byte(I32), 1, opI32Const)
	out = appendSigned(out, int64(m.options.Depth))
	return append(out, opEnd)
}

func (m *module) rewriteExports(s section) []byte {
	out := binary.AppendUvarint(nil, uint64(len(m.info.Exports)+2+len(m.info.Globals)))
	out = append(out, m.patched(m.entries(s), s.end)...)
	global := func(name string, index int) {
		out = append(appendName(out, name), byte(KindGlobal))
		out = binary.AppendUvarint(out, uint64(index))
	}
	global(GlobalFuel, len(m.globals))
	global(GlobalDepth, len(m.globals)+1)
	for _, g := range m.info.Globals {
		global(g.Name, int(g.Index))
	}
	return out
}

// rewriteCode reads all bodies a second time, now that the price of every call
// is known, and writes them anew.
func (m *module) rewriteCode() []byte {
	if len(m.bodies) == 0 {
		return nil
	}
	m.c.section = sectionName(sectionCode)
	w := writer{m: m, fuel: uint64(len(m.globals)), depth: uint64(len(m.globals)) + 1, yield: uint64(m.imported)}
	count := len(m.bodies)
	if m.long {
		w.fill, w.copy = uint64(len(m.functions))+1, uint64(len(m.functions))+2
		count += splitFunctions
		m.typeIndex(threeToThree())
	}
	out := binary.AppendUvarint(nil, uint64(count))
	for i, b := range m.bodies {
		m.c.function = m.imported + i
		m.walk(b)
		entry := m.flow.charges(m.units, m.imported, true)
		small := m.units[i] > 0
		m.weigh(small)
		if m.c.err != nil {
			return nil
		}
		w.out = w.out[:0]
		w.function(b, m.functions[m.imported+i], entry, small)
		out = binary.AppendUvarint(out, uint64(len(w.out)))
		if out = append(out, w.out...); len(out) > maxRewritten {
			m.c.fail(CodeTooComplex, "with fuel and canonical NaNs, code of more than %d bytes", maxRewritten)
			return nil
		}
	}
	if m.long {
		out = append(append(out, w.splitFill()...), w.splitCopy()...)
	}
	return out
}

// weigh adds what the checks cost the compiler: a branch and a call each.
func (m *module) weigh(small bool) {
	f := &m.flow
	for i := range f.nodes {
		if n := &f.nodes[i]; n.kind == nodeLoop || n.kind == nodeBulk || n.flags&flagLong != 0 || i == 0 && !small {
			f.height = int64(n.height)
			f.at(weightBranch)
			f.across()
			if n.kind == nodeBulk && splits(n.aux) {
				f.at(weightBranch)
				f.across()
			}
		}
	}
	m.checkCost(f)
	if m.compileNs += f.ns(); m.compileNs > maxModuleNs {
		m.c.fail(CodeTooComplex, "the module's functions together have too many blocks")
	}
}

// name of the export of a mutable global.
func globalName(index int) string { return globalPrefix + strconv.Itoa(index) }
