package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the expected errors in testdata")

// Each bad file of testdata has its expected errors beside it.
func TestBadFiles(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("testdata", "bad", "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatal("no bad files", err)
	}
	variables := map[string]string{"EMPTY": "", "LATIN": "\xe4", "LEAK": "topsecret value", "NUMBER": "99999"}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".yaml")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			c, err := Parse(data, Options{File: "f.yaml", Lookup: func(name string) (string, bool) { v, ok := variables[name]; return v, ok }})
			if err == nil || c != nil {
				t.Fatalf("accepted: %+v", c)
			}
			if strings.Contains(err.Error(), "topsecret") {
				t.Errorf("shows a secret: %v", err)
			}
			golden := strings.TrimSuffix(path, ".yaml") + ".errors"
			if *rewrite {
				if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, readErr := os.ReadFile(golden)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if got := err.Error() + "\n"; got != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// Mistakes that take one line, each in a file that is good otherwise.
func TestOneMistake(t *testing.T) {
	for _, test := range []struct{ file, want string }{
		{"", "f:1:1: the file is empty"},
		{"# nothing\n", "f:1:1: the file is empty"},
		{"---\n", "f:2:1: expected a mapping of keys to values, got nothing"},
		{"[1, 2]", "f:1:1: expected a mapping of keys to values, got a list"},
		{"cluster: \xff", "f:1:10: byte 0xff is not UTF-8"},
		{"ä: 1\nb: \x01", "f:2:4: control character U+0001"},
		{"a: 1\n\tb: 2", "f:2:1: not valid YAML here or in what begins here: found a tab character that violates indentation (indent with spaces, not tabs)"},
		{"a: @b", "f:1:1: not valid YAML here or in what begins here: found character that cannot start any token (indent with spaces, not tabs, and quote values that begin with @, ` or %)"},
		{"a: [1\nb: 2\n", "f:2:1: not valid YAML here or in what begins here: did not find expected ',' or ']'"},
		{"cluster: *name\n", "f:1:10: aliases are not allowed (write the value out, or quote it if it begins with *)"},
		{"a: &x {b: 1}\nc: *x\nd:\n  <<: *x\n", "f:1:4: anchors are not allowed (remove it, or quote the value if it begins with &)\n" +
			"f:2:4: aliases are not allowed (write the value out, or quote it if it begins with *)\n" +
			"f:4:3: merge keys are not allowed (write the values out)\n" +
			"f:4:7: aliases are not allowed (write the value out, or quote it if it begins with *)"},
		{"cluster: !!str 5\n", "f:1:10: tags are not allowed (remove it, or quote the value if it begins with !)"},
		{string(fileOf(1, "---\na: 1")), "f:4:1: a second YAML document begins here (one file describes one cluster; remove the ---)"},
		{string(fileOf(1, "partitons: 256")), `f:4:1: unknown key "partitons" (did you mean "partitions"?)`},
		{string(fileOf(1, "maxValueBytes: 1")), `f:4:1: unknown key "maxValueBytes" (expected cluster, partitions, replication, secret, insecure, tokens, nodes, keyspaces or limits)`},
		{string(fileOf(1, "limits: {maxValueBytes: 1}")), `f:4:10: limits: unknown key "maxValueBytes" (did you mean "max_value_bytes"?)`},
		{string(fileOf(1, "cluster: d")), `f:4:1: cluster: duplicate key "cluster", first given at line 1`},
		{string(fileOf(1, "[a]: d")), `f:4:1: expected a key, got a list`},
		{string(fileOf(1, "partitions: 100")), `f:4:13: partitions: 100 is no power of two from 16 to 65536 (the nearest is 128)`},
		{string(fileOf(1, "partitions: -9223372036854775808")), `f:4:13: partitions: -9223372036854775808 is no power of two from 16 to 65536 (the nearest is 16)`},
		{string(fileOf(1, "partitions: 0x100")), `f:4:13: partitions: expected an integer in plain decimal, got "0x100"`},
		{string(fileOf(1, "partitions: '256'")), `f:4:13: partitions: expected an integer, got a string (remove the quotes)`},
		{string(fileOf(1, "insecure: yes")), `f:4:11: insecure: expected true or false, got a string`},
		{string(fileOf(1, "secret:")), `f:4:8: secret: expected a string, got nothing (give it a value or remove the key)`},
		{string(fileOf(1, "secret: 12345")), `f:4:9: secret: expected a string, got an integer (put it in quotes)`},
		{string(fileOf(1, "tokens: []")), `f:4:9: tokens: the list of tokens is empty (remove the key to let everybody in on loopback)`},
		{string(fileOf(1, "replication: {n: 3}")), `f:4:18: replication.n: 3 replicas need as many nodes, and there are 1`},
		{string(fileOf(1, "limits: {settle_after: 5}")), `f:4:24: limits.settle_after: expected a duration with its unit, got an integer (write 5s for seconds)`},
		{string(fileOf(1, "limits: {context_lifetime: 48h}")), `f:4:28: limits.context_lifetime: settle_after: 25h0m0s is shorter than context_lifetime + max_timeout = 48h0m30s: deleted values could come back (set limits.settle_after as well)`},
		{string(fileOf(1, "limits: {hint_max_bytes: 1MB}")), `f:4:26: limits.hint_max_bytes: expected a size, got "1MB" (write 65536, 64KiB, 1MiB or 4GiB)`},
		{string(fileOf(1, "limits: {hint_max_bytes: 9223372036854775807TiB}")), `f:4:26: limits.hint_max_bytes: expected a size, got "9223372036854775807TiB" (write 65536, 64KiB, 1MiB or 4GiB)`},
		{string(fileOf(1, "keyspaces:")), `f:4:11: keyspaces: expected a list, got nothing (remove the key, or write [] for none)`},
		{"a: b\uE001", "f:1:5: private use character U+E001"},
		{"a: {b: ${C}, ${D}: 1}\n", "f:1:1: unknown key \"a\" (expected cluster, partitions, replication, secret, insecure, tokens, nodes, keyspaces or limits)\n" +
			"f:1:1: missing required key \"cluster\"\nf:1:1: missing required key \"nodes\""},
		{string(fileOf(1, "limits: {${D}: 1, max_siblings: ${A:-5}}")), "f:4:10: limits: unknown key \"${D}\" (expected " + list(limitKeys()) + ")\n" +
			`f:4:33: limits.max_siblings: "A:-5" is no name of an environment variable (write $$ for a literal "$")`},
	} {
		c, err := Parse([]byte(test.file), Options{File: "f"})
		if err == nil || c != nil {
			t.Errorf("%s\naccepted", test.file)
		} else if err.Error() != test.want {
			t.Errorf("%s\ngot  %v\nwant %s", test.file, err, test.want)
		}
	}
}

func limitKeys() []string {
	var keys []string
	for _, row := range new(Limits).table() {
		keys = append(keys, row.key)
	}
	return keys
}

func TestTooManyErrors(t *testing.T) {
	_, err := Parse(fileOf(1, strings.Repeat("wrong: 1\n", 100)), Options{File: "f"})
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("got %v", err)
	}
	all := joined.Unwrap()
	if last := all[len(all)-1].Error(); len(all) != maxErrors+1 || last != "f:23:1: too many errors, 80 more are not shown" {
		t.Errorf("%d errors, the last is %s", len(all), last)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"id", "zone", "weight", "http", "peer", "gossip", "data", "max_value_bytes", "r", "w"}
	for word, want := range map[string]string{
		"wieght": "weight", "Zone": "zone", "max-value-bytes": "max_value_bytes", "maxvalue": "", "gosip": "gossip",
		"htttp": "http", "x": "", "": "", "ID": "id", "dat": "data", "peers": "peer", strings.Repeat("data", 20): "",
	} {
		if got := nearest(word, known); got != want {
			t.Errorf("%s: got %q, want %q", word, got, want)
		}
	}
}

func TestAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:1": "", "localhost:65535": "", "[::1]:80": "", "node-1.a_b.example:80": "", "n1:7101": "",
		"127.0.0.1":                             "missing port in address",
		"::1:80":                                "too many colons in address",
		":80":                                   "the host is missing",
		"a:0":                                   "the port is no number from 1 to 65535",
		"a:65536":                               "the port is no number from 1 to 65535",
		"a:http":                                "the port is no number from 1 to 65535",
		"a:080":                                 "the port is no number from 1 to 65535",
		"a:":                                    "the port is no number from 1 to 65535",
		"256.0.0.1:1":                           "the host is neither an IP address nor a host name",
		"-a:1":                                  "the host is neither an IP address nor a host name",
		"a..b:1":                                "the host is neither an IP address nor a host name",
		"http://a:1":                            "too many colons in address",
		"a b:1":                                 "the host is neither an IP address nor a host name",
		strings.Repeat("a", 64) + ":1":          "the host is neither an IP address nor a host name",
		strings.Repeat("a.", 150) + "example:1": "the host is neither an IP address nor a host name",
	} {
		got := ""
		if err := checkAddress(address); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", address, got, want)
		}
	}
	for _, same := range [][2]string{{"LocalHost:1", "127.0.0.1:1"}, {"[0:0::1]:1", "[::1]:1"}, {"[::ffff:10.0.0.1]:1", "10.0.0.1:1"}, {"A.b.:1", "a.b:1"}} {
		if a, b := canonicalAddress(same[0]), canonicalAddress(same[1]); a != b {
			t.Errorf("%s and %s differ", a, b)
		}
	}
}

// Files made to be slow are refused, or read, in a time that a person does not notice.
func TestHostileFiles(t *testing.T) {
	const room = maxFileBytes / 4 // enough to tell, and quick under the race detector
	for name, data := range map[string]string{
		"lists":        strings.Repeat("[", room),
		"mappings":     strings.Repeat("{a: ", room/4),
		"indents":      strings.Repeat("- ", room/2),
		"comments":     strings.Repeat("#\n", room/2),
		"long comment": "a: 1 #" + strings.Repeat("x", room),
		"unknown keys": strings.Repeat("partiton: 1\n", room/12),
		"long key":     strings.Repeat("k", room) + ": 1",
		"quotes":       `a: "` + strings.Repeat(`\x41`, room/4),
		"anchors":      strings.Repeat("- &a *a\n", room/8),
		"questions":    strings.Repeat("? ", room/2),
		"variables":    "cluster: " + strings.Repeat("${A}", room/4),
		"documents":    strings.Repeat("---\n", room/4),
		"one scalar":   "cluster: " + strings.Repeat("x ", room/2),
		"flow keys":    "limits: {" + strings.Repeat("a,", room/8) + "}",
	} {
		start := time.Now()
		if _, err := Parse([]byte(data), Options{}); err == nil {
			t.Errorf("%s: accepted", name)
		} else if len(err.Error()) > 20_000 {
			t.Errorf("%s: a message of %d bytes", name, len(err.Error()))
		}
		// Far above what these take, and far below what anything quadratic does.
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}

func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob(filepath.Join("testdata", "bad", "*.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range append(paths, filepath.Join("..", "..", "configs", "local.yaml")) {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(render(Builtin("/d")))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data, Options{File: "/f", Lookup: func(name string) (string, bool) { return "x-" + name, name != "UNSET" }})
		if err != nil {
			joined, ok := err.(interface{ Unwrap() []error })
			if !ok || c != nil {
				t.Fatalf("%v, %v", c, err)
			}
			for _, err := range joined.Unwrap() {
				var e *Error
				if !errors.As(err, &e) || e.Line < 1 || e.Column < 1 || e.Message == "" {
					t.Fatalf("%#v", err)
				}
			}
			return
		}
		// What is accepted keeps all rules, and means the same when it is written out in full.
		if err := c.Limits.Check(); err != nil {
			t.Fatal(err)
		}
		for _, k := range c.BirthKeyspaces() {
			if err := ValidateKeyspace(k, len(c.Nodes), c.Limits); err != nil {
				t.Fatalf("%s: %v", k.Name, err)
			}
		}
		again, err := Parse(render(c), Options{File: "/f"})
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Fatalf("%v\ngot  %+v\nwant %+v", err, again, c)
		}
	})
}
