package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"dynamo/client"
	"dynamo/node/coordinator"
)

func newKeyspace() *cobra.Command {
	return group("keyspace", "Administer keyspaces", newKeyspacePut("create"), newKeyspacePut("update"), newKeyspaceList(), newKeyspaceShow(), newKeyspaceDelete())
}

// newKeyspacePut is create and update: they differ in what must be there before.
func newKeyspacePut(verb string) *cobra.Command {
	var r remote
	var n, rq, wq, maxBytes int
	var conflict, durability string
	var ancestors bool
	c := &cobra.Command{
		Use:   verb + " KEYSPACE",
		Short: map[string]string{"create": "Create a keyspace", "update": "Change settings of a keyspace; what is not named stays"}[verb],
		Long:  "  dynamo keyspace " + verb + " notes --conflict siblings --w 3",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			var change coordinator.KeyspaceChange
			for name, p := range map[string]struct {
				dst **int
				v   *int
			}{"n": {&change.N, &n}, "r": {&change.R, &rq}, "w": {&change.W, &wq}, "max-value-bytes": {&change.MaxValueBytes, &maxBytes}} {
				if c.Flags().Changed(name) {
					*p.dst = p.v
				}
			}
			if conflict != "" {
				change.Conflict = &conflict
			}
			if durability != "" {
				change.Durability = &durability
			}
			if c.Flags().Changed("ancestors") {
				change.Ancestors = &ancestors
			}
			if verb == "update" && change == (coordinator.KeyspaceChange{}) {
				return usageError{errors.New("update needs something to change, like --w 3")}
			}
			body, err := json.Marshal(change)
			if err != nil {
				return err
			}
			if err := r.exists(c, args[0], verb == "update"); err != nil {
				return err
			}
			var ks coordinator.KeyspaceInfo
			req := client.Request{Method: http.MethodPut, Path: client.Path("keyspaces", args[0]), Body: body}
			return r.call(c, req, &ks, func() { showKeyspaces(c, ks) })
		},
	}
	r.register(c)
	f := c.Flags()
	if verb == "create" {
		f.IntVar(&n, "n", 0, "replicas of each key; cannot be changed later")
	}
	f.IntVar(&rq, "r", 0, "replicas that must answer a read")
	f.IntVar(&wq, "w", 0, "replicas that must have a write on disk")
	f.IntVar(&maxBytes, "max-value-bytes", 0, "largest value, in bytes")
	f.StringVar(&conflict, "conflict", "", "siblings, lww or resolver")
	f.StringVar(&durability, "durability", "", "sync or buffered")
	f.BoolVar(&ancestors, "ancestors", false, "give resolvers the common ancestor where it is still there; has no effect so far")
	return c
}

// exists checks that a keyspace is there, or is not.
func (r *remote) exists(c *cobra.Command, name string, want bool) error {
	cl, err := r.client()
	if err != nil {
		return err
	}
	err = cl.JSON(c.Context(), client.Request{Method: http.MethodGet, Path: client.Path("keyspaces", name)}, nil)
	e, problem := errors.AsType[*client.Error](err)
	switch {
	case err == nil && !want:
		return fmt.Errorf("keyspace %s is there already; use update", name)
	case err == nil, problem && e.Code == "keyspace_unknown" && !want:
		return nil
	}
	return err
}

func showKeyspaces(c *cobra.Command, ks ...coordinator.KeyspaceInfo) {
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "KEYSPACE\tN\tR\tW\tCONFLICT\tDURABILITY\tMAX VALUE\tRESOLVER")
	for _, k := range ks {
		sha := "-"
		if k.Resolver != "" {
			sha = short(k.Resolver)
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%s\t%d\t%s\n", k.Name, k.N, k.R, k.W, k.Conflict, k.Durability, k.MaxValueBytes, sha)
	}
	_ = w.Flush() // the screen
}

func newKeyspaceList() *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use: "list", Short: "List keyspaces", Long: "  dynamo keyspace list", Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			var body struct {
				Keyspaces []coordinator.KeyspaceInfo `json:"keyspaces"`
			}
			return r.call(c, client.Request{Method: http.MethodGet, Path: client.Path("keyspaces")}, &body, func() { showKeyspaces(c, body.Keyspaces...) })
		},
	}
	r.register(c)
	return c
}

func newKeyspaceShow() *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use: "show KEYSPACE", Short: "Show one keyspace", Long: "  dynamo keyspace show carts", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			var ks coordinator.KeyspaceInfo
			return r.call(c, client.Request{Method: http.MethodGet, Path: client.Path("keyspaces", args[0])}, &ks, func() { showKeyspaces(c, ks) })
		},
	}
	r.register(c)
	return c
}

func newKeyspaceDelete() *cobra.Command {
	var r remote
	var yes bool
	c := &cobra.Command{
		Use: "delete KEYSPACE", Short: "Drop a keyspace and all its data", Long: "  dynamo keyspace delete notes --yes", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if !yes {
				return usageError{fmt.Errorf("this drops keyspace %s with all of its data on every node; say --yes", args[0])}
			}
			return r.call(c, client.Request{Method: http.MethodDelete, Path: client.Path("keyspaces", args[0])}, nil, nil)
		},
	}
	r.register(c)
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	return c
}
