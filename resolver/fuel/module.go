package fuel

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// section is a part of the binary: its content is module[start:end].
type section struct {
	id         byte
	start, end int
}

// patch replaces module[start:end], a function index, by that of the function
// in the rewritten module.
type patch struct {
	start, end int
	function   uint32
}

// body is the code of one function: the runs of locals begin at start, after
// their count, the instructions at code.
type body struct {
	start, code, end int
	runs             int // of locals
	locals           uint32
}

// table is the declaration of a table.
type table struct {
	refType     ValueType
	least, most uint32
}

// global is the declaration of a global.
type global struct {
	value   ValueType
	mutable bool
}

// module is what was read of a module.
type module struct {
	c        cursor
	options  Options
	info     Info
	sections []section // all but custom ones

	types     []Signature
	newTypes  []Signature // the last ones of types, which the rewriting adds
	functions []uint32    // types of all functions, the imported ones first
	imported  int         // number of imported functions
	tables    []table
	memories  int
	globals   []global
	exports   map[string]struct{}
	patches   []patch // outside of code, ascending
	bodies    []body
	dataCount int  // announced before the code, or -1
	dataSeen  int  // segments
	elements  int  // segments
	dirty     bool // changes tables or segments
	long      bool // has instructions that are done in pieces

	locals    int64   // in all functions
	units     []int64 // for each body: what its callers pay for it, or 0
	mutables  int64   // number of mutable globals
	compileNs int64

	typeIndices map[Signature]uint32 // the first of each
	flow        flow                 // of the function being read
}

// Sections.
const (
	sectionCustom   = 0
	sectionType     = 1
	sectionImport   = 2
	sectionFunction = 3
	sectionTable    = 4
	sectionMemory   = 5
	sectionGlobal   = 6
	sectionExport   = 7
	sectionStart    = 8
	sectionElement  = 9
	sectionCode     = 10
	sectionData     = 11
	sectionCount    = 12 // of data segments
)

// sectionOrder is the order of the sections in a module.
func sectionOrder() []byte {
	return []byte{
		sectionType, sectionImport, sectionFunction, sectionTable, sectionMemory, sectionGlobal,
		sectionExport, sectionStart, sectionElement, sectionCount, sectionCode, sectionData,
	}
}

func sectionName(id byte) string {
	names := []string{"custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element", "code", "data", "data count"}
	if int(id) < len(names) {
		return names[id]
	}
	return strconv.Itoa(int(id))
}

// header is the magic number and the version of the binary format.
const header = "\x00asm\x01\x00\x00\x00"

// parse reads a module and checks all that the rewriting depends on.
func parse(b []byte, o Options) (*module, error) {
	m := &module{options: o, exports: map[string]struct{}{}, typeIndices: map[Signature]uint32{}, dataCount: -1}
	m.c = cursor{b: b, pos: len(header), end: len(b), function: -1}
	if len(b) > o.ModuleBytes {
		return nil, &Error{Code: CodeTooLarge, Function: -1, Offset: len(b), Message: "module of " + strconv.Itoa(len(b)) + " bytes, limit " + strconv.Itoa(o.ModuleBytes)}
	}
	if !bytes.HasPrefix(b, []byte(header)) {
		return nil, &Error{Code: CodeMalformed, Function: -1, Message: "not a WebAssembly binary module of version 1"}
	}
	for m.c.more() {
		m.section()
	}
	if m.c.err == nil {
		m.checkWhole()
	}
	if m.c.err != nil {
		return nil, m.c.err
	}
	return m, nil
}

// section reads one section and makes sure that it is in its place and that
// its content has exactly its size.
func (m *module) section() {
	m.c.section, m.c.function = "", -1
	id, size := m.c.byte(), m.c.u32()
	start := m.c.pos
	m.c.skip(size)
	if m.c.err != nil {
		return
	}
	m.c.section = sectionName(id)
	end := m.c.pos
	m.c.pos, m.c.end = start, end
	defer func() { m.c.end = len(m.c.b) }()
	if id == sectionCustom {
		m.custom(end)
		return
	}
	order := sectionOrder()
	place := slices.Index(order, id)
	if place < 0 {
		m.c.fail(CodeUnsupported, "section %d", id)
		return
	}
	if n := len(m.sections); n > 0 && slices.Index(order, m.sections[n-1].id) >= place {
		m.c.fail(CodeMalformed, "section out of order")
		return
	}
	m.sections = append(m.sections, section{id, start, end})
	m.content(id)
	m.c.function = -1
	if m.c.err == nil && m.c.pos != end {
		m.c.fail(CodeMalformed, "section is longer than its content")
	}
}

func (m *module) custom(end int) {
	name := m.c.name()
	if m.c.err != nil {
		return
	}
	if len(m.info.Customs) >= maxCustom {
		m.c.fail(CodeTooComplex, "more than %d custom sections", maxCustom)
		return
	}
	m.info.Customs = append(m.info.Customs, Custom{name, m.c.pos, end})
	m.c.pos = end
}

func (m *module) content(id byte) {
	switch id {
	case sectionType:
		m.c.each("types", maxTypes, m.functionType)
	case sectionImport:
		m.c.each("imports", maxImports, m.importEntry)
		m.imported = len(m.functions)
	case sectionFunction:
		m.c.each("functions", maxFunctions, m.function)
	case sectionTable:
		m.c.each("tables", maxTables, m.table)
	case sectionMemory:
		m.c.each("memories", maxImports, m.memory)
	case sectionGlobal:
		m.c.each("globals", maxGlobals, m.global)
	case sectionExport:
		m.c.each("exports", maxExports, m.exportEntry)
	case sectionStart:
		m.start()
	case sectionElement:
		m.elementSegments()
	case sectionCount:
		m.dataCount = int(m.c.u32())
	case sectionCode:
		m.code()
	case sectionData:
		m.c.each("data segments", maxDataSegments, m.data)
	}
}

func (m *module) functionType() {
	if form := m.c.byte(); m.c.err == nil && form != 0x60 {
		m.c.fail(CodeUnsupported, "type form %#x", form)
	}
	var params, results []ValueType
	m.c.each("parameters", maxParams, func() { params = append(params, m.c.valueType()) })
	m.c.each("results", maxParams, func() { results = append(results, m.c.valueType()) })
	s := SignatureOf(params, results)
	if _, known := m.typeIndices[s]; !known {
		m.typeIndices[s] = uint32(len(m.types))
	}
	m.types = append(m.types, s)
}

func (m *module) importEntry() {
	from, name := m.c.name(), m.c.name()
	if kind := m.c.byte(); m.c.err == nil && kind != 0 {
		m.c.fail(CodeUnsupported, "%q.%q: only functions can be imported", from, name)
	}
	if m.c.err == nil && from == ImportModule {
		m.c.fail(CodeReserved, "%q.%q: module name is the host's own", from, name)
	}
	m.function()
	if m.c.err == nil {
		m.info.Imports = append(m.info.Imports, Import{from, name, m.typeOf(uint32(len(m.functions) - 1))})
	}
}

func (m *module) function() {
	t := m.c.index("type", len(m.types))
	m.functions = append(m.functions, t)
}

func (m *module) typeOf(function uint32) Signature { return m.types[m.functions[function]] }

func (m *module) table() {
	t := table{refType: m.c.refType()}
	t.least, t.most = m.c.bounds()
	const most = maxTableEntries / maxTables
	if t.least > most {
		m.c.fail(CodeTooComplex, "table of %d entries, limit %d", t.least, most)
	}
	t.most = min(t.most, most)
	m.tables = append(m.tables, t)
}

func (m *module) memory() {
	least, most := m.c.bounds()
	if m.memories++; m.memories > 1 {
		m.c.fail(CodeUnsupported, "several memories")
	}
	if least > m.options.MemoryPages {
		m.c.fail(CodeMemory, "memory of %d pages, limit %d", least, m.options.MemoryPages)
	}
	if most != 1<<32-1 && most > 65536 {
		m.c.fail(CodeMalformed, "memory of up to %d pages", most)
	}
	m.info.Memory = Memory{true, least, min(most, m.options.MemoryPages)}
}

func (m *module) global() {
	g := global{value: m.c.valueType()}
	mutable := m.c.byte()
	if mutable > 1 {
		m.c.fail(CodeMalformed, "mutability %d", mutable)
	}
	if g.mutable = mutable == 1; g.mutable {
		i := len(m.globals)
		m.mutables++
		m.info.Globals = append(m.info.Globals, Global{globalName(i), uint32(i), g.value})
		m.dirty = m.dirty || g.value == V128 || g.value.reference()
	}
	m.constant()
	m.globals = append(m.globals, g)
}

// functionIndex reads a function index outside of code and notes that it changes.
func (m *module) functionIndex() uint32 {
	start := m.c.pos
	f := m.c.index("function", len(m.functions))
	if m.c.err == nil && int(f) >= m.imported {
		m.patches = append(m.patches, patch{start, m.c.pos, f + 1})
	}
	return f
}

// constant reads a constant expression: one instruction and the end.
func (m *module) constant() {
	switch op := m.c.byte(); op {
	case opI32Const:
		m.c.signed(32)
	case opI64Const:
		m.c.signed(64)
	case opF32Const:
		m.c.skip(4)
	case opF64Const:
		m.c.skip(8)
	case opGlobalGet:
		m.c.index("global", len(m.globals))
	case opRefNull:
		m.c.refType()
	case opRefFunc:
		m.functionIndex()
	case opPrefixFD:
		if m.c.byte() != opV128Const {
			m.c.fail(CodeUnsupported, "constant expression with a vector operation")
		}
		m.c.skip(16)
	default:
		m.c.fail(CodeUnsupported, "constant expression with opcode %#x", op)
	}
	if end := m.c.byte(); m.c.err == nil && end != opEnd {
		m.c.fail(CodeUnsupported, "constant expression of several instructions")
	}
}

func (m *module) exportEntry() {
	e := Export{Name: m.c.name(), Kind: Kind(m.c.byte())}
	switch e.Kind {
	case KindFunction:
		if e.Index = m.functionIndex(); m.c.err == nil {
			e.Type = m.typeOf(e.Index)
		}
	case KindTable:
		e.Index = m.c.index("table", len(m.tables))
	case KindMemory:
		e.Index = m.c.index("memory", m.memories)
	case KindGlobal:
		if e.Index = m.c.index("global", len(m.globals)); m.c.err == nil {
			e.Value = m.globals[e.Index].value
		}
	default:
		m.c.fail(CodeUnsupported, "export of kind %#x", byte(e.Kind))
	}
	if _, twice := m.exports[e.Name]; twice {
		m.c.fail(CodeMalformed, "export %q is there twice", e.Name)
	}
	if strings.HasPrefix(e.Name, ReservedPrefix) {
		m.c.fail(CodeReserved, "export %q begins with %q, which belongs to the host", e.Name, ReservedPrefix)
	}
	if m.c.err != nil {
		return
	}
	m.exports[e.Name] = struct{}{}
	m.info.Exports = append(m.info.Exports, e)
}

func (m *module) start() {
	m.info.Start = true
	if f := m.functionIndex(); m.c.err == nil && m.typeOf(f) != SignatureOf(nil, nil) {
		m.c.fail(CodeMalformed, "start function %d has the type %v", f, m.typeOf(f))
	}
}

// elementSegments reads the element section, which fills tables. All segments
// together have a limit, since each entry is 8 bytes of the host.
func (m *module) elementSegments() {
	total := 0
	m.c.each("element segments", maxElemSegments, func() {
		m.elements++
		flags := m.c.u32()
		if m.c.err == nil && flags > 7 {
			m.c.fail(CodeUnsupported, "element segment of kind %d", flags)
		}
		passive, explicit, expressions := flags&1 != 0, flags&2 != 0, flags&4 != 0
		if !passive {
			if explicit {
				m.c.index("table", len(m.tables))
			}
			m.constant()
		}
		if passive || explicit {
			if expressions {
				m.c.refType()
			} else {
				m.c.zero()
			}
		}
		entry := func() { m.functionIndex() }
		if expressions {
			entry = m.constant
		}
		before := m.c.pos
		m.c.each("elements", maxElements, entry)
		if total += m.c.pos - before; total > 5*maxElements {
			m.c.fail(CodeTooComplex, "more than %d elements", maxElements)
		}
	})
}

func (m *module) data() {
	m.dataSeen++
	flags := m.c.u32()
	switch {
	case m.c.err != nil:
	case flags > 2:
		m.c.fail(CodeUnsupported, "data segment of kind %d", flags)
	case flags == 2:
		m.c.index("memory", m.memories)
		m.constant()
	case flags == 0:
		m.constant()
	}
	m.c.skip(m.c.u32())
}

// checkWhole looks at what only shows when all sections are known.
func (m *module) checkWhole() {
	m.c.section = ""
	if len(m.bodies) != len(m.functions)-m.imported {
		m.c.fail(CodeMalformed, "%d functions with %d bodies", len(m.functions)-m.imported, len(m.bodies))
	}
	if m.dataCount >= 0 && m.dataCount != m.dataSeen {
		m.c.fail(CodeMalformed, "%d data segments announced, %d found", m.dataCount, m.dataSeen)
	}
	m.info.Restorable = !m.dirty
	m.info.Functions = len(m.bodies)
	m.info.CompileNs = m.compileNs
}
