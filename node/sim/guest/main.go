// The guest is the simulator as a WebAssembly module: one run of a plan per start. It reads a Request as JSON from
// its standard input and prints a Report as the last line of its output; lines of the trace come before it. The host
// gives it a virtual clock and a seeded source of randomness, from which the Go runtime draws as well: equal seeds
// give equal schedules of all goroutines.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"dynamo/node/sim/storm"
	"dynamo/plugins"
)

func main() {
	if err := run(); errors.Is(err, storm.ErrRequest) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(storm.ExitRequest)
	} else if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	b, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var q storm.Request
	if err := json.Unmarshal(b, &q); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	// Whether anybody reads the trace must not change the run, so it is always there.
	r, err := storm.Run(context.Background(), storm.Options{
		Request: q, Logger: slog.New(slog.NewTextHandler(os.Stdout, nil)), Line: func(s string) { fmt.Println(s) },
		Now: time.Now, Builtins: plugins.Module, Engine: engine(),
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}
