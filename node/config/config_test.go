package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestShippedFiles(t *testing.T) {
	for _, name := range []string{"local", "five"} {
		path := filepath.Join("..", "..", "configs", name+".yaml")
		c, err := Load(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range c.Nodes {
			if err := c.CheckExposure(n); err != nil {
				t.Error(err)
			}
		}
		for _, k := range c.BirthKeyspaces() {
			if err := ValidateKeyspace(k, len(c.Nodes), c.Limits); err != nil {
				t.Errorf("%s: keyspace %s: %v", name, k.Name, err)
			}
		}
	}
}

func TestLocalFile(t *testing.T) {
	path, err := filepath.Abs(filepath.Join("..", "..", "configs", "local.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Dir(filepath.Dir(path))
	want := Builtin(filepath.Join(root, "data"))
	want.Name = "demo"
	want.Keyspaces = []Keyspace{{
		Name: "carts", N: 3, R: 2, W: 2, Conflict: PolicyResolver,
		Resolver:   filepath.Join(root, "examples", "cart-merge", "cart.wasm"),
		Durability: DurabilitySync, MaxValueBytes: 1 << 20,
	}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

// The commented lines of the shipped file must be right once they are uncommented.
func TestLocalFileWithAuthentication(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "configs", "local.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("# secret:", "secret:", "# tokens:", "tokens:", "#   - {", "  - {", "127.0.0.1", "10.0.0.1").Replace(string(data))
	c, err := Parse([]byte(text), Options{File: "/etc/dynamo/c.yaml", Lookup: func(name string) (string, bool) { return "value-of-" + name, true }})
	if err != nil {
		t.Fatal(err)
	}
	want := []Token{
		{Name: "ops", Token: "value-of-OPS_TOKEN", Role: RoleAdmin},
		{Name: "shop", Token: "value-of-SHOP_TOKEN", Role: RoleWrite, Keyspaces: []string{"carts"}},
	}
	if c.Secret != "value-of-DYNAMO_SECRET" || !reflect.DeepEqual(c.Tokens, want) {
		t.Errorf("secret %q, tokens %+v", c.Secret, c.Tokens)
	}
	if err := c.CheckExposure(c.Nodes[0]); err != nil {
		t.Error(err)
	}
}

// The file in full, as the documentation shows it.
func TestWholeFile(t *testing.T) {
	c, err := Parse([]byte(`cluster: demo                 # required; nodes of other clusters are refused
partitions: 256
replication: {n: 3, r: 2, w: 2}   # defaults for new keyspaces
secret: ${DYNAMO_SECRET}      # shared secret: gossip encryption and peer authentication
tokens:                       # client authentication; absent = open, allowed on loopback only
  - {name: ops, token: ${OPS_TOKEN}, role: admin}      # admin | write | read
  - {name: shop, token: ${SHOP_TOKEN}, role: write, keyspaces: [carts]}
nodes:
  - {id: n1, zone: a, weight: 1, http: 127.0.0.1:7101, peer: 127.0.0.1:7201, gossip: 127.0.0.1:7301, data: ../data/n1}
  - {id: n2, zone: b, http: 127.0.0.1:7102, peer: 127.0.0.1:7202, gossip: 127.0.0.1:7302, data: ../data/n2}
  - {id: n3, zone: c, http: 127.0.0.1:7103, peer: 127.0.0.1:7203, gossip: 127.0.0.1:7303, data: ../data/n3}
keyspaces:                    # created at birth if absent; later changes go through the API
  - name: carts
    conflict: resolver
    resolver: ../examples/cart-merge/cart.wasm      # a file, or builtin:NAME
limits: {}
`), Options{File: "/x/configs/c.yaml", Lookup: func(name string) (string, bool) { return "{" + name + "}", true }})
	if err != nil {
		t.Fatal(err)
	}
	want := Builtin("/x/data")
	want.Name, want.Secret = "demo", "{DYNAMO_SECRET}"
	want.Tokens = []Token{
		{Name: "ops", Token: "{OPS_TOKEN}", Role: RoleAdmin},
		{Name: "shop", Token: "{SHOP_TOKEN}", Role: RoleWrite, Keyspaces: []string{"carts"}},
	}
	want.Keyspaces = []Keyspace{{
		Name: "carts", N: 3, R: 2, W: 2, Conflict: PolicyResolver,
		Resolver: "/x/examples/cart-merge/cart.wasm", Durability: DurabilitySync, MaxValueBytes: 1 << 20,
	}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestBuiltin(t *testing.T) {
	c := Builtin("/var/data")
	again, err := Parse(render(c), Options{})
	if err != nil || !reflect.DeepEqual(c, again) {
		t.Fatalf("%v\ngot  %+v\nwant %+v", err, again, c)
	}
	n, ok := c.Node("n2")
	want := Node{ID: "n2", Zone: "b", Weight: 1, HTTP: "127.0.0.1:7102", Peer: "127.0.0.1:7202", Gossip: "127.0.0.1:7302", Data: "/var/data/n2"}
	if !ok || n != want {
		t.Errorf("got %+v", n)
	}
	if _, ok := c.Node("n4"); ok {
		t.Error("found a node that does not exist")
	}
	if !filepath.IsAbs(Builtin("dynamo-data").Nodes[0].Data) {
		t.Error("relative data directory")
	}
}

func TestDefaultsFollowTheNumberOfNodes(t *testing.T) {
	for nodes, want := range map[int]Replication{1: {1, 1, 1}, 2: {2, 2, 2}, 3: {3, 2, 2}, 5: {3, 2, 2}} {
		c, err := Parse(fileOf(nodes, "keyspaces: [{name: a}, {name: b, n: 1}]"), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if c.Replication != want {
			t.Errorf("%d nodes: got %+v", nodes, c.Replication)
		}
		got := c.BirthKeyspaces()
		wants := []Keyspace{
			{Name: "default", N: want.N, R: want.R, W: want.W, Conflict: PolicyLWW, Durability: DurabilitySync, MaxValueBytes: 1 << 20},
			{Name: "a", N: want.N, R: want.R, W: want.W, Conflict: PolicySiblings, Durability: DurabilitySync, MaxValueBytes: 1 << 20},
			{Name: "b", N: 1, R: 1, W: 1, Conflict: PolicySiblings, Durability: DurabilitySync, MaxValueBytes: 1 << 20},
		}
		if !reflect.DeepEqual(got, wants) {
			t.Errorf("%d nodes: got %+v", nodes, got)
		}
	}
}

func TestReplicationFillsWhatIsMissing(t *testing.T) {
	for text, want := range map[string]Replication{
		"{}":                 {3, 2, 2},
		"{n: 5}":             {5, 3, 3},
		"{r: 1}":             {3, 1, 2},
		"{n: 4, w: 1}":       {4, 3, 1},
		"{n: 3, r: 3, w: 1}": {3, 3, 1},
	} {
		c, err := Parse(fileOf(5, "replication: "+text+"\nkeyspaces: [{name: a}]"), Options{})
		if err != nil {
			t.Fatal(err)
		}
		k := c.Keyspaces[0]
		if c.Replication != want || k.N != want.N || k.R != want.R || k.W != want.W {
			t.Errorf("%s: got %+v and %+v, want %+v", text, c.Replication, k, want)
		}
	}
}

func TestListedDefaultKeyspace(t *testing.T) {
	c, err := Parse(fileOf(3, "keyspaces: [{name: b}, {name: default, durability: buffered}]"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := c.BirthKeyspaces()
	if len(got) != 2 || got[1].Conflict != PolicyLWW || got[1].Durability != DurabilityBuffered {
		t.Errorf("got %+v", got)
	}
}

func TestVariables(t *testing.T) {
	values := map[string]string{"NAME": "shop", "PORT": "81", "N": "2", "YES": "true", "SIZE": "2MiB", "DOLLAR": "a$NAME${NAME}", "R_2": "resolver", "DIR": "/d"}
	lookup := func(name string) (string, bool) { v, ok := values[name]; return v, ok }
	c, err := Parse([]byte(`
cluster: my-${NAME}.${NAME}
secret: x$$y$${NAME}${DOLLAR}
insecure: ${YES}
replication: {n: ${N}}
nodes:
  - {id: n1, http: "h1:${PORT}", peer: h1:1${PORT}, gossip: "[::1]:2", data: "${DIR}/../n1"}
  - {id: n2, http: "h2:${PORT}", peer: "h2:1${PORT}", gossip: "[::1]:3", data: d/n2}
keyspaces:
  - {name: ${NAME}, conflict: "${R_2}", resolver: builtin:cart, max_value_bytes: ${SIZE}}
  - {name: other, conflict: resolver, resolver: ../$$m.wasm}
`), Options{File: "/etc/c.yaml", Lookup: lookup})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(c.Name, " ", c.Secret, " ", c.Insecure, c.Replication, c.Nodes, c.Keyspaces)
	const want = "my-shop.shop x$y${NAME}a$NAME${NAME} true {2 2 2} " +
		"[{n1 default 1 h1:81 h1:181 [::1]:2 /n1} {n2 default 1 h2:81 h2:181 [::1]:3 /etc/d/n2}] " +
		"[{shop 2 2 2 resolver builtin:cart sync 2097152 false} {other 2 2 2 resolver /$m.wasm sync 1048576 false}]"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestLimits(t *testing.T) {
	if err := DefaultLimits().Check(); err != nil {
		t.Error(err)
	}
	c, err := Parse(fileOf(1, "limits: {max_value_bytes: 4MiB, resolver_fuel: 1_000, hint_max_bytes: 65536, context_lifetime: 1h30m, min_free_bytes: 0}\nkeyspaces: [{name: a}]"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultLimits()
	want.MaxValueBytes, want.ResolverFuel, want.HintMaxBytes, want.ContextLifetime, want.MinFreeBytes = 4<<20, 1000, 65536, 90*time.Minute, 0
	if c.Limits != want || c.Keyspaces[0].MaxValueBytes != 4<<20 {
		t.Errorf("got %+v", c.Limits)
	}
}

// The table must have every field of Limits, under the name that the field has in Go.
func TestLimitsTableIsComplete(t *testing.T) {
	var l Limits
	table := l.table()
	v := reflect.ValueOf(&l).Elem()
	if len(table) != v.NumField() {
		t.Fatalf("%d rows, %d fields", len(table), v.NumField())
	}
	for i, row := range table {
		if name := v.Type().Field(i).Name; strings.ReplaceAll(row.key, "_", "") != strings.ToLower(name) {
			t.Errorf("row %d is %s, field is %s", i, row.key, name)
		}
		row.set(row.hi)
		if got := v.Field(i).Int(); got != row.hi {
			t.Errorf("%s: set %d, got %d", row.key, row.hi, got)
		}
	}
}

func TestLimitsCheck(t *testing.T) {
	for want, change := range map[string]func(*Limits){
		"max_key_bytes: 0 is out of the range 1 to 8KiB":                                                                  func(l *Limits) { l.MaxKeyBytes = 0 },
		"client_timeout: -1s is out of the range 1ms to 24h0m0s":                                                          func(l *Limits) { l.ClientTimeout = -time.Second },
		"min_free_percent: 51 is out of the range 0 to 50":                                                                func(l *Limits) { l.MinFreePercent = 51 },
		"settle_after: 24h0m0s is shorter than context_lifetime + max_timeout = 24h0m30s: deleted values could come back": func(l *Limits) { l.SettleAfter = 24 * time.Hour },
		"sibling_refusal: 15 is below max_siblings = 16: writes would be refused before siblings are collapsed":           func(l *Limits) { l.SiblingRefusal = 15 },
		"request_timeout: 31s is longer than max_timeout = 30s":                                                           func(l *Limits) { l.RequestTimeout = 31 * time.Second },
		"max_header_bytes: 4096 is too small for keys of max_key_bytes = 4096, which need 13312":                          func(l *Limits) { l.MaxHeaderBytes, l.MaxKeyBytes = 4096, 4096 },
		"resolver_memory_bytes: 65537 is not a multiple of 64KiB":                                                         func(l *Limits) { l.ResolverMemoryBytes = 65537 },
		"max_value_bytes: " + strconv.Itoa(HardMaxValueBytes+1) + " is out of the range 1 to 16MiB":                       func(l *Limits) { l.MaxValueBytes = HardMaxValueBytes + 1 },
	} {
		l := DefaultLimits()
		change(&l)
		err := l.Check()
		var field *FieldError
		if !errors.As(err, &field) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestCheckExposure(t *testing.T) {
	loopback := Node{ID: "n1", HTTP: "127.0.0.1:1", Peer: "localhost:2", Gossip: "[::1]:3"}
	open := loopback
	open.HTTP = "0.0.0.0:1"
	gossip := loopback
	gossip.Gossip = "db1.example:3"
	tokens := []Token{{Name: "a", Token: "b", Role: RoleRead}}
	for _, test := range []struct {
		cluster Cluster
		node    Node
		want    string
	}{
		{Cluster{}, loopback, ""},
		{Cluster{}, open, "node n1: http: 0.0.0.0:1 is not a loopback address and the cluster has neither secret nor tokens"},
		{Cluster{Secret: "s"}, open, "node n1: http: 0.0.0.0:1 is not a loopback address and the cluster has no tokens"},
		{Cluster{Tokens: tokens}, gossip, "node n1: gossip: db1.example:3 is not a loopback address and the cluster has no secret"},
		{Cluster{Tokens: tokens, Secret: "s"}, open, ""},
		{Cluster{Insecure: true}, open, ""},
	} {
		err := test.cluster.CheckExposure(test.node)
		if test.want == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		if !errors.Is(err, ErrExposed) || !strings.HasPrefix(err.Error(), test.want+": ") {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}

func TestValidateKeyspace(t *testing.T) {
	good := Keyspace{Name: "a", N: 3, R: 2, W: 2, Conflict: PolicyLWW, Durability: DurabilitySync, MaxValueBytes: 1}
	if err := ValidateKeyspace(good, 3, DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Keyspace){
		`name: "A" is no keyspace name: 1 to 63 of a-z, 0-9, _ and -, and a letter first`:     func(k *Keyspace) { k.Name = "A" },
		"n: 4 replicas need as many nodes, and there are 3":                                   func(k *Keyspace) { k.N = 4 },
		"n: 0 replicas are too few, at least 1 is needed":                                     func(k *Keyspace) { k.N = 0 },
		"r: 4 is out of the range 1 to n = 3":                                                 func(k *Keyspace) { k.R = 4 },
		"w: 0 is out of the range 1 to n = 3":                                                 func(k *Keyspace) { k.W = 0 },
		`conflict: "" is none of siblings, lww or resolver`:                                   func(k *Keyspace) { k.Conflict = "" },
		`durability: "x" is none of sync or buffered`:                                         func(k *Keyspace) { k.Durability = "x" },
		"resolver: conflict: resolver needs a resolver, a module file or builtin:NAME":        func(k *Keyspace) { k.Conflict = PolicyResolver },
		"resolver: a resolver is used with conflict: resolver only, and here conflict is lww": func(k *Keyspace) { k.Resolver = "x" },
		"resolver: no name of a ready-made resolver after builtin:":                           func(k *Keyspace) { k.Conflict, k.Resolver = PolicyResolver, "builtin:" },
		"max_value_bytes: 16777217 is out of the range 1 to 16777216 (16MiB)":                 func(k *Keyspace) { k.MaxValueBytes = 16<<20 + 1 },
	} {
		k := good
		change(&k)
		err := ValidateKeyspace(k, 3, DefaultLimits())
		var field *FieldError
		if !errors.As(err, &field) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestLoadErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(filepath.Join(dir, "none.yaml"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := Load(dir, nil); err == nil {
		t.Error("read a directory")
	}
	path := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(path, []byte(strings.Repeat("#\n", 1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, nil); err == nil || err.Error() != path+":1:1: the file is larger than 1MiB" {
		t.Errorf("got %v", err)
	}
}

// Any cluster comes back from its file as it was.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCluster(t)
		text := render(c)
		again, err := Parse(text, Options{})
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !reflect.DeepEqual(c, again) {
			t.Fatalf("got  %+v\nwant %+v\n%s", again, c, text)
		}
	})
}

func drawCluster(t *rapid.T) *Cluster {
	name := rapid.StringMatching(`[A-Za-z0-9._-]{1,63}`)
	keyspaceName := rapid.StringMatching(`[a-z][a-z0-9_-]{0,62}`)
	// Any characters that YAML can write; file names and secrets have "$" and quotes.
	secret := rapid.StringMatching(`[ -~äß世\n\t]{1,30}`)
	path := rapid.StringMatching(`(/[!-.0-9-~ ü]{1,9}x){1,3}`)
	c := &Cluster{
		Name:       name.Draw(t, "cluster"),
		Partitions: MinPartitions << rapid.IntRange(0, 12).Draw(t, "partitions"),
		Insecure:   rapid.Bool().Draw(t, "insecure"),
		Limits:     DefaultLimits(),
	}
	if rapid.Bool().Draw(t, "has secret") {
		c.Secret = secret.Draw(t, "secret")
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "tokens") {
		c.Tokens = append(c.Tokens, Token{
			Name:      fmt.Sprintf("t%d", i),
			Token:     fmt.Sprint(i, rapid.StringMatching(`[!-~]{1,30}`).Draw(t, "token")),
			Role:      Role(rapid.SampledFrom(roles()).Draw(t, "role")),
			Keyspaces: rapid.SliceOfNDistinct(keyspaceName, 0, 3, rapid.ID).Draw(t, "token keyspaces"),
		})
		if len(c.Tokens[i].Keyspaces) == 0 {
			c.Tokens[i].Keyspaces = nil
		}
	}
	host := rapid.SampledFrom([]string{"127.0.0.1", "[::1]", "localhost", "db_1.example.com.", "10.1.2.3", "0.0.0.0", "[fe80::1%eth0]"})
	for i, id := range rapid.SliceOfNDistinct(name, 1, 6, rapid.ID).Draw(t, "ids") {
		address := func(kind int) string { return fmt.Sprintf("%s:%d", host.Draw(t, "host"), 10*i+kind+1) }
		c.Nodes = append(c.Nodes, Node{
			ID: id, Zone: name.Draw(t, "zone"), Weight: rapid.IntRange(1, 1000).Draw(t, "weight"),
			HTTP: address(0), Peer: address(1), Gossip: address(2),
			Data: fmt.Sprint(path.Draw(t, "data"), i),
		})
	}
	draw := func(label string) Replication {
		n := rapid.IntRange(1, len(c.Nodes)).Draw(t, label+" n")
		return Replication{n, rapid.IntRange(1, n).Draw(t, label+" r"), rapid.IntRange(1, n).Draw(t, label+" w")}
	}
	c.Replication = draw("default")
	for _, name := range rapid.SliceOfNDistinct(keyspaceName, 0, 4, rapid.ID).Draw(t, "keyspaces") {
		r := draw("keyspace")
		k := Keyspace{
			Name: name, N: r.N, R: r.R, W: r.W,
			Conflict:      Policy(rapid.SampledFrom(policies()).Draw(t, "conflict")),
			Durability:    Durability(rapid.SampledFrom(durabilities()).Draw(t, "durability")),
			MaxValueBytes: rapid.IntRange(1, HardMaxValueBytes).Draw(t, "max value bytes"),
			Ancestors:     rapid.Bool().Draw(t, "ancestors"),
		}
		if k.Conflict == PolicyResolver {
			k.Resolver = rapid.OneOf(path, rapid.Just("builtin:or-set")).Draw(t, "resolver")
		}
		c.Keyspaces = append(c.Keyspaces, k)
	}
	for _, row := range c.Limits.table() {
		if row.key == "resolver_fuel" || row.key == "hint_max_bytes" || row.key == "client_timeout" || row.key == "batch_lines" {
			row.set(rapid.Int64Range(row.lo, row.hi).Draw(t, row.key))
		}
	}
	return c
}

// render writes a cluster as a file, every value spelled out.
func render(c *Cluster) []byte {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	q := func(s string) string { return strconv.Quote(strings.ReplaceAll(s, "$", "$$")) }
	p("cluster: %s\npartitions: %d\ninsecure: %t\n", q(c.Name), c.Partitions, c.Insecure)
	p("replication: {n: %d, r: %d, w: %d}\n", c.Replication.N, c.Replication.R, c.Replication.W)
	if c.Secret != "" {
		p("secret: %s\n", q(c.Secret))
	}
	if len(c.Tokens) > 0 {
		p("tokens:\n")
	}
	for _, t := range c.Tokens {
		p("  - name: %s\n    token: %s\n    role: %s\n", q(t.Name), q(t.Token), t.Role)
		if len(t.Keyspaces) > 0 {
			p("    keyspaces: [%s]\n", strings.Join(t.Keyspaces, ", "))
		}
	}
	p("nodes:\n")
	for _, n := range c.Nodes {
		p("  - {id: %s, zone: %s, weight: %d, http: %s, peer: %s, gossip: %s, data: %s}\n",
			q(n.ID), q(n.Zone), n.Weight, q(n.HTTP), q(n.Peer), q(n.Gossip), q(n.Data))
	}
	if len(c.Keyspaces) > 0 {
		p("keyspaces:\n")
	}
	for _, k := range c.Keyspaces {
		p("  - name: %s\n    n: %d\n    r: %d\n    w: %d\n    conflict: %s\n    durability: %s\n    max_value_bytes: %d\n    ancestors: %t\n",
			q(k.Name), k.N, k.R, k.W, k.Conflict, k.Durability, k.MaxValueBytes, k.Ancestors)
		if k.Resolver != "" {
			p("    resolver: %s\n", q(k.Resolver))
		}
	}
	p("limits:\n")
	for _, row := range c.Limits.table() {
		p("  %s: %s\n", row.key, row.format(row.value))
	}
	return []byte(b.String())
}

// fileOf is a good file with that many nodes and some more lines.
func fileOf(nodes int, more string) []byte {
	var b strings.Builder
	b.WriteString("cluster: c\nnodes:\n")
	for i := range nodes {
		fmt.Fprintf(&b, "  - {id: n%d, http: 127.0.0.1:%d, peer: 127.0.0.1:%d, gossip: 127.0.0.1:%d, data: d%d}\n", i, 1000+i, 2000+i, 3000+i, i)
	}
	return []byte(b.String() + more + "\n")
}
