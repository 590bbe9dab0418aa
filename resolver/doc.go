// Package resolver runs semantic reconciliation: it calls an application's
// WebAssembly module on the concurrent versions of a key and returns the merged
// one (Dynamo paper, section 4.4).
//
// A module is untrusted. Package fuel walks its binary before the compiler sees
// it and makes it count its fuel and the depth of its calls; this package checks
// the interface. Load compiles it, new ones in a child process first (Trial), and
// each Merge runs on the module's first state, with bounded fuel, depth, memory
// and time and without files, environment, network, or any clock and randomness
// but those derived from the request. So a merge is a function of its request,
// failures for want of fuel or depth included, and a failed one leaves nothing
// behind. Only the time limit depends on the machine; it is to be far above what
// the fuel lasts. All nodes run compiled code: New fails where there is no compiler.
//
// The first state is made once: it is what _initialize and dynamo_configure_v1
// leave, in a world that depends on the module alone. Instances are kept and
// put back to it after each merge, which takes microseconds where a new one
// takes milliseconds. On Linux each module has a file descriptor, of its first memory, and so has each instance,
// of /proc/self/pagemap. What can change in an instance is its memory and its
// mutable globals; a module that changes tables as well, or uses segments up, or whose
// first state is large, gets a new instance each time, as does one whose merge failed.
//
// The package knows nothing of keyspaces' policies, replicas or versions.
package resolver
