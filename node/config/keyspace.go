package config

import (
	"fmt"
	"slices"
	"strings"
)

// FieldError is one setting that breaks a rule. Field is its key in YAML and JSON.
type FieldError struct {
	Field   string
	Message string
}

// Error returns "field: message".
func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

// ValidateKeyspace checks a complete keyspace (defaults filled in), whether it comes from a file or from a client, for
// a cluster of that many nodes. The error is the *FieldError of the first setting that is wrong. Whether the resolver
// can be found is not checked.
func ValidateKeyspace(k Keyspace, nodes int, l Limits) error {
	if wrong := checkKeyspace(k, nodes, l); len(wrong) > 0 {
		return wrong[0]
	}
	return nil
}

// checkKeyspace returns everything that is wrong with a keyspace.
func checkKeyspace(k Keyspace, nodes int, l Limits) []*FieldError {
	var wrong []*FieldError
	fail := func(field, format string, args ...any) {
		wrong = append(wrong, &FieldError{Field: field, Message: fmt.Sprintf(format, args...)})
	}
	if !IsKeyspaceName(k.Name) {
		fail("name", "%s is no keyspace name: %s", quote(k.Name), keyspaceNameRule)
	}
	wrong = append(wrong, checkReplication(Replication{N: k.N, R: k.R, W: k.W}, nodes)...)
	if all := policies(); !slices.Contains(all, string(k.Conflict)) {
		fail("conflict", "%s is none of %s", quote(string(k.Conflict)), list(all))
	}
	builtin, isBuiltin := strings.CutPrefix(k.Resolver, BuiltinPrefix)
	switch {
	case k.Conflict == PolicyResolver && k.Resolver == "":
		fail("resolver", "conflict: resolver needs a resolver, a module file or %sNAME", BuiltinPrefix)
	case k.Conflict != PolicyResolver && k.Resolver != "":
		fail("resolver", "a resolver is used with conflict: resolver only, and here conflict is %s", k.Conflict)
	case isBuiltin && !IsKeyspaceName(builtin):
		fail("resolver", "no name of a ready-made resolver after %s", BuiltinPrefix)
	}
	if all := durabilities(); !slices.Contains(all, string(k.Durability)) {
		fail("durability", "%s is none of %s", quote(string(k.Durability)), list(all))
	}
	switch {
	case k.MaxValueBytes < 1 || k.MaxValueBytes > HardMaxValueBytes:
		fail("max_value_bytes", "%d is out of the range 1 to %d (16MiB)", k.MaxValueBytes, HardMaxValueBytes)
	case k.Conflict == PolicyResolver && int64(k.MaxValueBytes) > l.ResolverMemoryBytes:
		fail("max_value_bytes", "a value of %d bytes does not fit into the memory of a resolver, %d bytes (limits.resolver_memory_bytes)",
			k.MaxValueBytes, l.ResolverMemoryBytes)
	}
	return wrong
}

// checkReplication returns everything that is wrong with N, R and W in a cluster of that many nodes.
func checkReplication(r Replication, nodes int) []*FieldError {
	var wrong []*FieldError
	switch {
	case r.N < 1:
		return append(wrong, &FieldError{"n", fmt.Sprintf("%d replicas are too few, at least 1 is needed", r.N)})
	case r.N > nodes:
		wrong = append(wrong, &FieldError{"n", fmt.Sprintf("%d replicas need as many nodes, and there are %d", r.N, nodes)})
	}
	if r.R < 1 || r.R > r.N {
		wrong = append(wrong, &FieldError{"r", fmt.Sprintf("%d is out of the range 1 to n = %d", r.R, r.N)})
	}
	if r.W < 1 || r.W > r.N {
		wrong = append(wrong, &FieldError{"w", fmt.Sprintf("%d is out of the range 1 to n = %d", r.W, r.N)})
	}
	return wrong
}

func policies() []string {
	return []string{string(PolicySiblings), string(PolicyLWW), string(PolicyResolver)}
}

func durabilities() []string { return []string{string(DurabilitySync), string(DurabilityBuffered)} }

func roles() []string { return []string{string(RoleAdmin), string(RoleWrite), string(RoleRead)} }

const (
	keyspaceNameRule = "1 to 63 of a-z, 0-9, _ and -, and a letter first"
	nameRule         = "1 to 63 of A-Z, a-z, 0-9, '.', '_' and '-'"
)

// IsKeyspaceName reports whether s matches [a-z][a-z0-9_-]{0,62}.
func IsKeyspaceName(s string) bool {
	return isWord(s, 63, func(c byte) bool {
		return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_' || c == '-'
	}) && 'a' <= s[0] && s[0] <= 'z'
}

// IsName reports whether s may name a cluster, a node or a zone: [A-Za-z0-9._-]{1,63}.
func IsName(s string) bool {
	return isWord(s, 63, func(c byte) bool { return isAlphanumeric(c) || c == '.' || c == '_' || c == '-' })
}

func isWord(s string, longest int, isAllowed func(byte) bool) bool {
	if s == "" || len(s) > longest {
		return false
	}
	for i := range len(s) {
		if !isAllowed(s[i]) {
			return false
		}
	}
	return true
}
