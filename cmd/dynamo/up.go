package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"dynamo/node/config"
)

const (
	upTimeout   = 30 * time.Second
	pollEvery   = 50 * time.Millisecond
	builtinData = "dynamo-data"
)

func newUp() *cobra.Command {
	var file, data string
	var log logFlags
	var faults, reset bool
	c := &cobra.Command{
		Use:   "up [-f FILE]",
		Short: "Launch every node of a cluster file on this machine",
		Long: `Launches one process per node, prints their URLs once all are ready, follows their
logs (warnings and errors, unless --log-level says more), and stops them all on SIGINT
or SIGTERM; a second signal does not wait for them. A node that dies is reported, and
the others go on. Without -f: three nodes on loopback, with their cluster file and data
in ./dynamo-data or the directory of --data.

  dynamo up
  dynamo up --data /tmp/try
  dynamo up -f configs/five.yaml`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := log.logger(io.Discard); err != nil {
				return err
			}
			if file != "" && c.Flags().Changed("data") {
				return usageError{errors.New("--data is for the built-in cluster; a cluster file says itself where the data is")}
			}
			if file == "" {
				var err error
				if file, err = writeBuiltin(data); err != nil {
					return err
				}
			}
			cfg, err := config.Load(file, os.LookupEnv)
			if err != nil {
				return err
			}
			if err := checkFree(cfg); err != nil {
				return err
			}
			u := &up{cfg: cfg, file: file, log: log, faults: faults, reset: reset, out: c.OutOrStdout(), errs: &lineWriter{w: c.ErrOrStderr()}}
			return u.run(c.Context())
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "cluster file")
	c.Flags().StringVar(&data, "data", builtinData, "directory of the built-in cluster")
	c.Flags().BoolVar(&faults, "fault-injection", false, "open PUT /v1/debug/cut on every node, for tests")
	registerReset(c, &reset)
	log.register(c, "warn")
	return c
}

// writeBuiltin writes the built-in cluster file, so that its nodes are started like any others.
func writeBuiltin(dir string) (string, error) {
	c := config.Builtin(dir)
	var b strings.Builder
	fmt.Fprintf(&b, "# The built-in cluster of `dynamo up`, written anew at each start. Copy it to make your own.\ncluster: %s\npartitions: %d\n", c.Name, c.Partitions)
	fmt.Fprintf(&b, "replication: {n: %d, r: %d, w: %d}\nnodes:\n", c.Replication.N, c.Replication.R, c.Replication.W)
	for _, n := range c.Nodes {
		fmt.Fprintf(&b, "  - {id: %s, zone: %s, weight: %d, http: '%s', peer: '%s', gossip: '%s', data: %s}\n",
			n.ID, n.Zone, n.Weight, n.HTTP, n.Peer, n.Gossip, filepath.Base(n.Data))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	file := filepath.Join(dir, "cluster.yaml")
	return file, os.WriteFile(file, []byte(b.String()), 0o644)
}

// checkFree tries every address before anything is started. Another cluster on the same ports would
// otherwise answer in the place of this one, and look ready.
func checkFree(cfg *config.Cluster) error {
	var errs []error
	for _, n := range cfg.Nodes {
		for _, a := range []struct{ key, address string }{{"http", n.HTTP}, {"peer", n.Peer}, {"gossip", n.Gossip}} {
			l, err := net.Listen("tcp", a.address)
			if err != nil {
				errs = append(errs, fmt.Errorf("node %s: %s: %w", n.ID, a.key, err))
				continue
			}
			_ = l.Close() // a probe
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("%d address(es) cannot be used, the first is of %w; is another cluster running?", len(errs), errs[0])
}

// up is one run of all nodes.
type up struct {
	cfg    *config.Cluster
	file   string
	log    logFlags
	faults bool
	reset  bool
	out    io.Writer
	errs   *lineWriter
}

// child is one node's process.
type child struct {
	id   string
	cmd  *exec.Cmd
	done chan struct{} // closed once err and last are set
	err  error
	last string // what it said of its end, if anything
}

// isLastWord tells the line with which a process explains its end from its log.
func isLastWord(line string) bool {
	return strings.HasPrefix(line, "dynamo: ") || strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ")
}

// end says how the process ended, with its last words.
func (c *child) end() string {
	how := "exit status 0"
	if c.err != nil {
		how = c.err.Error()
	}
	if c.last != "" {
		how += ": " + c.last
	}
	return how
}

func (u *up) run(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	var children []*child
	stop := func() {
		stopAll(children)
		wg.Wait()
	}
	for _, n := range u.cfg.Nodes {
		c, err := u.start(self, n.ID, &wg)
		if err != nil {
			stop()
			return err
		}
		children = append(children, c)
	}
	if err := u.waitReady(ctx, children); err != nil {
		stop()
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	u.table()
	err = u.watch(ctx, children)
	stop()
	return err
}

func (u *up) start(self, id string, wg *sync.WaitGroup) (*child, error) {
	args := []string{"serve", "-f", u.file, "--node", id, "--log-level", u.log.level, "--log-format", u.log.format}
	if u.faults {
		args = append(args, "--fault-injection")
	}
	if u.reset {
		args = append(args, "--"+resetFlag)
	}
	cmd := exec.Command(self, args...)
	cmd.SysProcAttr = childAttributes()
	pipe, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start node %s: %w", id, err)
	}
	c := &child{id: id, cmd: cmd, done: make(chan struct{})}
	wg.Go(func() {
		in := bufio.NewReader(pipe)
		for {
			line, err := in.ReadString('\n')
			if line = strings.TrimRight(line, "\n"); line != "" {
				u.errs.line(id, line)
				if isLastWord(line) {
					c.last = strings.TrimPrefix(line, "dynamo: ")
				}
			}
			if err != nil {
				break
			}
		}
		c.err = cmd.Wait()
		close(c.done)
	})
	return c, nil
}

// lineWriter keeps the lines of several children apart.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineWriter) line(id, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.w, "%s | %s\n", id, text)
}

// waitReady returns once every node answers /readyz with 200.
func (u *up) waitReady(ctx context.Context, children []*child) error {
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for i, c := range children {
		for !ready(ctx, u.cfg.Nodes[i].HTTP) {
			if dead := firstDead(children); dead != nil {
				return fmt.Errorf("node %s ended: %s", dead.id, dead.end())
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("node %s was not ready within %v", c.id, upTimeout)
			case <-t.C:
			}
		}
	}
	if dead := firstDead(children); dead != nil {
		return fmt.Errorf("node %s ended: %s", dead.id, dead.end())
	}
	return nil
}

// firstDead is a child that has ended, or nil.
func firstDead(children []*child) *child {
	for _, c := range children {
		select {
		case <-c.done:
			return c
		default:
		}
	}
	return nil
}

func ready(ctx context.Context, address string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (u *up) table() {
	w := tabwriter.NewWriter(u.out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NODE\tZONE\tURL\tDATA")
	for _, n := range u.cfg.Nodes {
		fmt.Fprintf(w, "%s\t%s\thttp://%s\t%s\n", n.ID, n.Zone, n.HTTP, n.Data)
	}
	_ = w.Flush() // the screen
	first, last := u.cfg.Nodes[0].HTTP, u.cfg.Nodes[len(u.cfg.Nodes)-1].HTTP
	fmt.Fprintf(u.out, "\nCluster %q is ready. Try:\n  curl -X PUT %s/v1/kv/default/hello -d world\n  curl %s/v1/kv/default/hello\nCtrl-C stops all nodes.\n",
		u.cfg.Name, first, last)
}

// watch waits for the end: a signal, or the death of all nodes. A single node may die; that is what
// the others are for.
func (u *up) watch(ctx context.Context, children []*child) error {
	died := make(chan *child)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, c := range children {
		wg.Go(func() {
			select {
			case <-c.done:
				select {
				case died <- c:
				case <-ctx.Done():
				}
			case <-ctx.Done():
			}
		})
	}
	for alive := len(children); alive > 0; {
		select {
		case <-ctx.Done():
			return nil
		case c := <-died:
			alive--
			u.errs.line(c.id, fmt.Sprintf("node ended: %s; %d of %d nodes are left", c.end(), alive, len(children)))
		}
	}
	return errors.New("all nodes have ended")
}

// stopAll ends the children gracefully, and kills those that do not end in time.
func stopAll(children []*child) {
	for _, c := range children {
		_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already
	}
	limit := time.NewTimer(stopTimeout + time.Second)
	defer limit.Stop()
	for _, c := range children {
		select {
		case <-c.done:
		case <-limit.C:
			for _, k := range children {
				_ = k.cmd.Process.Kill() // it may be gone already
			}
		}
	}
}
