package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"dynamo/client"
)

func newKV() *cobra.Command {
	return group("kv", "Read and write keys", newPut(), newGet(), newDelete(), newList())
}

// callFlags are those of one request.
type callFlags struct{ client.CallOptions }

func (f *callFlags) register(c *cobra.Command, write bool) {
	if write {
		c.Flags().StringVar(&f.W, "w", "", "replicas that must have the write on disk: a number, one, quorum or all")
		c.Flags().StringVar(&f.Context, "context", "", "causal context this write supersedes, from a read")
	}
	c.Flags().StringVar(&f.R, "r", "", "replicas that must answer: a number, one, quorum or all")
	c.Flags().DurationVar(&f.Timeout, "timeout", 0, "deadline, like 500ms")
}

// readValue takes a value from the argument, a file (@NAME) or standard input (-).
func readValue(in io.Reader, arg string) ([]byte, error) {
	if arg == "-" {
		return io.ReadAll(in)
	}
	if name, ok := strings.CutPrefix(arg, "@"); ok {
		return os.ReadFile(name)
	}
	return []byte(arg), nil
}

func newPut() *cobra.Command {
	var r remote
	var f callFlags
	c := &cobra.Command{
		Use:   "put KEYSPACE KEY VALUE",
		Short: "Write a value; - is standard input, @file a file",
		Long:  "Prints the new causal context.\n\n  dynamo kv put default hello world\n  dynamo kv put carts alice @cart.json --content-type application/json --context TOKEN",
		Args:  usageArgs(cobra.ExactArgs(3)),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := r.client()
			if err != nil {
				return err
			}
			value, err := readValue(c.InOrStdin(), args[2])
			if err != nil {
				return err
			}
			token, err := cl.Put(c.Context(), args[0], args[1], value, f.CallOptions)
			if err != nil {
				return err
			}
			return printToken(c, r.output, token)
		},
	}
	r.register(c)
	f.register(c, true)
	c.Flags().StringVar(&f.ContentType, "content-type", "", "kept with the value")
	return c
}

func printToken(c *cobra.Command, output, token string) error {
	if output == "json" {
		return printJSON(c, map[string]string{"context": token})
	}
	_, err := fmt.Fprintln(c.OutOrStdout(), token)
	return err
}

func newGet() *cobra.Command {
	var r remote
	var f callFlags
	c := &cobra.Command{
		Use:   "get KEYSPACE KEY",
		Short: "Read a value",
		Long: `Prints the value as it is. A key that is not there is an error. Siblings that nothing
merged are an error too unless -o json shows them all.

  dynamo kv get default hello`,
		Args: usageArgs(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := r.client()
			if err != nil {
				return err
			}
			v, err := cl.Get(c.Context(), args[0], args[1], f.CallOptions)
			switch {
			case err != nil:
				return err
			case r.output == "json":
				return printValue(c, v)
			case !v.Found:
				return errNotFound
			case len(v.Siblings) > 0:
				return fmt.Errorf("the key holds %d siblings; -o json shows them, and a put with --context replaces them", len(v.Siblings))
			}
			_, err = c.OutOrStdout().Write(v.Bytes)
			return err
		},
	}
	r.register(c)
	f.register(c, false)
	c.Flags().BoolVar(&f.Raw, "raw-siblings", false, "show siblings even where a resolver is active")
	return c
}

func printValue(c *cobra.Command, v client.Value) error {
	type value struct {
		Found         bool             `json:"found"`
		Value         []byte           `json:"value_base64,omitempty"`
		ContentType   string           `json:"content_type,omitempty"`
		Context       string           `json:"context,omitempty"`
		ETag          string           `json:"etag,omitempty"`
		Count         int              `json:"siblings_count"`
		Merged        string           `json:"merged,omitempty"`
		ResolverError string           `json:"resolver_error,omitempty"`
		Siblings      []client.Sibling `json:"siblings,omitempty"`
	}
	if err := printJSON(c, value{v.Found, v.Bytes, v.ContentType, v.Context, v.ETag, v.Count, v.Merged, v.ResolverError, v.Siblings}); err != nil {
		return err
	}
	if !v.Found {
		return errNotFound
	}
	return nil
}

func newDelete() *cobra.Command {
	var r remote
	var f callFlags
	c := &cobra.Command{
		Use:   "delete KEYSPACE KEY",
		Short: "Delete what a context has seen, or what a quorum holds now",
		Long:  "  dynamo kv delete default hello\n  dynamo kv delete carts alice --context TOKEN",
		Args:  usageArgs(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := r.client()
			if err != nil {
				return err
			}
			token, err := cl.Delete(c.Context(), args[0], args[1], f.CallOptions)
			if err != nil {
				return err
			}
			return printToken(c, r.output, token)
		},
	}
	r.register(c)
	f.register(c, true)
	return c
}

func newList() *cobra.Command {
	var r remote
	var prefix, after string
	var limit int
	c := &cobra.Command{
		Use:   "list KEYSPACE",
		Short: "List keys in byte order",
		Long:  "  dynamo kv list carts --prefix a --limit 20",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := r.client()
			if err != nil {
				return err
			}
			left := limit
			for {
				p, err := cl.List(c.Context(), args[0], prefix, after, min(left, 1000))
				if err != nil {
					return err
				}
				for _, k := range p.Keys {
					if r.output == "json" {
						err = printJSON(c, map[string]string{"key": k})
					} else {
						_, err = fmt.Fprintln(c.OutOrStdout(), k)
					}
					if err != nil {
						return err
					}
				}
				left -= len(p.Keys)
				if after = p.Next; after == "" || left <= 0 {
					return nil
				}
			}
		},
	}
	r.register(c)
	c.Flags().StringVar(&prefix, "prefix", "", "only keys that begin so")
	c.Flags().StringVar(&after, "after", "", "only keys after this one")
	c.Flags().IntVar(&limit, "limit", 100, "how many")
	return c
}
