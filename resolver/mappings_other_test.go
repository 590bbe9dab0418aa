//go:build !linux

package resolver

import "testing"

// executableMappings cannot be counted here.
func executableMappings(*testing.T) int { return 0 }

// watchMemory returns a function that tells how much more memory the process took, where that is known.
func watchMemory(*testing.T) func() int { return func() int { return 0 } }

// reservedBytes cannot be counted here.
func reservedBytes(*testing.T) int { return 0 }
