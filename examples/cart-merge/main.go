// Cart-merge is a complete example of a store with a resolver: guest is the resolver's source, cart.wasm the module
// made of it, and this program two clients of such a store.
//
//	go run ./examples/cart-merge demo      two people write one cart on both sides of a broken network
//	go run ./examples/cart-merge replay    many clients write many carts; nothing that was added may be missing
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

// defaultModule is the resolver, as seen from the root of the repository.
const defaultModule = "examples/cart-merge/cart.wasm"

// errUsage is a command line that makes no sense; what is wrong with it has been said already.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(exitUsage)
	default:
		fmt.Fprintln(os.Stderr, "cart-merge:", err)
		os.Exit(exitFailed)
	}
}

const usage = `usage:
  cart-merge demo   [--dynamo FILE] [--config FILE] [--resolver FILE]
  cart-merge replay [--endpoints URL,URL,...] --file FILE.csv[.gz] [--clients N] [--keyspace NAME] [--limit N]
"cart-merge demo -h" and "cart-merge replay -h" explain the flags.
`

func run(ctx context.Context, args []string, out, errs io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(errs, usage)
		return errUsage
	}
	switch args[0] {
	case "demo":
		o, err := demoFlags(args[1:], errs)
		if err != nil {
			return err
		}
		return demo(ctx, o, out)
	case "replay":
		o, err := replayFlags(args[1:], errs)
		if err != nil {
			return err
		}
		return replay(ctx, o, out, errs)
	case "help", "-h", "--help":
		fmt.Fprint(out, usage)
		return nil
	}
	fmt.Fprintf(errs, "cart-merge: unknown command %q\n%s", args[0], usage)
	return errUsage
}

func demoFlags(args []string, errs io.Writer) (demoOptions, error) {
	var o demoOptions
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	f.SetOutput(errs)
	f.StringVar(&o.dynamo, "dynamo", "bin/dynamo", "the dynamo binary")
	f.StringVar(&o.config, "config", "configs/local.yaml", "a cluster file with at least three nodes; its data directories are not touched")
	f.StringVar(&o.module, "resolver", defaultModule, "the resolver to upload")
	return o, parseFlags(f, args)
}

func replayFlags(args []string, errs io.Writer) (replayOptions, error) {
	var o replayOptions
	var endpoints string
	f := flag.NewFlagSet("replay", flag.ContinueOnError)
	f.SetOutput(errs)
	f.StringVar(&endpoints, "endpoints", "http://127.0.0.1:7101,http://127.0.0.1:7102,http://127.0.0.1:7103", "the nodes to talk to, separated by commas")
	f.StringVar(&o.file, "file", "", "the events, CSV with the header "+csvHeader+"; may be compressed with gzip")
	f.IntVar(&o.clients, "clients", 8, "how many clients write at the same time")
	f.StringVar(&o.keyspace, "keyspace", "carts", "where the carts are; created if it does not exist")
	f.IntVar(&o.limit, "limit", 0, "stop after that many events; 0 = all")
	f.StringVar(&o.module, "resolver", defaultModule, "uploaded if the keyspace has no resolver yet")
	f.StringVar(&o.token, "token", os.Getenv("DYNAMO_TOKEN"), "bearer token of a cluster with authentication (default $DYNAMO_TOKEN)")
	f.Uint64Var(&o.seed, "seed", 1, "chooses through which nodes each event goes")
	f.DurationVar(&o.patience, "patience", defaultPatience, "how long one read or write is retried before it is given up")
	if err := parseFlags(f, args); err != nil {
		return o, err
	}
	o.endpoints = strings.Split(endpoints, ",")
	var wrong string
	switch {
	case o.file == "":
		wrong = "--file is required"
	case o.clients < 1 || o.clients > maxClients:
		wrong = fmt.Sprintf("--clients must be from 1 to %d", maxClients)
	case o.limit < 0:
		wrong = "--limit must not be negative"
	case o.patience <= 0:
		wrong = "--patience must be positive"
	default:
		return o, nil
	}
	fmt.Fprintln(errs, "cart-merge replay:", wrong)
	return o, errUsage
}

func parseFlags(f *flag.FlagSet, args []string) error {
	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return err
	case err != nil:
		return errUsage
	case f.NArg() > 0:
		fmt.Fprintf(f.Output(), "cart-merge %s: unexpected argument %q\n", f.Name(), f.Arg(0))
		return errUsage
	}
	return nil
}
