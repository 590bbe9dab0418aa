package storm

import (
	"errors"
	"fmt"

	"dynamo/resolver/laws"
)

// maxSample is the size of the largest sample that is used, in bytes.
const maxSample = 8 << 10

// samplesOf returns the values that a user's module brings along.
func samplesOf(module []byte) ([][]byte, error) {
	all, err := laws.Samples(module)
	if err != nil {
		return nil, fmt.Errorf("storm: resolver: %w", err)
	}
	var out [][]byte
	for _, s := range all {
		if len(s) <= maxSample {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("storm: the resolver brings no samples of values")
	}
	return out[:min(len(out), 64)], nil
}
