// Package causal is the kernel of the store: what a replica holds for a key, and the two operations
// that change it, [Object.Put] and [Object.Join].
//
// An [Object] is a version vector ([Context]) and a set of sibling [Version]s. Every client write is
// named by one [Dot] for ever; a version carries the set of dots it stands for (its label) and the
// subset of them that nothing has superseded yet (live). This is the dotted version vector of
// Preguiça, Baquero et al. ("Dotted Version Vectors", 2012), widened so that a merged value can stand
// for several writes without a new dot.
//
// Two axioms carry everything here:
//
//  1. A dot names one value for ever.
//  2. Whoever claims a dot in a context holds, or has seen superseded, every earlier dot of that
//     actor for this key.
//
// The first is kept by the owners of actors (package store: identity, incarnation, sequence), the
// second by always sending whole objects, never a new version alone.
//
// All values are immutable: every operation returns a new value and shares the byte slices of its
// inputs. Nothing here locks, reads a clock or draws a random number.
package causal
