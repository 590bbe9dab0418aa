package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// cli runs a command line in this process.
func cli(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, strings.NewReader("from stdin"), &o, &e)
	return code, o.String(), e.String()
}

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("cluster: x\npartitons: 16\nnodes:\n  - {id: n1, http: 127.0.0.1:1, peer: 127.0.0.1:2, gossip: 127.0.0.1:3, data: d}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string // in stdout or stderr
	}{
		{nil, 0, "Available Commands"},
		{[]string{"help"}, 0, "Available Commands"},
		{[]string{"help", "kv", "put"}, 0, "dynamo kv put default hello world"},
		{[]string{"version"}, 0, "go1."},
		{[]string{"nonsense"}, 2, "nonsense"},
		{[]string{"kv", "nonsense"}, 2, "nonsense"},
		{[]string{"kv", "put", "ks"}, 2, "accepts 3 arg"},
		{[]string{"kv", "get", "ks", "k", "--nope"}, 2, "--nope"},
		{[]string{"kv", "get", "ks", "k", "-o", "xml"}, 2, "neither raw nor json"},
		{[]string{"serve"}, 2, "--node"},
		{[]string{"serve", "-f", "none.yaml", "--node", "n1"}, 1, "none.yaml"},
		{[]string{"serve", "-f", "../../configs/local.yaml", "--node", "n9"}, 1, "n9"},
		{[]string{"serve", "-f", "x", "--node", "n1", "--log-level", "loud"}, 2, "loud"},
		{[]string{"config", "check", bad}, 1, `bad.yaml:2:1: unknown key "partitons" (did you mean "partitions"?)`},
		{[]string{"config", "check", "../../configs/local.yaml"}, 0, "ok"},
		{[]string{"config", "check", "../../configs/five.yaml"}, 0, "n5"},
		{[]string{"keyspace", "delete", "ks"}, 2, "--yes"},
		{[]string{"resolver", "upload", "ks"}, 2, "takes a file"},
		{[]string{"resolver", "check", "root.go"}, 1, "malformed"},
		{[]string{"resolver", "rollback", "ks"}, 2, "--version"},
		{[]string{"cluster", "ring", "ks"}, 2, "nothing"},
		{[]string{"kv", "get", "ks", "k", "--endpoint", "nowhere"}, 1, "nowhere"},
		{[]string{"kv", "get", "ks", "k", "--endpoint", "http://127.0.0.1:1"}, 1, "refused"},
	} {
		code, out, errs := cli(t, c.args...)
		if code != c.code || !strings.Contains(out+errs, c.want) {
			t.Errorf("dynamo %s: exit %d, want %d\nstdout: %s\nstderr: %s", strings.Join(c.args, " "), code, c.code, out, errs)
		}
		if c.code != 0 && !strings.HasPrefix(errs, "dynamo: ") {
			t.Errorf("dynamo %s: stderr %q", strings.Join(c.args, " "), errs)
		}
	}
}

func TestBuiltinFile(t *testing.T) {
	dir := t.TempDir()
	file, err := writeBuiltin(dir)
	if err != nil {
		t.Fatal(err)
	}
	if code, out, errs := cli(t, "config", "check", file); code != 0 || !strings.Contains(out, filepath.Join(dir, "n1")) {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
}
