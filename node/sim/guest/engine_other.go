//go:build !wasip1

package main

import "dynamo/resolver"

// engine is that of this process.
func engine() resolver.Engine { return nil }
