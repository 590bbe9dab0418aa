package store

import (
	"fmt"

	"dynamo/node/record"
)

// The words of package record that callers of a store need.
type (
	// Ref names one record.
	Ref = record.Ref
	// Record is what is kept under a Ref.
	Record = record.Record
	// TreeID names a hash tree.
	TreeID = record.TreeID
	// Entry is what the index knows of an own copy.
	Entry = record.Entry
)

// The flags of an entry, see package record.
const (
	EntryDeleted  = record.EntryDeleted
	EntrySiblings = record.EntrySiblings
	EntryCrowded  = record.EntryCrowded
)

// CorruptError is a record that is there and cannot be trusted.
type CorruptError struct {
	// Ref is the record, if it is a copy or a hint; else Name says what it is.
	Ref  Ref
	Name string
	Err  error
}

// Error implements error.
func (e *CorruptError) Error() string {
	if e.Name != "" {
		return fmt.Sprintf("store: corrupt: %s: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("store: corrupt: %s: %v", e.Ref, e.Err)
}

// Unwrap returns ErrCorrupt and the cause.
func (e *CorruptError) Unwrap() []error { return []error{ErrCorrupt, e.Err} }
