//go:build unix && !linux

package main

import "syscall"

// childAttributes give a node a process group of its own, so that Ctrl-C reaches it through the
// launcher and once.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
