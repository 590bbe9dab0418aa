//go:build race

package fuel_test

// slow is how much longer things may take under the race detector.
const slow = 20

// raced says that the race detector is on.
const raced = true
