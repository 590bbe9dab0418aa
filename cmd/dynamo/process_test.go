package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dynamo/client"
)

// processes are real nodes of one cluster file, each a process of the real binary.
type processes struct {
	t       *testing.T
	binary  string
	file    string
	ids     []string
	urls    map[string]string
	running map[string]*exec.Cmd
	logs    map[string]*lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// freePorts returns loopback addresses that nobody listens on now.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() //nolint:errcheck // a probe
		out = append(out, l.Addr().String())
	}
	return out
}

func newProcesses(t *testing.T, n int) *processes {
	t.Helper()
	dir := t.TempDir()
	p := &processes{
		t: t, binary: filepath.Join(dir, "dynamo"), file: filepath.Join(dir, "cluster.yaml"),
		urls: map[string]string{}, running: map[string]*exec.Cmd{}, logs: map[string]*lockedBuffer{},
	}
	if out, err := exec.Command("go", "build", "-o", p.binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	module, err := filepath.Abs("../../examples/cart-merge/cart.wasm")
	if err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 3*n)
	var b strings.Builder
	b.WriteString("cluster: processes\npartitions: 64\nreplication: {n: 3, r: 2, w: 2}\nnodes:\n")
	for i := range n {
		id := fmt.Sprintf("n%d", i+1)
		p.ids = append(p.ids, id)
		p.urls[id] = "http://" + ports[3*i]
		fmt.Fprintf(&b, "  - {id: %s, zone: z%d, http: '%s', peer: '%s', gossip: '%s', data: data/%s}\n", id, i%3, ports[3*i], ports[3*i+1], ports[3*i+2], id)
	}
	fmt.Fprintf(&b, "keyspaces:\n  - {name: carts, conflict: resolver, resolver: '%s'}\n  - {name: notes, conflict: siblings}\n  - {name: profiles, conflict: resolver, resolver: builtin:json-merge}\n", module)
	if err := os.WriteFile(p.file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for id := range p.running {
			p.kill(id)
		}
		if t.Failed() {
			for id, l := range p.logs {
				t.Logf("log of %s:\n%s", id, l)
			}
		}
	})
	return p
}

func (p *processes) start(ids ...string) {
	p.t.Helper()
	for _, id := range ids {
		p.startWith(id)
	}
}

func (p *processes) startWith(id string, flags ...string) {
	p.t.Helper()
	if p.logs[id] == nil {
		p.logs[id] = &lockedBuffer{}
	}
	c := exec.Command(p.binary, append([]string{"serve", "-f", p.file, "--node", id, "--fault-injection"}, flags...)...)
	c.Stderr = p.logs[id]
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.running[id] = c
}

// kill sends SIGKILL: no chance to write anything down.
func (p *processes) kill(id string) {
	c := p.running[id]
	delete(p.running, id)
	if err := c.Process.Kill(); err != nil {
		p.t.Error(err)
	}
	_ = c.Wait() // "signal: killed"
}

// stop asks a node to end and returns how it did.
func (p *processes) stop(id string) error {
	c := p.running[id]
	delete(p.running, id)
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return c.Wait()
}

// until polls a condition.
func until(t *testing.T, limit time.Duration, what string, f func() error) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return time.Since(start)
		}
		if time.Since(start) > limit {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		<-tick.C
	}
}

func (p *processes) ready(ids ...string) {
	p.t.Helper()
	for _, id := range ids {
		until(p.t, 20*time.Second, id+" is ready", func() error {
			r, err := http.Get(p.urls[id] + "/readyz")
			if err != nil {
				return err
			}
			defer r.Body.Close() //nolint:errcheck // read-only
			if r.StatusCode != http.StatusOK {
				return fmt.Errorf("status %d", r.StatusCode)
			}
			return nil
		})
	}
}

// via returns a client of one node.
func (p *processes) via(id string) *client.Client {
	p.t.Helper()
	c, err := client.New(client.Options{Endpoints: []string{p.urls[id]}})
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

func (p *processes) put(id, keyspace, key, value string, o client.CallOptions) string {
	p.t.Helper()
	token, err := p.via(id).Put(p.t.Context(), keyspace, key, []byte(value), o)
	if err != nil {
		p.t.Fatalf("put %s/%s via %s: %v", keyspace, key, id, err)
	}
	return token
}

func (p *processes) get(id, keyspace, key string, o client.CallOptions) client.Value {
	p.t.Helper()
	v, err := p.via(id).Get(p.t.Context(), keyspace, key, o)
	if err != nil {
		p.t.Fatalf("get %s/%s via %s: %v", keyspace, key, id, err)
	}
	return v
}

func (p *processes) cut(id string, from ...string) {
	p.t.Helper()
	body := `{"nodes":[]}`
	if len(from) > 0 {
		body = `{"nodes":["` + strings.Join(from, `","`) + `"]}`
	}
	r := client.Request{Method: http.MethodPut, Path: "/v1/debug/cut", Body: []byte(body)}
	if _, err := p.via(id).Do(p.t.Context(), r); err != nil {
		p.t.Fatal(err)
	}
}

const (
	apples = `{"items":{"apple":2}}`
	pears  = `{"items":{"pear":1}}`
	both   = `{"items":{"apple":2,"pear":1}}`
)

// TestRealCluster plays the main job with three processes: merge, siblings, a cut, kill -9 of all.
func TestRealCluster(t *testing.T) {
	p := newProcesses(t, 3)
	p.start(p.ids...)
	p.ready(p.ids...)
	t.Run("concurrent writes are merged on every node", p.merges)
	t.Run("a ready-made resolver merges", p.mergesBuiltin)
	t.Run("siblings are shown and replaced by a write that saw them", p.shows)
	t.Run("two sides of a cut come together", p.heals)
	t.Run("kill -9 of all loses nothing acknowledged", p.survives)
	t.Run("a graceful stop exits with 0", p.stops)
}

func (p *processes) merges(t *testing.T) {
	var wg sync.WaitGroup
	for id, cart := range map[string]string{"n1": apples, "n2": pears} {
		wg.Go(func() { p.put(id, "carts", "both", cart, client.CallOptions{ContentType: "application/json"}) })
	}
	wg.Wait()
	for _, id := range p.ids {
		if v := p.get(id, "carts", "both", client.CallOptions{}); string(v.Bytes) != both || v.Count != 2 || v.Merged == "" {
			t.Errorf("%s answers %+v", id, v)
		}
	}
}

func (p *processes) mergesBuiltin(t *testing.T) {
	p.put("n1", "profiles", "ada", `{"name":"ada","at":{"home":1}}`, client.CallOptions{})
	p.put("n2", "profiles", "ada", `{"name":"ada","at":{"work":2}}`, client.CallOptions{})
	for _, id := range p.ids {
		v := p.get(id, "profiles", "ada", client.CallOptions{})
		if string(v.Bytes) != `{"at":{"home":1,"work":2},"name":"ada"}` || v.Count != 2 || v.ContentType != "application/json" {
			t.Errorf("%s answers %+v", id, v)
		}
	}
}

func (p *processes) shows(t *testing.T) {
	p.put("n1", "notes", "k", "one", client.CallOptions{})
	p.put("n3", "notes", "k", "two", client.CallOptions{})
	v := p.get("n2", "notes", "k", client.CallOptions{})
	if len(v.Siblings) != 2 || v.Context == "" {
		t.Fatalf("%+v", v)
	}
	p.put("n2", "notes", "k", "three", client.CallOptions{Context: v.Context})
	for _, id := range p.ids {
		if v := p.get(id, "notes", "k", client.CallOptions{}); string(v.Bytes) != "three" || v.Count != 1 {
			t.Errorf("%s answers %+v", id, v)
		}
	}
}

func (p *processes) heals(t *testing.T) {
	one := client.CallOptions{R: "1", W: "1"}
	p.cut("n1", "n2", "n3")
	p.cut("n2", "n1")
	p.cut("n3", "n1")
	p.put("n1", "carts", "cut", apples, one)
	p.put("n2", "carts", "cut", pears, client.CallOptions{})
	if v := p.get("n1", "carts", "cut", one); string(v.Bytes) != apples {
		t.Errorf("n1 sees %s across the cut", v.Bytes)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := p.via("n1").Put(ctx, "carts", "cut", []byte(apples), client.CallOptions{}); err == nil {
		t.Error("the smaller side took a write at W=2")
	}
	for _, id := range p.ids {
		p.cut(id)
	}
	until(t, 20*time.Second, "all replicas answer", func() error {
		v, err := p.via("n1").Get(t.Context(), "carts", "cut", client.CallOptions{R: "all"})
		if err == nil && string(v.Bytes) != both {
			err = fmt.Errorf("answer %s", v.Bytes)
		}
		return err
	})
	for _, id := range p.ids {
		until(t, 30*time.Second, id+" answers with the merged cart", func() error {
			if v := p.get(id, "carts", "cut", client.CallOptions{}); string(v.Bytes) != both {
				return fmt.Errorf("%s", v.Bytes)
			}
			return nil
		})
	}
}

func (p *processes) survives(t *testing.T) {
	const writers, each = 8, 25
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				p.put(p.ids[(w+i)%3], "notes", fmt.Sprintf("w%d-%d", w, i), fmt.Sprint(w, i), client.CallOptions{})
			}
		})
	}
	wg.Wait()
	for _, id := range p.ids {
		p.kill(id)
	}
	p.start(p.ids...)
	took := until(t, 10*time.Second, "first read after the restart", func() error {
		_, err := p.via("n2").Get(t.Context(), "notes", "w0-0", client.CallOptions{})
		return err
	})
	t.Logf("first read %v after the restart of all", took)
	if took > 3*time.Second {
		t.Errorf("first read %v after the restart of all", took)
	}
	p.ready(p.ids...)
	for w := range writers {
		for i := range each {
			id := p.ids[(w+i+1)%3]
			if v := p.get(id, "notes", fmt.Sprintf("w%d-%d", w, i), client.CallOptions{}); string(v.Bytes) != fmt.Sprint(w, i) {
				t.Errorf("w%d-%d via %s: %+v", w, i, id, v)
			}
		}
	}
	for _, id := range p.ids { // as soon as it has compiled the resolver again
		until(t, 30*time.Second, id+" merges after the restart", func() error {
			if v := p.get(id, "carts", "both", client.CallOptions{}); string(v.Bytes) != both {
				return fmt.Errorf("%s", v.Bytes)
			}
			return nil
		})
	}
}

func (p *processes) stops(t *testing.T) {
	for _, id := range p.ids {
		if err := p.stop(id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	p.start(p.ids...)
	p.ready(p.ids...)
	if v := p.get("n3", "notes", "k", client.CallOptions{}); string(v.Bytes) != "three" {
		t.Errorf("after a clean restart: %+v", v)
	}
}

// TestStrangersAreRefused starts nodes that do not belong together.
func TestStrangersAreRefused(t *testing.T) {
	p := newProcesses(t, 3)
	p.start("n1", "n2")
	p.ready("n1", "n2")
	file, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ from, to, want string }{
		"another cluster":              {"cluster: processes", "cluster: others", "cluster"},
		"another number of partitions": {"partitions: 64", "partitions: 128", "partitions"},
		"another secret":               {"partitions: 64", "partitions: 64\nsecret: another-secret-than-theirs", "secret"},
	} {
		t.Run(name, func(t *testing.T) {
			stranger := *p
			stranger.t = t
			stranger.file = filepath.Join(t.TempDir(), "cluster.yaml")
			stranger.running, stranger.logs = map[string]*exec.Cmd{}, map[string]*lockedBuffer{}
			changed := strings.Replace(string(file), c.from, c.to, 1)
			if err := os.WriteFile(stranger.file, []byte(changed), 0o600); err != nil {
				t.Fatal(err)
			}
			stranger.start("n3")
			defer stranger.kill("n3")
			until(t, 15*time.Second, "a clear line about the stranger", func() error {
				log := p.logs["n1"].String() + p.logs["n2"].String() + stranger.logs["n3"].String()
				for line := range strings.SplitSeq(log, "\n") {
					if strings.Contains(line, "refused") && strings.Contains(line, c.want) {
						return nil
					}
				}
				return fmt.Errorf("log of n3: %s", stranger.logs["n3"])
			})
		})
	}
	p.put("n1", "notes", "k", "still here", client.CallOptions{})
}

// TestPausedNode stops one of five nodes behind its open sockets, as a debugger or a stuck machine does.
// No request to the others fails, within a second all of them are fast again, and the node takes part
// again after its return.
func TestPausedNode(t *testing.T) {
	p := newProcesses(t, 5)
	p.start(p.ids...)
	p.ready(p.ids...)
	paused := p.running["n5"].Process
	clients := map[string]*client.Client{}
	for _, id := range p.ids {
		clients[id] = p.via(id)
	}
	put := func(i int) time.Duration {
		start := time.Now()
		key := fmt.Sprint("paused-", i%100)
		if _, err := clients[p.ids[i%4]].Put(t.Context(), "notes", key, []byte("v"), client.CallOptions{}); err != nil {
			t.Errorf("put %s: %v", key, err)
		}
		if _, err := clients[p.ids[(i+1)%4]].Get(t.Context(), "notes", key, client.CallOptions{}); err != nil {
			t.Errorf("get %s: %v", key, err)
		}
		return time.Since(start)
	}
	for i := range 100 {
		put(i)
	}
	if err := paused.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now()
	var worst time.Duration
	slow := 0
	for i := 0; time.Since(stopped) < 3*time.Second && !t.Failed(); i++ {
		late := time.Since(stopped) > 1500*time.Millisecond // a second, and some for a busy machine
		took := put(i % 20)                                 // few keys: siblings are not the point
		if took > 200*time.Millisecond && late {
			slow++
		}
		worst = max(worst, took)
		if took > 2*time.Second {
			t.Errorf("a put and a get took %v", took)
		}
	}
	if slow > 2 {
		t.Errorf("%d requests still wait for the paused node", slow)
	}
	if err := paused.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	took := until(t, 5*time.Second, "n5 is back", func() error {
		_, err := clients["n1"].Get(t.Context(), "notes", "paused-1", client.CallOptions{R: "all"})
		if err != nil {
			return err
		}
		_, err = clients["n5"].Get(t.Context(), "notes", "paused-1", client.CallOptions{})
		return err
	})
	t.Logf("worst put and get %v, back %v after its return", worst, took)
}
