package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// cli runs a command line in this process.
func cli(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, strings.NewReader("from stdin"), &o, &e)
	return code, o.String(), e.String()
}

// writeFile puts a file into a directory of the test and returns its path.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCommandLine(t *testing.T) {
	const nodes = "nodes:\n  - {id: n1, http: %s:1, peer: 127.0.0.1:2, gossip: 127.0.0.1:3, data: d}\n"
	bad := writeFile(t, "bad.yaml", "cluster: x\npartitons: 16\n"+fmt.Sprintf(nodes, "127.0.0.1"))
	open := writeFile(t, "open.yaml", "cluster: x\n"+fmt.Sprintf(nodes, "0.0.0.0"))
	lost := writeFile(t, "lost.yaml", "cluster: x\n"+fmt.Sprintf(nodes, "127.0.0.1")+"keyspaces: [{name: a, conflict: resolver, resolver: none.wasm}, {name: b, conflict: resolver, resolver: .}, {name: c, conflict: resolver, resolver: builtin:nope}]\n")
	for _, c := range []struct {
		args []string
		code int
		want string // in stdout or stderr
	}{
		{nil, 0, "Available Commands"},
		{[]string{"help"}, 0, "Available Commands"},
		{[]string{"help", "kv", "put"}, 0, "dynamo kv put default hello world"},
		{[]string{"help", "nonsense"}, 2, "nonsense"},
		{[]string{"help", "kv", "nonsense"}, 2, "nonsense"},
		{[]string{"help", "kv"}, 0, "Read and write keys"},
		{[]string{"version"}, 0, "go1."},
		{[]string{"version", "-o", "json"}, 0, `"go": "go1.`},
		{[]string{"version", "-o", "xml"}, 2, "neither raw nor json"},
		{[]string{"--nope"}, 2, "--nope"},
		{[]string{"up", "extra"}, 2, "extra"},
		{[]string{"up", "-f", "x.yaml", "--data", "d"}, 2, "--data"},
		{[]string{"up", "-f", "none.yaml"}, 1, "none.yaml"},
		{[]string{"config", "check"}, 2, "usage: dynamo config check FILE"},
		{[]string{"config", "check", "none.yaml"}, 1, "none.yaml"},
		{[]string{"config", "check", open}, 1, "not a loopback address"},
		{[]string{"config", "check", lost}, 1, "keyspace a: resolver: "},
		{[]string{"config", "check", lost}, 1, "dynamo: keyspace b: resolver: "},
		{[]string{"config", "check", lost}, 1, `keyspace c: resolver: there is no builtin resolver "nope": there are cart, `},
		{[]string{"config", "check", "../../configs/local.yaml", "-o", "json"}, 0, `"cluster": "`},
		{[]string{"kv", "put", "ks"}, 2, `"dynamo help kv put" explains it`},
		{[]string{"kv", "put", "ks", "k", "@none"}, 1, "none"},
		{[]string{"kv", "get", "ks", "k", "--timeout", "0s"}, 2, "not positive"},
		{[]string{"kv", "get", "ks", "k", "--timeout", "soon"}, 2, "soon"},
		{[]string{"kv", "list", "ks", "--limit", "0"}, 2, "not positive"},
		{[]string{"keyspace", "update", "ks"}, 2, "something to change"},
		{[]string{"keyspace", "update", "ks", "--n", "2"}, 2, "--n"},
		{[]string{"resolver", "run", "a.wasm", "b"}, 2, "usage:"},
		{[]string{"resolver", "run", "a.wasm", "b", "c"}, 1, "no such file"},
		{[]string{"resolver", "check", "none.wasm"}, 1, "none.wasm"},
		{[]string{"explain", "ks"}, 2, "usage: dynamo explain KEYSPACE KEY"},
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
		{[]string{"resolver", "upload", "ks", "builtin:max", "--builtin", "min"}, 2, "takes a file"},
		{[]string{"resolver", "check", "root.go"}, 1, "malformed"},
		{[]string{"resolver", "check", "builtin:nope"}, 1, "there are cart, json-merge, lww,"},
		{[]string{"resolver", "check", "builtin:cart"}, 0, "laws     lawful"},
		{[]string{"resolver", "run", "builtin:max", "testdata/7", "testdata/10"}, 0, "10"},
		{[]string{"resolver", "rollback", "ks"}, 2, "--version"},
		{[]string{"cluster", "ring", "ks"}, 2, "nothing"},
		{[]string{"kv", "get", "ks", "k", "--endpoint", "nowhere"}, 1, "nowhere"},
		{[]string{"kv", "get", "ks", "k", "--endpoint", "http://127.0.0.1:1"}, 1, "refused"},
		{[]string{"kv", "get", "ks", "k", "--endpoint", "http://127.0.0.1:1"}, 1, `"dynamo up" starts one`},
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

// Every command explains itself, with an example.
func TestEveryCommandHasAnExample(t *testing.T) {
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			if !sub.HasSubCommands() && (sub.Short == "" || !strings.Contains(sub.Long, "\n  dynamo ") && !strings.HasPrefix(sub.Long, "  dynamo ")) {
				t.Errorf("%s has no example", sub.CommandPath())
			}
			visit(sub)
		}
	}
	visit(newRoot())
}

// The file that is checked may hold secrets; what is printed of it must not.
func TestConfigCheckKeepsSecrets(t *testing.T) {
	file := writeFile(t, "secret.yaml", `
cluster: x
secret: not-for-the-screen
tokens: [{name: ops, token: nor-this-one, role: admin}]
nodes: [{id: n1, http: "0.0.0.0:1", peer: "127.0.0.1:2", gossip: "127.0.0.1:3", data: d}]
`)
	for _, form := range []string{"raw", "json"} {
		code, out, errs := cli(t, "config", "check", file, "-o", form)
		if code != 0 || strings.Contains(out+errs, "not-for-the-screen") || strings.Contains(out+errs, "nor-this-one") {
			t.Errorf("exit %d\n%s%s", code, out, errs)
		}
	}
}

// A cluster that runs already must not be taken for the one that is being started.
func TestUpRefusesTakenAddresses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // held for the test
	free := freePorts(t, 2)
	file := writeFile(t, "taken.yaml", fmt.Sprintf("cluster: x\nnodes: [{id: n1, http: %q, peer: %q, gossip: %q, data: d}]\n", free[0], l.Addr(), free[1]))
	code, out, errs := cli(t, "up", "-f", file)
	if code != 1 || out != "" || !strings.Contains(errs, "node n1: peer") || !strings.Contains(errs, "another cluster") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
}

func TestSignals(t *testing.T) {
	for count, want := range []string{"", "stop ", "stop abort "} {
		signals := make(chan os.Signal, 2)
		for range count {
			signals <- os.Interrupt
		}
		close(signals)
		var got string
		obey(signals, func() { got += "stop " }, func() { got += "abort " })
		if got != want {
			t.Errorf("%d signals: %q, want %q", count, got, want)
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
