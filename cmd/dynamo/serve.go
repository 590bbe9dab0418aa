package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"dynamo/node"
	"dynamo/node/config"
	"dynamo/node/store"
	"dynamo/plugins"
)

// stopTimeout bounds a graceful stop.
const stopTimeout = 10 * time.Second

type logFlags struct{ level, format string }

func (l *logFlags) register(c *cobra.Command, level string) {
	c.Flags().StringVar(&l.level, "log-level", level, "debug, info, warn or error")
	c.Flags().StringVar(&l.format, "log-format", "text", "text or json")
}

func (l *logFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.level)); err != nil {
		return nil, usageError{fmt.Errorf("--log-level %s: debug, info, warn or error", l.level)}
	}
	o := &slog.HandlerOptions{Level: level}
	switch l.format {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, usageError{fmt.Errorf("--log-format %s: text or json", l.format)}
}

func newServe() *cobra.Command {
	var file, id string
	var log logFlags
	var faults, reset bool
	c := &cobra.Command{
		Use:   "serve -f FILE --node ID",
		Short: "Run one node of a cluster file in the foreground",
		Long: `Runs one node until SIGINT or SIGTERM, then stops gracefully within 10 s and exits
with 0. A second signal ends it at once.

  dynamo serve -f configs/local.yaml --node n1`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" || id == "" {
				return usageError{fmt.Errorf("serve needs -f FILE and --node ID")}
			}
			logger, err := log.logger(c.ErrOrStderr())
			if err != nil {
				return err
			}
			cfg, err := config.Load(file, os.LookupEnv)
			if err != nil {
				return err
			}
			return serve(c.Context(), cfg, node.Options{ID: id, Logger: logger, FaultInjection: faults, ResetUnusable: reset})
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "cluster file")
	c.Flags().StringVar(&id, "node", "", "id of the node in the file")
	c.Flags().BoolVar(&faults, "fault-injection", false, "open PUT /v1/debug/cut, for tests")
	registerReset(c, &reset)
	log.register(c, "info")
	return c
}

// resetFlag is the name of the flag that lets a node start without its database.
const resetFlag = "reset-unusable-data"

func registerReset(c *cobra.Command, reset *bool) {
	c.Flags().BoolVar(reset, resetFlag, false, "move a database that cannot be used aside, and start empty under a new identity")
}

// withWayOut names the flag to whom it helps.
func withWayOut(err error) error {
	if !errors.Is(err, store.ErrUnusable) {
		return err
	}
	return fmt.Errorf("%w; or start once with --%s, which does that", err, resetFlag)
}

// serve runs a node until ctx ends or the node must not go on.
func serve(ctx context.Context, cfg *config.Cluster, o node.Options) error {
	id, logger := o.ID, o.Logger
	fatal := make(chan error, 1)
	o.Cluster, o.CompileCommand = cfg, compileCommand()
	o.Builtins, o.BuiltinNames = plugins.Module, plugins.Names()
	o.Fatal = func(err error) {
		select {
		case fatal <- err:
		default:
		}
	}
	n, err := node.Open(ctx, o)
	if err != nil {
		return withWayOut(err)
	}
	var failure error
	select {
	case <-ctx.Done():
		logger.Info("stopping", "node", id)
	case failure = <-fatal:
		logger.Error("the node must stop", "node", id, "err", failure)
	}
	closing, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- n.Close(closing) }()
	select {
	case err = <-done:
	case <-closing.Done():
		err = fmt.Errorf("node %s did not stop within %v", id, stopTimeout)
	}
	if failure != nil {
		return withWayOut(failure)
	}
	return err
}
