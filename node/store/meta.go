package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"dynamo/node/record"
)

// PutMeta keeps a value under a name and returns when it is durable.
func (s *Store) PutMeta(name string, value []byte) error {
	return s.putBlob(metaKey(name), value)
}

// Meta returns the value of a name, false if there is none.
func (s *Store) Meta(name string) ([]byte, bool, error) {
	return s.blob(metaKey(name), fmt.Sprintf("metadata %q", name))
}

var errModuleHash = errors.New("content does not have the SHA-256 that names it")

// PutModule keeps a module under its SHA-256 and returns when it is durable. It refuses content that
// has another hash.
func (s *Store) PutModule(sha [32]byte, b []byte) error {
	if sha256.Sum256(b) != sha {
		return fmt.Errorf("store: module %x: %w", sha[:8], errModuleHash)
	}
	return s.putBlob(moduleKey(sha), b)
}

// Module returns a module by its SHA-256, verified, false if it is not here.
func (s *Store) Module(sha [32]byte) ([]byte, bool, error) {
	name := fmt.Sprintf("module %x", sha[:8])
	b, ok, err := s.blob(moduleKey(sha), name)
	if ok && sha256.Sum256(b) != sha {
		return nil, false, s.corrupt(Ref{}, name, errModuleHash)
	}
	return b, ok, err
}

// DeleteModule removes a module, if it is here, and returns when that is durable.
func (s *Store) DeleteModule(sha [32]byte) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.exit()
	b := s.db.NewBatch()
	if err := b.Delete(moduleKey(sha), nil); err != nil {
		return fmt.Errorf("store: removing module %x: %w", sha[:8], err)
	}
	p, err := s.apply(b, Sync, nil)
	if err != nil {
		return err
	}
	return s.await(context.Background(), p)
}

// Modules returns the SHA-256 of every module that is here, in order.
func (s *Store) Modules() ([][32]byte, error) {
	var out [][32]byte
	lower := []byte{record.FamilyModule}
	err := s.each(lower, record.Successor(lower), func(it *pebble.Iterator) (bool, error) {
		if sha := it.Key()[1:]; len(sha) == 32 {
			out = append(out, [32]byte(sha))
		}
		return true, nil
	})
	return out, err
}

func metaKey(name string) []byte { return append([]byte{record.FamilyMeta}, name...) }

func moduleKey(sha [32]byte) []byte { return slices.Concat([]byte{record.FamilyModule}, sha[:]) }

func (s *Store) putBlob(key, value []byte) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.exit()
	b := s.db.NewBatch()
	if err := b.Set(key, record.AppendBlob(nil, key, value), nil); err != nil {
		return fmt.Errorf("store: writing metadata: %w", err)
	}
	p, err := s.apply(b, Sync, nil)
	if err != nil {
		return err
	}
	return s.await(context.Background(), p)
}

func (s *Store) blob(key []byte, name string) ([]byte, bool, error) {
	if err := s.enter(); err != nil {
		return nil, false, err
	}
	defer s.exit()
	raw, err := s.value(key)
	if err != nil {
		return nil, false, s.readError(Ref{}, name, err)
	}
	if raw == nil {
		return nil, false, nil
	}
	v, err := record.DecodeBlob(key, raw)
	if err != nil {
		return nil, false, s.corrupt(Ref{}, name, err)
	}
	return v, true, nil
}
