//go:build !unix

package main

import "syscall"

// childAttributes have nothing to add where there are neither process groups nor signals.
func childAttributes() *syscall.SysProcAttr { return nil }
