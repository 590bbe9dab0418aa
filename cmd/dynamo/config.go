package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"dynamo/node/config"
)

func newConfig() *cobra.Command {
	check := &cobra.Command{
		Use:   "check FILE",
		Short: "Parse and check a cluster file",
		Long: `Reports every mistake with file, line, column and key, and a suggestion where a key
is misspelt.

  dynamo config check configs/local.yaml`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := config.Load(args[0], os.LookupEnv)
			if err != nil {
				return err
			}
			if err := checkSurroundings(cfg); err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 3, ' ', 0)
			fmt.Fprintf(w, "cluster %s: %d partitions, N=%d R=%d W=%d\n\n", cfg.Name, cfg.Partitions, cfg.Replication.N, cfg.Replication.R, cfg.Replication.W)
			fmt.Fprintln(w, "NODE\tZONE\tWEIGHT\tHTTP\tPEER\tGOSSIP\tDATA")
			for _, n := range cfg.Nodes {
				fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", n.ID, n.Zone, n.Weight, n.HTTP, n.Peer, n.Gossip, n.Data)
			}
			fmt.Fprintln(w, "\nKEYSPACE\tN\tR\tW\tCONFLICT\tRESOLVER")
			for _, k := range cfg.BirthKeyspaces() {
				fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%s\n", k.Name, k.N, k.R, k.W, k.Conflict, k.Resolver)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), "\nok")
			return nil
		},
	}
	return group("config", "Check cluster files", check)
}

// checkSurroundings checks what a file refers to: resolver modules, and addresses that are open to all.
func checkSurroundings(cfg *config.Cluster) error {
	var errs []error
	for _, n := range cfg.Nodes {
		if err := cfg.CheckExposure(n); err != nil {
			errs = append(errs, err)
		}
	}
	for _, k := range cfg.BirthKeyspaces() {
		if k.Resolver == "" || strings.HasPrefix(k.Resolver, config.BuiltinPrefix) {
			continue
		}
		if _, err := os.Stat(k.Resolver); err != nil {
			errs = append(errs, fmt.Errorf("keyspace %s: resolver: %w", k.Name, err))
		}
	}
	return errors.Join(errs...)
}
