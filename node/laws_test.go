package node

import (
	"context"
	"encoding/json"
	"testing"

	"dynamo/resolver"
	"dynamo/resolver/laws"
)

// TestLawAnswer: the JSON of an upload, which clients read.
func TestLawAnswer(t *testing.T) {
	last := func(_ context.Context, in []resolver.Sibling) (resolver.Response, error) {
		return resolver.Response{Payload: in[len(in)-1].Value}, nil
	}
	samples := [][]byte{[]byte("[2]"), []byte("[10]")}
	for want, r := range map[string]laws.Report{
		`{"outcome":"unlawful","detail":"commutative: f(b,a) = f(a,b) does not hold: a = [], b = \"0\", one side gives [], the other \"0\"",` +
			`"tested":1,"evidence":1,"law":"commutative","equation":"f(b,a) = f(a,b)","inputs_base64":["W10=","MA=="],"outputs_base64":["W10=","MA=="],` +
			`"loss":"The outcome hangs on which sibling comes first, not on what is in them: what only the later one holds, or only the earlier one, can vanish."}`: laws.Check(t.Context(), last, samples, laws.Options{}),
		`{"outcome":"lawful","detail":"9 equations held on 2 samples, 3 could not be tested","tested":9,"failed":3}`: {Outcome: laws.Lawful, Tested: 9, Failed: 3, Samples: 2},
		`{"outcome":"inconclusive","detail":"9 equations held on 2 samples, 3 could not be tested, 4 more have a delete inside that the module does not want to see; never tested: idempotent (the first: no)","tested":9,"failed":3}`: {
			Outcome: laws.Inconclusive, Tested: 9, Failed: 3, Samples: 2, Unasked: 4, Missed: []string{laws.Idempotent}, Refusal: "no",
		},
		`{"outcome":"untested","detail":"nothing was tested: of all 3 equations on 2 samples the module merged none (the first: no)","failed":3}`: {Outcome: laws.Untested, Failed: 3, Samples: 2, Refusal: "no"},
		`{"outcome":"untested","detail":"neither the module nor the keyspace holds two different values to test with"}`:                           laws.Check(t.Context(), last, samples[:1], laws.Options{}),
	} {
		b, err := json.Marshal(lawAnswer(r))
		if err != nil || string(b) != want {
			t.Errorf("%s, %v, want %s", b, err, want)
		}
	}
}
