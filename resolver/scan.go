package resolver

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"
)

// The two forms a module may have.
const (
	ABIFunction = "function-v1" // exports dynamo_alloc and dynamo_resolve_v1
	ABICommand  = "command"     // exports _start, speaks JSON on standard input and output
)

// Names of the ABI.
const (
	exportMemory       = "memory"
	exportAlloc        = "dynamo_alloc"
	exportResolve      = "dynamo_resolve_v1"
	exportConfigure    = "dynamo_configure_v1"
	exportWantsDeleted = "dynamo_wants_deleted"
	exportInitialize   = "_initialize"
	exportStart        = "_start"
)

// Info is what Check learned about a module.
type Info struct {
	SHA256 [32]byte
	Size   int    // in bytes
	ABI    string // ABIFunction or ABICommand
	// WantsDeleted says that concurrent deletes are to be among the siblings.
	WantsDeleted bool
	Exports      []string // names, in the module's order
	Imports      []string // "module.name", in the module's order
}

// Check reads the whole of a module and refuses, with an *Error, what is not a
// resolver or could hurt the compiler. It accepts any bytes, takes time and
// memory in proportion to their number, and runs nothing. Whether the code is
// well typed is left to Compile.
func Check(module []byte, l Limits) (Info, error) {
	s, err := scanModule(module, l)
	if err != nil {
		return Info{}, err
	}
	return s.info, nil
}

// signature is a function type: its parameters and results, a byte each, an
// arrow between. Value types are above it.
type signature string

const arrow = '>'

func sig(params, results string) signature {
	wasm := strings.NewReplacer("i", "\x7f", "I", "\x7e")
	return signature(wasm.Replace(params) + string(arrow) + wasm.Replace(results))
}

// section is a part of the binary: its content is module[start:end].
type section struct {
	id         byte
	start, end int
}

// body is the code of one function: its size is before start, its
// instructions begin at code.
type body struct {
	start, code, end int
	points           []int // where an interruption point is to go, ascending
}

// table is the declaration of a table.
type table struct {
	refType     byte
	least, most uint32
}

// scan is the state of one walk over a module.
type scan struct {
	c      cursor
	limits Limits
	info   Info

	types     []signature
	functions []uint32 // types of all functions, the imported ones first
	imported  int      // number of imported functions
	tables    []table
	memories  int
	memory    struct{ least, most uint32 } // pages
	globals   int
	mutable   []int // numbers of the mutable globals
	exports   map[string]export
	sections  []section
	bodies    []body
	locals    int64 // of all functions
	compileNs int64 // estimate for all functions

	// restorable says that no table, segment or global of another kind than a number can change.
	restorable bool
}

type export struct {
	kind  byte
	index uint32
}

// Kinds of exports and imports.
const (
	kindFunction = 0
	kindMemory   = 2
	kindGlobal   = 3
)

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

func scanModule(module []byte, l Limits) (*scan, error) {
	if len(module) > l.ModuleBytes {
		return nil, failf(CodeTooLarge, "module of %d bytes, limit %d", len(module), l.ModuleBytes)
	}
	header := []byte("\x00asm\x01\x00\x00\x00")
	if !bytes.HasPrefix(module, header) {
		return nil, failf(CodeMalformed, "not a WebAssembly binary module of version 1")
	}
	s := &scan{limits: l, exports: map[string]export{}, restorable: true}
	s.info.SHA256, s.info.Size = sha256.Sum256(module), len(module)
	s.c = cursor{b: module, pos: len(header), end: len(module)}
	for s.c.more() {
		s.section()
	}
	if s.c.err == nil {
		s.checkWhole()
	}
	if s.c.err != nil {
		return nil, s.c.err
	}
	return s, nil
}

// section reads one section and makes sure that it is in its place and that
// its content has exactly its size.
func (s *scan) section() {
	id, size := s.c.byte(), s.c.u32()
	start := s.c.pos
	s.c.skip(size)
	if s.c.err != nil {
		return
	}
	end := s.c.pos
	if id == sectionCustom {
		return
	}
	order := []byte{
		sectionType, sectionImport, sectionFunction, sectionTable, sectionMemory, sectionGlobal,
		sectionExport, sectionStart, sectionElement, sectionCount, sectionCode, sectionData,
	}
	place := slices.Index(order, id)
	if place < 0 {
		s.c.fail(CodeUnsupported, "section %d", id)
		return
	}
	if n := len(s.sections); n > 0 && slices.Index(order, s.sections[n-1].id) >= place {
		s.c.fail(CodeMalformed, "section %d out of order", id)
		return
	}
	s.sections = append(s.sections, section{id, start, end})
	s.c.pos, s.c.end = start, end
	s.content(id)
	if s.c.err == nil && s.c.pos != end {
		s.c.fail(CodeMalformed, "section %d is longer than its content", id)
	}
	s.c.end = len(s.c.b)
}

func (s *scan) content(id byte) {
	switch id {
	case sectionType:
		s.each("types", maxTypes, s.functionType)
	case sectionImport:
		s.each("imports", maxImports, s.importEntry)
		s.imported = len(s.functions)
	case sectionFunction:
		s.each("functions", maxFunctions, s.function)
	case sectionTable:
		s.each("tables", maxTables, s.table)
	case sectionMemory:
		s.each("memories", maxImports, s.memoryEntry)
	case sectionGlobal:
		s.each("globals", maxGlobals, s.global)
	case sectionExport:
		s.each("exports", maxExports, s.exportEntry)
	case sectionStart:
		s.start()
	case sectionElement:
		s.elements()
	case sectionCount:
		s.c.u32()
	case sectionCode:
		if size := s.c.end - s.c.pos; size > maxCodeBytes {
			s.c.fail(CodeTooComplex, "code of %d bytes, limit %d", size, maxCodeBytes)
		}
		s.each("function bodies", maxFunctions, s.body)
	case sectionData:
		s.each("data segments", maxDataSegments, s.data)
	}
}

// each reads a vector, element by element.
func (s *scan) each(what string, limit int, element func()) {
	for range s.c.count(what, limit) {
		if s.c.err != nil {
			return
		}
		element()
	}
}

func (s *scan) functionType() {
	if form := s.c.byte(); s.c.err == nil && form != 0x60 {
		s.c.fail(CodeUnsupported, "type form %#x", form)
	}
	var t []byte
	s.each("parameters", maxParams, func() { t = append(t, s.c.valueType()) })
	t = append(t, arrow)
	s.each("results", maxParams, func() { t = append(t, s.c.valueType()) })
	s.types = append(s.types, signature(t))
}

func (s *scan) importEntry() {
	name := s.c.name() + "." + s.c.name()
	if kind := s.c.byte(); s.c.err == nil && kind != kindFunction {
		s.c.fail(CodeUnknownImport, "%s: only functions can be imported", name)
	}
	s.function()
	if s.c.err != nil {
		return
	}
	want, known := hostSignature(name)
	if !known {
		s.c.fail(CodeUnknownImport, "%s: no such function of the host", name)
		return
	}
	if s.typeOf(uint32(len(s.functions)-1)) != want {
		s.c.fail(CodeUnknownImport, "%s: imported with another type than the host's", name)
	}
	s.info.Imports = append(s.info.Imports, name)
}

func (s *scan) function() {
	t := s.c.u32()
	if s.c.err == nil && int64(t) >= int64(len(s.types)) {
		s.c.fail(CodeMalformed, "unknown type %d", t)
	}
	s.functions = append(s.functions, t)
}

func (s *scan) typeOf(function uint32) signature { return s.types[s.functions[function]] }

func (s *scan) table() {
	t := table{refType: s.c.byte()}
	if s.c.err == nil && !isRefType(t.refType) {
		s.c.fail(CodeUnsupported, "table of %#x", t.refType)
	}
	t.least, t.most = s.c.bounds()
	if t.least > maxTableEntries/maxTables {
		s.c.fail(CodeTooComplex, "table of %d entries, limit %d", t.least, maxTableEntries/maxTables)
	}
	t.most = min(t.most, maxTableEntries/maxTables)
	s.tables = append(s.tables, t)
}

func (s *scan) memoryEntry() {
	s.memory.least, s.memory.most = s.c.bounds()
	if s.memories++; s.memories > 1 {
		s.c.fail(CodeUnsupported, "several memories")
	}
	if s.memory.least > s.limits.pages() {
		s.c.fail(CodeMemory, "memory of %d pages, limit %d", s.memory.least, s.limits.pages())
	}
	s.memory.most = min(s.memory.most, s.limits.pages())
}

func (s *scan) global() {
	t := s.c.valueType()
	mutable := s.c.byte()
	if mutable > 1 {
		s.c.fail(CodeMalformed, "mutability %d", mutable)
	}
	if mutable == 1 {
		s.mutable = append(s.mutable, s.globals)
		if !isNumber(t) { // the engine's interface shows half of a vector, and references not at all
			s.restorable = false
		}
	}
	s.constant()
	s.globals++
}

// constant skips a constant expression: one instruction and the end.
func (s *scan) constant() {
	switch op := s.c.byte(); op {
	case opI32Const, opI64Const, opF32Const, opF64Const, opGlobalGet, opRefNull, opRefFunc:
		s.immediate(immediateOf(op), "opcode", uint32(op))
	case opPrefixFD:
		if s.c.u32() != opV128Const {
			s.c.fail(CodeUnsupported, "constant expression with a vector operation")
		}
		s.c.skip(16)
	default:
		s.c.fail(CodeUnsupported, "constant expression with opcode %#x", op)
	}
	if end := s.c.byte(); s.c.err == nil && end != opEnd {
		s.c.fail(CodeUnsupported, "constant expression of several instructions")
	}
}

func (s *scan) exportEntry() {
	name := s.c.name()
	e := export{kind: s.c.byte(), index: s.c.u32()}
	if _, twice := s.exports[name]; twice {
		s.c.fail(CodeMalformed, "export %q is there twice", name)
	}
	s.exports[name] = e
	s.info.Exports = append(s.info.Exports, name)
}

func (s *scan) start() {
	f := s.c.u32()
	if s.c.err == nil && (int64(f) >= int64(len(s.functions)) || s.typeOf(f) != sig("", "")) {
		s.c.fail(CodeMalformed, "start function %d", f)
	}
}

// elements reads the element section, which fills tables. All segments
// together have a limit, since each entry is 8 bytes of the host.
func (s *scan) elements() {
	total := 0
	s.each("element segments", maxElemSegments, func() {
		flags := s.c.u32()
		if s.c.err == nil && flags > 7 {
			s.c.fail(CodeUnsupported, "element segment of kind %d", flags)
		}
		passive, explicit, expressions := flags&1 != 0, flags&2 != 0, flags&4 != 0
		if !passive {
			if explicit {
				s.c.u32() // table
			}
			s.constant()
		}
		if passive || explicit {
			kind := s.c.byte()
			if s.c.err == nil && (expressions && !isRefType(kind) || !expressions && kind != 0) {
				s.c.fail(CodeUnsupported, "elements of %#x", kind)
			}
		}
		entry := func() { s.c.u32() }
		if expressions {
			entry = s.constant
		}
		before := s.c.pos
		s.each("elements", maxElements, entry)
		if total += s.c.pos - before; total > 5*maxElements {
			s.c.fail(CodeTooComplex, "more than %d elements", maxElements)
		}
	})
}

func (s *scan) data() {
	flags := s.c.u32()
	switch {
	case s.c.err != nil:
	case flags > 2:
		s.c.fail(CodeUnsupported, "data segment of kind %d", flags)
	case flags == 2:
		s.c.u32() // memory
		s.constant()
	case flags == 0:
		s.constant()
	}
	s.c.skip(s.c.u32())
}

// checkWhole looks at what only shows when all sections are known.
func (s *scan) checkWhole() {
	if len(s.bodies) != len(s.functions)-s.imported {
		s.c.fail(CodeMalformed, "%d functions with %d bodies", len(s.functions)-s.imported, len(s.bodies))
		return
	}
	for _, e := range s.exports {
		if e.kind == kindFunction && int64(e.index) >= int64(len(s.functions)) {
			s.c.fail(CodeMalformed, "export of unknown function %d", e.index)
			return
		}
	}
	if e, ok := s.exports[exportMemory]; !ok || e.kind != kindMemory || e.index != 0 || s.memories == 0 {
		s.c.fail(CodeMissingExport, "the module exports no memory called %q", exportMemory)
	}
	if _, ok := s.exports[exportResolve]; !ok {
		if _, ok := s.exports[exportStart]; !ok {
			s.c.fail(CodeMissingExport, "the module exports neither %s nor %s", exportResolve, exportStart)
			return
		}
		s.info.ABI = ABICommand
		s.wantFunction(exportStart, sig("", ""), true)
		return
	}
	s.info.ABI = ABIFunction
	s.wantFunction(exportResolve, sig("ii", "I"), true)
	s.wantFunction(exportAlloc, sig("i", "i"), true)
	s.wantFunction(exportInitialize, sig("", ""), false)
	s.wantFunction(exportConfigure, sig("ii", "i"), false)
	s.info.WantsDeleted = s.wantFunction(exportWantsDeleted, sig("", ""), false)
}

// wantFunction makes sure that an export, if it is there, is a function of that
// type, and says whether it is.
func (s *scan) wantFunction(name string, want signature, required bool) bool {
	e, ok := s.exports[name]
	switch {
	case !ok && required:
		s.c.fail(CodeMissingExport, "the module does not export %s", name)
	case ok && (e.kind != kindFunction || s.typeOf(e.index) != want):
		s.c.fail(CodeMissingExport, "export %s is of another type than the interface's", name)
	}
	return ok
}
