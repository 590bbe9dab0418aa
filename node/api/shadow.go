package api

import (
	"github.com/valyala/fasthttp"

	"dynamo/node/coordinator"
)

// candidate is the body of the calls that name an uploaded version.
type candidate struct {
	SHA256 string `json:"sha256"`
}

// startShadow is POST /v1/keyspaces/{keyspace}/resolver/shadow.
func (s *Server) startShadow(c *call) error {
	var body candidate
	if err := c.decode(&body); err != nil {
		return err
	}
	res, err := s.o.Resolvers.Shadow(c.context, c.keyspace, body.SHA256)
	if err != nil {
		return err
	}
	return c.answerJSON(fasthttp.StatusOK, res)
}

// showShadow is GET /v1/keyspaces/{keyspace}/resolver/shadow.
func (s *Server) showShadow(c *call) error {
	res, err := s.o.Resolvers.ShadowStatus(c.context, c.keyspace)
	if err != nil {
		return err
	}
	return c.answerJSON(fasthttp.StatusOK, res)
}

// stopShadow is DELETE /v1/keyspaces/{keyspace}/resolver/shadow.
func (s *Server) stopShadow(c *call) error {
	return c.nothing(s.o.Resolvers.StopShadow(c.context, c.keyspace))
}

// promoteResolver is POST /v1/keyspaces/{keyspace}/resolver/promote. Without a body it is the shadow's candidate.
func (s *Server) promoteResolver(c *call) error {
	var body candidate
	if len(c.body) > 0 {
		if err := c.decode(&body); err != nil {
			return err
		}
	}
	check, err := c.query.word("check", coordinator.CheckStrict, coordinator.CheckWarn, coordinator.CheckOff)
	if err != nil {
		return err
	}
	up, err := s.o.Resolvers.Promote(c.context, c.keyspace, body.SHA256, check)
	if err != nil {
		return err
	}
	return c.answerJSON(fasthttp.StatusOK, up)
}
