// Package guest is for resolvers written in Go: a function that merges the siblings of a key becomes a
// WebAssembly module that the store runs. It needs nothing but the standard library.
//
//	package main
//
//	import "dynamo/resolver/guest"
//
//	var _ = guest.Resolver(merge)
//
//	func merge(siblings []guest.Sibling) (guest.Result, error) {
//		…
//		return guest.Value("application/json", merged), nil
//	}
//
//	func main() {}
//
// Build it with
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags=-s -o my.wasm .
//
// Every merge begins in the state that the module had once its variables were initialised: what a merge
// leaves in them is gone. What packages prepare when they are first used, such as encoding/json for each type, is
// best used once there, or every merge prepares it:
//
//	var _, _ = merge(example)
//
// The function has to be deterministic, so beware of the order of Go's maps.
package guest

// Sibling is one of the concurrent versions of a key.
type Sibling struct {
	// Value belongs to the merge: it may be changed, and be part of the result.
	Value       []byte
	ContentType string
	// TimeMs is when the version was written, in ms since 1970, by the writer's clock.
	TimeMs uint64
	// Deleted marks a concurrent delete; Value is empty then. Only modules that export a function
	// dynamo_wants_deleted see such siblings.
	Deleted bool
}

// Request is one merge.
type Request struct {
	Keyspace string
	Key      []byte
	// Ancestor is the newest version that all siblings descend from, or nil where the store does not know
	// it. A resolver must do without it, too.
	Ancestor *Sibling
	// Siblings are in canonical order, the same on every node, at least two when the store calls.
	Siblings []Sibling
}

// Result is what a merge decided: a call of Value, Deleted, Keep or Select. The zero Result is none, and
// becomes an error.
type Result struct {
	kind        kind
	contentType string
	payload     []byte
	index       int
}

// kind is a Result's, not the number in the frame.
type kind int

const (
	kindValue kind = iota + 1
	kindDeleted
	kindKeep
	kindSelect
)

// Value is a merged value. An empty content type means that of the newest sibling.
func Value(contentType string, value []byte) Result {
	return Result{kind: kindValue, contentType: contentType, payload: value}
}

// Deleted deletes the key.
func Deleted() Result { return Result{kind: kindDeleted} }

// Keep leaves the siblings as they are: readers get all of them.
func Keep() Result { return Result{kind: kindKeep} }

// Select takes siblings[i] as it is. An i that is no index of the request's siblings becomes an error.
func Select(i int) Result { return Result{kind: kindSelect, index: i} }

// Registered is what Resolver and RequestResolver return, so that they can be called where variables are
// declared. It means nothing.
type Registered struct{}

// Resolver makes merge the module's resolver. Call it once, as the value of a package-level variable: in a
// module of this kind main is never called. An error of merge makes the store keep the siblings and tell
// the reader why; so does a panic.
func Resolver(merge func(siblings []Sibling) (Result, error)) Registered {
	return RequestResolver(func(r Request) (Result, error) { return merge(r.Siblings) })
}

// RequestResolver is Resolver for a merge that looks at the key, its keyspace or the ancestor.
func RequestResolver(merge func(Request) (Result, error)) Registered {
	module.merge = merge
	return Registered{}
}

// module is what the exported functions share. The store calls one at a time.
var module state

type state struct {
	merge func(Request) (Result, error)
	// The store writes the request into memory of ours and reads the answer from there: held here, the
	// garbage collector leaves them alone.
	request, answer []byte
}

// alloc makes room for a request.
func (s *state) alloc(size uint32) []byte {
	s.request = make([]byte, max(size, 1))
	return s.request
}

// resolve answers the request that now lies in the first size bytes of that room.
func (s *state) resolve(size uint32) []byte {
	if uint64(size) > uint64(len(s.request)) {
		s.answer = appendError(nil, errFrame)
	} else {
		s.answer = Answer(s.request[:size:size], s.merge)
	}
	return s.answer
}

// Answer decodes the frame of a request, calls merge and returns the frame of the response. It accepts any
// bytes. The store's calls end here; tests of a merge can begin here. It takes merge's values from frame
// without copying.
func Answer(frame []byte, merge func(Request) (Result, error)) []byte {
	r, err := decodeRequest(frame)
	if err != nil {
		return appendError(nil, err)
	}
	if merge == nil {
		return appendError(nil, errNoResolver)
	}
	result, err := merge(r)
	if err != nil {
		return appendError(nil, err)
	}
	return appendResult(nil, r, result)
}
