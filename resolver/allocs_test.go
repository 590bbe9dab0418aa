//go:build !race

package resolver

import (
	"testing"

	"dynamo/resolver/frame"
)

// TestAllocations counts what the host allocates for a merge in an instance that is there: the value, which is the
// caller's, and nothing else.
func TestAllocations(t *testing.T) {
	value := frame.AppendResponse(nil, Response{ContentType: "text/a", Payload: []byte("merged")})
	printed := `{"status":"value","value_base64":"bWVyZ2Vk","content_type":"text/a"}`
	req := twoSiblings()
	r := newRuntime(t, testLimits())
	for name, c := range map[string]struct {
		module []byte
		most   float64
	}{
		"delete":  {resolverModule(frame.AppendResponse(nil, Response{Status: StatusDeleted}), nil).build(), 0},
		"select":  {resolverModule(frame.AppendResponse(nil, Response{Status: StatusSelect, Index: 1}), nil).build(), 0},
		"value":   {resolverModule(value, nil).build(), 1},
		"command": {printing(printed).build(), 1},
	} {
		m := mustCompile(t, r, c.module)
		merge := func() {
			if _, _, err := m.Merge(t.Context(), req, 100); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if n := testing.AllocsPerRun(200, merge); n > c.most {
			t.Errorf("%s: %v allocations, want %v", name, n, c.most)
		}
	}
}
