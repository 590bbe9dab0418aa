package main

import (
	"encoding/json"
	"strings"
	"testing"

	"dynamo/resolver"
	"dynamo/resolver/frame"
)

// constantModule assembles a module of a few bytes, quick to compile, that gives one response to every
// request.
func constantModule(t *testing.T, resp resolver.Response) string {
	t.Helper()
	const at = 16 // where the response lies
	response := frame.AppendResponse(nil, resp)
	text := func(s string) []byte { return append([]byte{byte(len(s))}, s...) }
	section := func(id byte, parts ...[]byte) []byte {
		var b []byte
		for _, p := range parts {
			b = append(b, p...)
		}
		return append(append([]byte{id}, leb(int64(len(b)), false)...), b...)
	}
	body := func(op byte, v int64) []byte {
		b := append(append([]byte{0, op}, leb(v, true)...), 0x0b)
		return append([]byte{byte(len(b))}, b...)
	}
	module := append([]byte("\x00asm\x01\x00\x00\x00"), section(1, []byte{2, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 2, 0x7f, 0x7f, 1, 0x7e})...)
	module = append(module, section(3, []byte{2, 0, 1})...)
	module = append(module, section(5, []byte{1, 0, 1})...)
	module = append(module, section(7, []byte{3}, text("memory"), []byte{2, 0}, text("dynamo_alloc"), []byte{0, 0}, text("dynamo_resolve_v1"), []byte{0, 1})...)
	module = append(module, section(10, []byte{2}, body(0x41, 1024), body(0x42, at<<32|int64(len(response))))...)
	module = append(module, section(11, []byte{1, 0, 0x41, at, 0x0b}, leb(int64(len(response)), false), response)...)
	return writeFile(t, "module.wasm", string(module))
}

// leb is LEB128, as WebAssembly writes its numbers.
func leb(v int64, signed bool) []byte {
	var out []byte
	for {
		b := byte(v & 0x7f)
		v >>= 7
		if v == 0 && (!signed || b&0x40 == 0) {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}

func TestResolverRun(t *testing.T) {
	merged := constantModule(t, resolver.Response{Status: resolver.StatusValue, ContentType: "text/plain", Payload: []byte("merged")})
	second := constantModule(t, resolver.Response{Status: resolver.StatusSelect, Index: 1})
	deleted := constantModule(t, resolver.Response{Status: resolver.StatusDeleted})
	refused := constantModule(t, resolver.Response{Status: resolver.StatusError, Payload: []byte("no cart")})
	for _, c := range []struct {
		module    string
		code      int
		out, errs string // exactly stdout, part of stderr
		status    string // with -o json, no output if empty
		value     string
	}{
		{merged, 0, "merged", "merged in ", "value", "merged"},
		{second, 0, "two", "merged in ", "select", "two"},
		{deleted, 0, "", "the key is deleted", "deleted", ""},
		{refused, 1, "", "dynamo: resolver: guest_error: no cart\n", "", ""},
	} {
		args := []string{"resolver", "run", c.module, "testdata/one", "testdata/two"}
		if code, out, errs := cli(t, args...); code != c.code || out != c.out || !strings.Contains(errs, c.errs) {
			t.Errorf("%s: exit %d, %q, %q", c.out, code, out, errs)
		}
		code, out, errs := cli(t, append(args, "-o", "json")...)
		var got struct {
			Status string `json:"status"`
			Value  []byte `json:"value_base64"`
		}
		if c.status != "" {
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Errorf("%v in %s", err, out)
			}
		}
		if code != c.code || got.Status != c.status || string(got.Value) != c.value || (c.status == "" && out != "") {
			t.Errorf("%s: exit %d, %q, %q", c.status, code, out, errs)
		}
	}
}

// Only a check that tested something and found nothing wrong is a success, and each says what it did.
func TestResolverCheck(t *testing.T) {
	lawful := constantModule(t, resolver.Response{Status: resolver.StatusValue, Payload: []byte("same")})
	first := constantModule(t, resolver.Response{Status: resolver.StatusSelect})
	refuses := constantModule(t, resolver.Response{Status: resolver.StatusError})
	deletes := constantModule(t, resolver.Response{Status: resolver.StatusDeleted})
	samples := []string{"--samples", "testdata/samples"}
	for _, c := range []struct {
		module  string
		samples []string
		code    int
		laws    string
		errs    string
	}{
		{lawful, samples, 0, "lawful", ""},
		{lawful, nil, 1, "untested", "dynamo: the laws are untested: give at least two"},
		{first, samples, 1, "unlawful", "dynamo: the module breaks a law: commutative"},
		{refuses, samples, 1, "untested", "dynamo: the laws are untested: nothing was tested: of all "},
		{deletes, samples, 1, "inconclusive", "never tested: associative, idempotent"},
	} {
		args := append([]string{"resolver", "check", c.module}, c.samples...)
		code, out, errs := cli(t, args...)
		if code != c.code || !strings.Contains(out, "module.wasm: ok\n") || !strings.Contains(out, "\nlaws     "+c.laws+": ") || !strings.Contains(errs, c.errs) {
			t.Errorf("%s: exit %d\n%s%s", c.laws, code, out, errs)
		}
		if strings.Contains(out, "\nbroken law: commutative, f(") != (c.laws == "unlawful") {
			t.Errorf("%s: %s", c.laws, out)
		}
		code, out, errs = cli(t, append(args, "-o", "json")...)
		var r checkReport
		if err := json.Unmarshal([]byte(out), &r); err != nil || code != c.code || string(r.Laws) != c.laws || (r.Broken != nil) != (c.laws == "unlawful") {
			t.Errorf("%s: exit %d, %v\n%s%s", c.laws, code, err, out, errs)
		}
		if (len(r.Evidence) > 0) != (r.Tested > 0) || r.Broken != nil && (len(r.Broken.Inputs) != 2 || r.Broken.Loss == "" || string(r.Broken.Left) != string(r.Broken.Outputs[0])) {
			t.Errorf("%s: %+v", c.laws, r)
		}
	}
}
