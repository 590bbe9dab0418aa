package coordinator

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"dynamo/node/cluster"
	"dynamo/node/config"
)

// Catalog is the cluster's shared metadata.
type Catalog interface {
	View() *cluster.View
	PutKeyspace(ctx context.Context, k cluster.Keyspace) (*cluster.View, error)
	DropKeyspace(ctx context.Context, name string) error
}

// Keyspaces administers keyspaces (GET, PUT, DELETE /v1/keyspaces).
type Keyspaces struct {
	catalog Catalog
	file    *config.Cluster
}

// NewKeyspaces takes defaults and limits from the cluster file.
func NewKeyspaces(c Catalog, file *config.Cluster) *Keyspaces { return &Keyspaces{c, file} }

// Keyspaces lists all keyspaces by name.
func (k *Keyspaces) Keyspaces() []KeyspaceInfo {
	v := k.catalog.View()
	out := []KeyspaceInfo{}
	for _, ks := range v.Keyspaces() {
		out = append(out, keyspaceInfo(v, ks))
	}
	slices.SortFunc(out, func(a, b KeyspaceInfo) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Keyspace shows one.
func (k *Keyspaces) Keyspace(name string) (KeyspaceInfo, error) {
	v := k.catalog.View()
	ks, ok := v.Keyspace(name)
	if !ok {
		return KeyspaceInfo{}, UnknownKeyspace(name)
	}
	return keyspaceInfo(v, ks), nil
}

func keyspaceInfo(v *cluster.View, ks cluster.Keyspace) KeyspaceInfo {
	info := KeyspaceInfo{
		Name: ks.Name, N: ks.N, R: ks.R, W: ks.W, Conflict: string(ks.Conflict), Durability: string(ks.Durability),
		MaxValueBytes: ks.MaxValueBytes, Ancestors: ks.Ancestors, Generation: ks.Generation,
	}
	if b, ok := v.Active(ks.Name); ok && ks.Conflict == config.PolicyResolver {
		info.Resolver = hex.EncodeToString(b.SHA256[:])
	}
	return info
}

// PutKeyspace creates a keyspace, or changes the fields that c names.
func (k *Keyspaces) PutKeyspace(ctx context.Context, name string, c KeyspaceChange) (info KeyspaceInfo, created bool, err error) {
	v := k.catalog.View()
	ks, exists := v.Keyspace(name)
	if !exists {
		ks = k.defaults(v, name)
	}
	if exists && c.N != nil && *c.N != ks.N {
		return KeyspaceInfo{}, false, &Error{Code: CodeConflict, Detail: fmt.Sprintf("N of keyspace %s is %d and cannot change", name, ks.N)}
	}
	if !exists && c.N != nil {
		// R and W follow an N that is given alone.
		r := k.file.Replication.WithN(*c.N)
		ks.N, ks.R, ks.W = r.N, r.R, r.W
	}
	setIf(&ks.R, c.R)
	setIf(&ks.W, c.W)
	setIf(&ks.MaxValueBytes, c.MaxValueBytes)
	setIf(&ks.Ancestors, c.Ancestors)
	if c.Conflict != nil {
		ks.Conflict = config.Policy(*c.Conflict)
	}
	if c.Durability != nil {
		ks.Durability = config.Durability(*c.Durability)
	}
	if err := k.check(v, ks); err != nil {
		return KeyspaceInfo{}, false, err
	}
	v, err = k.catalog.PutKeyspace(ctx, ks)
	if err != nil {
		return KeyspaceInfo{}, false, MetadataError(err)
	}
	ks, ok := v.Keyspace(name)
	if !ok {
		return KeyspaceInfo{}, false, &Error{Code: CodeConflict, Detail: "the keyspace was dropped meanwhile", Retryable: true}
	}
	return keyspaceInfo(v, ks), !exists, nil
}

func setIf[T any](dst, src *T) {
	if src != nil {
		*dst = *src
	}
}

func (k *Keyspaces) defaults(v *cluster.View, name string) cluster.Keyspace {
	d := k.file.NewKeyspace(name)
	return cluster.Keyspace{
		Name: name, N: min(d.N, len(v.Members)), R: d.R, W: d.W, Conflict: d.Conflict, Durability: d.Durability,
		MaxValueBytes: d.MaxValueBytes, Ancestors: d.Ancestors,
	}
}

func (k *Keyspaces) check(v *cluster.View, ks cluster.Keyspace) error {
	c := config.Keyspace{
		Name: ks.Name, N: ks.N, R: ks.R, W: ks.W, Conflict: ks.Conflict, Durability: ks.Durability,
		MaxValueBytes: ks.MaxValueBytes, Ancestors: ks.Ancestors,
	}
	if ks.Conflict == config.PolicyResolver {
		// The API binds a resolver by a call of its own; until then siblings stay.
		c.Resolver = config.BuiltinPrefix + "any"
	}
	if err := config.ValidateKeyspace(c, len(v.Members), k.file.Limits); err != nil {
		return &Error{Code: CodeBadRequest, Detail: err.Error()}
	}
	return nil
}

// DropKeyspace drops a keyspace and all of its data on every node, on those that are away when they
// return.
func (k *Keyspaces) DropKeyspace(ctx context.Context, name string) error {
	if _, ok := k.catalog.View().Keyspace(name); !ok {
		return UnknownKeyspace(name)
	}
	return MetadataError(k.catalog.DropKeyspace(ctx, name))
}

// MetadataError maps what a change of the metadata answered to what the client is told; nil stays nil.
func MetadataError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cluster.ErrImmutable):
		return &Error{Code: CodeConflict, Detail: err.Error(), Err: err}
	case errors.Is(err, cluster.ErrUnknown):
		return &Error{Code: CodeKeyspaceUnknown, Detail: err.Error(), Err: err}
	}
	return &Error{Code: CodeInternal, Detail: "the cluster metadata could not be changed", Err: err}
}
