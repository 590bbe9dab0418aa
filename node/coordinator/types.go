package coordinator

import (
	"encoding/json"
	"fmt"
	"time"

	"dynamo/node/causal"
)

// Code is a stable error code of the HTTP API.
type Code string

// The codes that a coordinator answers with.
const (
	CodeBadRequest         Code = "bad_request"
	CodeBadContext         Code = "bad_context"
	CodeBadKey             Code = "bad_key"
	CodeUnauthorized       Code = "unauthorized"
	CodeForbidden          Code = "forbidden"
	CodeNotFound           Code = "not_found"
	CodeKeyspaceUnknown    Code = "keyspace_unknown"
	CodeMethodNotAllowed   Code = "method_not_allowed"
	CodeConflict           Code = "conflict"
	CodeTooManySiblings    Code = "too_many_siblings"
	CodePreconditionFailed Code = "precondition_failed"
	CodeTooLarge           Code = "too_large"
	CodeUnsupportedMedia   Code = "unsupported_media_type"
	CodeResolverInvalid    Code = "resolver_invalid"
	CodeResolverUnlawful   Code = "resolver_unlawful"
	CodeOverloaded         Code = "overloaded"
	CodeQuorumUnmet        Code = "quorum_unmet"
	CodeNotReady           Code = "not_ready"
	CodeDiskFull           Code = "disk_full"
	CodeInternal           Code = "internal"
)

// Error is a refused or failed request, fit to be shown to the client.
type Error struct {
	Code   Code
	Detail string
	// Retryable says that the same request may succeed later.
	Retryable bool
	// MaybeStored says that the write may have reached some replicas all the same.
	MaybeStored bool
	// Err is the cause, for the log.
	Err error
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Code, e.Detail) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Quorum is a client's R or W: a number of replicas, or one of the words below. The zero value takes
// the keyspace's default.
type Quorum int

// Quorums by word; numbers of replicas are positive.
const (
	QuorumDefault  Quorum = 0
	QuorumMajority Quorum = -1
	QuorumAll      Quorum = -2
)

// Options apply to every request.
type Options struct {
	// R and W override the keyspace's for this request.
	R, W Quorum
	// PrimariesOnly is sloppy=false: fallbacks do not count.
	PrimariesOnly bool
	// RequestID goes into the log lines of every node that takes part.
	RequestID string
}

// ReadRequest asks for one key. The context given to Get carries the deadline.
type ReadRequest struct {
	Keyspace string
	Key      []byte
	Options
	// Raw shows the siblings even where a resolver is active (resolve=false).
	Raw bool
}

// WriteRequest puts or deletes one key.
type WriteRequest struct {
	Keyspace string
	Key      []byte
	Options
	// Token is X-Dynamo-Context as the client sent it; empty = a blind write.
	Token string
	// Value.Deleted makes it a delete. TimeMs is set by the coordinator.
	Value causal.Value
	// IfMatch (an ETag, quotes included) and IfNoneMatch ("*") guard the write after a quorum read.
	IfMatch     string
	IfNoneMatch bool
	// ReturnValue fills the answer with what a read would give (return=value). Without it only Token
	// and ETag are set.
	ReturnValue bool
}

// Answer is what stands for a key after a read or a write.
type Answer struct {
	// Token is the causal context, sealed for the client. Empty only for a key that was never written.
	Token string
	ETag  string
	// Value is the one value to show, nil if there is none (deleted, absent) or if Siblings are to be
	// shown instead.
	Value *causal.Value
	// Siblings are the versions to show to the client as a conflict (300): at least two.
	Siblings []causal.Value
	// Count is how many siblings stand behind the answer, tombstones included only where they show.
	Count int
	// Merged names the resolver that made Value out of Count siblings in this answer.
	Merged string
	// ResolverError is the reason code if a resolver should have merged Siblings and did not.
	ResolverError string
}

// Found reports whether there is something to show.
func (a Answer) Found() bool { return a.Value != nil || len(a.Siblings) > 0 }

// KeyspaceInfo is a keyspace as the API shows it.
type KeyspaceInfo struct {
	Name          string `json:"name"`
	N             int    `json:"n"`
	R             int    `json:"r"`
	W             int    `json:"w"`
	Conflict      string `json:"conflict"`
	Durability    string `json:"durability"`
	MaxValueBytes int    `json:"max_value_bytes"`
	Ancestors     bool   `json:"ancestors"`
	Generation    uint64 `json:"generation"`
	Resolver      string `json:"resolver_sha256,omitempty"`
}

// KeyspaceChange creates or updates a keyspace; nil fields keep what is there, or take the default.
type KeyspaceChange struct {
	N             *int    `json:"n"`
	R             *int    `json:"r"`
	W             *int    `json:"w"`
	Conflict      *string `json:"conflict"`
	Durability    *string `json:"durability"`
	MaxValueBytes *int    `json:"max_value_bytes"`
	Ancestors     *bool   `json:"ancestors"`
}

// Check modes of an upload.
const (
	CheckStrict = "strict"
	CheckWarn   = "warn"
	CheckOff    = "off"
)

// Upload is a version to be: a module, or the name of one that comes with the binary.
type Upload struct {
	Module []byte
	// Config goes to the module's dynamo_configure_v1 and is part of the version's identity; empty: none.
	Config  []byte
	Builtin string
	// Check is CheckStrict, CheckWarn or CheckOff.
	Check string
	// Retry has a module tried again that failed to compile within limits.
	Retry bool
	// Inactive stores a candidate and leaves the active version as it is.
	Inactive bool
	// Alone does not ask the other members: they find out by themselves, and answer siblings until then.
	Alone bool
}

// ResolverUpload answers an upload; Version is 0 if the module was not activated.
type ResolverUpload struct {
	SHA256  string `json:"sha256"`
	Version int    `json:"version"`
	ABI     string `json:"abi"`
	Size    int    `json:"size"`
	// ConfigSize is the size of the configuration that belongs to the version.
	ConfigSize int           `json:"config_size,omitempty"`
	Check      ResolverCheck `json:"check"`
}

// ResolverCheck says how the laws were tested; Outcome is lawful, unlawful, inconclusive or untested.
type ResolverCheck struct {
	Outcome string `json:"outcome"`
	Detail  string `json:"detail,omitempty"`
	// Tested and Failed count equations that were tested, and that the module refused or failed.
	Tested int `json:"tested,omitempty"`
	Failed int `json:"failed,omitempty"`
	// Evidence is how many of the tested ones were kept with their inputs and outputs.
	Evidence int `json:"evidence,omitempty"`
	// Of an unlawful module, the law, the equation and what its two sides came to: nil is a delete.
	Law      string   `json:"law,omitempty"`
	Equation string   `json:"equation,omitempty"`
	Inputs   [][]byte `json:"inputs_base64,omitempty"`
	Outputs  [][]byte `json:"outputs_base64,omitempty"`
	// OutputTypes are the content types of the outputs, if they differ.
	OutputTypes []string `json:"output_types,omitempty"`
	// Loss says how data would be lost.
	Loss string `json:"loss,omitempty"`
}

// ResolverVersion is one uploaded module of a keyspace.
type ResolverVersion struct {
	Version int       `json:"version"`
	Epoch   uint64    `json:"epoch"`
	SHA256  string    `json:"sha256"`
	Size    int       `json:"size"`
	ABI     string    `json:"abi"`
	Builtin string    `json:"builtin,omitempty"`
	Time    time.Time `json:"time"`
	Active  bool      `json:"active"`
	// Calls, Failures and Errors are this module's on this node since it started.
	Calls    uint64            `json:"calls"`
	Failures uint64            `json:"failures"`
	Errors   map[string]uint64 `json:"errors,omitempty"`
}

// ResolverQuarantine says why a node does not call the active version any more.
type ResolverQuarantine struct {
	Since  time.Time `json:"since"`
	Code   string    `json:"code"`
	Reason string    `json:"reason"`
}

// ResolverRelease says which nodes let a version out of quarantine, and which could not be told.
type ResolverRelease struct {
	Released []string `json:"released"`
	Unheard  []string `json:"unheard,omitempty"`
}

// ResolverStatus is the active resolver of a keyspace as seen by this node.
type ResolverStatus struct {
	Active   *ResolverVersion  `json:"active"`
	History  []ResolverVersion `json:"history"`
	Calls    uint64            `json:"calls"`
	Failures uint64            `json:"failures"`
	Errors   map[string]uint64 `json:"errors,omitempty"`
	// Micros are the latencies of merges on this node.
	Micros ResolverLatency `json:"latency_micros"`
	// Fuel is what they used.
	Fuel ResolverFuel `json:"fuel"`
	// Paths counts settlements by the path that asked (read, collapse, try).
	Paths map[string]uint64 `json:"paths,omitempty"`
	// Loaded says whether this node has the active module compiled.
	Loaded bool `json:"loaded"`
	// Quarantine is set while this node does not call the active version.
	Quarantine *ResolverQuarantine `json:"quarantine,omitempty"`
	// Certificate is what the last law check of the active version on this node found, with evidence.
	Certificate json.RawMessage `json:"certificate,omitempty"`
}

// ResolverLatency are microseconds.
type ResolverLatency struct {
	Mean float64 `json:"mean"`
	Max  float64 `json:"max"`
}

// ResolverFuel are units of about one instruction, of one merge.
type ResolverFuel struct {
	Mean float64 `json:"mean"`
	Max  uint64  `json:"max"`
}

// TrySibling is one input of a trial merge.
type TrySibling struct {
	Value       []byte `json:"value_base64"`
	ContentType string `json:"content_type"`
	TimeMs      uint64 `json:"time_ms"`
	Deleted     bool   `json:"deleted"`
}

// TryRequest is a trial merge; it stores nothing.
type TryRequest struct {
	Key      string       `json:"key"`
	Siblings []TrySibling `json:"siblings"`
}

// TryResult is what the merge gave.
type TryResult struct {
	Status      string  `json:"status"`
	Value       []byte  `json:"value_base64,omitempty"`
	ContentType string  `json:"content_type,omitempty"`
	Error       string  `json:"error,omitempty"`
	Detail      string  `json:"detail,omitempty"`
	Fuel        uint64  `json:"fuel"`
	Micros      float64 `json:"micros"`
}

// MemberInfo is one member as the API shows it.
type MemberInfo struct {
	ID         string `json:"id"`
	Zone       string `json:"zone"`
	Weight     int    `json:"weight"`
	HTTP       string `json:"http"`
	Peer       string `json:"peer"`
	Gossip     string `json:"gossip"`
	Status     string `json:"status"`
	Reachable  bool   `json:"reachable"`
	Partitions int    `json:"partitions"`
	Replicas   int    `json:"replicas"`
	// Hints are what the answering node keeps for this member.
	Hints HintInfo `json:"hints"`
}

// HintInfo totals hints.
type HintInfo struct {
	Count         int64   `json:"count"`
	Bytes         int64   `json:"bytes"`
	OldestSeconds float64 `json:"oldest_seconds"`
}

// ClusterInfo is the answer of GET /v1/cluster.
type ClusterInfo struct {
	Name       string       `json:"name"`
	Partitions int          `json:"partitions"`
	Node       string       `json:"node"`
	Version    uint64       `json:"version"`
	Digest     string       `json:"digest"`
	Members    []MemberInfo `json:"members"`
}

// RingInfo lists the primaries of every partition for the default N.
type RingInfo struct {
	Partitions int        `json:"partitions"`
	N          int        `json:"n"`
	Primaries  [][]string `json:"primaries"`
}

// Location says where one key lives.
type Location struct {
	Hash           string   `json:"hash"`
	Partition      uint32   `json:"partition"`
	PreferenceList []string `json:"preference_list"`
	N              int      `json:"n"`
}

// Explanation is the answer of GET /v1/explain: what every primary, and every fallback with a hint,
// really holds.
type Explanation struct {
	Keyspace       string           `json:"keyspace"`
	Key            string           `json:"key"`
	Hash           string           `json:"hash"`
	Partition      uint32           `json:"partition"`
	PreferenceList []string         `json:"preference_list"`
	Replicas       []ExplainReplica `json:"replicas"`
	Result         ExplainResult    `json:"result"`
}

// ExplainReplica is one copy.
type ExplainReplica struct {
	Node      string            `json:"node"`
	Role      string            `json:"role"`
	Reachable bool              `json:"reachable"`
	HintFor   string            `json:"hint_for,omitempty"`
	Error     string            `json:"error,omitempty"`
	Context   map[string]uint64 `json:"context"`
	Versions  []ExplainVersion  `json:"versions"`
}

// ExplainVersion is one sibling of a copy.
type ExplainVersion struct {
	Dots        []string  `json:"dots"`
	Live        []string  `json:"live"`
	Time        time.Time `json:"time"`
	Deleted     bool      `json:"deleted"`
	Size        int       `json:"size"`
	SHA256      string    `json:"sha256"`
	ContentType string    `json:"content_type"`
	Resolver    string    `json:"resolver,omitempty"`
}

// ExplainResult is what a read of all reachable copies would answer.
type ExplainResult struct {
	// Status is the HTTP status of a GET.
	Status   int           `json:"status"`
	Siblings int           `json:"siblings"`
	Merge    *ExplainMerge `json:"merge,omitempty"`
}

// ExplainMerge is how the siblings merge.
type ExplainMerge struct {
	Resolver string  `json:"resolver"`
	Outcome  string  `json:"outcome"`
	Fuel     uint64  `json:"fuel"`
	Micros   float64 `json:"micros"`
}

// ListRequest pages through the keys of a keyspace in byte order.
type ListRequest struct {
	Keyspace string
	Prefix   []byte
	After    []byte
	Limit    int
	Values   bool
	Options
	// conflicts lists what [Coordinator.Conflicts] looks at.
	conflicts bool
}

// ListEntry is one live key.
type ListEntry struct {
	Key []byte
	// Answer is what a GET gives; only with ListRequest.Values.
	Answer *Answer
}

// ListPage is one page; Next is the key to go on after, nil at the end.
type ListPage struct {
	Entries []ListEntry
	Next    []byte
}

// PartitionCopy is what one primary holds of a keyspace in a partition.
type PartitionCopy struct {
	Partition uint32 `json:"partition"`
	Keyspace  string `json:"keyspace"`
	Count     uint64 `json:"count"`
	// Sum is the digest of all keys and objects, in hex; sound is false while it is made anew.
	Sum   string `json:"sum"`
	Sound bool   `json:"sound"`
}
