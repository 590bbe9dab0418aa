package main

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"dynamo/client"
	"dynamo/node/coordinator"
)

func newExplain() *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use:   "explain KEYSPACE KEY",
		Short: "Draw where a key lives, what each replica holds, and how the siblings merge",
		Long:  "  dynamo explain carts alice",
		Args:  usageArgs(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			var e coordinator.Explanation
			req := client.Request{Method: http.MethodGet, Path: client.Path("explain", args[0], args[1])}
			return r.call(c, req, &e, func() { drawExplanation(c.OutOrStdout(), e) })
		},
	}
	r.register(c)
	return c
}

func drawExplanation(w io.Writer, e coordinator.Explanation) {
	fmt.Fprintf(w, "%s/%s  hash %s  partition %d  preference list %s\n", e.Keyspace, printable(e.Key), e.Hash, e.Partition, strings.Join(e.PreferenceList, " "))
	for i, r := range e.Replicas {
		branch, stem := "├─", "│ "
		if i == len(e.Replicas)-1 {
			branch, stem = "└─", "  "
		}
		fmt.Fprintf(w, "%s %s  %s\n", branch, r.Node, replicaState(r))
		for j, v := range r.Versions {
			twig := "├─"
			if j == len(r.Versions)-1 {
				twig = "└─"
			}
			fmt.Fprintf(w, "%s  %s %s\n", stem, twig, versionLine(v))
		}
	}
	fmt.Fprintf(w, "a read of all answers %d with %d sibling(s)", e.Result.Status, e.Result.Siblings)
	if m := e.Result.Merge; m != nil {
		fmt.Fprintf(w, ": %s by resolver %.12s in %.0f us", m.Outcome, m.Resolver, m.Micros)
	}
	fmt.Fprintln(w)
}

func replicaState(r coordinator.ExplainReplica) string {
	role := r.Role
	if r.HintFor != "" {
		role += ", hint for " + r.HintFor
	}
	switch {
	case !r.Reachable:
		return role + ", not reachable: " + r.Error
	case r.Error != "":
		return role + ", " + r.Error
	case len(r.Context) == 0:
		return role + ", nothing"
	}
	return fmt.Sprintf("%s, has seen %d actor(s)", role, len(r.Context))
}

func versionLine(v coordinator.ExplainVersion) string {
	kind := fmt.Sprintf("%d bytes %s", v.Size, v.ContentType)
	if v.Deleted {
		kind = "deleted"
	}
	line := fmt.Sprintf("%s  %s  sha256 %.8s  %s ago", dotList(v.Dots), kind, v.SHA256, age(v.Time))
	if len(v.Live) != len(v.Dots) {
		line += "  live: " + dotList(v.Live)
	}
	if v.Resolver != "" {
		line += "  collapsed by " + short(v.Resolver)
	}
	return line
}

// dotList names a few dots and counts many.
func dotList(dots []string) string {
	const few = 3
	if len(dots) <= few {
		return strings.Join(dots, " ")
	}
	return fmt.Sprintf("%d dots, %s to %s", len(dots), dots[0], dots[len(dots)-1])
}

// printable quotes a key that would do something to the terminal.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

func age(t time.Time) string { return time.Since(t).Round(time.Second).String() }
