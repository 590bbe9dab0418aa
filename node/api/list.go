package api

import (
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"dynamo/node/api/httptext"
	"dynamo/node/coordinator"
)

const (
	defaultListKeys = 100
	maxListKeys     = 1000
	// maxPageBytes ends a page with values early.
	maxPageBytes = 4 << 20
)

// listedKey is one key of a listing; exactly one of Key and KeyBase64 is set.
type listedKey struct {
	Key       *string `json:"key,omitempty"`
	KeyBase64 []byte  `json:"key_base64,omitempty"`
	*shown
}

func listed(key []byte) listedKey {
	if utf8.Valid(key) {
		s := string(key)
		return listedKey{Key: &s}
	}
	return listedKey{KeyBase64: key}
}

// listKeys is GET /v1/kv/{keyspace}.
func (s *Server) listKeys(c *call) error {
	r, err := c.listRequest()
	if err != nil {
		return err
	}
	page, err := s.o.KV.List(c.context, r)
	if err != nil {
		return err
	}
	out := struct {
		Keys []listedKey `json:"keys"`
		Next *string     `json:"next"`
	}{Keys: []listedKey{}}
	size, next := 0, page.Next
	for i, e := range page.Entries {
		k := listed(e.Key)
		if e.Answer != nil {
			v := show(*e.Answer)
			k.shown = &v
			size += v.size()
		}
		out.Keys = append(out.Keys, k)
		if size > maxPageBytes && i+1 < len(page.Entries) {
			next = e.Key
			break
		}
	}
	if next != nil {
		cursor := httptext.EncodeCursor(next)
		out.Next = &cursor
	}
	return c.answerJSON(fasthttp.StatusOK, out)
}

func (c *call) listRequest() (coordinator.ListRequest, error) {
	o, err := c.options()
	if err != nil {
		return coordinator.ListRequest{}, err
	}
	r := coordinator.ListRequest{Keyspace: c.keyspace, Options: o}
	if r.Limit, err = c.query.number("limit", defaultListKeys, 1, maxListKeys); err != nil {
		return r, err
	}
	if r.Values, err = c.query.boolean("values", false); err != nil {
		return r, err
	}
	prefix, _ := c.query.get("prefix")
	after, _ := c.query.get("after")
	r.Prefix, r.After = []byte(prefix), httptext.DecodeCursor(after)
	for name, key := range map[string][]byte{"prefix": r.Prefix, "after": r.After} {
		if len(key) > c.s.o.Limits.MaxKeyBytes {
			return r, badKey("%s has %d bytes, more than a key's %d", name, len(key), c.s.o.Limits.MaxKeyBytes)
		}
	}
	return r, nil
}
