package guest

import (
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"dynamo/resolver/frame"
)

const maxBytes = 1 << 20

// sample is what the host would send.
func sample(ancestor bool) frame.Request {
	r := frame.Request{Keyspace: "carts", Key: []byte("k\x00"), Siblings: []frame.Sibling{
		{Value: []byte("a"), ContentType: "text/plain", TimeMs: 2},
		{TimeMs: 3, Deleted: true},
	}}
	if ancestor {
		r.Siblings = slices.Insert(r.Siblings, 0, frame.Sibling{Value: []byte("old"), ContentType: "text/html", TimeMs: 1, Ancestor: true})
	}
	return r
}

func TestRequestGolden(t *testing.T) {
	const golden = "44594d31" + "01000000" +
		"05000000" + "6361727473" + "02000000" + "6b00" + "03000000" +
		"02000000" + "0100000000000000" + "09000000" + "746578742f68746d6c" + "03000000" + "6f6c64" +
		"00000000" + "0200000000000000" + "0a000000" + "746578742f706c61696e" + "01000000" + "61" +
		"01000000" + "0300000000000000" + "00000000" + "00000000"
	b, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeRequest(b)
	want := Request{
		Keyspace: "carts", Key: []byte("k\x00"),
		Ancestor: &Sibling{Value: []byte("old"), ContentType: "text/html", TimeMs: 1},
		Siblings: []Sibling{{Value: []byte("a"), ContentType: "text/plain", TimeMs: 2}, {Value: []byte{}, TimeMs: 3, Deleted: true}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v", got, err)
	}
	for n := range b {
		if _, err := decodeRequest(b[:n]); err == nil {
			t.Fatalf("the first %d bytes were accepted", n)
		}
	}
	if _, err := decodeRequest(append(b, 0)); err == nil {
		t.Fatal("a byte too many was accepted")
	}
}

func TestResponseGolden(t *testing.T) {
	for golden, result := range map[string]Result{
		"00000000" + "03000000" + "612f62" + "01000000" + "78": Value("a/b", []byte("x")),
		"01000000" + "00000000" + "00000000":                   Deleted(),
		"02000000" + "00000000" + "00000000":                   Keep(),
		"04000000" + "00000000" + "04000000" + "02000000":      Select(1),
	} {
		got := Answer(frame.AppendRequest(nil, sample(true)), func(Request) (Result, error) { return result, nil })
		if hex.EncodeToString(got) != golden {
			t.Errorf("%+v: got %x, want %s", result, got, golden)
		}
	}
}

// TestHost runs every kind of answer past the decoder of the host.
func TestHost(t *testing.T) {
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		result Result
		err    error
		want   frame.Response
	}{
		"value":       {Value("text/plain", []byte("v")), nil, frame.Response{Status: frame.StatusValue, ContentType: "text/plain", Payload: []byte("v")}},
		"empty value": {Value("", nil), nil, frame.Response{Status: frame.StatusValue, Payload: []byte{}}},
		"deleted":     {Deleted(), nil, frame.Response{Status: frame.StatusDeleted}},
		"keep":        {Keep(), nil, frame.Response{Status: frame.StatusKeep}},
		"select":      {Select(1), nil, frame.Response{Status: frame.StatusSelect, Index: 1}},
		"error":       {Keep(), boom, frame.Response{Status: frame.StatusError, Payload: []byte("boom")}},
		"above":       {Select(2), nil, frame.Response{Status: frame.StatusError, Payload: []byte("sibling 2 selected of 2")}},
		"below":       {Select(-1), nil, frame.Response{Status: frame.StatusError, Payload: []byte("sibling -1 selected of 2")}},
		"none":        {Result{}, nil, frame.Response{Status: frame.StatusError, Payload: []byte(errNoResult.Error())}},
	} {
		for _, ancestor := range []bool{false, true} {
			want := c.want
			if ancestor && want.Status == frame.StatusSelect {
				want.Index++
			}
			req := sample(ancestor)
			answer := Answer(frame.AppendRequest(nil, req), func(Request) (Result, error) { return c.result, c.err })
			got, err := frame.DecodeResponse(answer, len(req.Siblings), maxBytes)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s, ancestor %t: got %+v, %v", name, ancestor, got, err)
			}
		}
	}
}

// TestModule goes the way of the exported functions.
func TestModule(t *testing.T) {
	old := module
	defer func() { module = old }()
	call := func() string {
		b := frame.AppendRequest(nil, sample(true))
		copy(module.alloc(uint32(len(b))), b)
		got, err := frame.DecodeResponse(module.resolve(uint32(len(b))), 3, maxBytes)
		if err != nil {
			t.Fatal(err)
		}
		return string(got.Payload)
	}
	module = state{}
	if got := call(); got != errNoResolver.Error() {
		t.Errorf("without a resolver: %s", got)
	}
	Resolver(func(siblings []Sibling) (Result, error) { return Value("", siblings[0].Value), nil })
	if got := call(); got != "a" {
		t.Errorf("Resolver: %s", got)
	}
	RequestResolver(func(r Request) (Result, error) {
		return Value("", []byte(r.Keyspace+" "+string(r.Key)+" "+string(r.Ancestor.Value))), nil
	})
	if got := call(); got != "carts k\x00 old" {
		t.Errorf("RequestResolver: %q", got)
	}
	module.alloc(0)
	got, err := frame.DecodeResponse(module.resolve(100), 2, maxBytes)
	if err != nil || got.Status != frame.StatusError {
		t.Errorf("a request larger than its room: %+v, %v", got, err)
	}
}

func TestAncestorComesFirst(t *testing.T) {
	req := sample(true)
	slices.Reverse(req.Siblings)
	if _, err := decodeRequest(frame.AppendRequest(nil, req)); !errors.Is(err, errFrame) {
		t.Errorf("got %v", err)
	}
}

// FuzzDecodeRequest has the host's own decoder for a judge: what that one accepts means the same here.
func FuzzDecodeRequest(f *testing.F) {
	f.Add(frame.AppendRequest(nil, sample(true)))
	f.Add(frame.AppendRequest(nil, sample(false)))
	f.Add([]byte("DYM1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decodeRequest(b)
		want, wantErr := frame.DecodeRequest(b)
		if wantErr != nil {
			return // it also demands that the flag of the request fits
		}
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		back := frame.Request{Keyspace: got.Keyspace, Key: slices.Clone(got.Key)}
		if a := got.Ancestor; a != nil {
			back.Siblings = append(back.Siblings, frame.Sibling{
				Value: slices.Clone(a.Value), ContentType: a.ContentType, TimeMs: a.TimeMs, Deleted: a.Deleted, Ancestor: true,
			})
		}
		for _, s := range got.Siblings {
			back.Siblings = append(back.Siblings, frame.Sibling{
				Value: slices.Clone(s.Value), ContentType: s.ContentType, TimeMs: s.TimeMs, Deleted: s.Deleted,
			})
		}
		if !reflect.DeepEqual(back, want) {
			t.Fatalf("got %+v, want %+v", back, want)
		}
	})
}

// FuzzAnswer demands an answer that the host understands, whatever the request.
func FuzzAnswer(f *testing.F) {
	f.Add(frame.AppendRequest(nil, sample(true)), 1, "text/plain")
	f.Add([]byte("DYM1"), -1, "")
	f.Fuzz(func(t *testing.T, b []byte, index int, text string) {
		contentType := strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' {
				return -1
			}
			return r
		}, text[:min(len(text), 255)])
		count := 0
		merge := func(r Request) (Result, error) {
			count = len(r.Siblings)
			if r.Ancestor != nil {
				count++
			}
			switch {
			case index%3 == 0:
				return Value(contentType, []byte(text)), nil
			case index%3 == 1:
				return Result{}, errors.New(text)
			}
			return Select(index), nil
		}
		if _, err := frame.DecodeResponse(Answer(b, merge), count, len(text)); err != nil {
			t.Fatal(err)
		}
	})
}
