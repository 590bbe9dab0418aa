package main

import (
	"bytes"
	"cmp"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"dynamo/client"
	"dynamo/node/coordinator"
)

// conflictPage is the JSON of the conflict list.
type conflictPage struct {
	Conflicts []struct {
		Key        *string `json:"key"`
		KeyBase64  []byte  `json:"key_base64"`
		Count      int     `json:"count"`
		AgeSeconds float64 `json:"age_seconds"`
		Why        string  `json:"why"`
		Detail     string  `json:"detail"`
	} `json:"conflicts"`
	Next    *string  `json:"next"`
	Unheard []string `json:"unheard"`
}

func newResolverConflicts() *cobra.Command {
	var r remote
	var after string
	var limit int
	var unmerged bool
	c := &cobra.Command{
		Use:   "conflicts KEYSPACE",
		Short: "List the keys that hold siblings",
		Long: `One line for each key that holds siblings now, over the whole cluster: how many, since when,
and why they are not merged (no_resolver, pending, or the resolver's error).

  dynamo resolver conflicts carts --unmerged`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if limit < 1 || limit > pageKeys {
				return usageError{fmt.Errorf("--limit %d is not within 1 and %d", limit, pageKeys)}
			}
			q := url.Values{"limit": {strconv.Itoa(limit)}}
			if after != "" {
				q.Set("after", after)
			}
			if unmerged {
				q.Set("unmerged", "true")
			}
			var page conflictPage
			return r.call(c, client.Request{Method: http.MethodGet, Path: client.Path("conflicts", args[0]), Query: q}, &page, func() { page.show(c) })
		},
	}
	r.register(c)
	c.Flags().StringVar(&after, "after", "", "only keys after this one")
	c.Flags().IntVar(&limit, "limit", 100, "how many")
	c.Flags().BoolVar(&unmerged, "unmerged", false, "only those that no resolver merges")
	return c
}

func (p conflictPage) show(c *cobra.Command) {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "KEY\tSIBLINGS\tAGE\tWHY\tDETAIL")
	for _, e := range p.Conflicts {
		key := strconv.Quote(string(e.KeyBase64))
		if e.Key != nil {
			key = strconv.Quote(*e.Key)
		}
		age := time.Duration(e.AgeSeconds * float64(time.Second)).Round(time.Second)
		fmt.Fprintf(w, "%s\t%d\t%v\t%s\t%s\n", key, e.Count, age, cmp.Or(e.Why, "merged"), strconv.Quote(e.Detail))
	}
	_ = w.Flush() // the screen
	if p.Next != nil {
		fmt.Fprintf(c.ErrOrStderr(), "there are more: --after %s\n", strconv.Quote(*p.Next))
	}
	if len(p.Unheard) > 0 {
		fmt.Fprintf(c.ErrOrStderr(), "not heard from: %v\n", p.Unheard)
	}
}

func newResolverRelease() *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use:   "release KEYSPACE",
		Short: "Let the nodes call a quarantined version again",
		Long: `A node that saw the active version fail too often calls it no more, and readers get the siblings.
This ends it on all nodes that can be reached; find out first why it failed.

  dynamo resolver release carts`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			var res coordinator.ResolverRelease
			return r.call(c, client.Request{Method: http.MethodPost, Path: resolverPath(args[0], "release")}, &res, func() {
				fmt.Fprintf(c.OutOrStdout(), "released on %v\n", res.Released)
				if len(res.Unheard) > 0 {
					fmt.Fprintf(c.ErrOrStderr(), "not heard from: %v\n", res.Unheard)
				}
			})
		},
	}
	r.register(c)
	return c
}

// uploadBody is the module alone, or the parts module and config.
func uploadBody(module []byte, configFile string) ([]byte, http.Header, error) {
	if configFile == "" {
		return module, http.Header{"Content-Type": {"application/wasm"}}, nil
	}
	config, err := os.ReadFile(configFile)
	if err != nil {
		return nil, nil, err
	}
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for name, content := range map[string][]byte{"module": module, "config": config} {
		part, err := w.CreateFormFile(name, name)
		if err == nil {
			_, err = part.Write(content)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, nil, err
	}
	return b.Bytes(), http.Header{"Content-Type": {w.FormDataContentType()}}, nil
}
