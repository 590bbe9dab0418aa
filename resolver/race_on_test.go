//go:build race

package resolver

// underRace makes shapes for the compiler smaller: the race detector makes it
// about six times slower.
const underRace = true
