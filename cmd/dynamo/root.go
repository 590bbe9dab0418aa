package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"dynamo/client"
)

// defaultEndpoint is the first node of the built-in cluster.
const defaultEndpoint = "http://127.0.0.1:7101"

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "dynamo",
		Short: "An always-writable key-value store that merges conflicts with your WebAssembly",
		Long: `dynamo is an always-writable key-value store after Amazon's Dynamo (SOSP 2007).
Any node takes any request; conflicts are merged on the server by a WebAssembly
module that you upload per keyspace.

  dynamo up                             three nodes on this machine
  curl -X PUT localhost:7101/v1/kv/default/hello -d world
  curl localhost:7103/v1/kv/default/hello`,
		SilenceUsage: true, SilenceErrors: true,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		newServe(), newUp(), newConfig(), newKV(), newKeyspace(), newResolver(), newCluster(), newExplain(), newVersion(),
	)
	return root
}

// usageArgs makes wrong arguments a usage error.
func usageArgs(f cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := f(c, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// group is a command that only holds others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q for %q", args[0], c.CommandPath())}
			}
			return c.Help()
		},
	}
	c.AddCommand(subs...)
	return c
}

// remote are the flags of every command that talks to a cluster.
type remote struct {
	endpoints []string
	token     string
	output    string
}

func (r *remote) register(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&r.endpoints, "endpoint", nil, "URL of a node, repeatable (default $DYNAMO_ENDPOINT, else "+defaultEndpoint+")")
	f.StringVar(&r.token, "token", "", "bearer token (default $DYNAMO_TOKEN)")
	f.StringVarP(&r.output, "output", "o", "raw", "raw or json")
}

func (r *remote) client() (*client.Client, error) {
	if r.output != "raw" && r.output != "json" {
		return nil, usageError{fmt.Errorf("-o %s is neither raw nor json", r.output)}
	}
	endpoints, token := r.endpoints, r.token
	if len(endpoints) == 0 {
		if env := os.Getenv("DYNAMO_ENDPOINT"); env != "" {
			endpoints = strings.Split(env, ",")
		} else {
			endpoints = []string{defaultEndpoint}
		}
	}
	if token == "" {
		token = os.Getenv("DYNAMO_TOKEN")
	}
	return client.New(client.Options{Endpoints: endpoints, Token: token})
}

// printJSON writes v as one indented document.
func printJSON(c *cobra.Command, v any) error {
	e := json.NewEncoder(c.OutOrStdout())
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// call sends a request, prints its JSON answer with -o json, and otherwise decodes it into v and lets
// show print it.
func (r *remote) call(c *cobra.Command, req client.Request, v any, show func()) error {
	cl, err := r.client()
	if err != nil {
		return err
	}
	resp, err := cl.Do(c.Context(), req)
	if err != nil {
		return err
	}
	if r.output == "json" {
		if len(resp.Body) == 0 {
			return nil
		}
		_, err := c.OutOrStdout().Write(resp.Body)
		return err
	}
	if v != nil {
		if err := json.Unmarshal(resp.Body, v); err != nil {
			return fmt.Errorf("answer of the node: %w", err)
		}
	}
	if show != nil {
		show()
	}
	return nil
}

var errNotFound = errors.New("not found")
