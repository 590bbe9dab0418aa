package resolver

import (
	"crypto/sha256"
	"errors"

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
	c, err := inspect(module, l)
	if err != nil {
		return Info{}, err
	}
	return c.info, nil
}

// instrumented is a module as the engine gets it.
type instrumented struct {
	code []byte
	// pages is the largest memory it may grow to.
	pages uint32
	// globals are the names under which the code exports all its own mutable globals.
	globals []string
	// restorable says that nothing else than the memory and these globals can change in an instance.
	restorable bool
}

// inspection is a module that was rewritten and has the ABI.
type inspection struct {
	info    Info
	exports map[string]fuel.Export
	instrumented
}

func inspect(module []byte, l Limits) (*inspection, error) {
	res, err := fuel.Rewrite(module, fuel.Options{ModuleBytes: l.ModuleBytes, MemoryPages: l.pages(), Depth: l.CallDepth})
	if err != nil {
		return nil, refusal(err)
	}
	c := &inspection{
		info:         Info{SHA256: sha256.Sum256(module), Size: len(module)},
		exports:      make(map[string]fuel.Export),
		instrumented: instrumented{code: res.Module, pages: res.Info.Memory.Most, restorable: res.Info.Restorable},
	}
	for _, i := range res.Info.Imports {
		name := i.Module + "." + i.Name
		want, known := hostSignature(name)
		switch {
		case !known:
			return nil, failf(CodeUnknownImport, "%s: no such function of the host", name)
		case want != i.Type:
			return nil, failf(CodeUnknownImport, "%s: imported as %s, the host has %s", name, i.Type, want)
		}
		c.info.Imports = append(c.info.Imports, name)
	}
	for _, e := range res.Info.Exports {
		c.exports[e.Name] = e
		c.info.Exports = append(c.info.Exports, e.Name)
	}
	if res.Info.Restorable {
		for _, g := range res.Info.Globals {
			c.globals = append(c.globals, g.Name)
		}
	}
	return c, c.checkABI()
}

// refusal gives the code for a module that cannot be rewritten.
func refusal(err error) *Error {
	e, ok := errors.AsType[*fuel.Error](err)
	if !ok {
		return &Error{Code: CodeInternal, Message: "rewriting", Err: err}
	}
	code := Code(e.Code)
	if e.Code == fuel.CodeReserved {
		code = CodeUnsupported
	}
	return &Error{Code: code, Message: e.Text()}
}

// checkABI finds out which form the module has.
func (c *inspection) checkABI() error {
	if e, ok := c.exports[exportMemory]; !ok || e.Kind != fuel.KindMemory {
		return failf(CodeMissingExport, "the module exports no memory called %q", exportMemory)
	}
	if _, ok := c.exports[exportResolve]; !ok {
		if _, ok := c.exports[exportStart]; !ok {
			return failf(CodeMissingExport, "the module exports neither %s nor %s", exportResolve, exportStart)
		}
		c.info.ABI = ABICommand
		return c.want(exportStart, "", "", true)
	}
	c.info.ABI = ABIFunction
	_, c.info.WantsDeleted = c.exports[exportWantsDeleted]
	for _, f := range []struct {
		name, params, results string
		required              bool
	}{
		{exportResolve, "ii", "I", true},
		{exportAlloc, "i", "i", true},
		{exportInitialize, "", "", false},
		{exportConfigure, "ii", "i", false},
		{exportWantsDeleted, "", "", false},
	} {
		if err := c.want(f.name, f.params, f.results, f.required); err != nil {
			return err
		}
	}
	return nil
}

// want checks the type of an exported function.
func (c *inspection) want(name, params, results string, required bool) error {
	e, ok := c.exports[name]
	if !ok && !required {
		return nil
	}
	want := sig(params, results)
	switch {
	case !ok:
		return failf(CodeMissingExport, "the module exports no function %s of type %s", name, want)
	case e.Kind != fuel.KindFunction || e.Type != want:
		return failf(CodeMissingExport, "the export %s is no function of type %s", name, want)
	}
	return nil
}

// sig is a function type of letters: i = i32, I = i64.
func sig(params, results string) fuel.Signature {
	types := func(letters string) (out []fuel.ValueType) {
		for _, l := range letters {
			t := fuel.I32
			if l == 'I' {
				t = fuel.I64
			}
			out = append(out, t)
		}
		return out
	}
	return fuel.SignatureOf(types(params), types(results))
}

// acceptsConfig refuses a configuration for a module that cannot take one.
func (c *inspection) acceptsConfig(config []byte, l Limits) error {
	switch _, ok := c.exports[exportConfigure]; {
	case len(config) == 0:
		return nil
	case len(config) > l.ModuleBytes:
		return failf(CodeTooLarge, "configuration of %d bytes, limit %d", len(config), l.ModuleBytes)
	case !ok || c.info.ABI != ABIFunction:
		return failf(CodeMissingExport, "a configuration is given, but the module does not export %s", exportConfigure)
	}
	return nil
}
