// Package fuel makes WebAssembly modules of strangers fit to be run: it parses
// a core module (WebAssembly 2.0 without threads and tail calls), refuses what
// could hurt a compiler, and rewrites it so that a run is bounded,
// deterministic and can be taken back. It imports nothing but the standard
// library and runs nothing.
//
// # Fuel
//
// The rewritten module counts in a global, exported as GlobalFuel. Charges
// stand where a function is entered, at the head of a loop, and where a br_table
// leads; every cycle in the control flow or among calls passes one of them. A
// charge pays in advance for the longest way to the next charges. Where two
// ways part whose lengths differ by more than a threshold, the longer one pays
// the difference at its beginning. So fuel is an upper bound of the
// instructions executed, a function of module and input alone, and execution
// stops at the same instruction for the same fuel, however it is cut into
// slices. Instructions that work on many bytes pay by their operand before
// they run. Small functions that neither loop nor call are paid for by their
// callers.
//
// At the head of each loop, at the end of each function that is not small and
// after long work in between, the module looks whether GlobalFuel is below
// zero. If so it calls an imported function (ImportModule, ImportYield), and the
// host gives more or panics; Meter does the sums. The host may look at its
// clock there: the engine needs no other means of interruption.
//
// # Depth
//
// Functions that call take from GlobalDepth on entry and give back on leaving,
// 1 and more for a large frame. Below zero they trap with unreachable; the
// host sees GlobalDepth below zero. The count does not depend on the machine,
// as a stack measured in bytes does.
//
// # NaN
//
// The bits of a NaN that arithmetic makes depend on the machine. Each such
// result is replaced by the positive quiet NaN, unless the next instruction
// takes it from the top of the stack and looks only at whether it is NaN: then
// no bits can be seen, and the result of that instruction is replaced in turn.
// By induction all floats in locals, globals, memory and on the stack, where
// their bits can be seen, have the same bits on every machine.
//
// # State
//
// Every mutable global is exported, so that memory and globals can be saved
// and restored. Info.Restorable says whether that is all a run can change.
//
// # Why the rewriting is sound
//
// All indices are checked against the original module before an index space
// is extended, functions get one import more, and everything else is appended
// at the end of its space. What is inserted into code has no parameters and
// results, or takes and leaves the operand that the instruction beside it
// takes or leaves. So the result is valid exactly if the module was; the
// compiler still has to check its types.
package fuel
