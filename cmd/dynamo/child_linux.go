package main

import "syscall"

// childAttributes make a node end with its launcher, even if that is killed. Children get a process
// group of their own, so that Ctrl-C reaches them through the launcher and once.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
