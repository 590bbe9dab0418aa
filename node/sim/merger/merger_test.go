package merger

import (
	"errors"
	"log/slog"
	"reflect"
	"testing"

	"dynamo/plugins"
	"dynamo/resolver"
)

func here(t testing.TB) (*Server, Engine) {
	s := NewServer(slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return s, Engine{Call: func(call []byte) []byte { return s.Answer(t.Context(), call) }}
}

// A merge elsewhere is the merge here, in what it gives, what it costs and how it fails.
func TestMergesAreTheSame(t *testing.T) {
	_, engine := here(t)
	sum, _ := plugins.Module("pn-counter")
	runtimes := map[string]*resolver.Runtime{}
	for name, o := range map[string]resolver.Options{"here": {}, "elsewhere": {Engine: engine}} {
		r, err := resolver.New(o)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := r.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		runtimes[name] = r
	}
	type answer struct {
		Info     resolver.Info
		Response resolver.Response
		Fuel     uint64
		Code     resolver.Code
		Text     string
	}
	for name, values := range map[string][]string{
		"counters": {`{"p":{"a":1},"n":{}}`, `{"p":{"b":2},"n":{"a":1}}`},
		"garbage":  {`{"p":`, `3`},
	} {
		var req resolver.Request
		for i, v := range values {
			req.Siblings = append(req.Siblings, resolver.Sibling{Value: []byte(v), ContentType: "application/json", TimeMs: uint64(i)})
		}
		got := map[string]answer{}
		for where, r := range runtimes {
			m, err := r.Load(t.Context(), sum, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, cost, err := m.Merge(t.Context(), req, 1<<10)
			a := answer{m.Info(), resp, cost.Fuel, resolver.CodeOf(err), ""}
			if err != nil {
				a.Text = err.Error()
			}
			if len(a.Response.Payload) == 0 {
				a.Response.Payload = nil
			}
			got[where] = a
		}
		if !reflect.DeepEqual(got["here"], got["elsewhere"]) || got["here"].Fuel == 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, r := range runtimes {
		if _, err := r.Load(t.Context(), []byte("no module"), nil); resolver.CodeOf(err) != resolver.CodeMalformed {
			t.Errorf("load of garbage: %v", err)
		}
		if info, err := r.Check(sum); err != nil || info.Size != len(sum) {
			t.Errorf("check: %+v, %v", info, err)
		}
	}
}

// A host that answers nonsense gives errors.
func TestBrokenAnswers(t *testing.T) {
	for _, answer := range [][]byte{nil, {0}, {0, 0}, {9}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}} {
		e := Engine{Call: func([]byte) []byte { return answer }}
		if _, _, err := e.Load(t.Context(), resolver.DefaultLimits(), nil, nil); resolver.CodeOf(err) != resolver.CodeInternal {
			t.Errorf("load, answered %v: %v", answer, err)
		}
		if _, _, err := (away{e, 0}).Merge(t.Context(), resolver.Request{}, 1); resolver.CodeOf(err) != resolver.CodeInternal {
			t.Errorf("merge, answered %v: %v", answer, err)
		}
	}
	var failed *resolver.Error
	e := Engine{Call: func([]byte) []byte { return append(appendFailure(nil, errors.New("x")), 0, 2, '{', '}') }}
	if _, _, err := e.Load(t.Context(), resolver.DefaultLimits(), nil, nil); !errors.As(err, &failed) || failed.Message != "x" {
		t.Errorf("%v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	s, e := here(f)
	record := Engine{Call: func(call []byte) []byte {
		f.Add(call)
		return e.Call(call)
	}}
	m, _, err := record.Load(f.Context(), resolver.DefaultLimits(), []byte("\x00asm\x01\x00\x00\x00"), nil)
	if err == nil {
		f.Fatalf("an empty module is loaded: %v", m)
	}
	_, _, err = (away{record, 0}).Merge(f.Context(), resolver.Request{Siblings: []resolver.Sibling{{Value: []byte("a")}}}, 1)
	if err == nil {
		f.Fatal("a merge with no module")
	}
	f.Fuzz(func(t *testing.T, call []byte) { s.Answer(t.Context(), call) })
}
