package peer

import (
	"context"
	"errors"
	"fmt"

	"dynamo/node/wire"
)

// ErrUnreachable is matched (errors.Is) by every error that says that there was no connection to the
// node, or that it broke before the answer: [*UnreachableError] and [*Refused].
var ErrUnreachable = errors.New("peer unreachable")

// ErrClosed is the cause of calls that failed because this transport was closed.
var ErrClosed = errors.New("peer transport closed")

// Codes of the failures which the transport itself answers with. All other codes are the handlers'.
const (
	// CodeOverloaded: too many requests are in flight on the connection. Nothing was done.
	CodeOverloaded = "overloaded"
	// CodeInternal: the handler failed with an error of no declared code, or panicked.
	CodeInternal = "internal"
	// CodeBadRequest: the request could not be decoded.
	CodeBadRequest = "bad_request"
	// CodeTooLarge: the message does not fit into a frame.
	CodeTooLarge = "too_large"
	// CodeTimeout: the handler gave up at the caller's deadline.
	CodeTimeout = "timeout"
)

// Error is a failure that the called node answered with. A Handler returns one to choose what goes
// over the wire; the caller gets an equal one.
type Error struct {
	// Code is stable, for programs; Detail is for people.
	Code, Detail string
	// Retryable says that the same request may succeed later.
	Retryable bool
	// MaybeStored says that a write may have taken effect all the same.
	MaybeStored bool
	// Local says that the transport of the caller refused, and the other node was not asked: this tells
	// nothing about that node.
	Local bool
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Detail }

// UnreachableError says that a call got no answer because there was no connection or it broke. It
// matches ErrUnreachable.
type UnreachableError struct {
	Node string
	// MaybeSent is false if the request certainly never left this node, so that it can be sent
	// elsewhere without being done twice.
	MaybeSent bool
	// Cause is never nil.
	Cause error
}

// Error implements error.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("node %s is unreachable: %v", e.Node, e.Cause)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Cause }

// Is makes it match ErrUnreachable.
func (e *UnreachableError) Is(target error) bool { return target == ErrUnreachable }

// Refused says that the handshake with a node failed on purpose: one of the two will not talk to the
// other. It matches ErrUnreachable; no request was sent.
type Refused struct {
	// Node is the other node, as far as it is known.
	Node string
	// Reason is one clear clause, from this node's point of view.
	Reason string
	// Stale says that the other node, having proved that it knows the secret, holds this node's
	// identity for an old copy of another: this node must take a new one, or stop.
	Stale bool
	// ByPeer says that the other node refused this one, not this one the other.
	ByPeer bool
}

// Error implements error.
func (r *Refused) Error() string {
	if r.ByPeer {
		return fmt.Sprintf("refused by peer %s: %s", r.Node, r.Reason)
	}
	return fmt.Sprintf("refused peer %s: %s", r.Node, r.Reason)
}

// Is makes it match ErrUnreachable.
func (r *Refused) Is(target error) bool { return target == ErrUnreachable }

// failureOf is what crosses the wire for a handler's error.
func failureOf(err error) *wire.Failure {
	var e *Error
	switch {
	case errors.As(err, &e):
		return &wire.Failure{Code: e.Code, Detail: e.Detail, Retryable: e.Retryable, MaybeStored: e.MaybeStored}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &wire.Failure{Code: CodeTimeout, Detail: err.Error(), Retryable: true, MaybeStored: true}
	}
	return &wire.Failure{Code: CodeInternal, Detail: err.Error(), MaybeStored: true}
}

// answer turns the reply of a node into the result of the call.
func answer(node string, request, reply wire.Message) (wire.Message, error) {
	if f, ok := reply.(*wire.Failure); ok {
		return nil, &Error{Code: f.Code, Detail: f.Detail, Retryable: f.Retryable, MaybeStored: f.MaybeStored}
	}
	if want := request.Kind().Reply(); reply.Kind() != want {
		return nil, &Error{
			Code:        CodeInternal,
			Detail:      fmt.Sprintf("node %s answered %s with %s, not %s", node, request.Kind(), reply.Kind(), want),
			MaybeStored: true,
		}
	}
	return reply, nil
}
