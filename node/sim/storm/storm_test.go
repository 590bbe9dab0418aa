package storm

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dynamo/plugins"
)

// TestStorm runs a few seeds on the machine's own scheduler, under the race detector where tests have it: the order of
// what happens at one instant differs from run to run, the promises do not.
func TestStorm(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			r, err := Run(t.Context(), Options{
				Request: Request{Plan: Draw(1000+seed, 0, 15*time.Second)}, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
				Builtins: plugins.Module, ModuleCache: filepath.Join(os.TempDir(), "dynamo-test-modules"),
			})
			if err != nil {
				t.Fatalf("seed %d: %v", 1000+seed, err)
			}
			if r.Acked == 0 || r.Verified == 0 {
				t.Errorf("seed %d: nothing was acknowledged: the run tests nothing", 1000+seed)
			}
			for _, v := range r.Violations {
				t.Errorf("seed %d: %s: %s %s\n%s", 1000+seed, v.Promise, v.Key, v.Detail, strings.Join(v.Story, "\n"))
			}
		})
	}
}
