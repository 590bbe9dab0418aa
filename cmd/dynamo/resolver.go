package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"dynamo/client"
	"dynamo/node/config"
	"dynamo/node/coordinator"
	"dynamo/plugins"
	"dynamo/resolver"
	"dynamo/resolver/laws"
)

func newResolver() *cobra.Command {
	return group("resolver", "Check, run and administer resolver modules",
		newResolverCheck(), newResolverRun(), newResolverUpload(), newResolverShow(false), newResolverShow(true), newResolverRollback(), newResolverRemove(),
		newResolverConflicts(), newResolverRelease(), newResolverShadow(), newResolverPromote())
}

// readModule reads a module file, or takes builtin:NAME from this binary.
func readModule(file string) ([]byte, error) {
	name, builtin := strings.CutPrefix(file, config.BuiltinPrefix)
	if !builtin {
		return os.ReadFile(file)
	}
	b, ok := plugins.Module(name)
	if !ok {
		return nil, fmt.Errorf("there is no builtin resolver %q: there are %s", name, strings.Join(plugins.Names(), ", "))
	}
	return b, nil
}

// withModule compiles a module for offline use.
func withModule(c *cobra.Command, file string, use func(b []byte, m *resolver.Module) error) error {
	ctx := c.Context()
	b, err := readModule(file)
	if err != nil {
		return err
	}
	rt, err := resolver.New(resolver.Options{Limits: resolver.DefaultLimits(), Logger: slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil)), Now: time.Now})
	if err != nil {
		return err
	}
	m, err := rt.Load(ctx, b, nil)
	if err == nil {
		err = use(b, m)
	}
	return errors.Join(err, rt.Close(ctx))
}

func newResolverCheck() *cobra.Command {
	var dir string
	var form output
	c := &cobra.Command{
		Use:   "check FILE.wasm|builtin:NAME",
		Short: "Check a module offline: ABI, limits and merge laws",
		Long: `Tests the laws on the samples that the module carries (custom section dynamo.samples)
and on the files of --samples, and on mutations of both that the module accepts. A broken
law is printed with a small counterexample, exit 1. Exit 1 is also for a check that tested
nothing ("untested": no two samples, or the module refused them all), or that could not test
every law because the module refused or failed on too much ("inconclusive"). It is a test,
not a proof.

  dynamo resolver check cart.wasm --samples carts/`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return withModule(c, args[0], func(b []byte, m *resolver.Module) error {
				samples, err := laws.Samples(b)
				if err != nil {
					return err
				}
				more, err := readSamples(dir)
				if err != nil {
					return err
				}
				sum := m.SHA256()
				samples = append(samples, more...)
				report := checkReport{
					File: args[0], SHA256: hex.EncodeToString(sum[:]), ABI: m.Info().ABI, Size: len(b), Samples: len(samples),
				}
				return report.run(c, form, m, samples)
			})
		},
	}
	form.register(c)
	c.Flags().StringVar(&dir, "samples", "", "directory of sample values, one a file")
	return c
}

func readSamples(dir string) ([][]byte, error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// checkReport is the result of an offline check.
type checkReport struct {
	File     string          `json:"file"`
	SHA256   string          `json:"sha256"`
	ABI      string          `json:"abi"`
	Size     int             `json:"size"`
	Samples  int             `json:"samples"`
	Laws     laws.Outcome    `json:"laws"`
	Tested   int             `json:"tested"`
	ByLaw    map[string]int  `json:"tested_by_law"`
	Deletes  int             `json:"tested_with_deletes"`
	Ancestor int             `json:"tested_with_ancestor"`
	Failed   int             `json:"failed"`
	Unasked  int             `json:"unasked"`
	Missed   []string        `json:"never_tested,omitempty"`
	Refusal  string          `json:"first_refusal,omitempty"`
	Broken   *checkFailure   `json:"violation,omitempty"`
	Evidence []laws.Equation `json:"evidence,omitempty"`
}

// checkFailure is a broken law: two results that ought to be equal.
type checkFailure struct {
	laws.Violation
	Left  []byte `json:"left_base64"`
	Right []byte `json:"right_base64"`
}

// run tests the laws and prints what was tested. Only a lawful module is no error.
func (k checkReport) run(c *cobra.Command, form output, m *resolver.Module, samples [][]byte) error {
	o := laws.Options{}
	if onTerminal(c.ErrOrStderr()) {
		o.Progress = func(p laws.Progress) { showProgress(c.ErrOrStderr(), p) }
	}
	r := laws.CheckModule(c.Context(), m, "check", nil, resolver.DefaultLimits().OutputBytes, samples, o)
	if o.Progress != nil {
		fmt.Fprint(c.ErrOrStderr(), clearLine)
	}
	if err := c.Context().Err(); err != nil {
		return fmt.Errorf("the check was interrupted: %w", err) // what was tested so far proves nothing
	}
	k.Laws, k.Tested, k.Failed, k.ByLaw = r.Outcome, r.Tested, r.Failed, r.Laws
	k.Deletes, k.Ancestor, k.Evidence = r.Deletes, r.Ancestors, r.Evidence
	k.Unasked, k.Missed, k.Refusal = r.Unasked, r.Missed, r.Refusal
	if v := r.Violation; v != nil {
		k.Broken = &checkFailure{*v, v.Outputs[0], v.Outputs[1]}
	}
	if form == outputJSON {
		if err := printJSON(c, k); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(c.OutOrStdout(), "module   %s: ok\nsha256   %s\nabi      %s\nsize     %d\nlaws     %s: %d equations tested on %d samples, %d could not be\n",
			k.File, k.SHA256, k.ABI, k.Size, k.Laws, k.Tested, k.Samples, k.Failed)
		if r.Violation != nil {
			fmt.Fprint(c.OutOrStdout(), "\n", r.Violation.Explain())
		}
	}
	switch r.Outcome {
	case laws.Lawful:
		return nil
	case laws.Unlawful:
		return fmt.Errorf("the module breaks a law: %s", r.Violation)
	case laws.Untested:
		if r.Samples < 2 {
			return errors.New("the laws are untested: give at least two different samples with --samples")
		}
		return fmt.Errorf("the laws are untested: %s", r.Summary())
	}
	return fmt.Errorf("the check is inconclusive: %s", r.Summary())
}

// clearLine goes to the start of a terminal's line and empties it.
const clearLine = "\r\x1b[K"

// onTerminal reports whether a person watches.
func onTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// showProgress keeps one line up to date.
func showProgress(w io.Writer, p laws.Progress) {
	what := "testing laws"
	if p.Shrinking {
		what = "a law is broken, looking for a small example"
	}
	fmt.Fprintf(w, "%s%s: round %d of %d, %d equations tested, %d could not be", clearLine, what, p.Round, p.Rounds, p.Tested, p.Failed)
}

func newResolverRun() *cobra.Command {
	var form output
	var contentType string
	c := &cobra.Command{
		Use:   "run FILE.wasm|builtin:NAME SIBLING...",
		Short: "Merge files offline and print the result",
		Long: `Merges the files in the order given, the last as the newest, and prints the merged value.
How long it took goes to stderr.

  dynamo resolver run cart.wasm a.json b.json`,
		Args: usageArgs(cobra.MinimumNArgs(3)),
		RunE: func(c *cobra.Command, args []string) error {
			req := resolver.Request{Keyspace: "run", Key: []byte("run")}
			for i, name := range args[1:] {
				b, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				req.Siblings = append(req.Siblings, resolver.Sibling{Value: b, ContentType: contentType, TimeMs: uint64(i + 1)})
			}
			return withModule(c, args[0], func(_ []byte, m *resolver.Module) error {
				resp, out, err := m.Merge(c.Context(), req, resolver.DefaultLimits().OutputBytes)
				if err != nil {
					return err
				}
				if resp.Status == resolver.StatusSelect {
					chosen := req.Siblings[resp.Index]
					resp.Payload, resp.ContentType = chosen.Value, chosen.ContentType
				}
				return printMerge(c, form, resp, out)
			})
		},
	}
	form.register(c)
	c.Flags().StringVar(&contentType, "content-type", "", "content type of all files")
	return c
}

// printMerge prints a merged value.
func printMerge(c *cobra.Command, form output, resp resolver.Response, out resolver.Outcome) error {
	if form == outputJSON {
		type merged struct {
			Status      string `json:"status"`
			Value       []byte `json:"value_base64"`
			ContentType string `json:"content_type"`
			Micros      int64  `json:"micros"`
			Fuel        uint64 `json:"fuel"`
			MemoryBytes uint64 `json:"memory_bytes"`
		}
		m := merged{"value", resp.Payload, resp.ContentType, out.Duration.Microseconds(), out.Fuel, out.MemoryBytes}
		switch resp.Status {
		case resolver.StatusDeleted:
			m.Status, m.Value = "deleted", nil
		case resolver.StatusSelect:
			m.Status = "select"
		}
		return printJSON(c, m)
	}
	fmt.Fprintf(c.ErrOrStderr(), "merged in %v\n", out.Duration.Round(time.Microsecond))
	if resp.Status == resolver.StatusDeleted {
		fmt.Fprintln(c.ErrOrStderr(), "the key is deleted")
		return nil
	}
	_, err := c.OutOrStdout().Write(resp.Payload)
	return err
}

func resolverPath(keyspace string, more ...string) string {
	return client.Path(append([]string{"keyspaces", keyspace, "resolver"}, more...)...)
}

func newResolverUpload() *cobra.Command {
	var r remote
	var check, builtin string
	var configFile string
	var retry, inactive bool
	c := &cobra.Command{
		Use:   "upload KEYSPACE [FILE.wasm|builtin:NAME]",
		Short: "Upload a module and activate it",
		Long: `A module of your own, or one that comes with the binary: ` + strings.Join(plugins.Names(), ", ") + `.

  dynamo resolver upload carts cart.wasm
  dynamo resolver upload carts builtin:cart
  dynamo resolver upload carts engine.wasm --config merge.js
  dynamo resolver upload carts cart.wasm --no-activate`,
		Args: usageArgs(cobra.RangeArgs(1, 2)),
		RunE: func(c *cobra.Command, args []string) error {
			req := client.Request{Method: http.MethodPut, Path: resolverPath(args[0]), Query: url.Values{"check": {check}}}
			if retry {
				req.Query.Set("retry", "true")
			}
			if inactive {
				req.Query.Set("activate", "false")
			}
			switch {
			case (len(args) == 2) == (builtin != ""):
				return usageError{errors.New("upload takes a file, or builtin:NAME")}
			case (builtin != "" || len(args) == 2 && strings.HasPrefix(args[1], config.BuiltinPrefix)) && configFile != "":
				return usageError{errors.New("a builtin module takes no --config")}
			case len(args) == 2 && strings.HasPrefix(args[1], config.BuiltinPrefix):
				req.Query.Set("builtin", strings.TrimPrefix(args[1], config.BuiltinPrefix))
			case builtin != "":
				req.Query.Set("builtin", builtin)
			default:
				b, err := os.ReadFile(args[1])
				if err != nil {
					return err
				}
				if req.Body, req.Header, err = uploadBody(b, configFile); err != nil {
					return err
				}
			}
			var up coordinator.ResolverUpload
			return r.call(c, req, &up, func() {
				fmt.Fprintf(c.OutOrStdout(), "version  %d\nsha256   %s\nabi      %s\nsize     %d\nlaws     %s %s\n", up.Version, up.SHA256, up.ABI, up.Size, up.Check.Outcome, up.Check.Detail)
			})
		},
	}
	r.register(c)
	c.Flags().StringVar(&check, "check", coordinator.CheckStrict, "strict, warn or off")
	c.Flags().StringVar(&builtin, "builtin", "", "the same as builtin:NAME")
	c.Flags().StringVar(&configFile, "config", "", "a file that goes to the module's dynamo_configure_v1 and belongs to the version")
	c.Flags().BoolVar(&inactive, "no-activate", false, "store a candidate only, to try or shadow it")
	c.Flags().BoolVar(&retry, "retry", false, "even if it failed to compile within limits before")
	return c
}

// newResolverShow is show and history.
func newResolverShow(history bool) *cobra.Command {
	var r remote
	use, short := "show", "Show the active resolver and what this node merged with it"
	if history {
		use, short = "history", "Show all resolver versions of a keyspace"
	}
	c := &cobra.Command{
		Use: use + " KEYSPACE", Short: short, Long: "  dynamo resolver " + use + " carts", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			var st coordinator.ResolverStatus
			return r.call(c, client.Request{Method: http.MethodGet, Path: resolverPath(args[0])}, &st, func() {
				rows := st.History
				if !history {
					if rows = nil; st.Active != nil {
						rows = []coordinator.ResolverVersion{*st.Active}
					}
				}
				showVersions(c, rows)
				if !history {
					fmt.Fprintf(c.OutOrStdout(), "\ncalls %d, failures %d, mean %.0f us, max %.0f us on this node\n", st.Calls, st.Failures, st.Micros.Mean, st.Micros.Max)
					if q := st.Quarantine; q != nil {
						fmt.Fprintf(c.OutOrStdout(), "QUARANTINED on this node since %s: %s\n", q.Since.Format(time.RFC3339), q.Reason)
					}
				}
			})
		},
	}
	r.register(c)
	return c
}

func showVersions(c *cobra.Command, vs []coordinator.ResolverVersion) {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "VERSION\tACTIVE\tSHA256\tSIZE\tABI\tUPLOADED")
	for _, v := range vs {
		fmt.Fprintf(w, "%d\t%v\t%s\t%d\t%s\t%s\n", v.Version, v.Active, short(v.SHA256), v.Size, v.ABI, v.Time.Format(time.RFC3339))
	}
	_ = w.Flush() // the screen
}

func newResolverRollback() *cobra.Command {
	var r remote
	var version int
	c := &cobra.Command{
		Use: "rollback KEYSPACE --version N", Short: "Activate an earlier version again", Long: "  dynamo resolver rollback carts --version 1",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if version < 1 {
				return usageError{errors.New("rollback needs --version N, from the history")}
			}
			body, err := json.Marshal(map[string]int{"version": version})
			if err != nil {
				return err
			}
			var v coordinator.ResolverVersion
			req := client.Request{Method: http.MethodPost, Path: resolverPath(args[0], "rollback"), Body: body}
			return r.call(c, req, &v, func() { showVersions(c, []coordinator.ResolverVersion{v}) })
		},
	}
	r.register(c)
	c.Flags().IntVar(&version, "version", 0, "version to activate")
	return c
}

func newResolverRemove() *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use: "remove KEYSPACE", Short: "Go back to showing siblings", Long: "  dynamo resolver remove carts", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return r.call(c, client.Request{Method: http.MethodDelete, Path: resolverPath(args[0])}, nil, nil)
		},
	}
	r.register(c)
	return c
}
