package config

import (
	"fmt"
	"math"
	"time"
)

// HardMaxValueBytes is the size that no value of any keyspace may exceed, in bytes. Frames and buffers are sized by it.
const HardMaxValueBytes = 16 << 20

// wasmPageBytes is the unit of a WebAssembly memory.
const wasmPageBytes = 64 << 10

// Limits bound what clients, keys, resolvers and absent nodes may cost one node. DefaultLimits is the one place of
// their defaults, Check the one place of their rules. In the file each stands under limits: in snake_case
// (MaxKeyBytes is max_key_bytes); sizes are integers (bytes) or strings such as 64KiB, durations are strings such as
// 30s or 24h.
type Limits struct {
	// MaxKeyBytes is the length of the longest key, in bytes. Too small: clients with longer keys get bad_key.
	MaxKeyBytes int
	// MaxValueBytes is the size of the largest value in keyspaces that do not say otherwise, in bytes, at most
	// HardMaxValueBytes. Too small: clients with larger values get too_large.
	MaxValueBytes int
	// MaxSiblings is the number of siblings of a key beyond which they are collapsed where a lawful resolver allows it.
	// Too small: a collapse is the one merge after which superseded parts can come back, and it happens more often.
	MaxSiblings int
	// SiblingRefusal is the number of siblings of a key at which writes that do not cover them are refused. Too small:
	// short bursts of concurrent writers without a resolver get too_many_siblings.
	SiblingRefusal int
	// ContextLifetime is how long a context token is accepted after its issue. Too small: clients that hold a context
	// for longer get bad_context and must read again.
	ContextLifetime time.Duration
	// SettleAfter is how long a key must be quiet before its tombstones are reaped and its siblings collapsed in the
	// background; at least ContextLifetime plus MaxTimeout. Too small: a token from before the clean-up could bring back
	// what was deleted. Too large: deleted keys take room for longer.
	SettleAfter time.Duration
	// BatchLines is the number of operations in one batch request. Too small: more round trips.
	BatchLines int
	// MaxHeaderBytes is the size of a request's line and headers together, in bytes; context tokens travel in a header.
	// Too small: writes to keys with long keys or large contexts are refused.
	MaxHeaderBytes int
	// ClientTimeout is how long a client may take to send a request or to read an answer. Too small: slow networks
	// cannot move large values. Too large: idle attackers hold connections.
	ClientTimeout time.Duration
	// MaxConnections is the number of client connections of one node; further ones get 503. Too small: healthy clients
	// are turned away. Too large: the process runs out of file descriptors, which stops its disk as well.
	MaxConnections int
	// MinFreeBytes and MinFreePercent are the free space of the disk, in bytes and in percent of its size, below the
	// smaller of which writes are refused. Too small: the log of the store hits the full disk first and the process
	// stops.
	MinFreeBytes   int64
	MinFreePercent int
	// RequestTimeout is the deadline of a request that names none; at most MaxTimeout. Too small: reads and writes fail
	// with quorum_unmet in every pause of a disk or collector.
	RequestTimeout time.Duration
	// MaxTimeout is the longest deadline that a client may ask for. Too small: patient clients are cut off.
	MaxTimeout time.Duration
	// ResolverFuel is the number of instructions of one merge. It is counted alike on all nodes, so that all of them
	// give up at the same point. Too small: merges of large values fail and readers get siblings.
	ResolverFuel int64
	// ResolverMemoryBytes is the linear memory of one merge, in bytes, a multiple of 64 KiB; it must hold the siblings,
	// the result and the module's own data. Too small: as with ResolverFuel, or modules cannot start at all.
	ResolverMemoryBytes int64
	// ResolverModuleBytes is the size of the largest module, in bytes. Too small: modules with a language runtime
	// (Go, Python) cannot be uploaded.
	ResolverModuleBytes int
	// ResolverCallDepth is the number of nested calls in a module. Too small: recursive merges of deep documents fail.
	ResolverCallDepth int
	// ResolverTimeout is the wall-clock guard of one merge. Fuel ends a merge long before; the guard is for what fuel
	// does not see. Too small: a busy machine fails merges that succeed elsewhere, so that answers differ by node.
	ResolverTimeout time.Duration
	// ViewCacheBytes is the memory for merged views of conflicted keys, in bytes; 0 = none. Too small: a conflicted key
	// is merged again for every read.
	ViewCacheBytes int64
	// MaxInflightRequests is the number of requests that one node works on at a time; further ones wait. Too small:
	// one slow replica turns healthy requests away. Too large: under overload all of them are slow.
	MaxInflightRequests int
	// MaxQueuedRequests is the number of requests that wait, half a second at most, for one of those to end; further
	// ones get 503. Too small: short bursts are turned away. Too large: under overload clients wait for their 503.
	MaxQueuedRequests int
	// MaxInflightBytes is the memory for the bodies of all requests that are read, waiting or at work on one node, in
	// bytes; a request whose body does not fit in gets 503. It holds one value of max_value_bytes at least, but larger
	// bodies (batches, modules) need room as well. Too small: uploads at the same time turn each other away. Too large:
	// the node runs out of memory under overload.
	MaxInflightBytes int64
	// HintMaxBytes is the disk space for hints that one node keeps for others, in bytes. Too small: during a long
	// failure the node stops to stand in for the absent ones, and writes to their keys lose that much availability.
	HintMaxBytes int64
	// HintMaxAge is how long a node tries to deliver a hint before anti-entropy is left to repair its primary. Too
	// small: nodes return from short absences with more to repair.
	HintMaxAge time.Duration
}

// DefaultLimits returns the limits of a cluster whose file has none.
func DefaultLimits() Limits {
	return Limits{
		MaxKeyBytes:         1024,
		MaxValueBytes:       1 << 20,
		MaxSiblings:         16,
		SiblingRefusal:      128,
		ContextLifetime:     24 * time.Hour,
		SettleAfter:         25 * time.Hour,
		BatchLines:          1000,
		MaxHeaderBytes:      16 << 10,
		ClientTimeout:       30 * time.Second,
		MaxConnections:      4096,
		MinFreeBytes:        1 << 30,
		MinFreePercent:      5,
		RequestTimeout:      2 * time.Second,
		MaxTimeout:          30 * time.Second,
		ResolverFuel:        50_000_000,
		ResolverMemoryBytes: 64 << 20,
		ResolverModuleBytes: 16 << 20,
		ResolverCallDepth:   1000,
		ResolverTimeout:     1500 * time.Millisecond,
		ViewCacheBytes:      64 << 20,
		MaxInflightRequests: 512,
		MaxQueuedRequests:   1024,
		MaxInflightBytes:    256 << 20,
		HintMaxBytes:        4 << 30,
		HintMaxAge:          72 * time.Hour,
	}
}

// unit says how a limit is written.
type unit int

const (
	count unit = iota
	size
	duration
)

// limit is one row of the table of limits.
type limit struct {
	key    string
	unit   unit
	lo, hi int64 // both allowed; durations in nanoseconds
	value  int64
	set    func(int64)
}

// table lists the limits of l by their keys, for reading, writing and checking.
func (l *Limits) table() []limit {
	const tick, day, year = int64(time.Millisecond), 24 * int64(time.Hour), 365 * 24 * int64(time.Hour)
	number := func(key string, u unit, p *int, lo, hi int64) limit {
		return limit{key, u, lo, hi, int64(*p), func(v int64) { *p = int(v) }}
	}
	large := func(key string, u unit, p *int64, lo, hi int64) limit {
		return limit{key, u, lo, hi, *p, func(v int64) { *p = v }}
	}
	lasting := func(key string, p *time.Duration, hi int64) limit {
		return limit{key, duration, tick, hi, int64(*p), func(v int64) { *p = time.Duration(v) }}
	}
	return []limit{
		number("max_key_bytes", size, &l.MaxKeyBytes, 1, 8<<10),
		number("max_value_bytes", size, &l.MaxValueBytes, 1, HardMaxValueBytes),
		number("max_siblings", count, &l.MaxSiblings, 2, 1000),
		number("sibling_refusal", count, &l.SiblingRefusal, 2, 10_000),
		lasting("context_lifetime", &l.ContextLifetime, year),
		lasting("settle_after", &l.SettleAfter, 2*year),
		number("batch_lines", count, &l.BatchLines, 1, 100_000),
		number("max_header_bytes", size, &l.MaxHeaderBytes, 4<<10, 1<<20),
		lasting("client_timeout", &l.ClientTimeout, day),
		number("max_connections", count, &l.MaxConnections, 1, 1_000_000),
		large("min_free_bytes", size, &l.MinFreeBytes, 0, 1<<50),
		number("min_free_percent", count, &l.MinFreePercent, 0, 50),
		lasting("request_timeout", &l.RequestTimeout, day),
		lasting("max_timeout", &l.MaxTimeout, day),
		large("resolver_fuel", count, &l.ResolverFuel, 1, 1_000_000_000_000),
		large("resolver_memory_bytes", size, &l.ResolverMemoryBytes, wasmPageBytes, 4<<30),
		number("resolver_module_bytes", size, &l.ResolverModuleBytes, 8, 64<<20),
		number("resolver_call_depth", count, &l.ResolverCallDepth, 1, 4_000),
		lasting("resolver_timeout", &l.ResolverTimeout, day),
		large("view_cache_bytes", size, &l.ViewCacheBytes, 0, 1<<40),
		number("max_inflight_requests", count, &l.MaxInflightRequests, 1, 1_000_000),
		number("max_queued_requests", count, &l.MaxQueuedRequests, 0, 1_000_000),
		large("max_inflight_bytes", size, &l.MaxInflightBytes, 1, 1<<40),
		large("hint_max_bytes", size, &l.HintMaxBytes, 1, 1<<50),
		lasting("hint_max_age", &l.HintMaxAge, year),
	}
}

// Check returns the *FieldError of the first limit that is out of its range or at odds with another one.
func (l Limits) Check() error {
	for _, row := range l.table() {
		if err := row.check(row.value); err != nil {
			return err
		}
	}
	if wrong := l.relations(); len(wrong) > 0 {
		return &wrong[0].FieldError
	}
	return nil
}

func (row limit) check(v int64) *FieldError {
	if v < row.lo || v > row.hi {
		return &FieldError{row.key, fmt.Sprintf("%s is out of the range %s to %s", row.format(v), row.format(row.lo), row.format(row.hi))}
	}
	return nil
}

func (row limit) format(v int64) string {
	switch row.unit {
	case duration:
		return time.Duration(v).String()
	case size:
		return formatSize(v)
	default:
		return fmt.Sprint(v)
	}
}

// formatSize writes a size the way parseSize reads it.
func formatSize(v int64) string {
	names := sizeUnits()
	for i := len(names) - 1; i > 0 && v > 0; i-- {
		if bytes := int64(1) << (10 * i); v%bytes == 0 {
			return fmt.Sprint(v/bytes, names[i])
		}
	}
	return fmt.Sprint(v)
}

// sizeUnits are the units of sizes, each 1024 times the one before it.
func sizeUnits() []string { return []string{"B", "KiB", "MiB", "GiB", "TiB"} }

// parseSize reads a number of bytes: digits and perhaps a unit.
func parseSize(s string) (int64, bool) {
	end := 0
	for end < len(s) && ('0' <= s[end] && s[end] <= '9' || s[end] == '_') {
		end++
	}
	v, ok := parseInt(s[:end])
	if !ok || end == len(s) {
		return v, ok
	}
	for i, name := range sizeUnits() {
		if s[end:] == name {
			bytes := int64(1) << (10 * i)
			return v * bytes, v <= math.MaxInt64/bytes
		}
	}
	return 0, false
}

// relation is a rule between limits that is broken; others are the keys that could be changed instead.
type relation struct {
	FieldError
	others []string
}

// relations returns the rules between limits that l breaks.
func (l Limits) relations() []relation {
	var wrong []relation
	fail := func(key string, others []string, format string, args ...any) {
		wrong = append(wrong, relation{FieldError{key, fmt.Sprintf(format, args...)}, others})
	}
	if l.SiblingRefusal < l.MaxSiblings {
		fail("sibling_refusal", []string{"max_siblings"}, "%d is below max_siblings = %d: writes would be refused before siblings are collapsed", l.SiblingRefusal, l.MaxSiblings)
	}
	if least := l.ContextLifetime + l.MaxTimeout; l.SettleAfter < least {
		fail("settle_after", []string{"context_lifetime", "max_timeout"}, "%s is shorter than context_lifetime + max_timeout = %s: deleted values could come back", l.SettleAfter, least)
	}
	if l.RequestTimeout > l.MaxTimeout {
		fail("request_timeout", []string{"max_timeout"}, "%s is longer than max_timeout = %s", l.RequestTimeout, l.MaxTimeout)
	}
	// A key travels percent-encoded in the request line, three bytes for one at worst.
	if least := 3*l.MaxKeyBytes + 1024; l.MaxHeaderBytes < least {
		fail("max_header_bytes", []string{"max_key_bytes"}, "%d is too small for keys of max_key_bytes = %d, which need %d", l.MaxHeaderBytes, l.MaxKeyBytes, least)
	}
	if l.MaxInflightBytes < int64(l.MaxValueBytes) {
		fail("max_inflight_bytes", []string{"max_value_bytes"}, "%d is below max_value_bytes = %d: no node could take such a value", l.MaxInflightBytes, l.MaxValueBytes)
	}
	if l.ResolverMemoryBytes%wasmPageBytes != 0 {
		fail("resolver_memory_bytes", nil, "%d is not a multiple of 64KiB", l.ResolverMemoryBytes)
	}
	return wrong
}
