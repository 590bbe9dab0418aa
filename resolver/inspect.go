package resolver

import (
	"crypto/sha256"
	"errors"
	"slices"
	"strings"

	"dynamo/resolver/fuel"
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
// well typed is left to Load.
func Check(module []byte, l Limits) (Info, error) {
	p, err := inspect(module, l)
	return p.info, err
}

// prepared is a module as the engine gets it, and what is known about it.
type prepared struct {
	info    Info
	code    []byte
	exports []fuel.Export
	// pages is the largest memory it may grow to.
	pages uint32
	// globals are the names under which the code exports the module's mutable globals.
	globals []string
	// restorable says that nothing else than the memory and these globals can change in an instance.
	restorable bool
}

// inspect rewrites a module and makes sure that it is a resolver.
func inspect(module []byte, l Limits) (prepared, error) {
	res, err := fuel.Rewrite(module, fuel.Options{ModuleBytes: l.ModuleBytes, MemoryPages: l.pages(), Depth: l.CallDepth})
	if err != nil {
		return prepared{}, refusal(err)
	}
	p := prepared{code: res.Module, exports: res.Info.Exports, pages: res.Info.Memory.Most, restorable: res.Info.Restorable}
	p.info.SHA256, p.info.Size = sha256.Sum256(module), len(module)
	for _, g := range res.Info.Globals {
		p.globals = append(p.globals, g.Name)
	}
	for _, e := range p.exports {
		p.info.Exports = append(p.info.Exports, e.Name)
	}
	if err := p.checkImports(res.Info.Imports); err != nil {
		return prepared{}, err
	}
	if err := p.checkExports(); err != nil {
		return prepared{}, err
	}
	return p, nil
}

// refusal gives the code for an error of Rewrite. Its codes have equal names here.
func refusal(err error) error {
	refused, ok := errors.AsType[*fuel.Error](err)
	if !ok {
		return &Error{Code: CodeInternal, Message: "rewrite", Err: err}
	}
	text := strings.TrimPrefix(refused.Error(), string(refused.Code)+": ")
	return &Error{Code: Code(refused.Code), Message: guestText([]byte(text))}
}

// checkImports makes sure that the host gives all that is imported.
func (p *prepared) checkImports(imports []fuel.Import) error {
	for _, i := range imports {
		name := i.Module + "." + i.Name
		want, known := hostSignature(name)
		switch {
		case !known:
			return failf(CodeUnknownImport, "%s: no such function of the host", guestText([]byte(name)))
		case i.Type != want:
			return failf(CodeUnknownImport, "%s: imported as %v, the host's is %v", name, i.Type, want)
		}
		p.info.Imports = append(p.info.Imports, name)
	}
	return nil
}

// checkExports finds out which form a module has, and makes sure that it exports what belongs to it.
func (p *prepared) checkExports() error {
	if e, ok := p.export(exportMemory); !ok || e.Kind != fuel.KindMemory {
		return failf(CodeMissingExport, "the module exports no memory called %q", exportMemory)
	}
	type wanted struct {
		name     string
		of       fuel.Signature
		required bool
	}
	p.info.ABI = ABIFunction
	want := []wanted{
		{exportResolve, sig("ii", "I"), true},
		{exportAlloc, sig("i", "i"), true},
		{exportInitialize, sig("", ""), false},
		{exportConfigure, sig("ii", "i"), false},
		{exportWantsDeleted, sig("", ""), false},
	}
	if _, ok := p.export(exportResolve); !ok {
		if _, ok := p.export(exportStart); !ok {
			return failf(CodeMissingExport, "the module exports neither %s nor %s", exportResolve, exportStart)
		}
		p.info.ABI = ABICommand
		want = []wanted{{exportStart, sig("", ""), true}}
	}
	for _, w := range want {
		e, ok := p.export(w.name)
		switch {
		case !ok && w.required:
			return failf(CodeMissingExport, "the module does not export %s", w.name)
		case ok && (e.Kind != fuel.KindFunction || e.Type != w.of):
			return failf(CodeMissingExport, "export %s is of another type than the interface's", w.name)
		case w.name == exportWantsDeleted:
			p.info.WantsDeleted = ok
		}
	}
	return nil
}

func (p *prepared) export(name string) (fuel.Export, bool) {
	i := slices.IndexFunc(p.exports, func(e fuel.Export) bool { return e.Name == name })
	if i < 0 {
		return fuel.Export{}, false
	}
	return p.exports[i], true
}

// acceptsConfig refuses a configuration for a module that cannot take one.
func (p *prepared) acceptsConfig(config []byte, l Limits) error {
	switch _, ok := p.export(exportConfigure); {
	case len(config) == 0:
		return nil
	case len(config) > l.ModuleBytes:
		return failf(CodeTooLarge, "configuration of %d bytes, limit %d", len(config), l.ModuleBytes)
	case !ok || p.info.ABI != ABIFunction:
		return failf(CodeMissingExport, "a configuration is given, but the module does not export %s", exportConfigure)
	}
	return nil
}

// sig returns the function type with these parameters and results: i = i32, I = i64.
func sig(params, results string) fuel.Signature {
	types := func(list string) []fuel.ValueType {
		out := make([]fuel.ValueType, len(list))
		for i, t := range []byte(list) {
			out[i] = fuel.I32
			if t == 'I' {
				out[i] = fuel.I64
			}
		}
		return out
	}
	return fuel.SignatureOf(types(params), types(results))
}
