package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"dynamo/node/config"
)

// rewriteConfig returns the text of a cluster file with every data directory moved below dir, and with the resolvers'
// paths made absolute, because relative ones start at the file and the text goes elsewhere. All else, comments and
// ${NAME} included, stays as it is. file is where the text comes from, checked is what it says.
//
// It looks for the paths that checked has, so that it cannot change anything else, and reads its own result again, so
// that a spelling which it does not know is an error and never a demo that writes to the real data.
func rewriteConfig(text, file, dir string, checked *config.Cluster) (string, *config.Cluster, error) {
	base, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return "", nil, err
	}
	moved := make(map[string]string)
	for _, n := range checked.Nodes {
		moved[n.Data] = filepath.Join(dir, n.ID)
	}
	for _, k := range checked.Keyspaces {
		if filepath.IsAbs(k.Resolver) {
			moved[k.Resolver] = k.Resolver
		}
	}
	value := regexp.MustCompile(`(?m)([{,\s])(data|resolver):([ \t]+)("[^"\n]*"|'[^'\n]*'|(?:\$\{[^}\n]*\}|[^\s,}#"'])+)`)
	out := value.ReplaceAllStringFunc(text, func(found string) string {
		m := value.FindStringSubmatch(found)
		path := os.Expand(strings.Trim(m[4], `"'`), os.Getenv)
		if !filepath.IsAbs(path) {
			path = filepath.Join(base, path)
		}
		to, ok := moved[filepath.Clean(path)]
		if !ok {
			return found
		}
		return fmt.Sprintf("%s%s:%s%q", m[1], m[2], m[3], to)
	})
	c, err := config.Parse([]byte(out), config.Options{File: filepath.Join(dir, filepath.Base(file)), Lookup: os.LookupEnv})
	if err != nil {
		return "", nil, fmt.Errorf("the rewritten cluster file: %w", err)
	}
	for _, n := range c.Nodes {
		if n.Data != filepath.Join(dir, n.ID) {
			return "", nil, fmt.Errorf("cannot move the data directory of node %s: write it as data: PATH in %s", n.ID, file)
		}
	}
	for i, k := range c.Keyspaces {
		if k.Resolver != checked.Keyspaces[i].Resolver {
			return "", nil, fmt.Errorf("cannot keep the resolver of keyspace %s: write it as resolver: PATH in %s", k.Name, file)
		}
	}
	return out, c, nil
}

// adminToken returns a token that may do everything; empty if the cluster is open.
func adminToken(c *config.Cluster) (string, error) {
	for _, t := range c.Tokens {
		if t.Role == config.RoleAdmin && len(t.Keyspaces) == 0 {
			return t.Token, nil
		}
	}
	if len(c.Tokens) > 0 {
		return "", errors.New("the cluster file has no token that may do everything (role: admin)")
	}
	return "", nil
}

// checkPorts reports an address of the cluster that somebody else uses.
func checkPorts(c *config.Cluster) error {
	for _, n := range c.Nodes {
		for _, a := range []struct{ key, address string }{{"http", n.HTTP}, {"peer", n.Peer}, {"gossip", n.Gossip}} {
			l, err := net.Listen("tcp", a.address)
			if err == nil {
				err = l.Close()
			}
			if err == nil && a.key == "gossip" {
				var p net.PacketConn
				if p, err = net.ListenPacket("udp", a.address); err == nil {
					err = p.Close()
				}
			}
			if err != nil {
				return fmt.Errorf("%s of node %s is not free (%w): stop what runs there, or use a --config with other ports", a.key, n.ID, err)
			}
		}
	}
	return nil
}
