package causal

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestToken(t *testing.T) {
	k := NewTokenKey("c", "secret")
	a := Actor{NodeID{1}, 1, 1}
	seen := Basis{Context: Context{{a, 3}}, Dots: DotsOf(Dot{a, 5})}
	now := time.UnixMilli(1_700_000_000_000)
	tok := k.Seal("ks", []byte("key"), seen, now)
	got, err := k.Open(tok, "ks", []byte("key"), now.Add(time.Hour), time.Hour)
	if err != nil || !got.Context.Equal(seen.Context) || got.Dots.Compare(seen.Dots) != 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	const want = "AQAAAYvP5WgA7S0PAzl7bJUBAQAAAAAAAAAAAAAAAAAAAAEBAwEBAAAAAAAAAAAAAAAAAAAAAQEFAB1HhxJkd-loRNmEA0E2IT0"
	if tok != want {
		t.Errorf("the token of version 1 changed: %s", tok)
	}
	for name, c := range map[string]struct {
		token, ks, key string
		at             time.Time
		key2           TokenKey
		err            error
	}{
		"another key":      {tok, "ks", "other", now, k, ErrTokenScope},
		"another keyspace": {tok, "k", "skey", now, k, ErrTokenScope},
		"expired":          {tok, "ks", "key", now.Add(time.Hour + time.Millisecond), k, ErrTokenExpired},
		"another secret":   {tok, "ks", "key", now, NewTokenKey("c", "guess"), ErrTokenForged},
		"another cluster":  {tok, "ks", "key", now, NewTokenKey("d", "secret"), ErrTokenForged},
		"truncated":        {tok[:len(tok)-4], "ks", "key", now, k, ErrTokenForged},
		"nearly nothing":   {tok[:10], "ks", "key", now, k, ErrTokenMalformed},
		"no base64":        {"!" + tok, "ks", "key", now, k, ErrTokenMalformed},
		"too long":         {string(bytes.Repeat([]byte("A"), MaxTokenBytes+1)), "ks", "key", now, k, ErrTokenMalformed},
	} {
		if _, err := c.key2.Open(c.token, c.ks, []byte(c.key), c.at, time.Hour); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
	}
}

// TestTokenDamaged: no bit of a token can be flipped and no end cut off.
func TestTokenDamaged(t *testing.T) {
	k := NewTokenKey("c", "secret")
	now := time.UnixMilli(1_700_000_000_000)
	tok := k.Seal("ks", []byte("key"), Basis{Context: golden().Context, Dots: golden().Versions[0].Label}, now)
	refused := func(what, token string) {
		t.Helper()
		_, err := k.Open(token, "ks", []byte("key"), now, time.Hour)
		if !errors.Is(err, ErrTokenForged) && !errors.Is(err, ErrTokenMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	raw, err := base64.RawURLEncoding.DecodeString(tok)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		for bit := range 8 {
			d := bytes.Clone(raw)
			d[i] ^= 1 << bit
			refused(fmt.Sprintf("bit %d of byte %d flipped", bit, i), base64.RawURLEncoding.EncodeToString(d))
		}
		refused(fmt.Sprintf("cut to %d bytes", i), base64.RawURLEncoding.EncodeToString(raw[:i]))
	}
	for i := range len(tok) {
		for bit := range 8 {
			d := []byte(tok)
			d[i] ^= 1 << bit
			refused(fmt.Sprintf("bit %d of character %d flipped", bit, i), string(d))
		}
		refused(fmt.Sprintf("cut to %d characters", i), tok[:i])
	}
	refused("padded", tok+"=")
	refused("longer", tok+"AAAA")
	refused("broken into lines", tok[:11]+"\n"+tok[11:]+"\r\n")
}

// TestTokenRoundTrip: whatever basis is sealed comes back, and a sealed body that is not canonical does not.
func TestTokenRoundTrip(t *testing.T) {
	t.Parallel()
	k := NewTokenKey("c", "")
	rapid.Check(t, func(t *rapid.T) {
		o := objects().Draw(t, "object")
		seen := Basis{Context: o.Context, Dots: o.Live()}
		key := rapid.SliceOf(rapid.Byte()).Draw(t, "key")
		got, err := k.Open(k.Seal("ks", key, seen, time.UnixMilli(5)), "ks", key, time.UnixMilli(5), 0)
		if err != nil || !got.Context.Equal(seen.Context) || got.Dots.Compare(seen.Dots) != 0 {
			t.Fatalf("sealed %+v, opened %+v, %v", seen, got, err)
		}
	})
	a := Actor{NodeID{1}, 1, 1}
	for name, seen := range map[string]Basis{
		"an actor twice":  {Context: Context{{a, 1}, {a, 1}}},
		"ranges adjacent": {Dots: Dots{{a, 1, 1}, {a, 2, 2}}},
		"a dot of zero":   {Dots: Dots{{a, 0, 0}}},
	} {
		if _, err := k.Open(k.Seal("ks", nil, seen, time.UnixMilli(5)), "ks", nil, time.UnixMilli(5), 0); !errors.Is(err, ErrTokenMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzTokenOpen(f *testing.F) {
	k := NewTokenKey("c", "secret")
	f.Add(k.Seal("ks", []byte("key"), Basis{Context: golden().Context}, time.UnixMilli(1)))
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := k.Open(s, "ks", []byte("key"), time.UnixMilli(1), time.Hour); err == nil && s != k.Seal("ks", []byte("key"), Basis{Context: golden().Context}, time.UnixMilli(1)) {
			t.Fatalf("a token that was never sealed is taken: %q", s)
		}
	})
}
