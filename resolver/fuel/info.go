package fuel

import "strings"

// ValueType is a type of values, as in the binary format.
type ValueType byte

// Value types.
const (
	I32       ValueType = 0x7f
	I64       ValueType = 0x7e
	F32       ValueType = 0x7d
	F64       ValueType = 0x7c
	V128      ValueType = 0x7b
	FuncRef   ValueType = 0x70
	ExternRef ValueType = 0x6f
)

func (t ValueType) known() bool { return t >= V128 && t <= I32 || t.reference() }

func (t ValueType) reference() bool { return t == FuncRef || t == ExternRef }

// String returns the type's name in the text format.
func (t ValueType) String() string {
	switch t {
	case I32:
		return "i32"
	case I64:
		return "i64"
	case F32:
		return "f32"
	case F64:
		return "f64"
	case V128:
		return "v128"
	case FuncRef:
		return "funcref"
	case ExternRef:
		return "externref"
	}
	return "unknown"
}

// Signature is a function type: its parameters, an arrow, its results.
type Signature string

const arrow = '>'

// SignatureOf returns the function type with these parameters and results.
func SignatureOf(params, results []ValueType) Signature {
	b := make([]byte, 0, len(params)+1+len(results))
	for _, t := range params {
		b = append(b, byte(t))
	}
	b = append(b, arrow)
	for _, t := range results {
		b = append(b, byte(t))
	}
	return Signature(b)
}

func (s Signature) split() (params, results string) {
	params, results, _ = strings.Cut(string(s), string(rune(arrow)))
	return params, results
}

// String returns the type in a form like "(i32, i32) -> (i64)".
func (s Signature) String() string {
	list := func(types string) string {
		names := make([]string, len(types))
		for i := range types {
			names[i] = ValueType(types[i]).String()
		}
		return "(" + strings.Join(names, ", ") + ")"
	}
	params, results := s.split()
	return list(params) + " -> " + list(results)
}

// Kind is a kind of things that can be exported.
type Kind byte

// Kinds of exports.
const (
	KindFunction Kind = 0
	KindTable    Kind = 1
	KindMemory   Kind = 2
	KindGlobal   Kind = 3
)

// Import is an imported function.
type Import struct {
	Module, Name string
	Type         Signature
}

// Export is what the module exported before it was rewritten.
type Export struct {
	Name  string
	Kind  Kind
	Index uint32
	Type  Signature // of a function
	Value ValueType // of a global
}

// Global is a mutable global of the module and the name under which the
// rewritten module exports it.
type Global struct {
	Name  string
	Index uint32
	Type  ValueType
}

// Custom is a custom section: its content is module[Start:End] of the original.
type Custom struct {
	Name       string
	Start, End int
}

// Memory is the memory of the rewritten module, in pages of 64 KiB.
type Memory struct {
	Present     bool
	Least, Most uint32
}

// Info is what Rewrite learned about a module.
type Info struct {
	Imports []Import // without ImportYield
	Exports []Export // in the module's order
	Globals []Global // mutable ones, in the module's order, without GlobalFuel and GlobalDepth
	Customs []Custom // in the module's order; they are left out of the rewritten module
	Memory  Memory
	Start   bool // has a start function, which runs when it is instantiated

	// Restorable says that putting back memory and Globals undoes all that a
	// run has done: no instruction changes tables or drops segments, and all
	// mutable globals hold numbers of up to 64 bits.
	Restorable bool

	Functions int   // with bodies
	Charges   int   // places where fuel is taken
	Checks    int   // places where the host is called if there is none left
	Counted   int   // functions that count the depth
	NaNs      int   // operations whose NaNs are made canonical
	CompileNs int64 // estimated worst time to compile the rewritten module
}
