package main

import (
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"dynamo/resolver"
)

// compileName is the hidden command that a node runs to compile a module it has not seen before.
const compileName = "internal-compile"

func newCompile() *cobra.Command {
	return &cobra.Command{
		Use: compileName, Hidden: true, Short: "Compile the module that a node gives on standard input",
		Long: "  dynamo internal-compile < request",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return resolver.TrialMain(c.Context(), c.InOrStdin(), c.OutOrStdout())
		},
	}
}

// compileCommand runs newCompile in a process of its own. On Linux, the link leads to this program even if
// its file has been replaced since.
func compileCommand() []string {
	if runtime.GOOS == "linux" {
		return []string{"/proc/self/exe", compileName}
	}
	exe, err := os.Executable()
	if err != nil {
		return nil
	}
	return []string{exe, compileName}
}
