package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"dynamo/client"
	"dynamo/node/coordinator"
)

func newCluster() *cobra.Command {
	return group("cluster", "Show the cluster", newStatus(), newRing())
}

func newStatus() *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use: "status", Short: "Show members and who can be reached", Long: "  dynamo cluster status", Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			var info coordinator.ClusterInfo
			return r.call(c, client.Request{Method: http.MethodGet, Path: client.Path("cluster")}, &info, func() {
				out := c.OutOrStdout()
				fmt.Fprintf(out, "cluster %s, %d partitions, as seen by %s\n\n", info.Name, info.Partitions, info.Node)
				w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
				fmt.Fprintln(w, "NODE\tZONE\tWEIGHT\tSTATUS\tREACHABLE\tPARTITIONS\tREPLICAS\tHINTS\tHINT BYTES\tOLDEST HINT\tHTTP")
				for _, m := range info.Members {
					fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%v\t%d\t%d\t%d\t%d\t%s\t%s\n", m.ID, m.Zone, m.Weight, m.Status, m.Reachable, m.Partitions, m.Replicas, m.Hints.Count, m.Hints.Bytes,
						time.Duration(m.Hints.OldestSeconds*float64(time.Second)).Round(time.Second), m.HTTP)
				}
				_ = w.Flush() // the screen
			})
		},
	}
	r.register(c)
	return c
}

func newRing() *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use: "ring [KEYSPACE KEY]", Short: "Show the primaries of every partition, or where one key lives",
		Long: "  dynamo cluster ring\n  dynamo cluster ring carts alice",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 0 && len(args) != 2 {
				return usageError{fmt.Errorf("ring takes a keyspace and a key, or nothing")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			req := client.Request{Method: http.MethodGet, Path: client.Path("cluster", "ring")}
			if len(args) == 2 {
				req.Query = url.Values{"keyspace": {args[0]}, "key": {args[1]}}
				var l coordinator.Location
				return r.call(c, req, &l, func() {
					n := max(0, min(l.N, len(l.PreferenceList)))
					fmt.Fprintf(c.OutOrStdout(), "hash %s, partition %d\nprimaries %s\nfallbacks %s\n", l.Hash, l.Partition,
						strings.Join(l.PreferenceList[:n], " "), strings.Join(l.PreferenceList[n:], " "))
				})
			}
			var info coordinator.RingInfo
			return r.call(c, req, &info, func() {
				for p, ids := range info.Primaries {
					fmt.Fprintf(c.OutOrStdout(), "%5d  %s\n", p, strings.Join(ids, " "))
				}
			})
		},
	}
	r.register(c)
	return c
}
