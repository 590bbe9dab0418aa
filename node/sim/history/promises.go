package history

import "strings"

// The promises that more than one kind of check asks for, in the words of violations.
const (
	// NotLost: what W replicas have acknowledged stays until something that saw it supersedes it.
	NotLost = "acknowledged writes are not lost"
	// StaysAway: what was superseded or deleted does not show again.
	StaysAway = "what a context covered does not come back"
	// Strict: with R + W > N and primaries alone, a read sees what was acknowledged before it began.
	Strict = "strict reads see strict writes"
	// DropsAll: of a keyspace that was dropped nothing is left.
	DropsAll = "what is dropped is gone"
)

// Promise names what a finding of Judge breaks.
func Promise(finding string) string {
	switch {
	case strings.HasPrefix(finding, "acknowledged"):
		return NotLost
	case strings.Contains(finding, "came back"):
		return StaysAway
	}
	return "reads show what was written"
}
