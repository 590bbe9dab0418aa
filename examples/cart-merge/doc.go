// Package cartmerge holds a complete example of a resolver: guest is its
// source, cart.wasm the module made of it, ready to be uploaded.
package cartmerge
