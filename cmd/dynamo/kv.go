package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"dynamo/client"
)

func newKV() *cobra.Command {
	return group("kv", "Read and write keys", newPut(), newGet(), newDelete(), newList())
}

// callFlags are those of one request.
type callFlags struct{ client.CallOptions }

const (
	// longestCall is the longest that a node takes for one request.
	longestCall = 30 * time.Second
	// answerGrace is what the way to the node and back may take on top.
	answerGrace = 5 * time.Second
)

// deadline bounds a call on this side too, for a node that accepts a connection and then says nothing.
func (f *callFlags) deadline(c *cobra.Command) (context.Context, context.CancelFunc, error) {
	limit := longestCall
	if c.Flags().Changed("timeout") {
		if limit = f.Timeout; limit <= 0 {
			return nil, nil, usageError{fmt.Errorf("--timeout %v is not positive", limit)}
		}
	}
	ctx, cancel := context.WithTimeout(c.Context(), limit+answerGrace)
	return ctx, cancel, nil
}

func (f *callFlags) register(c *cobra.Command, write bool) {
	if write {
		c.Flags().StringVar(&f.W, "w", "", "replicas that must have the write on disk: a number, one, quorum or all")
		c.Flags().StringVar(&f.Context, "context", "", "causal context this write supersedes, from a read")
	}
	c.Flags().StringVar(&f.R, "r", "", "replicas that must answer: a number, one, quorum or all")
	c.Flags().DurationVar(&f.Timeout, "timeout", 0, "deadline at the node, like 500ms (default: the cluster's, 2s)")
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
			ctx, cancel, err := f.deadline(c)
			if err != nil {
				return err
			}
			defer cancel()
			token, err := cl.Put(ctx, args[0], args[1], value, f.CallOptions)
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

func printToken(c *cobra.Command, o output, token string) error {
	if o == outputJSON {
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
		Long: `Prints the value as it is. A key that is not there is an error ("not found", exit 1).

Siblings that nothing merged are printed one after the other, each ended by a newline,
with a header for each and the context to replace them on stderr; the exit code is 1,
so that a script does not take them for one value. With -o json siblings are an answer
like any other, exit 0.

  dynamo kv get default hello
  dynamo kv get carts alice -o json`,
		Args: usageArgs(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			cl, err := r.client()
			if err != nil {
				return err
			}
			ctx, cancel, err := f.deadline(c)
			if err != nil {
				return err
			}
			defer cancel()
			v, err := cl.Get(ctx, args[0], args[1], f.CallOptions)
			switch {
			case err != nil:
				return err
			case r.output == outputJSON:
				return printValue(c, v)
			case !v.Found:
				return errNotFound
			case len(v.Siblings) > 0:
				return printSiblings(c, v)
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

// printSiblings shows all siblings to a person; it always returns an error, for there is no one value.
func printSiblings(c *cobra.Command, v client.Value) error {
	for i, s := range v.Siblings {
		what := fmt.Sprintf("%d bytes %s", len(s.Value), s.ContentType)
		if s.Deleted {
			what = "deleted"
		}
		fmt.Fprintf(c.ErrOrStderr(), "--- sibling %d of %d, %s, %s\n", i+1, len(v.Siblings), s.Time.Format(time.RFC3339), what)
		if s.Deleted {
			continue
		}
		if _, err := fmt.Fprintf(c.OutOrStdout(), "%s\n", s.Value); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.ErrOrStderr(), "--- context %s\n", v.Context)
	why := "nothing merges this keyspace"
	if v.ResolverError != "" {
		why = "the resolver failed: " + v.ResolverError
	}
	return fmt.Errorf("the key holds %d siblings (%s); a put with --context replaces them", len(v.Siblings), why)
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
			ctx, cancel, err := f.deadline(c)
			if err != nil {
				return err
			}
			defer cancel()
			token, err := cl.Delete(ctx, args[0], args[1], f.CallOptions)
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
		Long: `Prints one key a line, as its bytes are. With -o json: {"keys":[{"key":...}],"next":...},
where a key that is not UTF-8 comes as "key_base64", and "next", if set, is the --after
of the next page.

  dynamo kv list carts --prefix a --limit 20`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if limit < 1 {
				return usageError{fmt.Errorf("--limit %d is not positive", limit)}
			}
			cl, err := r.client()
			if err != nil {
				return err
			}
			out := keyPage{Keys: []listedKey{}}
			for left := limit; left > 0; {
				p, err := cl.List(c.Context(), args[0], prefix, after, min(left, pageKeys))
				if err != nil {
					return err
				}
				if err := out.add(c, r.output, p); err != nil {
					return err
				}
				left -= len(p.Keys)
				if after = p.Next; after == "" {
					break
				}
			}
			if r.output == outputJSON {
				return printJSON(c, out)
			}
			return nil
		},
	}
	r.register(c)
	c.Flags().StringVar(&prefix, "prefix", "", "only keys that begin so")
	c.Flags().StringVar(&after, "after", "", "only keys after this one")
	c.Flags().IntVar(&limit, "limit", 100, "how many")
	return c
}

// pageKeys is the most that a node lists in one answer.
const pageKeys = 1000

// keyPage is the JSON of a listing.
type keyPage struct {
	Keys []listedKey `json:"keys"`
	Next string      `json:"next,omitempty"`
}

// listedKey is one key; JSON strings hold UTF-8 only, so others go in base64.
type listedKey struct {
	Key    string `json:"key,omitempty"`
	Base64 []byte `json:"key_base64,omitempty"`
}

// add prints a page at once, or keeps it for the JSON document.
func (k *keyPage) add(c *cobra.Command, o output, p client.Page) error {
	k.Next = p.Next
	for _, key := range p.Keys {
		switch {
		case o != outputJSON:
			if _, err := fmt.Fprintln(c.OutOrStdout(), key); err != nil {
				return err
			}
		case utf8.ValidString(key):
			k.Keys = append(k.Keys, listedKey{Key: key})
		default:
			k.Keys = append(k.Keys, listedKey{Base64: []byte(key)})
		}
	}
	return nil
}
