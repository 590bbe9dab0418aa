package main

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dynamo/client"
	"dynamo/node/config"
)

func parseConfig(t *testing.T, text, file string) *config.Cluster {
	t.Helper()
	c, err := config.Parse([]byte(text), config.Options{File: file, Lookup: os.LookupEnv})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRewriteShipped: the files that come with the project, as the demo runs them.
func TestRewriteShipped(t *testing.T) {
	for _, name := range []string{"local.yaml", "five.yaml"} {
		// The larger one has no default for its secrets.
		for _, v := range []string{"DYNAMO_SECRET", "OPS_TOKEN", "SHOP_TOKEN"} {
			t.Setenv(v, strings.Repeat(v, 4))
		}
		file := filepath.Join("..", "..", "configs", name)
		text := string(readFile(t, file))
		before, dir := parseConfig(t, text, file), t.TempDir()
		out, after, err := rewriteConfig(text, file, dir, before)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if strings.Count(out, "\n") != strings.Count(text, "\n") {
			t.Errorf("%s: lines changed:\n%s", name, out)
		}
		for i, n := range after.Nodes {
			if n.Data != filepath.Join(dir, n.ID) {
				t.Errorf("%s: node %s keeps its data in %s", name, n.ID, n.Data)
			}
			n.Data = before.Nodes[i].Data
			if n != before.Nodes[i] {
				t.Errorf("%s: node %s changed: %+v", name, n.ID, n)
			}
		}
		for i, k := range after.Keyspaces {
			if k != before.Keyspaces[i] {
				t.Errorf("%s: keyspace changed: %+v, was %+v", name, k, before.Keyspaces[i])
			}
		}
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const nodeLines = `cluster: x
# data: ../d/n1 stays in a comment? It may change there, nobody reads it.
nodes:
  - id: n1
    http: 127.0.0.1:1
    peer: 127.0.0.1:2
    gossip: 127.0.0.1:3
    data: `

func TestRewriteSpellings(t *testing.T) {
	t.Setenv("DEMO_DATA", "/srv/x")
	for _, spelling := range []string{"d/n1", `"d/n 1"`, "'d/n1'", "/abs/n1", "${DEMO_DATA}/n1", "../d/n1 # where it is"} {
		text := nodeLines + spelling + "\n"
		dir := t.TempDir()
		out, c, err := rewriteConfig(text, "conf/x.yaml", dir, parseConfig(t, text, "conf/x.yaml"))
		if err != nil || c.Nodes[0].Data != filepath.Join(dir, "n1") {
			t.Errorf("%s: %v\n%s", spelling, err, out)
		}
	}
	// What it does not understand it refuses; the real data directory is never used.
	for _, spelling := range []string{"d/n 1", `"d/\x6e1"`, "\n      d/n1"} {
		text := nodeLines + spelling + "\n"
		if _, _, err := rewriteConfig(text, "conf/x.yaml", t.TempDir(), parseConfig(t, text, "conf/x.yaml")); err == nil {
			t.Errorf("%q was accepted", spelling)
		}
	}
}

func TestCheckPorts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c := &config.Cluster{Nodes: []config.Node{{ID: "n1", HTTP: "127.0.0.1:0", Peer: taken.Addr().String(), Gossip: "127.0.0.1:0"}}}
	if err := checkPorts(c); err == nil || !strings.Contains(err.Error(), "peer of node n1 is not free") {
		t.Errorf("got %v", err)
	}
	c.Nodes[0].Peer = "127.0.0.1:0"
	if err := checkPorts(c); err != nil {
		t.Error(err)
	}
}

func TestAdminToken(t *testing.T) {
	for want, tokens := range map[string][]config.Token{
		"":  nil,
		"b": {{Token: "a", Role: config.RoleWrite}, {Token: "c", Role: config.RoleAdmin, Keyspaces: []string{"x"}}, {Token: "b", Role: config.RoleAdmin}},
	} {
		if got, err := adminToken(&config.Cluster{Tokens: tokens}); got != want || err != nil {
			t.Errorf("%v: got %q, %v", tokens, got, err)
		}
	}
	if got, err := adminToken(&config.Cluster{Tokens: []config.Token{{Token: "a", Role: config.RoleRead}}}); err == nil {
		t.Errorf("got %q", got)
	}
}

// TestExpect: the demo fails on every kind of answer that it does not promise.
func TestExpect(t *testing.T) {
	s := &story{out: io.Discard, sha256: "abc"}
	good := client.Value{Bytes: []byte(bothCarts), Count: 2, Merged: "abc"}
	if err := s.expect("x", node{name: "n1"}, good, bothCarts, 2); err != nil {
		t.Error(err)
	}
	for _, bad := range []client.Value{
		{Bytes: []byte(bobCart), Count: 2, Merged: "abc"},
		{Bytes: []byte(bothCarts), Count: 1, Merged: "abc"},
		{Bytes: []byte(bothCarts), Count: 2, Merged: "abd"},
		{Bytes: []byte(bothCarts), Count: 2},
		{},
	} {
		err := s.expect("x", node{name: "n1"}, bad, bothCarts, 2)
		if err == nil || !strings.Contains(err.Error(), "expected "+bothCarts) || !strings.Contains(err.Error(), "via n1") {
			t.Errorf("%+v: got %v", bad, err)
		}
	}
}

func TestExplanation(t *testing.T) {
	const text = `{"replicas":[
		{"node":"n1","role":"primary","reachable":true,"versions":[{"size":1,"sha256":"aa"},{"size":2,"sha256":"bb"}]},
		{"node":"n2","role":"primary","reachable":true,"versions":[{"size":1,"sha256":"aa"},{"size":2,"sha256":"bb"}]},
		{"node":"n4","role":"fallback","reachable":true,"hint_for":"n2","versions":[]}],
		"result":{"status":200,"siblings":2,"merge":{"resolver":"0123456789abcdef","outcome":"merged","fuel":7,"micros":1.5}}}`
	var e explanation
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		t.Fatal(err)
	}
	if err := e.check(2); err != nil {
		t.Error(err)
	}
	if err := e.check(1); err == nil || !transient(err) {
		t.Errorf("two versions are not one: %v", err)
	}
	var out strings.Builder
	e.print((&story{out: &out}).say)
	for _, want := range []string{"n1 (primary) holds 2: [1 bytes, sha256 aa…]", "a read gives 200: merged by 0123456789ab…, 7 instructions"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	e.Replicas[1].Reachable = false
	if err := e.check(2); err == nil {
		t.Error("a replica that cannot be reached went unnoticed")
	}
	if err := (explanation{}).check(0); err == nil {
		t.Error("no replica at all went unnoticed")
	}
}
