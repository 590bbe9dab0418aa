package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"dynamo/client"
	"dynamo/node/config"
)

const (
	// stopTimeout is how long the nodes may take to stop before they are killed.
	stopTimeout = 4 * time.Second
	// logTail is how much of the nodes' log is shown if they do not start.
	logTail = 1500
)

// errEnded means that there is nothing to wait for any more.
var errEnded = errors.New("dynamo up has ended")

// launched is a cluster of our own, with its data in a directory that goes with it.
type launched struct {
	nodes   []node
	cluster *config.Cluster
	dir     string

	cmd    *exec.Cmd
	log    *os.File
	waiter sync.WaitGroup
	// exited is closed when `dynamo up` has ended.
	exited chan struct{}
}

// launch starts the nodes of a cluster file on fresh data and waits until they are ready. The caller must stop what it
// returns, also after an error.
func launch(ctx context.Context, o demoOptions) (*launched, error) {
	l := &launched{exited: make(chan struct{})}
	text, err := os.ReadFile(o.config)
	if err != nil {
		return l, err
	}
	c, err := config.Parse(text, config.Options{File: o.config, Lookup: os.LookupEnv})
	if err != nil {
		return l, err
	}
	if len(c.Nodes) < 3 {
		return l, fmt.Errorf("%s has %d nodes, the demo needs three", o.config, len(c.Nodes))
	}
	if err := checkPorts(c); err != nil {
		return l, err
	}
	if l.dir, err = os.MkdirTemp("", "dynamo-demo-"); err != nil {
		return l, err
	}
	rewritten, c, err := rewriteConfig(string(text), o.config, l.dir, c)
	if err != nil {
		return l, err
	}
	l.cluster = c
	file := filepath.Join(l.dir, filepath.Base(o.config))
	if err := os.WriteFile(file, []byte(rewritten), 0o600); err != nil { // there may be tokens in it
		return l, err
	}
	if err := l.start(o.dynamo, file); err != nil {
		return l, err
	}
	return l, l.awaitReady(ctx)
}

func (l *launched) start(dynamo, file string) error {
	var err error
	if l.log, err = os.Create(filepath.Join(l.dir, "log")); err != nil {
		return err
	}
	// A bare name would be looked for in $PATH.
	if dynamo, err = filepath.Abs(dynamo); err != nil {
		return err
	}
	cmd := exec.Command(dynamo, "up", "-f", file, "--fault-injection")
	cmd.Stdout, cmd.Stderr = l.log, l.log
	// A process group of their own: Ctrl-C reaches us alone and we stop them in order, and if need be we can kill the
	// whole group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the cluster: %w", err)
	}
	l.cmd = cmd
	l.waiter.Go(func() {
		_ = cmd.Wait() // how it ended is in its log
		close(l.exited)
	})
	return nil
}

func (l *launched) awaitReady(ctx context.Context) error {
	token, err := adminToken(l.cluster)
	if err != nil {
		return err
	}
	var names, endpoints []string
	for _, n := range l.cluster.Nodes {
		names, endpoints = append(names, n.ID), append(endpoints, "http://"+n.HTTP)
	}
	if l.nodes, err = connect(names, endpoints, token); err != nil {
		return err
	}
	for _, n := range l.nodes {
		err := poll(ctx, func(ctx context.Context) error {
			select {
			case <-l.exited:
				return errEnded
			default:
			}
			_, err := n.c.Do(ctx, client.Request{Method: "GET", Path: "/readyz"})
			return err
		})
		if err != nil {
			return fmt.Errorf("node %s did not become ready: %w; the end of its log:\n%s", n.name, err, l.tail())
		}
	}
	return nil
}

func (l *launched) tail() string {
	b, err := os.ReadFile(l.log.Name())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-logTail):]))
}

// stop ends all nodes and removes their data. It may be called on whatever launch returned.
func (l *launched) stop() error {
	var errs []error
	if l.cmd != nil {
		errs = append(errs, l.end())
	}
	if l.log != nil {
		errs = append(errs, l.log.Close())
	}
	if l.dir != "" {
		errs = append(errs, os.RemoveAll(l.dir))
	}
	return errors.Join(errs...)
}

func (l *launched) end() error {
	var slow error
	if err := l.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		slow = err
	}
	patience := time.NewTimer(stopTimeout)
	defer patience.Stop()
	select {
	case <-l.exited:
	case <-patience.C:
		slow = fmt.Errorf("the nodes did not stop within %v and were killed", stopTimeout)
	}
	// Whoever is left of the group has lost its parent; usually nobody is.
	if err := syscall.Kill(-l.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		slow = errors.Join(slow, err)
	}
	l.waiter.Wait()
	return slow
}
