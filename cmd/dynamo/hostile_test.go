package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dynamo/resolver/hostile"
)

// victim is a node, a process of its own, that all attacks are made upon.
type victim struct {
	p   *processes
	url string
}

// The values are what the ready-made set-union merges. Modules of attacks do not look at them.
const (
	oneElement   = `["a"]`
	otherElement = `["b"]`
	united       = `["a","b"]`
)

func newVictim(t *testing.T) victim {
	t.Helper()
	p := newProcesses(t, 1)
	ports := freePorts(t, 3)
	p.urls["n1"] = "http://" + ports[0]
	var file strings.Builder
	fmt.Fprintf(&file, "cluster: victim\npartitions: 16\nreplication: {n: 1, r: 1, w: 1}\nnodes:\n  - {id: n1, http: '%s', peer: '%s', gossip: '%s', data: data}\n", ports[0], ports[1], ports[2])
	file.WriteString("keyspaces:\n")
	for i := range attackers {
		fmt.Fprintf(&file, "  - {name: %s, conflict: siblings}\n", keyspaceOf(i))
	}
	if err := os.WriteFile(p.file, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	p.start("n1")
	p.ready("n1")
	return victim{p, p.urls["n1"]}
}

func keyspaceOf(attacker int) string { return fmt.Sprint("ks", attacker) }

// do makes a request.
func (v victim) do(t *testing.T, method, path string, header http.Header, body []byte) (int, http.Header, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, v.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(r.Header, header)
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer a.Body.Close() //nolint:errcheck // read-only
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return a.StatusCode, a.Header, b
}

// want makes a request that is to be answered with a status.
func (v victim) want(t *testing.T, status int, method, path string, header http.Header, body []byte) (http.Header, []byte) {
	t.Helper()
	got, answered, b := v.do(t, method, path, header, body)
	if got != status {
		t.Fatalf("%s %s: %d, want %d: %.300s", method, path, got, status, b)
	}
	return answered, b
}

// upload activates a module without a check of the laws.
func (v victim) upload(t *testing.T, keyspace string, a hostile.Attack) (int, string) {
	t.Helper()
	body, form := a.Module, "application/wasm"
	if a.Config != nil {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		for name, content := range map[string][]byte{"module": a.Module, "config": a.Config} {
			h := textproto.MIMEHeader{"Content-Disposition": {`form-data; name="` + name + `"`}, "Content-Type": {"application/octet-stream"}}
			part, err := w.CreatePart(h)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := part.Write(content); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		body, form = b.Bytes(), w.FormDataContentType()
	}
	status, _, b := v.do(t, http.MethodPut, "/v1/keyspaces/"+keyspace+"/resolver?check=off", http.Header{"Content-Type": {form}}, body)
	return status, string(b)
}

// siblings writes two values that know nothing of each other.
func (v victim) siblings(t *testing.T, path string) {
	t.Helper()
	v.want(t, http.StatusNoContent, http.MethodPut, path, nil, []byte(oneElement))
	v.want(t, http.StatusNoContent, http.MethodPut, path, nil, []byte(otherElement))
}

// heal activates a good resolver, which has to merge, and writes what it made.
func (v victim) heal(t *testing.T, keyspace, path string) {
	t.Helper()
	v.want(t, http.StatusOK, http.MethodPut, "/v1/keyspaces/"+keyspace+"/resolver?builtin=set-union", nil, nil)
	answered, b := v.want(t, http.StatusOK, http.MethodGet, path, nil, nil)
	if string(b) != united {
		t.Errorf("a good resolver makes %q of it", b)
	}
	v.want(t, http.StatusNoContent, http.MethodPut, path, http.Header{"X-Dynamo-Context": answered["X-Dynamo-Context"]}, b)
}

// readTime is the longest that a read may take: the time limit of a merge, and some for a busy machine.
const readTime = 2500 * time.Millisecond

// attack plays one attack from the upload to the next good resolver.
func (v victim) attack(t *testing.T, keyspace string, a hostile.Attack) {
	status, problem := v.upload(t, keyspace, a)
	if a.Refused != "" {
		if status != http.StatusUnprocessableEntity && status != http.StatusRequestEntityTooLarge || !strings.Contains(problem, a.Refused) {
			t.Errorf("upload: %d %.300s, want 422 with %s", status, problem, a.Refused)
		}
		return
	}
	if status != http.StatusOK {
		t.Fatalf("upload: %d %.300s", status, problem)
	}
	path := "/v1/kv/" + keyspace + "/" + url.PathEscape(a.Name)
	v.siblings(t, path)
	begin := time.Now()
	status, answered, b := v.do(t, http.MethodGet, path, nil, nil)
	if took := time.Since(begin); took > readTime {
		t.Errorf("the read took %v", took)
	}
	if a.Fails == "" {
		if status != http.StatusOK || answered.Get("X-Dynamo-Siblings") != "2" {
			t.Errorf("read: %d %v %.300s", status, answered, b)
		}
	} else {
		if status != http.StatusMultipleChoices || !bytes.Contains(b, []byte(oneElement)) || !bytes.Contains(b, []byte(otherElement)) {
			t.Errorf("read: %d %v %.300q, want both siblings", status, answered, b)
		}
		if reason := answered.Get("X-Dynamo-Resolver-Error"); !endsWith(a, reason) {
			t.Errorf("the read says %q, want %s", reason, a.Fails)
		}
		v.listed(t, keyspace, a)
	}
	if answered.Get("X-Injected") != "" || answered.Get("Set-Cookie") != "" {
		t.Errorf("the module wrote a header: %v", answered)
	}
	v.heal(t, keyspace, path)
}

// endsWith reports whether an attack may end for this reason: on a busy machine, time, or the reader's patience, may be over
// before the fuel is.
func endsWith(a hostile.Attack, reason string) bool {
	return strings.Contains(reason, a.Fails) || a.Clock && (strings.Contains(reason, "timeout") || strings.Contains(reason, "canceled"))
}

// listed looks for the key of an attack among the conflicts.
func (v victim) listed(t *testing.T, keyspace string, a hostile.Attack) {
	t.Helper()
	_, b := v.want(t, http.StatusOK, http.MethodGet, "/v1/conflicts/"+keyspace, nil, nil)
	var list struct {
		Conflicts []struct{ Key, Why, Detail string }
	}
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatalf("%v: %.300s", err, b)
	}
	if len(list.Conflicts) != 1 || list.Conflicts[0].Key != a.Name || !endsWith(a, list.Conflicts[0].Why) {
		t.Errorf("conflicts %.300s, want %q for %s", b, a.Name, a.Fails)
	}
}

// attackers work at the same time, each in a keyspace of its own.
const attackers = 3

// mostGrowth is in KiB: 256 MiB of instances that wait, and for each attacker the memory of a merge and some copies of
// a module of 16 MiB.
const mostGrowth = (256 + attackers*(64+48)) << 10

// TestAttacks makes a node of its own process serve all of the hostile modules: uploads are refused with a reason, or reads
// give all siblings in time; a good resolver merges afterwards, and the node lives on, with a bounded memory. Then it is
// killed while hostile modules are active, and boots as soon as ever.
func TestAttacks(t *testing.T) {
	v := newVictim(t)
	pid := v.p.running["n1"].Process.Pid
	var before, after int
	t.Run("all", func(t *testing.T) {
		before = peakKB(t, pid)
		work := make(chan hostile.Attack)
		var wg sync.WaitGroup
		for i := range attackers {
			wg.Go(func() {
				for a := range work {
					t.Run(a.Name, func(t *testing.T) { v.attack(t, keyspaceOf(i), a) })
				}
			})
		}
		for _, a := range hostile.Attacks() {
			work <- a
		}
		close(work)
		wg.Wait()
		after = peakKB(t, pid)
	})
	t.Logf("memory: %d MB before, %d MB at most", before>>10, after>>10)
	if grown := after - before; grown > mostGrowth {
		t.Errorf("%d MB of memory more", grown>>10)
	}
	if log := v.p.logs["n1"].String(); strings.Contains(log, "panic") || strings.Contains(log, "fatal error") {
		t.Errorf("the node panicked: %s", log)
	}
	t.Run("checked", v.checked)
	t.Run("restart", v.restart)
}

// checked uploads without the force option to a keyspace with values, which the law check merges: it ends in time.
func (v victim) checked(t *testing.T) {
	for i := range 5 {
		v.want(t, http.StatusNoContent, http.MethodPut, fmt.Sprintf("/v1/kv/%s/value%d", keyspaceOf(0), i), nil, fmt.Appendf(nil, `["%d"]`, i))
	}
	want := map[string]struct {
		status int
		text   string
	}{
		"memory.fill of 64 MiB in a loop": {http.StatusOK, `"untested"`},
		"endless recursion":               {http.StatusOK, `"untested"`},
		"answers by random numbers":       {http.StatusUnprocessableEntity, `"resolver_unlawful"`},
	}
	for _, a := range hostile.Attacks() {
		w, chosen := want[a.Name]
		if !chosen {
			continue
		}
		begin := time.Now()
		_, b := v.want(t, w.status, http.MethodPut, "/v1/keyspaces/"+keyspaceOf(0)+"/resolver", nil, a.Module)
		if took := time.Since(begin); took > 8*time.Second || !strings.Contains(string(b), w.text) {
			t.Errorf("%s: after %v %.300s", a.Name, took, b)
		}
	}
}

func (v victim) restart(t *testing.T) {
	active := map[int]string{0: "start function that loops", 1: "_initialize that loops", 2: "memory.grow at once"}
	for _, a := range hostile.Attacks() {
		for i, name := range active {
			if a.Name == name {
				if status, problem := v.upload(t, keyspaceOf(i), a); status != http.StatusOK {
					t.Fatalf("%d %s", status, problem)
				}
				v.siblings(t, "/v1/kv/"+keyspaceOf(i)+"/k")
			}
		}
	}
	v.p.kill("n1")
	v.p.start("n1")
	begin := time.Now()
	v.p.ready("n1")
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("ready after %v", took)
	} else {
		t.Logf("ready after %v", took)
	}
	for i := range active {
		path := "/v1/kv/" + keyspaceOf(i) + "/k"
		want := http.StatusMultipleChoices
		if i == 2 {
			want = http.StatusOK
		}
		until(t, 10*time.Second, "the read after the restart", func() error {
			if status, _, b := v.do(t, http.MethodGet, path, nil, nil); status != want {
				return fmt.Errorf("%d %.300s", status, b)
			}
			return nil
		})
		v.heal(t, keyspaceOf(i), path)
	}
}

// peakKB is the most memory that a process had.
func peakKB(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if os.IsNotExist(err) {
		return 0 // no Linux
	}
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
