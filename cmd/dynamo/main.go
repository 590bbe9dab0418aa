// Command dynamo runs nodes of a cluster and talks to them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
)

// Set by the build.
var (
	version = "dev"
	commit  = ""
)

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { obey(signals, cancel, func() { os.Exit(1) }) })
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	signal.Stop(signals)
	close(signals)
	wg.Wait()
	os.Exit(code)
}

// obey asks the command to stop at the first signal, and does not wait for it any longer at the second.
// It returns when signals is closed.
func obey(signals <-chan os.Signal, stop, abort func()) {
	if _, ok := <-signals; !ok {
		return
	}
	stop()
	if _, ok := <-signals; ok {
		abort()
	}
}

// usageError is a mistake in the command line: exit 2.
type usageError struct{ error }

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	c, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintln(errs, "dynamo:", line)
	}
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(errs, "usage: %s\n%q explains it\n", c.UseLine(), helpLine(c))
		return 2
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		fmt.Fprintln(errs, `dynamo: is a cluster running there? "dynamo up" starts one on this machine`)
	}
	return 1
}

// helpLine is the command that explains c.
func helpLine(c *cobra.Command) string {
	return strings.TrimSpace("dynamo help" + strings.TrimPrefix(c.CommandPath(), c.Root().Name()))
}
