// Package resolver runs semantic reconciliation: it calls an application's
// WebAssembly module on the concurrent versions of a key and returns the merged
// one (Dynamo paper, section 4.4).
//
// A module is untrusted. Check walks its binary before the compiler sees it,
// Compile arms it with interruption points, and each Merge runs in a fresh
// instance with bounded memory and time and without files, environment,
// network, or any clock and randomness but those derived from the request. So
// a merge is a function of its request, and a failed one leaves nothing behind.
//
// The package knows nothing of keyspaces' policies, replicas or versions.
package resolver
