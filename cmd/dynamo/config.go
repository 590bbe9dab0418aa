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
	var form output
	check := &cobra.Command{
		Use:   "check FILE",
		Short: "Parse and check a cluster file",
		Long: `Reports every mistake with file, line, column and key, and a suggestion where a key
is misspelt; also resolvers that are not there, and nodes that would be open to
other machines without authentication. Prints what the file says if all is well.

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
			if form == outputJSON {
				return printJSON(c, summaryOf(cfg))
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
	form.register(check)
	return group("config", "Check cluster files", check)
}

// summary is a checked file for machines, without its secrets.
type summary struct {
	Cluster     string            `json:"cluster"`
	Partitions  int               `json:"partitions"`
	Replication map[string]int    `json:"replication"`
	Secret      bool              `json:"secret"`
	Tokens      []string          `json:"tokens"`
	Nodes       []summaryNode     `json:"nodes"`
	Keyspaces   []summaryKeyspace `json:"keyspaces"`
}

type summaryNode struct {
	ID     string `json:"id"`
	Zone   string `json:"zone"`
	Weight int    `json:"weight"`
	HTTP   string `json:"http"`
	Peer   string `json:"peer"`
	Gossip string `json:"gossip"`
	Data   string `json:"data"`
}

type summaryKeyspace struct {
	Name       string `json:"name"`
	N          int    `json:"n"`
	R          int    `json:"r"`
	W          int    `json:"w"`
	Conflict   string `json:"conflict"`
	Resolver   string `json:"resolver,omitempty"`
	Durability string `json:"durability"`
}

func summaryOf(cfg *config.Cluster) summary {
	s := summary{
		Cluster: cfg.Name, Partitions: cfg.Partitions, Secret: cfg.Secret != "", Tokens: []string{},
		Replication: map[string]int{"n": cfg.Replication.N, "r": cfg.Replication.R, "w": cfg.Replication.W},
	}
	for _, t := range cfg.Tokens {
		s.Tokens = append(s.Tokens, t.Name)
	}
	for _, n := range cfg.Nodes {
		s.Nodes = append(s.Nodes, summaryNode{n.ID, n.Zone, n.Weight, n.HTTP, n.Peer, n.Gossip, n.Data})
	}
	for _, k := range cfg.BirthKeyspaces() {
		s.Keyspaces = append(s.Keyspaces, summaryKeyspace{k.Name, k.N, k.R, k.W, string(k.Conflict), k.Resolver, string(k.Durability)})
	}
	return s
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
		if k.Resolver == "" {
			continue
		}
		if strings.HasPrefix(k.Resolver, config.BuiltinPrefix) {
			if _, err := readModule(k.Resolver); err != nil {
				errs = append(errs, fmt.Errorf("keyspace %s: resolver: %w", k.Name, err))
			}
			continue
		}
		switch info, err := os.Stat(k.Resolver); {
		case err != nil:
			errs = append(errs, fmt.Errorf("keyspace %s: resolver: %w", k.Name, err))
		case !info.Mode().IsRegular():
			errs = append(errs, fmt.Errorf("keyspace %s: resolver: %s is no file", k.Name, k.Resolver))
		}
	}
	return errors.Join(errs...)
}
