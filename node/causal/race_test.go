//go:build race

package causal

// scale reduces the number of schedules under the race detector, which slows them down.
func scale(n int) int { return n / 4 }
