package frame

import (
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func sampleRequest() Request {
	return Request{
		Keyspace: "carts", Key: []byte("k\x00"),
		Siblings: []Sibling{
			{Value: []byte("old"), ContentType: "text/plain", TimeMs: 1, Ancestor: true},
			{Value: []byte("a"), ContentType: "text/plain", TimeMs: 2},
			{TimeMs: 3, Deleted: true},
		},
	}
}

func TestRequestGolden(t *testing.T) {
	const golden = "44594d31" + "01000000" +
		"05000000" + "6361727473" + "02000000" + "6b00" + "03000000" +
		"02000000" + "0100000000000000" + "0a000000" + "746578742f706c61696e" + "03000000" + "6f6c64" +
		"00000000" + "0200000000000000" + "0a000000" + "746578742f706c61696e" + "01000000" + "61" +
		"01000000" + "0300000000000000" + "00000000" + "00000000"
	b := AppendRequest(nil, sampleRequest())
	if got := hex.EncodeToString(b); got != golden {
		t.Fatalf("got  %s\nwant %s", got, golden)
	}
	if len(b) != RequestSize(sampleRequest()) {
		t.Fatalf("RequestSize says %d, frame has %d", RequestSize(sampleRequest()), len(b))
	}
	back, err := DecodeRequest(b)
	if err != nil || !reflect.DeepEqual(back.Siblings[1], sampleRequest().Siblings[1]) {
		t.Fatalf("decoded %+v, %v", back, err)
	}
	for n := range b {
		if _, err := DecodeRequest(b[:n]); err == nil {
			t.Fatalf("the first %d bytes were accepted", n)
		}
	}
}

func TestResponseGolden(t *testing.T) {
	for golden, want := range map[string]Response{
		"00000000" + "03000000" + "612f62" + "01000000" + "78": {Status: StatusValue, ContentType: "a/b", Payload: []byte("x")},
		"01000000" + "00000000" + "00000000":                   {Status: StatusDeleted},
		"02000000" + "00000000" + "00000000":                   {Status: StatusKeep},
		"03000000" + "00000000" + "02000000" + "6e6f":          {Status: StatusError, Payload: []byte("no")},
		"04000000" + "00000000" + "04000000" + "01000000":      {Status: StatusSelect, Index: 1},
	} {
		if got := hex.EncodeToString(AppendResponse(nil, want)); got != golden {
			t.Errorf("%+v: got %s, want %s", want, got, golden)
		}
		b, _ := hex.DecodeString(golden)
		got, err := DecodeResponse(b, 2, 10)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v", golden, got, err)
		}
		for n := range b {
			if _, err := DecodeResponse(b[:n], 2, 10); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: the first %d bytes gave %v", golden, n, err)
			}
		}
	}
}

func TestResponseRefused(t *testing.T) {
	long := strings.Repeat("x", 300)
	for name, c := range map[string]struct {
		frame []byte
		want  error
	}{
		"unknown status":     {AppendResponse(nil, Response{Status: 5}), ErrMalformed},
		"index":              {AppendResponse(nil, Response{Status: StatusSelect, Index: 2}), ErrMalformed},
		"index of one byte":  {AppendResponse(nil, Response{Status: 0, Payload: []byte("1")})[:12], ErrMalformed},
		"too long":           {AppendResponse(nil, Response{Payload: []byte("12345678901")}), ErrOversize},
		"header injection":   {AppendResponse(nil, Response{ContentType: "a\r\nSet-Cookie: b"}), ErrMalformed},
		"long content type":  {AppendResponse(nil, Response{ContentType: long}), ErrMalformed},
		"something after it": {append(AppendResponse(nil, Response{}), 0), ErrMalformed},
	} {
		if _, err := DecodeResponse(c.frame, 2, 10); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func FuzzDecodeRequest(f *testing.F) {
	f.Add(AppendRequest(nil, sampleRequest()))
	f.Add([]byte("DYM1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRequest(b)
		if err != nil {
			return
		}
		again, err := DecodeRequest(AppendRequest(nil, r))
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
	})
}

func FuzzDecodeResponse(f *testing.F) {
	f.Add(AppendResponse(nil, Response{Status: StatusSelect, Index: 1}))
	f.Add(AppendResponse(nil, Response{ContentType: "text/plain", Payload: []byte("v")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeResponse(b, 3, 100)
		if err != nil {
			return
		}
		again, err := DecodeResponse(AppendResponse(nil, r), 3, 100)
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
	})
}
