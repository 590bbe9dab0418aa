package httptext

import (
	"strings"
	"testing"
)

const (
	jsonType  = "application/json"
	mixedType = "multipart/mixed"
)

func TestPrefers(t *testing.T) {
	for accept, want := range map[string]bool{
		"":                                  false,
		"*/*":                               false,
		"application/json":                  true,
		"Application/JSON; charset=utf-8":   true,
		"application/json, */*":             true,
		"application/json;q=0.5, */*":       false,
		"multipart/mixed, application/json": false,
		"multipart/mixed;q=0.9, application/json": true,
		"application/*":                               true,
		"text/html":                                   false,
		"application/json;q=0":                        false,
		"application/json;q=2":                        false,
		"application/json;q=nan":                      false,
		"multipart/*;q=0.1,application/*;q=0.2":       true,
		"text/html,application/json;q=0.1,*/*;q=0.05": true,
	} {
		if got := Prefers(accept, jsonType, mixedType); got != want {
			t.Errorf("%q: %v", accept, got)
		}
	}
}

func TestMatchesETag(t *testing.T) {
	for header, want := range map[string]bool{
		``: false, `*`: true, ` * `: true, `"a"`: true, `W/"a"`: true, `"b"`: false, `"b", "a"`: true, `"b",W/"a"`: true,
		`"b""a"`: true, `a`: false, `a, "a"`: true, `"a`: false, `,,"a"`: true, `"x,"a"`: false,
	} {
		if got := MatchesETag(header, `"a"`); got != want {
			t.Errorf("%q: %v", header, got)
		}
	}
	if MatchesETag("*", "") {
		t.Error("nothing matches")
	}
}

func FuzzHeaders(f *testing.F) {
	for _, s := range []string{`"a", W/"b"`, `W/`, `"`, `a,b;q=0.1`, `*`, `;;,,`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if MatchesETag(s, `"zzz"`) && !strings.Contains(s, `"zzz"`) && strings.TrimSpace(s) != "*" {
			t.Fatalf("%q matches", s)
		}
		if Prefers(s, jsonType, mixedType) && Prefers(s, mixedType, jsonType) {
			t.Fatalf("%q Prefers both", s)
		}
		if IsETag(s) && !MatchesETag(s, s) {
			t.Fatalf("%q does not match itself", s)
		}
	})
}

func TestCursor(t *testing.T) {
	for _, key := range []string{"a", "é", "\xff\x00", "base64:", "base64:/wA=", "base64:YQ==", "\x00"} {
		c := EncodeCursor([]byte(key))
		if got := string(DecodeCursor(c)); got != key {
			t.Errorf("%q became %q by way of %q", key, got, c)
		}
	}
	for _, typed := range []string{"base64:hello", "base64:YQ==", "base64"} {
		if got := string(DecodeCursor(typed)); got != typed {
			t.Errorf("%q is read as %q", typed, got)
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add([]byte("a"))
	f.Add([]byte("\xff"))
	f.Add([]byte("base64:/w=="))
	f.Fuzz(func(t *testing.T, key []byte) {
		if got := DecodeCursor(EncodeCursor(key)); string(got) != string(key) {
			t.Fatalf("%q became %q", key, got)
		}
	})
}
