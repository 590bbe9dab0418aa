package resolver

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dynamo/resolver/frame"
	"dynamo/resolver/wasi"
)

// command is a module of the command form; its imports are fd_write 0, fd_read 1, proc_exit 2, its code
// prints text, which lies at 1024, by print.
func command(text string, code []byte) asm {
	vector := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 1024), uint32(len(text)))
	return asm{
		imports: []imp{wasiImport("fd_write"), wasiImport("fd_read"), {wasi.Module, "proc_exit", "i", ""}},
		f:       []fn{{code: code}},
		exports: []exp{{"memory", 2, 0}, {"_start", 0, 3}},
		memory:  []byte{0, 4},
		data: vec(slices.Concat([]byte{0}, i32(16), []byte{opEnd}, str(string(vector))),
			slices.Concat([]byte{0}, i32(1024), []byte{opEnd}, str(text))),
	}
}

func printTo(fd int64) []byte {
	return slices.Concat(i32(fd), i32(16), i32(1), i32(8), call0(0), ops(0x1a))
}

func printing(text string) asm { return command(text, printTo(1)) }

func TestCommands(t *testing.T) {
	value := `{"status":"value","value_base64":"bWVyZ2Vk","content_type":"a/b"}`
	exit := func(code int64) []byte { return slices.Concat(i32(code), call0(2)) }
	r := newRuntime(t, testLimits())
	for _, c := range []struct {
		name   string
		module asm
		want   Code
		resp   Response
	}{
		{"value", printing(value), "", Response{ContentType: "a/b", Payload: []byte("merged")}},
		{"exit 0", command(value, slices.Concat(printTo(1), exit(0))), "", Response{ContentType: "a/b", Payload: []byte("merged")}},
		{"type of the newest", printing(`{"status":"value","value_base64":""}`), "", Response{ContentType: "text/a", Payload: []byte{}}},
		{"deleted", printing(`{"status":"deleted"}`), "", Response{Status: StatusDeleted}},
		{"keep", printing(`{"status":"keep"}`), CodeKeep, Response{Status: StatusKeep}},
		{"error", printing(`{"status":"error","message":"no"}`), CodeGuestError, Response{Status: StatusError, Payload: []byte("no")}},
		{"exit 3", command(value, slices.Concat(printTo(1), exit(3))), CodeExit, Response{}},
		{"trap", command(value, slices.Concat(printTo(1), trapOp)), CodeTrap, Response{}},
		{"loop", command(value, slices.Concat(printTo(1), forever)), CodeFuel, Response{}},
		{"nothing", command(value, nil), CodeInvalidOutput, Response{}},
		{"on standard error", command(value, printTo(2)), CodeInvalidOutput, Response{}},
		{"twice", command(value, slices.Concat(printTo(1), printTo(1))), CodeInvalidOutput, Response{}},
		{"large value", printing(`{"status":"value","value_base64":"` + strings.Repeat("A", 136) + `"}`), CodeOversize, Response{}},
		{"endless output", command(value, slices.Concat(ops(opLoop, 0x40), printTo(1), ops(0x0c, 0, opEnd))), CodeOversize, Response{}},
		{"wild address", command(value, slices.Concat(i32(1), i32(-1), i32(1), i32(8), call0(0), ops(0x1a))), CodeInvalidOutput, Response{}},
	} {
		m := mustCompile(t, r, c.module.build())
		if m.Info().ABI != ABICommand {
			t.Fatalf("%s: %+v", c.name, m.Info())
		}
		for range 2 {
			got, _, err := m.Merge(t.Context(), twoSiblings(), 100)
			if CodeOf(err) != c.want || got.Status != c.resp.Status || got.ContentType != c.resp.ContentType || !bytes.Equal(got.Payload, c.resp.Payload) {
				t.Errorf("%s: got %+v, %v, want %+v, %q", c.name, got, err, c.resp, c.want)
			}
		}
	}
}

// TestCommandReadsTheRequest gives back what was on standard input: the end of it, where no base64 is needed
// to see it.
func TestCommandReadsTheRequest(t *testing.T) {
	var out bytes.Buffer
	r, err := New(Options{Limits: testLimits(), Logger: slog.New(slog.NewTextHandler(&out, nil))})
	if err != nil {
		t.Fatal(err)
	}
	// The request is read to 1024 in pieces of 7 bytes into a vector at 32, then printed to standard error.
	code := slices.Concat(
		i32(32), i32(1024), ops(0x36, 2, 0), i32(36), i32(7), ops(0x36, 2, 0),
		ops(opLoop, 0x40), i32(0), i32(32), i32(1), i32(8), call0(1), ops(0x1a),
		i32(32), i32(32), ops(0x28, 2, 0), i32(8), ops(0x28, 2, 0, 0x6a, 0x36, 2, 0),
		i32(8), ops(0x28, 2, 0, opBrIf, 0, opEnd),
		i32(20), i32(32), ops(0x28, 2, 0), i32(1024), ops(0x6b, 0x36, 2, 0), printTo(2))
	m := mustCompile(t, r, command("", code).build())
	for range 2 {
		out.Reset()
		if _, _, err := m.Merge(t.Context(), twoSiblings(), 100); CodeOf(err) != CodeInvalidOutput {
			t.Errorf("got %v", err)
		}
		if want := strings.TrimSuffix(string(frame.AppendJSONRequest(nil, twoSiblings())), "\n"); !strings.Contains(strings.ReplaceAll(out.String(), `\"`, `"`), want) {
			t.Errorf("logged %s, want %s in it", out.String(), want)
		}
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// goCommand builds the program in testdata with the toolchain that runs the tests.
func goCommand(t testing.TB) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "command.wasm")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", out, "./testdata/command")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGoCommand runs a program as anybody would write it, which remembers in a global how often it ran, draws
// random numbers, looks at the clock and at what there might be outside.
func TestGoCommand(t *testing.T) {
	t.Parallel()
	r := newCachedRuntime(t, DefaultLimits(), sharedCache())
	m := mustCompile(t, r, goCommand(t))
	fresh := mustCompile(t, r, goCommand(t))
	fresh.restorable = false
	req := carts("pear\napple", "fig\napple")
	var first string
	for i := range 4 {
		on := m
		if i == 2 {
			on = fresh
		}
		got, _, err := on.Merge(t.Context(), req, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		text := string(got.Payload)
		if !strings.HasPrefix(text, "apple\nfig\npear\nruns 1, clock 1700000000001, random ") || !strings.Contains(text, "environment [], arguments [], file refused") {
			t.Fatalf("got %s", text)
		}
		if first == "" {
			first = text
		}
		if text != first {
			t.Errorf("got %s, first %s", text, first)
		}
	}
	req.Key = []byte("bob")
	if got, _, err := m.Merge(t.Context(), req, 1<<20); err != nil || string(got.Payload) == first {
		t.Errorf("another request drew the same random numbers: %s, %v", got.Payload, err)
	}
	if n, _ := r.Idle(); n == 0 {
		t.Error("no instance is used again")
	}
	if _, _, err := m.Merge(t.Context(), carts("a", ""), 1<<20); CodeOf(err) != CodeExit {
		t.Errorf("got %v", err)
	}
}
