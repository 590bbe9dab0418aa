package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"dynamo/node/coordinator"
)

func lines(t *testing.T, a answer) []map[string]any {
	t.Helper()
	var out []map[string]any
	for line := range bytes.Lines(a.want(t, 200).body) {
		m := map[string]any{}
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, m)
	}
	if ct := a.Header.Get("Content-Type"); ct != "application/x-ndjson" {
		t.Errorf("content type %q", ct)
	}
	return out
}

func TestBatch(t *testing.T) {
	h := start(t)
	body := strings.Join([]string{
		`{"op":"put","key":"a","value_base64":"QQ==","content_type":"text/plain"}`,
		`{"op":"get","key":"a"}`,
		`{"op":"put","key_base64":"/w==","value_base64":""}`,
		``,
		`{"op":"get","key_base64":"/w=="}`,
		`{"op":"get","key":"none"}`,
		`{"op":"delete","key":"a"}`,
		`{"op":"get","key":"a"}`,
		`{"op":"put","key":"s","value_base64":"MQ=="}`,
		`{"op":"put","key":"s","value_base64":"Mg=="}`,
		`{"op":"get","key":"s"}`,
		`{"op":"put","key":"c","value_base64":"Mg==","context":"nonsense!"}`,
		`{"op":"bad","key":"a"}`,
		`{"op":"get","key":""}`,
		`{"op":"get"}`,
		`{"op":"get","key":"a","key_base64":"YQ=="}`,
		`{"op":"get","key":"\ud800"}`,
		`{"op":"get","key":"\ufffd"}`,
		`{"op":"put","key":"a"}`,
		`{"op":"put","key":"a","value_base64":"!"}`,
		`{"op":"put","key":"a","value_base64":"","content_type":"a\r\nb"}`,
		`{"op":"get","key":"a","value_base64":""}`,
		`{"op":"get","key":"a","vlaue":1}`,
		"{\"op\":\"get\",\"key\":\"\xff\"}",
		`not json`,
	}, "\r\n")
	got := lines(t, h.do(t, "POST", "/v1/kv/ks", body, "Content-Type: application/x-ndjson"))
	want := []string{
		"204 ", "200 ", "204 ", "200 ", "404 not_found", "204 ", "404 not_found", "204 ", "204 ", "300 ", "400 bad_context", "400 bad_request",
		"400 bad_key", "400 bad_key", "400 bad_key", "400 bad_key", "404 not_found", "400 bad_request", "400 bad_request", "400 bad_request",
		"400 bad_request", "400 bad_request", "400 bad_request", "400 bad_request",
	}
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d", len(got), len(want))
	}
	for i, m := range got {
		code, _ := m["code"].(string)
		if s := fmt.Sprintf("%v %s", m["status"], code); s != want[i] {
			t.Errorf("line %d: %s, want %s: %v", i, s, want[i], m)
		}
	}
	if m := got[1]; m["value_base64"] != "QQ==" || m["content_type"] != "text/plain" || m["context"] == "" || m["etag"] == "" || m["time"] == "" {
		t.Errorf("get: %v", m)
	}
	if m := got[3]; m["value_base64"] != "" {
		t.Errorf("an empty value: %v", m)
	}
	if m := got[6]; m["context"] == nil {
		t.Errorf("a deleted key: %v", m)
	}
	if m := got[9]; len(m["siblings"].([]any)) != 2 || m["sibling_count"] != 2.0 {
		t.Errorf("siblings: %v", m)
	}
	if got := lines(t, h.do(t, "POST", "/v1/kv/ks", "")); len(got) != 0 {
		t.Errorf("an empty batch: %v", got)
	}
}

func TestBatchIsolatesFailures(t *testing.T) {
	h := start(t, func(o *Options) { o.Limits.BatchLines = 200 })
	h.kv.setBefore(func(ctx context.Context, key []byte) error {
		switch string(key) {
		case "7":
			return &coordinator.Error{Code: coordinator.CodeQuorumUnmet, Detail: "d", Retryable: true, MaybeStored: true}
		case "8":
			panic("boom")
		case "9":
			<-ctx.Done()
			return ctx.Err()
		case "10":
			return errors.New("secret")
		}
		return nil
	})
	var b strings.Builder
	for i := range 200 {
		fmt.Fprintf(&b, "{\"op\":\"put\",\"key\":\"%d\",\"value_base64\":\"QQ==\"}\n", i)
	}
	got := lines(t, h.do(t, "POST", "/v1/kv/ks?timeout=50ms&w=all", b.String()))
	for i, m := range got {
		want := map[int]string{7: "503 quorum_unmet true", 8: "500 internal false", 9: "503 quorum_unmet true", 10: "500 internal false"}[i]
		if want == "" {
			want = "204 <nil> <nil>"
		}
		if s := fmt.Sprintf("%v %v %v", m["status"], m["code"], m["retryable"]); s != want {
			t.Errorf("line %d: %s, want %s", i, s, want)
		}
	}
	if len(got) != 200 || h.kv.seenOptions().W != coordinator.QuorumAll {
		t.Errorf("%d lines, %+v", len(got), h.kv.seenOptions())
	}
	h.do(t, "POST", "/v1/kv/ks", b.String()+`{"op":"get","key":"a"}`).problem(t, 413, "too_large")
	h.do(t, "POST", "/v1/kv/nowhere", b.String()).problem(t, 404, "keyspace_unknown")
	h.do(t, "POST", "/v1/kv/ks", b.String(), "Content-Type: image/png").problem(t, 415, "unsupported_media_type")
}

func FuzzBatchLine(f *testing.F) {
	for _, s := range []string{`{"op":"get","key":"a"}`, `{"op":"put","key_base64":"YQ==","value_base64":""}`, `{`, `null`, `{"op":"get","key":"\ud800"}`} {
		f.Add([]byte(s))
	}
	s := &Server{}
	s.o.Limits.MaxKeyBytes = 1024
	b := batchRun{c: &call{s: s}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, key, err := b.parse(raw)
		if err != nil {
			if _, ok := errors.AsType[*coordinator.Error](err); !ok {
				t.Fatalf("%q: %v", raw, err)
			}
			return
		}
		if len(key) == 0 || len(key) > 1024 || !slices.Contains([]string{"get", "put", "delete"}, l.Op) || (l.Op == "put") != (l.Value != nil) {
			t.Fatalf("%q: %+v %q", raw, l, key)
		}
	})
}

func TestListing(t *testing.T) {
	h := start(t)
	keys := []string{"\x00", "a", "a b", "a/b", "base64:x", "c", "d\xff", "d\xff\x01", "é"}
	for i, k := range keys {
		h.do(t, "PUT", "/v1/kv/ks/"+url.PathEscape(k), fmt.Sprint(i)).want(t, 204)
	}
	h.do(t, "PUT", "/v1/kv/ks/gone", "v").want(t, 204)
	h.do(t, "DELETE", "/v1/kv/ks/gone", "").want(t, 204)
	type page struct {
		Keys []struct {
			Key         *string
			KeyBase64   *string `json:"key_base64"`
			Value       *[]byte `json:"value_base64"`
			ContentType string  `json:"content_type"`
			Context     string
			ETag        string
			Time        string
			Count       int `json:"sibling_count"`
		}
		Next *string
	}
	for _, limit := range []int{1, 2, 4, 9, 1000} {
		var got []string
		for after, more := "", true; more; {
			var p page
			h.do(t, "GET", fmt.Sprintf("/v1/kv/ks?limit=%d&values=true&after=%s", limit, url.QueryEscape(after)), "").want(t, 200).json(t, &p)
			for _, k := range p.Keys {
				key := ""
				if k.Key != nil {
					key = *k.Key
				} else if b, err := base64.StdEncoding.DecodeString(*k.KeyBase64); err == nil {
					key = string(b)
				}
				if k.Value == nil || string(*k.Value) != fmt.Sprint(slices.Index(keys, key)) || k.Context == "" || k.ETag == "" || k.Time == "" || k.Count != 1 {
					t.Errorf("%q: %+v", key, k)
				}
				got = append(got, key)
			}
			if more = p.Next != nil; more {
				after = *p.Next
			}
		}
		if !slices.Equal(got, keys) {
			t.Errorf("limit %d: %q", limit, got)
		}
	}
	a := h.do(t, "GET", "/v1/kv/ks?prefix=a&after=a", "").want(t, 200)
	if want := `{"keys":[{"key":"a b"},{"key":"a/b"}],"next":null}` + "\n"; string(a.body) != want {
		t.Errorf("%s", a.body)
	}
	if a := h.do(t, "GET", "/v1/kv/ks?prefix=zz", "").want(t, 200); string(a.body) != `{"keys":[],"next":null}`+"\n" {
		t.Errorf("%s", a.body)
	}
	for _, bad := range []string{"limit=0", "limit=1001", "limit=x", "limit=-1", "values=1", "order=desc"} {
		h.do(t, "GET", "/v1/kv/ks?"+bad, "").problem(t, 400, "bad_request")
	}
	h.do(t, "GET", "/v1/kv/ks?prefix="+strings.Repeat("a", 1025), "").problem(t, 400, "bad_key")
}

// A page of large values ends early and goes on where it ended.
func TestListingOfLargeValues(t *testing.T) {
	h := start(t)
	big := make([]byte, maxPageBytes/2)
	for i := range 4 {
		_, err := h.kv.Write(t.Context(), coordinator.WriteRequest{Keyspace: "ks", Key: []byte{byte('a' + i)}, Value: valueOf(big)})
		if err != nil {
			t.Fatal(err)
		}
	}
	n, after := 0, ""
	for pages := range 10 {
		var p struct {
			Keys []struct{ Key string }
			Next *string
		}
		a := h.do(t, "GET", "/v1/kv/ks?values=true&after="+after, "").want(t, 200)
		if err := json.Unmarshal(a.body, &p); err != nil || len(a.body) > 2*maxPageBytes {
			t.Fatalf("%d bytes, %v", len(a.body), err)
		}
		n += len(p.Keys)
		if p.Next == nil {
			if pages == 0 {
				t.Error("all in one page")
			}
			break
		}
		after = *p.Next
	}
	if n != 4 {
		t.Errorf("%d keys", n)
	}
}
