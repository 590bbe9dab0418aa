package api

import (
	"strconv"
	"time"

	"dynamo/node/coordinator"
)

// maxQuorum bounds what is read as a number of replicas; whether it fits N is the coordinator's to say.
const maxQuorum = 1 << 16

// options reads r, w and sloppy.
func (q query) options() (coordinator.Options, error) {
	var o coordinator.Options
	var err error
	if o.R, err = q.quorum("r"); err != nil {
		return o, err
	}
	if o.W, err = q.quorum("w"); err != nil {
		return o, err
	}
	sloppy, err := q.boolean("sloppy", true)
	o.PrimariesOnly = !sloppy
	return o, err
}

func (q query) quorum(name string) (coordinator.Quorum, error) {
	s, ok := q.get(name)
	if !ok {
		return coordinator.QuorumDefault, nil
	}
	switch s {
	case "one":
		return 1, nil
	case "quorum":
		return coordinator.QuorumMajority, nil
	case "all":
		return coordinator.QuorumAll, nil
	}
	n, err := parseNumber(s)
	if err != nil || n < 1 || n > maxQuorum {
		return 0, badRequest("%s=%q is no number of replicas: 1 to N, one, quorum or all", name, s)
	}
	return coordinator.Quorum(n), nil
}

// parseNumber takes digits only: no sign, no space.
func parseNumber(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	return int(n), err
}

func (q query) boolean(name string, fallback bool) (bool, error) {
	switch s, ok := q.get(name); {
	case !ok:
		return fallback, nil
	case s == "true":
		return true, nil
	case s == "false":
		return false, nil
	default:
		return fallback, badRequest("%s=%q is neither true nor false", name, s)
	}
}

// timeout reads the request's deadline, a Go duration above 0 and at most longest.
func (q query) timeout(fallback, longest time.Duration) (time.Duration, error) {
	s, ok := q.get("timeout")
	if !ok {
		return fallback, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 || d > longest {
		return 0, badRequest("timeout=%q is no duration above 0 and up to %s, such as 500ms or 2s", s, longest)
	}
	return d, nil
}

// number reads an integer from lo to hi.
func (q query) number(name string, fallback, lo, hi int) (int, error) {
	s, ok := q.get(name)
	if !ok {
		return fallback, nil
	}
	n, err := parseNumber(s)
	if err != nil || n < lo || n > hi {
		return 0, badRequest("%s=%q is no number from %d to %d", name, s, lo, hi)
	}
	return n, nil
}

// word reads one of a few words.
func (q query) word(name string, words ...string) (string, error) {
	s, ok := q.get(name)
	if !ok {
		return words[0], nil
	}
	for _, w := range words {
		if s == w {
			return w, nil
		}
	}
	return "", badRequest("%s=%q is none of %s", name, s, orNone(words))
}
