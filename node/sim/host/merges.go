package host

import (
	"context"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"dynamo/node/sim/merger"
)

// callsOf is the key of a run's calls in its context.
type callsOf struct{}

// calls is what one run asked for last, and was not given yet. It belongs to the run's goroutine.
type calls struct{ answer []byte }

// installMerges gives simulators the functions of package merger. They panic on what no simulator does; wazero hands that
// on as an error.
func installMerges(base context.Context, r wazero.Runtime, s *merger.Server) error {
	_, err := r.NewHostModuleBuilder("dynamo_simulator").
		NewFunctionBuilder().WithFunc(func(ctx context.Context, m api.Module, p, n uint32) uint32 {
		call, ok := m.Memory().Read(p, n)
		if !ok {
			panic("a call out of memory")
		}
		c := ctx.Value(callsOf{}).(*calls)
		c.answer = s.Answer(base, call) // a run's own context brings memories for simulators
		return uint32(len(c.answer))
	}).Export("call").
		NewFunctionBuilder().WithFunc(func(ctx context.Context, m api.Module, p, n uint32) {
		c := ctx.Value(callsOf{}).(*calls)
		if int(n) != len(c.answer) || !m.Memory().Write(p, c.answer) {
			panic("an answer out of memory")
		}
		c.answer = nil
	}).Export("answer").
		Instantiate(base)
	return err
}
