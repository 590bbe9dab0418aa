//go:build !linux

package conflict

import "time"

// threadTime is not known here.
func threadTime() (d time.Duration, ok bool) { return 0, false }
