package api

import (
	"time"

	"github.com/valyala/fasthttp"

	"dynamo/node/api/httptext"
	"dynamo/node/coordinator"
)

// listedConflict is one key of the conflict list.
type listedConflict struct {
	listedKey
	Count      int        `json:"count"`
	Since      *time.Time `json:"since,omitempty"`
	AgeSeconds float64    `json:"age_seconds"`
	Why        string     `json:"why,omitempty"`
	Detail     string     `json:"detail,omitempty"`
	Merged     string     `json:"merged,omitempty"`
}

// listConflicts is GET /v1/conflicts/{keyspace}.
func (s *Server) listConflicts(c *call) error {
	r := coordinator.ConflictRequest{Keyspace: c.keyspace}
	var err error
	if r.Limit, err = c.query.number("limit", defaultListKeys, 1, maxListKeys); err != nil {
		return err
	}
	if r.Unmerged, err = c.query.boolean("unmerged", false); err != nil {
		return err
	}
	after, _ := c.query.get("after")
	if r.After = httptext.DecodeCursor(after); len(r.After) > s.o.Limits.MaxKeyBytes {
		return badKey("after has %d bytes, more than a key's %d", len(r.After), s.o.Limits.MaxKeyBytes)
	}
	page, err := s.o.KV.Conflicts(c.context, r)
	if err != nil {
		return err
	}
	out := struct {
		Conflicts []listedConflict `json:"conflicts"`
		Next      *string          `json:"next"`
		Unheard   []string         `json:"unheard,omitempty"`
	}{Conflicts: make([]listedConflict, len(page.Entries)), Unheard: page.Unheard}
	now := s.o.Now()
	for i, e := range page.Entries {
		l := listedConflict{listedKey: listed(e.Key), Count: e.Count, Why: e.Why, Detail: e.Detail, Merged: e.Merged}
		if !e.Since.IsZero() {
			l.Since, l.AgeSeconds = &e.Since, max(0, now.Sub(e.Since).Seconds())
		}
		out.Conflicts[i] = l
	}
	if page.Next != nil {
		cursor := httptext.EncodeCursor(page.Next)
		out.Next = &cursor
	}
	return c.answerJSON(fasthttp.StatusOK, out)
}
