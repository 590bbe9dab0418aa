package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
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
	root.SetHelpCommand(newHelp())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		newServe(), newUp(), newConfig(), newKV(), newKeyspace(), newResolver(), newCluster(), newExplain(), newBench(), newSim(), newVersion(), newCompile(),
	)
	return root
}

// newHelp replaces the library's help, which takes a command that is not there for a success.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND...]", Short: "Explain a command", Long: "  dynamo help kv put",
		RunE: func(c *cobra.Command, args []string) error {
			about, rest, err := c.Root().Find(args)
			if err != nil {
				return usageError{err}
			}
			if len(rest) > 0 {
				return usageError{fmt.Errorf("unknown command %q for %q", rest[0], about.CommandPath())}
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
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

// output is the flag -o.
type output string

const (
	outputRaw  output = "raw"
	outputJSON output = "json"
)

// String, Set and Type make output a flag.
func (o *output) String() string { return string(*o) }

// Set takes raw or json.
func (o *output) Set(s string) error {
	if v := output(s); v == outputRaw || v == outputJSON {
		*o = v
		return nil
	}
	return fmt.Errorf("%q is neither raw nor json", s)
}

// Type is what the help shows for the value.
func (o *output) Type() string { return "raw|json" }

func (o *output) register(c *cobra.Command) {
	*o = outputRaw
	c.Flags().VarP(o, "output", "o", "form of the output")
}

// remote are the flags of every command that talks to a cluster.
type remote struct {
	endpoints []string
	token     string
	output    output
}

func (r *remote) register(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&r.endpoints, "endpoint", nil, "URL of a node, repeatable (default $DYNAMO_ENDPOINT, else "+defaultEndpoint+")")
	f.StringVar(&r.token, "token", "", "bearer token (default $DYNAMO_TOKEN)")
	r.output.register(c)
}

func (r *remote) client() (*client.Client, error) { return r.clientOver(nil) }

// clientOver makes a client with connections of its own kind; nil takes the usual ones.
func (r *remote) clientOver(h *http.Client) (*client.Client, error) {
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
	return client.New(client.Options{Endpoints: endpoints, Token: token, HTTP: h})
}

// printJSON writes v as one indented document.
func printJSON(c *cobra.Command, v any) error {
	e := json.NewEncoder(c.OutOrStdout())
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// passJSON prints the JSON that a node answered as it is, so that no field is lost; an empty answer
// becomes an empty object.
func passJSON(c *cobra.Command, body []byte) error {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		body = []byte("{}")
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s\n", body)
	return err
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
	if r.output == outputJSON {
		return passJSON(c, resp.Body)
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

// short is the beginning of a hash, enough to tell modules apart.
func short(sha string) string { return sha[:min(len(sha), 12)] }

var errNotFound = errors.New("not found")
