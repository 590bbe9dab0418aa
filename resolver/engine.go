package resolver

import "context"

// Engine runs modules in the place of the one in this process. A cluster that is simulated in WebAssembly has no machine
// code of its own, and would interpret.
type Engine interface {
	// Check is as that of this package.
	Check(l Limits, module []byte) (Info, error)
	// Load is as that of Runtime, and says what Check does of the module.
	Load(ctx context.Context, l Limits, module, config []byte) (Merger, Info, error)
}

// Merger is a module in another Engine. It is safe for concurrent use.
type Merger interface {
	// Merge is as that of Module.
	Merge(ctx context.Context, req Request, maxOutputBytes int) (Response, Outcome, error)
	// Close frees it.
	Close(ctx context.Context) error
}
