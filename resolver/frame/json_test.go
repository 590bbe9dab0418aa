package frame

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestJSONRequestGolden(t *testing.T) {
	const golden = `{"keyspace":"carts","key_base64":"awA=",` +
		`"ancestor":{"value_base64":"b2xk","content_type":"text/plain","time_ms":1,"deleted":false},` +
		`"siblings":[{"value_base64":"YQ==","content_type":"text/plain","time_ms":2,"deleted":false},` +
		`{"value_base64":"","content_type":"","time_ms":3,"deleted":true}]}` + "\n"
	if got := string(AppendJSONRequest(nil, sampleRequest())); got != golden {
		t.Fatalf("got  %s\nwant %s", got, golden)
	}
	r := sampleRequest()
	r.Keyspace, r.Siblings = "a\"\n\xff<", r.Siblings[1:]
	b := AppendJSONRequest(nil, r)
	var back map[string]any
	if err := json.Unmarshal(b, &back); err != nil || back["keyspace"] != "a\"\n\ufffd<" || back["ancestor"] != nil {
		t.Errorf("%s became %v, %v", b, back, err)
	}
}

func TestJSONResponses(t *testing.T) {
	for text, want := range map[string]Response{
		`{"status":"value","value_base64":"eA==","content_type":"a/b"}`:                      {ContentType: "a/b", Payload: []byte("x")},
		" \n{\"status\":\"value\",\"value_base64\":\"\"}\r\n\t":                              {Payload: []byte{}},
		`{"status":"deleted","value_base64":null,"message":null}`:                            {Status: StatusDeleted},
		`{"status":"keep","value_base64":"","content_type":"","message":""}`:                 {Status: StatusKeep},
		`{"message":"no","status":"error"}`:                                                  {Status: StatusError, Payload: []byte("no")},
		`{"status":"error","message":"` + strings.Repeat("x", 3000) + `","value_base64":""}`: {Status: StatusError, Payload: []byte(strings.Repeat("x", MaxMessageBytes))},
		`{"\u0073tatus":"keep"}`:                                                             {Status: StatusKeep},
	} {
		got, err := DecodeJSONResponse([]byte(text), 10)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%.60s: got %+v, %v", text, got, err)
		}
	}
}

func TestJSONResponsesRefused(t *testing.T) {
	for text, want := range map[string]error{
		``:                                       ErrMalformed,
		`null`:                                   ErrMalformed,
		`[]`:                                     ErrMalformed,
		`{}`:                                     ErrMalformed,
		`{"sta`:                                  ErrMalformed,
		`{"status":"keep"}{}`:                    ErrMalformed,
		`{"status":"keep"} x`:                    ErrMalformed,
		`{"status":"keep",}`:                     ErrMalformed,
		`{"status":"keep" "message":"x"}`:        ErrMalformed,
		`{"Status":"keep"}`:                      ErrMalformed,
		`{"status":"keep","status":"deleted"}`:   ErrMalformed,
		`{"status":"keep","more":"x"}`:           ErrMalformed,
		`{"status":1}`:                           ErrMalformed,
		`{"status":["keep"]}`:                    ErrMalformed,
		`{"status":"select"}`:                    ErrMalformed,
		`{"status":"value"}`:                     ErrMalformed,
		`{"status":"value","value_base64":null}`: ErrMalformed,
		`{"status":"value","value_base64":"eB=="}`:                 ErrMalformed,
		`{"status":"value","value_base64":"e"}`:                    ErrMalformed,
		`{"status":"deleted","value_base64":"eA=="}`:               ErrMalformed,
		`{"status":"value","value_base64":"","content_type":"\n"}`: ErrMalformed,
		"{\"status\":\"keep\",\"message\":\"\xff\"}":               ErrMalformed,
		`{"status":"value","value_base64":"MTIzNDU2Nzg5MDEx"}`:     ErrOversize,
		`{"status":"keep"}` + strings.Repeat(" ", 70<<10):          ErrOversize,
	} {
		if got, err := DecodeJSONResponse([]byte(text), 10); !errors.Is(err, want) || !reflect.DeepEqual(got, Response{}) {
			t.Errorf("%.60s: got %+v, %v, want %v", text, got, err, want)
		}
	}
}

func FuzzDecodeJSONResponse(f *testing.F) {
	f.Add([]byte(`{"status":"value","value_base64":"eA==","content_type":"a/b"}`))
	f.Add([]byte(`{"status":"error","message":"\ud800"}`))
	f.Add([]byte(`{"status":"keep","value_base64":null}`))
	f.Add([]byte("{\"status\" : \"k\\u0065ep\\\"\" ,\n\"message\":\"\u2028\\/\"}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fields, fieldsErr := stringFields(b)
		if want, wantErr := slowFields(b); (fieldsErr != nil) != (wantErr != nil) {
			t.Fatalf("%q: %v, want %v", b, fieldsErr, wantErr)
		} else if fieldsErr == nil {
			for _, name := range []string{"status", "value_base64", "content_type", "message"} {
				i := fieldOf([]byte(name))
				if w, there := want[name]; there != fields[i].there || w != string(fields[i].text) {
					t.Fatalf("%q: %s is %q, want %q", b, name, fields[i].text, w)
				}
			}
		}
		r, err := DecodeJSONResponse(b, 100)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrOversize) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if len(r.Payload) > MaxMessageBytes || r.Status == StatusValue && len(r.Payload) > 100 || !validContentType(r.ContentType) {
			t.Fatalf("accepted %+v", r)
		}
		// What was accepted is JSON to the standard decoder too.
		var any map[string]any
		if err := json.Unmarshal(b, &any); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
	})
}

// slowFields is stringFields with the decoder of the standard library, and its judge.
func slowFields(b []byte) (map[string]string, error) {
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrMalformed)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("%w: not a JSON object", ErrMalformed)
	}
	fields := make(map[string]string, 4)
	seen := make(map[string]bool, 4)
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, fmt.Errorf("%w: not JSON", ErrMalformed)
		}
		switch name {
		case "status", "value_base64", "content_type", "message":
		default:
			return nil, fmt.Errorf("%w: unknown field %.40q", ErrMalformed, name)
		}
		if seen[name] {
			return nil, fmt.Errorf("%w: field %s is there twice", ErrMalformed, name)
		}
		seen[name] = true
		t, err = d.Token()
		switch v := t.(type) {
		case string:
			fields[name] = v
		case nil:
			if err != nil {
				return nil, fmt.Errorf("%w: not JSON", ErrMalformed)
			}
		default:
			return nil, fmt.Errorf("%w: field %s is not a string", ErrMalformed, name)
		}
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, fmt.Errorf("%w: not JSON", ErrMalformed)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the object", ErrMalformed)
	}
	return fields, nil
}
