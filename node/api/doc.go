// Package api is a node's HTTP door: it parses requests, checks who may do what, asks the coordinator
// and writes what it answers. docs/api.md is its reference. Keys are taken from the raw request target,
// for a normalised path would make one key of two; bodies are counted while they arrive, so that one
// byte too many is refused and not stored.
package api
