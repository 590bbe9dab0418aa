package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
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

func newResolverShadow() *cobra.Command {
	var r remote
	var stop bool
	c := &cobra.Command{
		Use:   "shadow KEYSPACE [SHA256]",
		Short: "Run a candidate beside the active version, or show how it does",
		Long: `With a SHA-256, that of an upload with --no-activate, the nodes run the candidate on the conflicts
that reads meet, without effect. Without one it shows how often both agreed.

  dynamo resolver shadow carts 3f0c...
  dynamo resolver shadow carts
  dynamo resolver shadow carts --stop`,
		Args: usageArgs(cobra.RangeArgs(1, 2)),
		RunE: func(c *cobra.Command, args []string) error {
			req := client.Request{Method: http.MethodGet, Path: resolverPath(args[0], "shadow")}
			switch {
			case stop && len(args) == 2:
				return usageError{errors.New("--stop takes no SHA-256")}
			case stop:
				req.Method = http.MethodDelete
				return r.call(c, req, nil, nil)
			case len(args) == 2:
				return startShadow(c, r, req, args[1])
			}
			var st coordinator.ShadowStatus
			return r.call(c, req, &st, func() { showShadow(c, st) })
		},
	}
	r.register(c)
	c.Flags().BoolVar(&stop, "stop", false, "end it")
	return c
}

func startShadow(c *cobra.Command, r remote, req client.Request, sha string) error {
	req.Method = http.MethodPost
	var err error
	if req.Body, err = json.Marshal(map[string]string{"sha256": sha}); err != nil {
		return err
	}
	var res coordinator.ShadowStart
	return r.call(c, req, &res, func() {
		fmt.Fprintf(c.OutOrStdout(), "running on %v\n", res.Nodes)
		if len(res.Unheard) > 0 {
			fmt.Fprintf(c.ErrOrStderr(), "not heard from: %v\n", res.Unheard)
		}
	})
}

func showShadow(c *cobra.Command, st coordinator.ShadowStatus) {
	out := c.OutOrStdout()
	fmt.Fprintf(out, "conflicts %d: equal %d, different %d (%.2f %% equal), candidate failed %d, only the active version failed %d, dropped %d\nmean %.0f us\n",
		st.Calls, st.Equal, st.Different, 100*st.EqualShare, st.Failures, st.ActiveFailures, st.Dropped, st.MeanMicros)
	for node, report := range st.Nodes {
		fmt.Fprintf(out, "%s runs %s since %s\n", node, short(report.SHA256), report.Since.Format(time.RFC3339))
		for _, e := range report.Examples {
			fmt.Fprintf(out, "  %q: active %s %q, candidate %s %q\n", e.Key,
				e.Active.Status, cmp.Or(e.Active.Error, string(e.Active.Value)), e.Candidate.Status, cmp.Or(e.Candidate.Error, string(e.Candidate.Value)))
		}
	}
	if len(st.Unheard) > 0 {
		fmt.Fprintf(c.ErrOrStderr(), "not heard from: %v\n", st.Unheard)
	}
}

func newResolverPromote() *cobra.Command {
	var r remote
	var check string
	c := &cobra.Command{
		Use:   "promote KEYSPACE [SHA256]",
		Short: "Activate a candidate",
		Long: `Activates an uploaded candidate; without a SHA-256 the one that runs as a shadow, which ends.

  dynamo resolver promote carts`,
		Args: usageArgs(cobra.RangeArgs(1, 2)),
		RunE: func(c *cobra.Command, args []string) error {
			req := client.Request{Method: http.MethodPost, Path: resolverPath(args[0], "promote"), Query: url.Values{"check": {check}}}
			if len(args) == 2 {
				var err error
				if req.Body, err = json.Marshal(map[string]string{"sha256": args[1]}); err != nil {
					return err
				}
			}
			var up coordinator.ResolverUpload
			return r.call(c, req, &up, func() {
				fmt.Fprintf(c.OutOrStdout(), "version  %d\nsha256   %s\nlaws     %s %s\n", up.Version, up.SHA256, up.Check.Outcome, up.Check.Detail)
			})
		},
	}
	r.register(c)
	c.Flags().StringVar(&check, "check", coordinator.CheckStrict, "strict, warn or off")
	return c
}
