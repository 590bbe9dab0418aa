package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is a store of carts in memory, as wrong as a test wants it. A write whose context is not the latest is merged
// with what is there, as the resolver would.
type fake struct {
	// fault is told the number of a PUT, from 1, and says what to do with it.
	fault func(put int) string
	mu    struct {
		sync.Mutex
		puts     int
		carts    map[string]cart
		versions map[string]int
		keyspace bool
		sha256   string
	}
}

func newFake(t *testing.T, fault func(int) string) (*fake, []string) {
	t.Helper()
	f := &fake{fault: fault}
	f.mu.carts, f.mu.versions = make(map[string]cart), make(map[string]int)
	var endpoints []string
	for range 3 {
		s := httptest.NewServer(f)
		t.Cleanup(s.Close)
		endpoints = append(endpoints, s.URL)
	}
	return f, endpoints
}

func problem(w http.ResponseWriter, status int, code string, maybeStored bool) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"status":%d,"code":%q,"retryable":%v,"maybe_stored":%v}`, status, code, status == 503, maybeStored)
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key, isValue := strings.CutPrefix(r.URL.Path, "/v1/kv/carts/")
	switch {
	case isValue && r.Method == http.MethodGet:
		c, ok := f.mu.carts[key]
		if !ok {
			problem(w, 404, "not_found", false)
			return
		}
		w.Header().Set("X-Dynamo-Context", strconv.Itoa(f.mu.versions[key]))
		w.Header().Set("X-Dynamo-Siblings", "2")
		w.Header().Set("X-Dynamo-Merged", "abc")
		b, _ := c.encode()
		_, _ = w.Write(b)
	case isValue:
		f.put(w, r, key)
	case r.URL.Path == "/v1/keyspaces/carts":
		f.mu.keyspace = true
	case r.Method == http.MethodPut:
		f.mu.sha256 = "abc"
		fmt.Fprint(w, `{"sha256":"abc","version":1}`)
	case !f.mu.keyspace:
		problem(w, 404, "keyspace_unknown", false)
	case f.mu.sha256 == "":
		fmt.Fprint(w, `{"active":null}`)
	default:
		fmt.Fprintf(w, `{"active":{"sha256":%q}}`, f.mu.sha256)
	}
}

func (f *fake) put(w http.ResponseWriter, r *http.Request, key string) {
	f.mu.puts++
	fault := f.fault(f.mu.puts)
	if fault == "refuse" {
		problem(w, 503, "overloaded", false)
		return
	}
	b, err := io.ReadAll(r.Body)
	var j cartJSON
	if err == nil {
		err = json.Unmarshal(b, &j)
	}
	if err != nil {
		problem(w, 400, "bad_request", false)
		return
	}
	if fault != "lose" && fault != "vanish" {
		next := maps.Clone(j.Items)
		if r.Header.Get("X-Dynamo-Context") != strconv.Itoa(f.mu.versions[key]) {
			for sku, q := range f.mu.carts[key] {
				next[sku] = max(next[sku], q)
			}
		}
		f.mu.carts[key] = next
		f.mu.versions[key]++
	}
	if fault == "unsure" || fault == "vanish" {
		problem(w, 503, "quorum_unmet", true)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func replaySample(t *testing.T, endpoints []string, patience time.Duration) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out strings.Builder
	err := replay(ctx, replayOptions{
		endpoints: endpoints, file: "sample.csv", keyspace: "carts", module: "cart.wasm", clients: 4, seed: 1, patience: patience,
	}, &out, io.Discard)
	return out.String(), err
}

// field returns the number in a line of the report.
func field(t *testing.T, report, name string) int {
	t.Helper()
	for l := range strings.Lines(report) {
		if rest, ok := strings.CutPrefix(l, name); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %q in:\n%s", name, report)
	return 0
}

func TestReplay(t *testing.T) {
	events, err := readEvents("sample.csv", 0)
	if err != nil {
		t.Fatal(err)
	}
	_, endpoints := newFake(t, func(put int) string {
		return map[int]string{0: "refuse", 3: "unsure", 6: "vanish"}[put%9]
	})
	report, err := replaySample(t, endpoints, time.Minute)
	if err != nil {
		t.Fatalf("%v\n%s", err, report)
	}
	if got := field(t, report, "acknowledged"); got != len(events) {
		t.Errorf("%d of %d events were acknowledged", got, len(events))
	}
	for _, name := range []string{"retries", "conflicts seen", "merged carts"} {
		if field(t, report, name) == 0 {
			t.Errorf("no %s:\n%s", name, report)
		}
	}
	if field(t, report, "missing")+field(t, report, "unknown")+field(t, report, "refused") != 0 {
		t.Errorf("got:\n%s", report)
	}
}

// TestRetryDoesNotAddTwice: the quantity is right though the first attempt of every write was stored and not
// acknowledged.
func TestRetryDoesNotAddTwice(t *testing.T) {
	f, endpoints := newFake(t, func(put int) string {
		if put%2 == 1 {
			return "unsure"
		}
		return ""
	})
	nodes, err := connect(endpoints, endpoints, "")
	if err != nil {
		t.Fatal(err)
	}
	r := newReplayer(replayOptions{keyspace: "carts", clients: 1, patience: time.Minute}, nodes)
	r.work(t.Context(), deal([]event{{"ann", "apple", 2}, {"ann", "apple", 3}}, len(nodes), 1), io.Discard)
	f.mu.Lock()
	defer f.mu.Unlock()
	if got := f.mu.carts["ann"]["apple"]; got != 5 || f.mu.puts != 4 {
		t.Errorf("%d apples after %d writes", got, f.mu.puts)
	}
}

// TestUnknownIsNotAcknowledged: what was never acknowledged may be missing.
func TestUnknownIsNotAcknowledged(t *testing.T) {
	_, endpoints := newFake(t, func(put int) string {
		if put == 1 {
			return ""
		}
		return map[bool]string{false: "vanish", true: "refuse"}[put%2 == 0]
	})
	nodes, err := connect(endpoints, endpoints, "")
	if err != nil {
		t.Fatal(err)
	}
	r := newReplayer(replayOptions{keyspace: "carts", clients: 1, patience: 200 * time.Millisecond}, nodes)
	events := []event{{"ann", "apple", 1}, {"ann", "pear", 1}, {"bob", "plum", 1}}
	r.work(t.Context(), deal(events, len(nodes), 1), io.Discard)
	if r.mu.acknowledged != 1 || r.mu.unknown+r.mu.refused != 2 || r.mu.unknown == 0 || r.mu.failure == nil {
		t.Errorf("acknowledged %d, unknown %d, refused %d, %v", r.mu.acknowledged, r.mu.unknown, r.mu.refused, r.mu.failure)
	}
	v := r.verify(t.Context())
	if err := r.judge(len(events), v); err != nil || v.carts != 1 || v.skus != 1 {
		t.Errorf("got %+v, %v", v, err)
	}
}

// TestReplayFindsLosses: a store that acknowledges a write and forgets it is found out.
func TestReplayFindsLosses(t *testing.T) {
	_, endpoints := newFake(t, func(put int) string {
		if put%10 == 5 {
			return "lose"
		}
		return ""
	})
	nodes, err := connect(endpoints, endpoints, "")
	if err != nil {
		t.Fatal(err)
	}
	r := newReplayer(replayOptions{keyspace: "carts", clients: 4, patience: time.Minute}, nodes)
	var events []event
	for i := range 60 {
		events = append(events, event{fmt.Sprint("customer", i/6), fmt.Sprint("sku", i), 1})
	}
	r.work(t.Context(), deal(events, len(nodes), 1), io.Discard)
	var v verdict
	for customer, added := range r.mu.added {
		v.join(r.verifyCart(t.Context(), customer, added, time.Now()))
	}
	// Six writes were forgotten, and three nodes miss each.
	if err := r.judge(len(events), v); err == nil || len(v.missing) != 18 || !strings.Contains(err.Error(), "18 acknowledged items are missing") {
		t.Errorf("got %v, %v", v.missing, err)
	}
}

func TestReplayGivesUp(t *testing.T) {
	_, endpoints := newFake(t, func(int) string { return "refuse" })
	report, err := replaySample(t, endpoints, time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "no write was acknowledged") || !strings.Contains(err.Error(), "early") {
		t.Errorf("got %v\n%s", err, report)
	}
}

func TestCompare(t *testing.T) {
	added := map[string]bool{"a": true, "b": true}
	one := answer{node: "n1", value: "1", cart: cart{"a": 1, "b": 0, "c": 1}, siblings: 1}
	two := answer{node: "n2", value: "1", cart: one.cart, siblings: 2}
	less := answer{node: "n3", value: "2", cart: cart{"a": 1}, siblings: 1}
	if v := compare("x", added, []answer{one, one}); v.carts != 1 || v.skus != 2 || v.merged != 0 || len(v.missing)+len(v.different) != 0 {
		t.Errorf("equal answers: %+v", v)
	}
	if v := compare("x", added, []answer{one, two}); v.merged != 1 || len(v.different) != 0 {
		t.Errorf("one node merged: %+v", v)
	}
	if v := compare("x", added, []answer{one, two, less}); len(v.missing) != 1 || v.missing[0] != "cart x via n3: b" || len(v.different) != 1 {
		t.Errorf("one node behind: %+v", v)
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"sing"},
		{"replay"},
		{"replay", "--file", "x", "--clients", "0"},
		{"replay", "--file", "x", "more"},
		{"demo", "--loud"},
		{"demo", "now"},
		{"replay", "--file", "x", "--limit", "-1"},
	} {
		var errs strings.Builder
		if err := run(t.Context(), args, io.Discard, &errs); err != errUsage || errs.Len() == 0 {
			t.Errorf("%q: got %v, %q", args, err, errs.String())
		}
	}
	missing := filepath.Join(t.TempDir(), "none.csv")
	if err := run(t.Context(), []string{"replay", "--file", missing}, io.Discard, io.Discard); !os.IsNotExist(err) {
		t.Errorf("got %v", err)
	}
}
