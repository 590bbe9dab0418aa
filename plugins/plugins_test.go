package plugins_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dynamo/plugins"
	"dynamo/resolver"
	"dynamo/resolver/laws"
)

// load compiles a plugin.
func load(t testing.TB, r *resolver.Runtime, name string) *resolver.Module {
	t.Helper()
	b, ok := plugins.Module(name)
	if !ok {
		t.Fatalf("there is no %s", name)
	}
	m, err := r.Load(context.Background(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func newRuntime(t testing.TB) *resolver.Runtime {
	t.Helper()
	r, err := resolver.New(resolver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// merge merges values of equal time.
func merge(m *resolver.Module, values ...string) (string, error) {
	req := resolver.Request{Keyspace: "ks", Key: []byte("key")}
	for _, v := range values {
		req.Siblings = append(req.Siblings, resolver.Sibling{Value: []byte(v), ContentType: "text/plain", TimeMs: 7})
	}
	resp, _, err := m.Merge(context.Background(), req, 0)
	if err != nil {
		return "", err
	}
	if resp.Status == resolver.StatusSelect {
		return values[resp.Index], nil
	}
	if resp.Status != resolver.StatusValue || resp.ContentType != "application/json" {
		return "", errors.New("not a JSON value")
	}
	return string(resp.Payload), nil
}

// refused tells whether the module itself refused the values, with a message.
func refused(err error) bool {
	re, ok := errors.AsType[*resolver.Error](err)
	return ok && re.Code == resolver.CodeGuestError && re.Message != ""
}

func TestModules(t *testing.T) {
	want := []string{"cart", "json-merge", "lww", "max", "min", "or-set", "pn-counter", "set-union"}
	if got := plugins.Names(); !slices.Equal(got, want) {
		t.Fatalf("names %q, want %q", got, want)
	}
	for _, name := range []string{"", ".", "nonesuch", "../wasm/lww", "lww.wasm", "LWW\x00"} {
		if _, ok := plugins.Module(name); ok {
			t.Errorf("there is a module %q", name)
		}
	}
	for _, name := range want {
		b, _ := plugins.Module(name)
		info, err := resolver.Check(b, resolver.DefaultLimits())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if info.ABI != resolver.ABIFunction || info.WantsDeleted != (name == "lww") || len(b) > 14<<10 {
			t.Errorf("%s: %+v, %d bytes", name, info, len(b))
		}
		b[0] = 1
		if again, _ := plugins.Module(name); again[0] != 0 {
			t.Error("Module does not return a copy")
		}
	}
}

// TestLawful is what an upload does.
func TestLawful(t *testing.T) {
	r := newRuntime(t)
	for _, name := range plugins.Names() {
		b, _ := plugins.Module(name)
		m := load(t, r, name)
		samples, err := laws.Samples(b)
		if err != nil || len(samples) < 5 {
			t.Fatalf("%s: %d samples, %v", name, len(samples), err)
		}
		report := laws.Check(t.Context(), func(ctx context.Context, in []resolver.Sibling) (resolver.Response, error) {
			resp, _, err := m.Merge(ctx, resolver.Request{Keyspace: "ks", Key: []byte("k"), Siblings: in}, 1<<20)
			return resp, err
		}, samples, laws.Options{Rounds: 60})
		if report.Outcome != laws.Lawful || report.Tested < 60 {
			t.Errorf("%s: %+v", name, report)
		}
	}
}

// vectors are the merges in testdata/NAME.json. The values are texts, so that every byte shows.
type vectors struct {
	Merges []struct {
		In   []string `json:"in"`
		Want string   `json:"want"`
	} `json:"merges"`
	// Refused values fail a merge with Valid, and a pair of them fails too.
	Valid   string   `json:"valid"`
	Refused []string `json:"refused"`
}

func readVectors(t testing.TB, name string) vectors {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var v vectors
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(v.Merges) < 4 {
		t.Fatalf("%s has %d merges", name, len(v.Merges))
	}
	return v
}

func TestVectors(t *testing.T) {
	r := newRuntime(t)
	for _, name := range plugins.Names() {
		m, v := load(t, r, name), readVectors(t, name)
		for _, c := range v.Merges {
			back := slices.Clone(c.In)
			slices.Reverse(back)
			for _, in := range [][]string{c.In, back, append(slices.Clone(c.In), c.Want), {c.Want, c.Want}} {
				if got, err := merge(m, in...); err != nil || got != c.Want {
					t.Errorf("%s of %q is %q, %v, want %q", name, in, got, err, c.Want)
				}
			}
		}
		for _, bad := range v.Refused {
			for _, in := range [][]string{{v.Valid, bad}, {bad, v.Valid}, {bad, bad}} {
				if got, err := merge(m, in...); !refused(err) {
					t.Errorf("%s of %q is %q, %v, want it refused", name, in, got, err)
				}
			}
		}
	}
}

// TestMessages: who reads one finds the fault.
func TestMessages(t *testing.T) {
	r := newRuntime(t)
	for _, c := range []struct{ name, value, want string }{
		{"max", "[1]", "sibling 1, byte 0: not a number"},
		{"max", "1 2", "sibling 1, byte 2: something follows the value"},
		{"set-union", "[1,]", "sibling 1, byte 3: a digit is missing"},
		{"set-union", "\"\xff\"", "sibling 1, byte 1: not UTF-8"},
		{"cart", `{"items":{"a":1.5}}`, "sibling 1, byte 0: a quantity is no integer from 0 to 9007199254740991"},
		{"json-merge", `{"a":1,"a":1}`, "sibling 1, byte 13: a key occurs twice in an object"},
	} {
		valid := readVectors(t, c.name).Valid
		if _, err := merge(load(t, r, c.name), valid, c.value); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s of %q: %v, want %q", c.name, c.value, err, c.want)
		}
	}
}

func TestLastWriteWins(t *testing.T) {
	m := load(t, newRuntime(t), "lww")
	type s = resolver.Sibling
	for i, c := range []struct {
		in   []s
		want int
	}{
		{[]s{{TimeMs: 2, Value: []byte("a")}, {TimeMs: 1, Value: []byte("b")}}, 0},
		{[]s{{TimeMs: 1 << 32, Value: []byte("a")}, {TimeMs: 1<<32 - 1, Value: []byte("b")}}, 0},
		{[]s{{TimeMs: 1<<63 - 1, Value: []byte("a")}, {TimeMs: 1 << 63, Value: []byte("b")}}, 1},
		{[]s{{TimeMs: 1, Value: []byte("a")}, {TimeMs: 1, Value: []byte("ab")}, {TimeMs: 1}}, 1},
		{[]s{{TimeMs: 1, Value: []byte("\x7f")}, {TimeMs: 1, Value: []byte("\x80")}}, 1},
		{[]s{{TimeMs: 1, ContentType: "text/a"}, {TimeMs: 1, ContentType: "text/b"}}, 1},
		{[]s{{TimeMs: 1}, {TimeMs: 2, Deleted: true}}, 1},
		{[]s{{TimeMs: 2}, {TimeMs: 2, Deleted: true}}, 0},
		{[]s{{TimeMs: 2, Deleted: true}, {TimeMs: 2}}, 1},
		{[]s{{TimeMs: 9, Ancestor: true}, {TimeMs: 2}, {TimeMs: 3}}, 2},
	} {
		resp, _, err := m.Merge(t.Context(), resolver.Request{Keyspace: "ks", Siblings: c.in}, 0)
		if err != nil || resp.Status != resolver.StatusSelect || resp.Index != c.want {
			t.Errorf("case %d: %+v, %v, want sibling %d", i, resp, err, c.want)
		}
	}
}

// TestAncestorIsNotMerged: what all have seen tells nothing that these rules need.
func TestAncestorIsNotMerged(t *testing.T) {
	r := newRuntime(t)
	for name, in := range map[string][4]string{
		"max": {"9", "1", "2", "2"}, "min": {"0", "1", "2", "1"}, "set-union": {"[9]", "[1]", "[2]", "[1,2]"},
		"cart": {"no cart", `{"items":{"a":1}}`, `{"items":{}}`, `{"items":{"a":1}}`},
	} {
		req := resolver.Request{Keyspace: "ks", Siblings: []resolver.Sibling{
			{Value: []byte(in[0]), Ancestor: true}, {Value: []byte(in[1])}, {Value: []byte(in[2])},
		}}
		if resp, _, err := load(t, r, name).Merge(t.Context(), req, 0); err != nil || string(resp.Payload) != in[3] {
			t.Errorf("%s: %s, %v, want %s", name, resp.Payload, err, in[3])
		}
	}
}

// TestReadme: the examples of the table are true.
func TestReadme(t *testing.T) {
	r := newRuntime(t)
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, name := range plugins.Names() {
		for line := range strings.Lines(string(text)) {
			cells := strings.Split(line, "|")
			if len(cells) != 7 || strings.TrimSpace(cells[1]) != "`"+name+"`" || name == "lww" {
				continue
			}
			seen++
			in, want, _ := strings.Cut(cells[4], " → ")
			values := strings.Split(strings.Trim(strings.TrimSpace(in), "`"), "`, `")
			if got, err := merge(load(t, r, name), values...); err != nil || "`"+got+"`" != strings.TrimSpace(want) {
				t.Errorf("%s of %q is %q, %v, and the table says %s", name, values, got, err, want)
			}
			if b, _ := plugins.Module(name); fmt.Sprintf("%.1f KB", float64(len(b))/1000) != strings.TrimSpace(cells[5]) {
				t.Errorf("%s has %d bytes, and the table says %s", name, len(b), cells[5])
			}
		}
	}
	if seen != len(plugins.Names())-1 {
		t.Errorf("the table has examples of %d plugins", seen)
	}
}
