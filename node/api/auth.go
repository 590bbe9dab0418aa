package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"

	"dynamo/node/config"
	"dynamo/node/coordinator"
)

// grant is what one token allows.
type grant struct {
	name string
	hash [sha256.Size]byte
	rank int
	// keyspaces restrict the token; none = all of them and the cluster itself.
	keyspaces []string
}

// guard knows the tokens. Without any, everything is allowed to everyone.
type guard []grant

func newGuard(tokens []config.Token) guard {
	var g guard
	for _, t := range tokens {
		g = append(g, grant{name: t.Name, hash: sha256.Sum256([]byte(t.Token)), rank: rank(t.Role), keyspaces: t.Keyspaces})
	}
	return g
}

// rank orders the roles: each allows what the ones below it allow.
func rank(r config.Role) int {
	switch r {
	case config.RoleRead:
		return 1
	case config.RoleWrite:
		return 2
	case config.RoleAdmin:
		return 3
	}
	return 0
}

// authenticate finds the grant of an Authorization header. Hashes of equal length are compared with all
// tokens in constant time, so that the time says nothing of how near a guess was.
func (g guard) authenticate(header string) (*grant, error) {
	if len(g) == 0 {
		return nil, nil
	}
	scheme, token, _ := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return nil, &coordinator.Error{Code: coordinator.CodeUnauthorized, Detail: "this cluster wants an Authorization header: Bearer and a token"}
	}
	hash := sha256.Sum256([]byte(token))
	found := -1
	for i := range g {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash[:], g[i].hash[:]), i, found)
	}
	if found < 0 {
		return nil, &coordinator.Error{Code: coordinator.CodeUnauthorized, Detail: "the token is not known"}
	}
	return &g[found], nil
}

// allows checks role and keyspace; a nil grant is an open cluster. keyspace is empty for calls that
// concern none: of those a restricted token may read only.
func (g *grant) allows(role config.Role, keyspace string) error {
	switch {
	case g == nil:
		return nil
	case g.rank < rank(role):
		return forbidden("token %s lacks the role %s", g.name, role)
	case keyspace != "" && !g.sees(keyspace):
		return forbidden("token %s is not for keyspace %s", g.name, keyspace)
	case keyspace == "" && role != config.RoleRead && len(g.keyspaces) > 0:
		return forbidden("token %s is for some keyspaces only", g.name)
	}
	return nil
}

// sees reports whether the grant covers a keyspace.
func (g *grant) sees(keyspace string) bool {
	return g == nil || len(g.keyspaces) == 0 || slices.Contains(g.keyspaces, keyspace)
}

func forbidden(format string, args ...any) error {
	return &coordinator.Error{Code: coordinator.CodeForbidden, Detail: fmt.Sprintf(format, args...)}
}
