//go:build !race

package causal

// scale is the number of schedules or states that a test plays; fewer under the race detector.
func scale(n int) int { return n }
